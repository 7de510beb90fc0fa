"""Findings in words. Never loads torch."""

from collections.abc import Callable, Sequence
from statistics import median_low

import numpy as np

from utils.experiment import Contrast
from utils.findings.depth import DepthVerdict
from utils.findings.runs import onset_epochs
from utils.findings.verdicts import FASTER, FEWEST_ROUNDS, SEEDS_FOR_POWER, Verdict
from utils.records.record import RunRecord, Runs, paired
from utils.records.timing import TimingRecord
from utils.stats.curves import LAST_EPOCHS
from utils.stats.intervals import FEWEST_SEEDS, ratio_interval
from utils.stats.paired import detectable_difference, mcnemar, over_images
from utils.words import epochs_in_words, p_in_words, plural, points, points_with_bounds, share_of_time, three_digits


def accuracy_sentence(verdict: Verdict) -> str:
    """The verdict with its numbers, in points of test accuracy."""
    v, difference, n = verdict, verdict.comparison.difference, plural(len(verdict.seeds), "seed")
    told = f"{v.b} minus {v.a}: {points(difference.estimate)} points"
    if v.word == "better":
        digits = 3 if 0 < v.lead.low < 5e-5 else 2  # else a bound above 0 would be told as 0.00
        lead, low, high = (points(value, digits) for value in (v.lead.estimate, v.lead.low, v.lead.high))
        small = f"; the 90% interval lies within the margin of {points(v.margin)} points, so the difference is small"
        return (
            f"{v.higher} is better than {v.lower} by {lead} points (interval {low} to {high}; {v.tested}){v.caveat}"
            + (small if v.within else "")
        )
    if v.word == "equivalent":
        ninety = v.comparison.interval90
        return (
            f"{v.a} and {v.b} are equivalent within {points(v.margin)} points ({told}, 90% interval "
            f"{points(ninety.low)} to {points(ninety.high)}; {n})"
        )
    if v.word == "not distinguished":
        bounds = f"interval {points(difference.low)} to {points(difference.high)}"
        text = f"{v.a} and {v.b} are not distinguished ({told}, {bounds}; {v.tested})"
        return text + _detectable(v, lambda found: f"difference of {points(found)} points")
    if v.word == "too few seeds":
        return f"{v.a} and {v.b}: too few seeds ({len(v.seeds)} in common; a verdict needs {FEWEST_SEEDS}); {told}"
    return (
        f"{v.a} and {v.b}: undefined, since {v.b} minus {v.a} is {points(difference.estimate)} points in each of {n}, "
        "which shows no spread"
    )


def _detectable(verdict: Verdict, in_words: Callable[[float], str]) -> str:
    """What the seeds would have found, if they are enough to tell; `in_words` names such a difference."""
    n = len(verdict.seeds)
    if n < SEEDS_FOR_POWER:
        return ""
    found = detectable_difference(verdict.comparison.sd, n, verdict.m)
    return f": with this spread, {n} seeds find a {in_words(found)} in 80% of repetitions"


def stability_sentence(verdict: Verdict) -> str:
    """The verdict on roughness, told as a ratio; "better" is "more steadily" here."""
    v, difference = verdict, verdict.comparison.difference
    if v.word == "better":
        ratio, low, high = map(three_digits, np.exp([-v.lead.estimate, -v.lead.high, -v.lead.low]))
        return (
            f"{v.lower} trains more steadily than {v.higher}: {ratio} times the roughness ({low} to {high}; "
            f"{v.tested}){v.caveat}"
        )
    ratio, low, high = map(three_digits, np.exp([difference.estimate, difference.low, difference.high]))
    told = f"roughness of {v.b} over that of {v.a}: {ratio}"
    if v.word == "not distinguished":
        text = f"{v.a} and {v.b} are not distinguished in steadiness ({told}, {low} to {high}; {v.tested})"
        return text + _detectable(v, lambda found: f"ratio of {three_digits(np.exp(found))}")
    return f"{v.a} and {v.b}, steadiness: {v.word} ({plural(len(v.seeds), 'seed')} in common; {told})"


def time_sentence(timing: TimingRecord, a: str, b: str) -> str:
    """Which of two models trains an epoch faster: only where the interval over enough rounds lies beyond 2%."""
    times = {name: timing.models[name]["train_epoch_seconds"] for name in (a, b)}
    ratio = ratio_interval(times[a], times[b])
    if ratio.estimate > 1:
        a, b, ratio = b, a, ratio_interval(times[b], times[a])
    numbers = share_of_time(ratio, b)
    if timing.rounds < FEWEST_ROUNDS:
        rounds = f"too few rounds ({timing.rounds}; a verdict needs {FEWEST_ROUNDS})"
        return f"{a} and {b}: {rounds}; an epoch of {a} takes {numbers}"
    if ratio.high < 1 - FASTER:
        return f"{a} trains faster: an epoch takes {numbers}"
    return f"{a} and {b} are not distinguished in training time: an epoch of {a} takes {numbers}"


def secondary_sentence(runs: Runs, contrast: Contrast) -> str:
    """What the test images say of the seeds that both models have: new images, and for one seed the two checkpoints."""
    pairs = paired(runs[contrast.a], runs[contrast.b])
    correct_a, correct_b = (np.array([_correct(record) for record in records]) for records in zip(*pairs, strict=True))
    interval = over_images(correct_a, correct_b)
    text = f"{contrast.b} minus {contrast.a} over test images: {points_with_bounds(interval)}"
    if len(pairs) > 1:
        return text
    p = mcnemar(correct_a[0], correct_b[0])
    return f"{text}; these two checkpoints only: McNemar's exact {p_in_words(p)}"


def overfitting_sentence(records: Sequence[RunRecord]) -> str:
    """Where a model's runs overfit: "overfits from epoch 9 (3 of 3 seeds, 8 to 10)" if most of 3 seeds or more do.

    Of seeds that aren't decided it gives the rises that noise may hide.
    """
    hidden = [record.onset for record in records if np.isfinite(record.onset.rise)]
    if not hidden:
        return overfitting_in_short(records)
    rises = ", ".join(f"{onset.rise:.1%}" for onset in hidden)
    noises = ", ".join(f"{onset.noise:.1%}" for onset in hidden)
    return (
        f"{overfitting_in_short(records)} (smoothed loss of the last {LAST_EPOCHS} epochs at least {rises} above its "
        f"minimum; 3 sigma of noise {noises})"
    )


def overfitting_in_short(records: Sequence[RunRecord]) -> str:
    """The sentence on overfitting without the rises that noise may hide."""
    epochs, n, seeds = onset_epochs(records), len(records), plural(len(records), "seed")
    undecided = [record.onset.reason for record in records if not record.onset.decided]
    left = f"; not decided in {len(undecided)}" if undecided else ""
    if 2 * len(epochs) > n >= FEWEST_SEEDS:
        spread = f", {min(epochs)} to {max(epochs)}"
        return f"overfits from epoch {median_low(epochs)} ({len(epochs)} of {seeds}{spread}){left}"
    if epochs:
        return f"an onset in {len(epochs)} of {seeds} (epoch {epochs_in_words(epochs)}){left}"
    any_seed = f" in any of {seeds}" if n > 1 else ""
    if len(undecided) == n:
        return f"not decided{any_seed}, {'; '.join(dict.fromkeys(undecided))}"
    if undecided:
        return f"no onset in {n - len(undecided)} of {seeds}{left}"
    return f"{records[0].onset.reason}{any_seed}"


def depth_sentence(verdict: DepthVerdict) -> str:
    """What happens to a model's gradients over depth, with the ratio of norms behind it."""
    ratio, n = verdict.ratio, plural(verdict.n, "seed")
    if np.isnan(ratio.estimate):
        return f"{verdict.word} ({n})"
    estimate, low, high = map(three_digits, (ratio.estimate, ratio.low, ratio.high))
    bounds = "" if np.isnan(ratio.low) else f", {low} to {high}"
    return f"{verdict.word} (norm of the first layer over that of the last {estimate}{bounds}; {n})"


def _correct(record: RunRecord) -> np.ndarray:
    return record.arrays["test_predictions"] == record.arrays["test_labels"]


def timed_on(timing: TimingRecord) -> str:
    """Device, threads, precision and PyTorch of a timing pass."""
    on = timing.environment
    threads = f", {plural(on['threads'], 'thread')}" if on["device"] == "cpu" else ""
    return f"{on['device_name'] or on['device']}{threads}, {on['precision']}, PyTorch {on['torch']}"
