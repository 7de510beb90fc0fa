"""What a task's records allow to conclude: the verdicts as sentences under their titles. Never loads torch."""

from collections.abc import Sequence

from utils.findings.overfitting import LOOK_TAIL, overfitting_sentence
from utils.findings.results import Results
from utils.findings.runs import accuracy_over_seeds, balanced_over_seeds
from utils.findings.sentences import accuracy_sentence, time_sentence, timed_on
from utils.findings.verdicts import FASTER
from utils.records.record import share_a_seed
from utils.records.timing import TimingRecord
from utils.stats.intervals import FEWEST_SEEDS
from utils.stats.looks import LOOKS
from utils.stats.overfitting import TAIL
from utils.stats.paired import FAMILY_ERROR_RATE
from utils.words import (
    bullets,
    level_in_words,
    lost_runs_in_words,
    percent,
    plural,
    points,
    runs_in_words,
)


def conclusions(results: Results) -> str:
    """What a command prints at its end: each model's accuracy with its interval over seeds, and the verdicts.

    "" if no record counts, and for the original protocol, which gives no verdicts.
    """
    if not results.runs or results.task.protocol == "original":
        return ""
    accuracies = [
        f"  {model:<28} {percent(accuracy_over_seeds(records))}, {plural(len(records), 'seed')}"
        + (f"; balanced accuracy {percent(balanced_over_seeds(records))}" if results.contents else "")
        for model, records in results.runs.items()
    ]
    parts = verdict_lists(results) | overfitting_list(results)
    sentences = [f"{title}:\n{bullets(lines)}" for title, lines in parts.items()]
    return paragraphs(
        [
            "Test accuracy, final weights:\n" + "\n".join(accuracies),
            sentence_on_seeds(results),
            *sentences,
        ]
    )


def sentence_on_seeds(results: Results) -> str:
    runs, diverged = results.runs, results.diverged
    seeds = sorted({record.seed for records in runs.values() for record in records})
    lacking = [f"{model} ({len(records)})" for model, records in runs.items() if len(records) < len(seeds)]
    fewest, most = min(map(len, runs.values())), max(map(len, runs.values()))
    text = "Intervals: two-sided 95% t-intervals over seeds." if most >= FEWEST_SEEDS else ""
    if lacking:
        text += f" Fewer than {len(seeds)} seeds: {', '.join(lacking)}."
    if most >= FEWEST_SEEDS:
        text += (
            " How many seeds would probably decide what is open is a rough estimate: it takes the present means and "
            "spreads for the true ones."
        )
    if fewest < FEWEST_SEEDS:
        more = "--until-decided" if results.by_looks else "--num-seeds 6"
        text += (
            f" Fewer than {FEWEST_SEEDS} seeds show no spread to rely on: they can't say which model is more accurate "
            f"or whether a model overfits. More (`{more}`) can."
        )
    text += _way_of_judging(results)
    if diverged:
        text += f" Not counted: {runs_in_words(diverged, ' diverged')}."
    return text.strip()


def _way_of_judging(results: Results) -> str:
    """Whether verdicts take a fixed number of seeds or are made by looks; "" if there is none."""
    if all(verdict.word == "too few seeds" for verdict in results.accuracy_verdicts):
        return ""
    if not results.by_looks:
        return " Verdicts take all seeds, whose number was fixed beforehand."
    *sizes, last = map(str, LOOKS)
    return (
        f" Judged by looks at {', '.join(sizes)} and {last} seeds, which share the 5% error rate: only models whose "
        f"contrasts on {results.measure} are still open need more seeds, and what a look has decided stays."
    )


def verdict_lists(results: Results) -> dict[str, list[str]]:
    """The verdicts on the planned contrasts, {title: sentences}: first accuracy, then time."""
    task, runs, timing, diverged = results.task, results.runs, results.timing, results.diverged
    tried = [contrast for contrast in task.contrasts if {contrast.a, contrast.b} <= runs.keys() | diverged.keys()]
    m, margin = len(task.contrasts), task.equivalence_margin
    looks = len(LOOKS) if results.by_looks else 1
    adjusted = f"p Holm-adjusted and times {looks} for the looks" if results.by_looks else "Holm-adjusted"
    rate = FAMILY_ERROR_RATE / looks
    level = f"{1 - rate / m:.1%}" if m else ""
    parts = {
        f"Verdicts on {results.measure} (final weights; {plural(m, 'planned contrast')}, {adjusted}; intervals of "
        f"differences at {level}; equivalent: the unadjusted {level_in_words(1 - 2 * rate)} interval lies within "
        f"{points(margin)} points of 0)": [
            *(
                accuracy_sentence(verdict) + lost_runs_in_words(diverged, verdict.a, verdict.b)
                for verdict in results.accuracy_verdicts
            ),
            *(
                f"{contrast.a} and {contrast.b}: no seed with which both have finished"
                + lost_runs_in_words(diverged, contrast.a, contrast.b)
                for contrast in tried
                if not share_a_seed(runs, contrast.a, contrast.b)
            ),
        ],
        _training_time(timing): [
            time_sentence(timing, contrast.a, contrast.b)
            for contrast in task.contrasts
            if timing and {contrast.a, contrast.b} <= runs.keys()
        ],
    }
    return {title: lines for title, lines in parts.items() if lines}


def _training_time(timing: TimingRecord | None) -> str:
    if timing is None:
        return ""
    return (
        f"Training time, on this machine, in this session ({timed_on(timing)}; 95% intervals over "
        f"{plural(timing.rounds, 'round')}, unadjusted; faster: beyond {FASTER:.0%})"
    )


def overfitting_list(results: Results) -> dict[str, list[str]]:
    """The verdicts on overfitting, {title: sentences}."""
    lines = [overfitting_sentence(model, results.overfitting[model]) for model in results.runs]
    level = level_in_words(1 - 2 * (LOOK_TAIL if results.by_looks else TAIL))
    title = (
        "Overfitting: does validation loss end above its lowest stretch of epochs, while the fit loss falls? (each "
        f"model by itself; intervals over seeds at {level}; the rule stands in docs/statistics.md)"
    )
    return {title: lines}


def paragraphs(parts: Sequence[str | None]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"
