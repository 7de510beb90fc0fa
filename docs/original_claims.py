"""The claims of the original report, re-examined: each by a rule, with the numbers that decide it.

A rule is a function. Its arguments are the results and what original_report.json gives for the claim. It returns a
finding for each statement of the claim. `original_report.py` writes the page.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from utils.findings.depth import VANISHING, depth_verdict, last_epoch_ratio
from utils.findings.overfitting import overfitting_sentence
from utils.findings.results import Results
from utils.findings.runs import plateau_epochs
from utils.findings.sentences import accuracy_sentence, depth_sentence
from utils.findings.verdicts import Verdict, compared_times, judge
from utils.records.record import RunRecord, paired
from utils.stats.curves import LAST_EPOCHS
from utils.stats.intervals import FEWEST_SEEDS, ROUNDING, mean_interval, prediction_interval
from utils.stats.overfitting import Overfitting
from utils.words import (
    lost_runs_in_words,
    plateau_in_words,
    plural,
    ratio_in_words,
    share_of_time,
    three_digits,
    with_bounds,
)

CAT, DOG, FROG = 3, 5, 6  # indices of CIFAR-10's classes


@dataclass(frozen=True)
class Claim:
    """A claim in the report's words.

    `rule` is the name of the rule that judges it, and `arguments` are that rule's arguments. `note` says which part of
    the claim is not judged, `scope` what the outcome is limited to.
    """

    text: str
    rule: str
    arguments: Mapping
    note: str = ""
    scope: str = ""


Pairs = Sequence[Sequence[str]]


class Finding(NamedTuple):
    """Whether a statement holds (None if that is not decided), and its numbers in words."""

    holds: bool | None
    numbers: str


def outcome(findings: Sequence[Finding]) -> str:
    """A claim of several statements is refuted if one of them is, and confirmed if all are."""
    states = [finding.holds for finding in findings]
    if False in states:
        return "refuted"
    return "confirmed" if states and all(states) else "not decided"


def open_if_diverged(finding: Finding, results: Results, *models: str) -> Finding:
    """The finding, but not decided if a run of one of `models` diverged: that run could have changed it."""
    lost = lost_runs_in_words(results.diverged, *models)
    return Finding(None, f"{finding.numbers}{lost}, which leaves it open") if lost else finding


def more_accurate(results: Results, pairs: Pairs) -> list[Finding]:
    """The claim: in each pair (first, second), the first has the higher test accuracy."""
    return _ordered(results, pairs, results.accuracy_verdicts, accuracy_sentence, lambda verdict: verdict.higher)


def steadier(results: Results, pairs: Pairs) -> list[Finding]:
    """The claim: in each pair (first, second), the first has the lower roughness."""
    verdicts = judge(results.runs, results.task.contrasts, lambda record: roughness(record.curve("val_loss")))
    return _ordered(results, pairs, verdicts, _steadiness, lambda verdict: verdict.lower)


def _steadiness(verdict: Verdict) -> str:
    """The verdict on roughness, as a ratio: roughness is a logarithm."""
    difference = verdict.comparison.difference
    ratio, low, high = (three_digits(np.exp(x)) for x in (difference.estimate, difference.low, difference.high))
    bounds = "" if np.isnan(difference.low) else f" ({low} to {high}; {verdict.tested})"
    return f"roughness of {verdict.b} over that of {verdict.a}: {ratio}{bounds}"


def roughness(val_loss: ArrayLike) -> float:
    """Log of the sd of the second differences of log val_loss over epochs, the first one dropped.

    One number a run, from `val_loss` of shape (epochs,). The exponential of the difference between two runs is the
    ratio of their relative roughness. It depends neither on the level of the losses (the logarithm removes it) nor on a
    steady trend (the second differences do). NaN for fewer than 5 epochs, for a loss that is not positive and finite,
    or if the differences do not vary.
    """
    val_loss = np.asarray(val_loss, dtype=float)
    if len(val_loss) < 5 or not (np.isfinite(val_loss) & (val_loss > 0)).all():
        return np.nan
    spread = np.diff(np.log(val_loss), 2)[1:].std(ddof=1)
    return float(np.log(spread)) if spread > ROUNDING else np.nan


def _ordered(
    results: Results,
    pairs: Pairs,
    verdicts: Sequence[Verdict],
    sentence: Callable[[Verdict], str],
    favoured: Callable[[Verdict], str],
) -> list[Finding]:
    by_pair = {frozenset((verdict.a, verdict.b)): verdict for verdict in verdicts}
    findings = []
    for first, second in pairs:
        verdict = by_pair.get(frozenset((first, second)))
        if verdict is None:
            finding = Finding(None, f"{first} and {second}: no common seed with numbers")
        else:
            holds = favoured(verdict) == first if verdict.word == "better" else None
            finding = Finding(holds, sentence(verdict))
        findings.append(open_if_diverged(finding, results, first, second))
    return findings


def trains_faster(results: Results, pairs: Pairs) -> list[Finding]:
    """The claim: in each pair (first, second), the first needs less time for an epoch, by more than 2%."""
    return _quicker(results, pairs, "train_epoch_seconds", "an epoch")


def infers_faster(results: Results, pairs: Pairs) -> list[Finding]:
    """The claim: in each pair (first, second), the first needs less time for a batch, by more than 2%."""
    return _quicker(results, pairs, "inference_batch_seconds", "a batch")


def _quicker(results: Results, pairs: Pairs, measure: str, what: str) -> list[Finding]:
    findings = []
    for first, second in pairs:
        if results.timing is None or not {first, second} <= results.timing.models.keys():
            findings.append(Finding(None, f"{first} and {second}: not timed"))
            continue
        word, ratio = compared_times(results.timing, first, second, measure)
        holds = {"faster": True, "slower": False}.get(word)
        findings.append(Finding(holds, f"{what} of {first} takes {share_of_time(ratio, second)}"))
    return findings


def overfits(results: Results, epochs: Mapping[str, int | None]) -> list[Finding]:
    """The claim: each model overfits from the given epoch, or not at all if that is None."""
    findings = []
    for model, claimed in epochs.items():
        found = results.overfitting.get(model)
        if found is None:
            finding = Finding(None, f"{model}: not run")
        else:
            finding = Finding(_overfits_from(found, claimed), overfitting_sentence(model, found))
        findings.append(open_if_diverged(finding, results, model))
    return findings


def _overfits_from(found: Overfitting, claimed: int | None) -> bool | None:
    """Whether a model overfits from the epoch `claimed` (None: never); None if the verdict leaves it open."""
    if found.word == "overfits":
        return claimed in found.kept
    return claimed is None if found.word == "none" else None


def stagnates(results: Results, epochs: Mapping[str, int]) -> list[Finding]:
    """The claim: the validation accuracy of each model reaches its plateau in the given epoch."""
    findings = []
    for model, claimed in epochs.items():
        records = results.runs.get(model, ())
        plateaus = plateau_epochs(records)
        too_short = any(len(record.history) < max(epochs.values()) + LAST_EPOCHS for record in records)
        found = f"plateau {'from ' if plateaus else ''}{plateau_in_words(plateaus, len(records))}"
        holds = _stagnates_from(plateaus, len(records), too_short, claimed)
        finding = Finding(holds, f"{model}: {found if records else 'not run'}")
        findings.append(open_if_diverged(finding, results, model))
    return findings


def _stagnates_from(plateaus: Sequence[int], n: int, too_short: bool, claimed: int) -> bool | None:
    """Whether accuracy stagnates from the epoch `claimed`, by the epochs of those of `n` seeds that have a plateau."""
    if n < FEWEST_SEEDS:
        return None
    if 2 * len(plateaus) <= n:
        return None if plateaus or too_short else False
    if 2 * sum(abs(epoch - claimed) <= 1 for epoch in plateaus) > n:
        return True
    expected = prediction_interval(plateaus)  # for one more run: the original report had a single run
    elsewhere = claimed < expected.low or claimed > expected.high
    return False if elsewhere and not too_short else None


def cats_and_dogs(results: Results, models: tuple[str, str, str]) -> list[Finding]:
    """The claim has three statements, each judged by the confusion matrices of the seeds.

    Cat and dog are the pair that the plain network confuses most; the residual network confuses them less; the
    regularised one takes cats for frogs and dogs more often than for anything else.
    """
    plain, residual, regularised = models
    return [
        open_if_diverged(_most_confused_pair(results, plain), results, plain),
        open_if_diverged(_confused_less(results, plain, residual), results, plain, residual),
        open_if_diverged(_taken_for_dogs_and_frogs(results, regularised), results, regularised),
    ]


def _most_confused_pair(results: Results, model: str) -> Finding:
    records = results.runs.get(model, ())
    both_ways = [counts + counts.T for counts in map(_confusions, records)]
    count = sum(set(np.unravel_index(np.argmax(c), c.shape)) == {CAT, DOG} for c in both_ways)
    numbers = f"cat and dog are {model}'s most confused pair in {count} of {plural(len(records), 'seed')}"
    return Finding(_unanimous(count, len(records)), numbers if records else f"{model}: not run")


def _confused_less(results: Results, a: str, b: str) -> Finding:
    pairs = paired(results.runs.get(a, ()), results.runs.get(b, ()))
    changes = [_confusions(of_b) - _confusions(of_a) for of_a, of_b in pairs]
    fewer = mean_interval([change[CAT, DOG] + change[DOG, CAT] for change in changes])
    holds = None if np.isnan(fewer.low) or fewer.low <= 0 <= fewer.high else fewer.high < 0
    images = f"{with_bounds(fewer, '{:+z.0f}'.format)} images, {plural(len(changes), 'common seed')}"
    numbers = f"cat and dog confused, {b} minus {a}: {images}"
    return Finding(holds, numbers if changes else f"{b} and {a}: no common seed")


def _taken_for_dogs_and_frogs(results: Results, model: str) -> Finding:
    cats = [_confusions(record)[CAT] for record in results.runs.get(model, ())]
    count, n = sum(set(np.argsort(taken_for)[-2:]) == {DOG, FROG} for taken_for in cats), len(cats)
    numbers = f"with regularisation cats taken most for dogs and frogs in {count} of {plural(n, 'seed')}"
    return Finding(_unanimous(count, n), numbers if n else "the regularised net: not run")


def _unanimous(count: int, n: int) -> bool | None:
    """True if all of at least three seeds agree with the claim, False if none of them does, otherwise None."""
    return None if n < FEWEST_SEEDS or 0 < count < n else count == n


def _confusions(record: RunRecord) -> np.ndarray:
    """The counts of wrong predictions (K, K): true classes in rows, predicted ones in columns, 0 on the diagonal."""
    counts = record.counts_by_class
    np.fill_diagonal(counts, 0)
    return counts


def gradients_vanish(results: Results, model: str) -> list[Finding]:
    """The claim: the model's gradients vanish over depth, in the first epoch and in the last."""
    records = results.runs.get(model, ())
    verdict, last = depth_verdict(records), last_epoch_ratio(records)
    holds = None
    if verdict.word == "vanishing" and last.high < VANISHING:
        holds = True
    if verdict.word in ("exploding", "neither") and last.low >= VANISHING:
        holds = False
    late = "undefined" if np.isnan(last.estimate) else ratio_in_words(last)
    numbers = f"{depth_sentence(verdict)}; in the last epoch {late}" if records else f"{model}: not run"
    return [open_if_diverged(Finding(holds, numbers), results, model)]


class Rule(NamedTuple):
    """How a kind of claim is decided: a function, its description for the page, and what the outcome is limited to."""

    find: Callable[..., list[Finding]]
    in_words: str
    scope: str = ""


FASTER_IN_WORDS = (
    "ratio of times in this session (the original: a GPU, with loading), 95% interval beyond 2%; among the models that "
    "it had"
)
HERE = "on this machine"
RULES = {
    "more_accurate": Rule(more_accurate, "a verdict of better for each"),
    "steadier": Rule(steadier, "lower roughness of validation loss, Holm-adjusted"),
    "trains_faster": Rule(trains_faster, FASTER_IN_WORDS, HERE),
    "infers_faster": Rule(infers_faster, FASTER_IN_WORDS, HERE),
    "overfits": Rule(
        overfits,
        "over at least 3 seeds; confirmed: it overfits, and the epoch is among the possible ones; refuted: none, or "
        "the epoch is not among them; “not at all” needs none",
    ),
    "stagnates": Rule(
        stagnates,
        "confirmed: most of at least 3 seeds have a plateau within 1 epoch of it; refuted: no seed has any plateau, or "
        "most have one and the claim lies outside their 95% prediction interval",
    ),
    "cats_and_dogs": Rule(cats_and_dogs, "confusion matrices, all seeds agreeing or an interval that excludes 0"),
    "gradients_vanish": Rule(
        gradients_vanish,
        "first over last norm under 0.001, interval over seeds: confirmed in the first and the last epoch, refuted in "
        "neither",
    ),
}


class Examined(NamedTuple):
    """A row of the table of claims, in words."""

    claim: str
    outcome: str
    numbers: str
    rule: str


def examine(claim: Claim, results: Results) -> Examined:
    """The claim with our verdict on it, the numbers and the rule. Raises KeyError for an unknown rule."""
    rule = RULES[claim.rule]
    findings = rule.find(results, **claim.arguments)
    scope = claim.scope or rule.scope
    word = f"**{outcome(findings)}**" + (f" ({scope})" if scope else "")
    in_words = f"{rule.in_words}; {claim.note}" if claim.note else rule.in_words
    return Examined(claim.text, word, "; ".join(finding.numbers for finding in findings), in_words)
