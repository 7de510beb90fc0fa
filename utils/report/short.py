"""In short: what a task's results say, in a few plain sentences, each by rule from verdicts. Never loads torch.

The most important sentence comes first, and each names the section of the page that has its numbers. A sentence holds
no symbols: a reader who knows no statistics reads these alone.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from utils.contrasts import differences, variants
from utils.findings.ranking import Ranking, between, rank
from utils.findings.results import Results
from utils.findings.verdicts import Verdict, compared_times
from utils.records.record import share_a_seed
from utils.stats.intervals import FEWEST_SEEDS
from utils.stats.overfitting import FEWEST_EPOCHS, Overfitting
from utils.words import in_a_row, plural, runs_in_words, seeds_needed_in_words

# The sections of the page.
ACCURACY, VERDICTS, OVERFITTING, COSTS = "Test accuracy", "Verdicts", "Overfitting", "Costs"
REGULARISERS = {"dropout", "weight_decay", "augmentation", "label_smoothing"}
MOST_NAMED = 4  # models or verdicts in a list; --add may plan many

# {word: its sentence or part of one}. The functions below fill in the names and numbers.
BEST = {
    "alone": "{top} {reaches}{seeds}",
    "best": "{top} is the most accurate model: it {reaches}{seeds}, {lead} more than {next}, the next best{small}",
    "none better": "no model is better than {top}, which {reaches}{seeds}: it is {relations}",
    "not decided": "{tops} {highest}{seeds}, but which model is best is not decided: {top} is {relations}",
    "too few seeds": "it takes {fewest} seeds to say which model is best; so far {tops} {highest}{before}",
    "not compared": "{tops} {highest}{seeds}; no planned comparison says whether that is more than luck",
}
LEVEL = {  # how accurate the best model is, by what models are judged on
    "test accuracy": {
        "reaches": "classifies {level} of the test images correctly",
        "highest": "the highest accuracy, {level} of the test images",
    },
    "balanced accuracy": {
        "reaches": "reaches a balanced accuracy of {level}",
        "highest": "the highest balanced accuracy, {level}",
    },
}
RELATION = {  # of the best model to others
    "better": "better {leads}",
    "worse": "worse than {names}",
    "equivalent": "equivalent to {names} within {margin}",
    "not distinguished": "not distinguished from {names}",
    "too few seeds": "run with too few seeds beside {names}",
    "undefined": "apart from {names} by the same in every seed, which gives no verdict",
    "not compared": "not compared with {names}",
}
OTHERS = {
    "better": "{higher} is better than {lower} by {lead}",
    "equivalent": "{a} and {b} are equivalent within {margin}",
}
TIME = {
    "slower": "an epoch of {a} takes {times} times as long as one of {b} on the machine that timed both",
    "faster": "an epoch of {a} takes {share} percent of the time of one of {b} on the machine that timed both",
    "not distinguished": "{a} and {b} are not distinguished in training time",
    "too few rounds": "times were measured too briefly to compare {a} and {b}",
    "not measured": "training times have not been measured",
}
CHANGE = {
    "better": "{what} {changed} {measure} by {lead}: {higher} is better than {lower}",
    "equivalent": "{what} changes {measure} by less than {margin}: {a} and {b} are equivalent",
    "not distinguished": "what {what} does to {measure} is not decided: it {moved} on average over {seeds}, "
    "which chance could explain",
    "too few seeds": "it takes {fewest} seeds to say what {what} does to {measure}; so far it {moved}",
    "undefined": "what {what} does to {measure} is undefined: it {moved} in every seed alike",
}
OVERFITS = {
    "overfits": "{models}: validation loss is lowest around epoch {epoch} and ends {rise} higher, while the loss on "
    "training images keeps falling",
    "rises": "validation loss of {names} rises, though the loss on training images isn't shown to fall",
    "none": "{names} {do} not overfit within {epochs}",
    "not decided": "{names} {have} neither been shown to overfit nor cleared of it",
    "too few seeds": "it takes {fewest} seeds to judge overfitting{so_far}",
    "too few epochs": "overfitting is judged from {fewest_epochs} epochs up, and {names} ran for {epochs}",
    "unequal lengths": "overfitting of {names} is not judged, since runs stopped at different epochs",
    "undefined": "overfitting of {names} is undefined, since a loss isn't a positive number or rises alike in all "
    "seeds",
}
OPEN = {
    "not distinguished": "whether {a} or {b} is more accurate, which {needed} would probably decide",
    "not decided": "whether {names} {overfit}, which {needed} would probably decide",
    "too few seeds": "all that takes {fewest} seeds, which `{option}` runs",
    "not run": "{count} of models without a common seed",
    "nothing": "nothing that was planned is still open",
}


class Sentence(NamedTuple):
    """A sentence without its full stop, and the section of the page that has its numbers."""

    text: str
    section: str


def in_short(results: Results) -> list[Sentence]:
    """The best model, and whether it beats guessing; what regularisation did, who overfits, what is open and so on.

    Empty if no record counts. The names of models stand as `results` has them.
    """
    if not results.runs:
        return []
    ranking = rank(results)
    found = [
        (_best(results, ranking), ACCURACY),
        (_guessing(results, ranking.top), ACCURACY),
        (_change(results), VERDICTS),
        (_overfitting(results), OVERFITTING),
        (_costs(results, ranking), COSTS),
        (_other_verdicts(results, ranking), VERDICTS),
        (_diverged(results), ACCURACY),
        (_open(results), _section_of_what_is_open(results)),
    ]
    # A model's name keeps its letters, as in "resnet18 has the highest accuracy".
    names = tuple(results.runs)
    return [
        Sentence(text if text.startswith(names) else text[0].upper() + text[1:], section)
        for text, section in found
        if text
    ]


def _best(results: Results, ranking: Ranking) -> str:
    verdicts, level, top = results.accuracy_verdicts, ranking.level, ranking.top
    words = set(ranking.relations.values())
    if not words:
        word = "alone"
    elif words == {"better"}:
        word = "best"
    elif words <= {"better", "equivalent"}:
        word = "none better"
    elif words == {"not compared"}:
        word = "not compared"
    else:
        word = "too few seeds" if words <= {"too few seeds", "not compared"} else "not decided"
    tops = [model for model in (top, *ranking.relations) if level[model] == level[top]]
    after = next((model for model in ranking.relations if model not in tops), None)
    direct = after and between(verdicts, top, after)
    return BEST[word].format(
        top=top,
        tops=f"{_names(tops)} {'has' if len(tops) == 1 else 'have'}",
        **{name: text.format(level=_percent(level[top])) for name, text in LEVEL[results.measure].items()},
        seeds=_over_seeds(len(results.runs[top])),
        lead=after and _points(ranking.lead(after)),
        next=after,
        small=", a difference that this task counts as small" if direct and direct.within else "",
        before=f", before {after} with {_percent(level[after])}" if after else "",
        fewest=FEWEST_SEEDS,
        relations=_relations(results, ranking),
    )


def _guessing(results: Results, top: str) -> str:
    """That the best model isn't shown to beat always answering the largest class of a folder of images, or ""."""
    contents, level = results.contents, results.level(results.runs[top])
    if contents is None or level.low > contents.to_beat or (np.isnan(level.low) and level.estimate > contents.to_beat):
        return ""
    shown = "is no better" if level.estimate <= contents.to_beat else "is not shown to be better"
    return f"{top} {shown} than always answering the largest class, which gives {_percent(contents.to_beat)}"


def _relations(results: Results, ranking: Ranking) -> str:
    """What the best model is to each other model: "better than A by 1.0 points, and not distinguished from B"."""
    parts = []
    for word, text in RELATION.items():
        if others := [other for other, found in ranking.relations.items() if found == word]:
            leads = [_than(other, between(results.accuracy_verdicts, ranking.top, other)) for other in others]
            margin = _points(results.task.equivalence_margin)
            parts.append(text.format(names=_names(others), leads=_names(leads), margin=margin))
    return ", and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _than(other: str, verdict: Verdict | None) -> str:
    """What the best model is better than, and by how much if there is a verdict on the two: a chain has no number."""
    return f"than {other} by {_points(verdict.lead.estimate)}{_of_look(verdict)}" if verdict else f"than {other}"


def _over_seeds(seeds: int) -> str:
    return " with 1 seed" if seeds == 1 else f" on average over {seeds} seeds"


def _of_look(verdict: Verdict) -> str:
    """The seeds of the verdict's look, since there may be more by now, and tables take all of them."""
    return f" over {plural(len(verdict.seeds), 'seed')}" if verdict.look else ""


def _costs(results: Results, ranking: Ranking) -> str:
    """What the best model costs beside the next: time, by the timing pass, and parameters."""
    runs, timing, a = results.runs, results.timing, ranking.top
    count = {model: f"{records[0].parameters:,}" for model, records in runs.items()}
    if not ranking.relations:
        return f"{a} has {count[a]} parameters"
    b = ranking.next
    both = {"a": a, "b": b, "times": None, "share": None}
    if timing is None or not {a, b} <= timing.models.keys():
        word = "not measured"
    else:
        word, ratio = compared_times(timing, a, b)
        both |= {"times": f"{ratio.estimate:.1f}", "share": f"{100 * ratio.estimate:.0f}"}
    parameters = f"{a} has {count[a]} parameters, {b} {count[b]}"
    if count[a] == count[b]:
        parameters = f"both have {count[a]} parameters"
    return f"{TIME[word].format(**both)}; {parameters}"


def _change(results: Results) -> str:
    """What the declared difference of two variants does, most often regularisation; "" if they have no verdict."""
    pair = variants(results.task.contrasts)
    verdict = pair and between(results.accuracy_verdicts, *pair)
    if not verdict:
        return ""
    a, b = pair
    experiments = {experiment.name: experiment for experiment in results.task.experiments}
    found = differences(experiments[a], experiments[b])
    fields = _names([field.replace("_", " ") for field in found])
    regularised = found.keys() <= REGULARISERS and all(of_a < of_b for of_a, of_b in found.values())
    change = verdict.comparison.difference.estimate
    return CHANGE[verdict.word].format(
        **_of(verdict),
        measure=results.measure,
        what=f"regularisation by {fields}" if regularised else f"the change of {fields} from {a} to {b}",
        changed="raised" if change > 0 else "lowered",
        moved=f"{'rose' if change > 0 else 'fell'} by {_points(abs(change))}" if change else "stayed the same",
        seeds=plural(len(verdict.seeds), "seed"),
        fewest=FEWEST_SEEDS,
    )


def _overfitting(results: Results) -> str:
    """Who overfits and who doesn't; models with the same verdict stand together."""
    judged = {model: results.overfitting[model] for model in results.runs}
    parts = []
    for word, text in OVERFITS.items():
        of_word = {model: verdict for model, verdict in judged.items() if verdict.word == word}
        groups = [{model: verdict} for model, verdict in of_word.items()] if word == "overfits" else [of_word]
        for group in filter(None, groups):
            first, several = next(iter(group.values())), len(group) > 1
            parts.append(
                text.format(
                    models=f"{next(iter(group))} overfits",
                    names=_names(list(group)),
                    do="do" if several else "does",
                    have="have" if several else "has",
                    epoch=first.lowest,
                    rise=_percent(first.rise.estimate),
                    so_far=_so_far(group),
                    epochs=plural(first.lengths[1], "epoch"),
                    fewest=FEWEST_SEEDS,
                    fewest_epochs=FEWEST_EPOCHS,
                )
            )
    return "; ".join(parts)


def _so_far(judged: Mapping[str, Overfitting]) -> str:
    """What the runs did of which there are too few, where their losses say anything."""
    rises = [f"{_percent(v.rise.estimate)} for {m}" for m, v in judged.items() if np.isfinite(v.rise.estimate)]
    return f"; so far validation loss ends above its lowest by {_names(rises)}" if rises else ""


def _other_verdicts(results: Results, ranking: Ranking) -> str:
    """The verdicts that decide something and aren't told by the sentences on the best model and on two variants."""
    told = (variants(results.task.contrasts) or ()), ranking.top
    decided = [
        OTHERS[verdict.word].format(**_of(verdict))
        for verdict in results.accuracy_verdicts
        if verdict.word in OTHERS and (verdict.a, verdict.b) != told[0] and told[1] not in (verdict.a, verdict.b)
    ]
    return _names(decided)


def _diverged(results: Results) -> str:
    return f"{runs_in_words(results.diverged, ' diverged')}, which is not counted" if results.diverged else ""


def _open(results: Results) -> str:
    """What is not decided, and how many seeds would probably decide it."""
    verdicts, task = results.accuracy_verdicts, results.task
    judged = {model: results.overfitting[model] for model in results.runs}

    def needed(verdict: Verdict | Overfitting) -> str:
        return seeds_needed_in_words(verdict.seeds_needed, results.by_looks)

    open_pairs = [
        OPEN[verdict.word].format(**_of(verdict), needed=f"{needed(verdict)} seeds")
        for verdict in verdicts
        if verdict.word == "not distinguished"
    ]
    items = list(_first(open_pairs))
    if models := {model: verdict for model, verdict in judged.items() if verdict.word == "not decided"}:
        numbers = _names([needed(verdict) for verdict in models.values()])
        overfit = "overfits" if len(models) == 1 else "overfit"
        items.append(OPEN["not decided"].format(names=_names(list(models)), overfit=overfit, needed=f"{numbers} seeds"))
    words = {verdict.word for verdict in (*verdicts, *judged.values())}
    option = "--until-decided" if results.by_looks else f"--num-seeds {FEWEST_SEEDS}"
    if "too few seeds" in words:
        items.append(OPEN["too few seeds"].format(fewest=FEWEST_SEEDS, option=option))
    apart = sum(not share_a_seed(results.runs, contrast.a, contrast.b) for contrast in task.contrasts)
    if apart:
        items.append(OPEN["not run"].format(count=plural(apart, "planned comparison")))
    if not items:
        return OPEN["nothing"] if verdicts and words <= {"better", "equivalent", "overfits", "rises", "none"} else ""
    return f"still open: {'; '.join(items)}"


def _section_of_what_is_open(results: Results) -> str:
    """That on overfitting if only overfitting is open, or there are no other verdicts."""
    verdicts = results.accuracy_verdicts
    overfitting = any(results.overfitting[model].word == "not decided" for model in results.runs)
    only = overfitting and all(verdict.decided for verdict in verdicts)
    return OVERFITTING if only or not verdicts else VERDICTS


def _of(verdict: Verdict) -> dict[str, str]:
    """The names and numbers of a verdict that sentences use."""
    return {
        "a": verdict.a,
        "b": verdict.b,
        "higher": verdict.higher,
        "lower": verdict.lower,
        "lead": f"{_points(verdict.lead.estimate)}{_of_look(verdict)}",
        "margin": _points(verdict.margin),
    }


def _names(items: Sequence[str]) -> str:
    return in_a_row(_first(items))


def _first(items: Sequence[str]) -> Sequence[str]:
    """The items; of many the first few and how many there are beside."""
    kept = MOST_NAMED - 1
    return items if len(items) <= MOST_NAMED else [*items[:kept], f"{len(items) - kept} more"]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} percent"


def _points(difference: float) -> str:
    """Percentage points, two digits after the point only where the first could be 0."""
    return f"{100 * difference:.{1 if abs(difference) >= 0.01 else 2}f} points"
