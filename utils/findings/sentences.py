"""Findings in words: a sentence for each verdict. Never loads torch."""

import numpy as np

from utils.findings.depth import DepthVerdict
from utils.findings.verdicts import FEWEST_ROUNDS, Verdict, compared_times
from utils.records.record import RunRecord, Runs, paired
from utils.records.timing import TimingRecord
from utils.stats.intervals import FEWEST_SEEDS
from utils.stats.looks import LOOKS
from utils.stats.paired import mcnemar, over_images
from utils.words import (
    level_in_words,
    p_in_words,
    plural,
    points,
    points_with_bounds,
    seeds_needed_in_words,
    share_of_time,
    three_digits,
)

# {word of a verdict: its sentence}. The functions below fill in the names and numbers.
ACCURACY = {
    "better": "{higher} is better than {lower} by {lead} points (interval {lead_low} to {lead_high}; {tested})"
    "{caveat}{small}",
    "equivalent": "{a} and {b} are equivalent within {margin} points ({change}, {level} interval {within_low} to "
    "{within_high}; {seeds_in_words})",
    "not distinguished": "{a} and {b} are not distinguished ({change}, interval {low} to {high}; {tested}){needed}",
    "too few seeds": "{a} and {b}: too few seeds ({n} in common; {needs}); {change}",
    "undefined": "{a} and {b}: undefined, since {b} minus {a} is {difference} points in each of {seeds}, which shows "
    "no spread",
}
TRAINING_TIME = {
    "faster": "{a} trains faster: an epoch takes {share}",
    "not distinguished": "{a} and {b} are not distinguished in training time: an epoch of {a} takes {share}",
    "too few rounds": "{a} and {b}: too few rounds ({rounds}; a verdict needs {fewest}); an epoch of {a} takes {share}",
}


def accuracy_sentence(verdict: Verdict) -> str:
    """The verdict with its numbers, in percentage points of test accuracy."""
    difference, lead, within = verdict.comparison.difference, verdict.lead, verdict.comparison.equivalence
    margin, level = points(verdict.margin), level_in_words(within.level)
    small = f"; the {level} interval lies within the margin of {margin} points, so the difference is small"
    digits = 3 if 0 < lead.low < 5e-5 else 2  # with two digits, a bound just above 0 would be printed as 0.00
    return ACCURACY[verdict.word].format(
        **_names_and_seeds(verdict),
        change=f"{verdict.b} minus {verdict.a}: {points(difference.estimate)} points",
        difference=points(difference.estimate),
        low=points(difference.low),
        high=points(difference.high),
        lead=points(lead.estimate, digits),
        lead_low=points(lead.low, digits),
        lead_high=points(lead.high, digits),
        level=level,
        within_low=points(within.low),
        within_high=points(within.high),
        margin=margin,
        small=small if verdict.within else "",
        needed=_needed(verdict),
    )


def _names_and_seeds(verdict: Verdict) -> dict[str, str | int]:
    """The names and numbers that the sentences of all measures use."""
    n, first_look = len(verdict.seeds), f"the first look needs seeds 0 to {LOOKS[0] - 1}"
    return {
        "a": verdict.a,
        "b": verdict.b,
        "higher": verdict.higher,
        "lower": verdict.lower,
        "tested": verdict.tested,
        "caveat": verdict.caveat,
        "n": n,
        "seeds": plural(n, "seed"),
        "seeds_in_words": verdict.seeds_in_words,
        "needs": f"a verdict needs {FEWEST_SEEDS}" if verdict.look is None else first_look,
    }


def _needed(verdict: Verdict) -> str:
    """For "not distinguished": how many seeds would probably decide it; else ""."""
    if verdict.word != "not distinguished":
        return ""
    needed = seeds_needed_in_words(verdict.seeds_needed, by_looks=verdict.look is not None)
    return f"; {needed} seeds would probably decide it"


def time_sentence(timing: TimingRecord, a: str, b: str) -> str:
    """Which of two models trains an epoch faster: "faster" only if the interval over enough rounds lies beyond 2%."""
    word, ratio = compared_times(timing, a, b)
    if ratio.estimate > 1:
        a, b = b, a
        word, ratio = compared_times(timing, a, b)
    return TRAINING_TIME[word].format(
        a=a, b=b, share=share_of_time(ratio, b), rounds=timing.rounds, fewest=FEWEST_ROUNDS
    )


def secondary_sentence(runs: Runs, verdict: Verdict) -> str:
    """Whether the difference would hold on new test images, for the seeds of the verdict.

    With one common seed, it adds McNemar's test of these two trained networks.
    """
    pairs = [(a, b) for a, b in paired(runs[verdict.a], runs[verdict.b]) if a.seed in verdict.seeds]
    interval = over_images(*(map(_correct, records) for records in zip(*pairs, strict=True)))
    text = f"{verdict.b} minus {verdict.a} over test images: {points_with_bounds(interval)}"
    if len(pairs) > 1:
        return text
    p = mcnemar(*map(_correct, pairs[0]))
    return f"{text}; these two checkpoints only: McNemar's exact {p_in_words(p)}"


def depth_sentence(verdict: DepthVerdict) -> str:
    """What happens to a model's gradients over depth, with the ratio of norms that decided it."""
    ratio, n = verdict.ratio, plural(verdict.n, "seed")
    if np.isnan(ratio.estimate):
        return f"{verdict.word} ({n})"
    estimate, low, high = map(three_digits, (ratio.estimate, ratio.low, ratio.high))
    bounds = "" if np.isnan(ratio.low) else f", {low} to {high}"
    return f"{verdict.word} (norm of the first layer over that of the last {estimate}{bounds}; {n})"


def _correct(record: RunRecord) -> np.ndarray:
    """Which test images the final weights classify correctly, (N,) bool."""
    return record.arrays["test_predictions"] == record.arrays["test_labels"]


def timed_on(timing: TimingRecord) -> str:
    """Device, threads, precision and PyTorch version of a timing pass."""
    on = timing.environment
    threads = f", {plural(on['threads'], 'thread')}" if on["device"] == "cpu" else ""
    return f"{on['device_name'] or on['device']}{threads}, {on['precision']}, PyTorch {on['torch']}"
