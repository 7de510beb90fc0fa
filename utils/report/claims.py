"""The original report's claims, re-examined: each by a rule, with the numbers that decide it. Never loads torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from utils.experiment import Task
from utils.findings.depth import VANISHING, depth_verdict, last_epoch_ratio
from utils.findings.runs import onset_epochs, plateau_epochs
from utils.findings.sentences import accuracy_sentence, depth_sentence, overfitting_in_short, stability_sentence
from utils.findings.verdicts import FASTER, Verdict, accuracy_verdicts, stability_verdicts
from utils.records.record import RunRecord, Runs, paired
from utils.records.timing import TimingRecord
from utils.stats.curves import LAST_EPOCHS
from utils.stats.intervals import FEWEST_SEEDS, mean_interval, prediction_interval, ratio_interval
from utils.words import lost_runs_in_words, plateau_in_words, plural, ratio_in_words, share_of_time, with_bounds

CAT, DOG, FROG = 3, 5, 6  # CIFAR-10's classes


@dataclass(frozen=True)
class Finding:
    """Whether a statement holds (None: not decided), and the numbers in words."""

    holds: bool | None
    numbers: str


@dataclass(frozen=True)
class Evidence:
    runs: Runs
    timing: TimingRecord | None
    task: Task
    diverged: Mapping[str, Sequence[int]]


Rule = Callable[[Evidence], list[Finding]]


def outcome(findings: Sequence[Finding]) -> str:
    """A claim of several statements is refuted if one of them is, and confirmed if all are."""
    states = [finding.holds for finding in findings]
    if False in states:
        return "refuted"
    return "confirmed" if states and all(states) else "not decided"


def open_if_diverged(finding: Finding, evidence: Evidence, *models: str) -> Finding:
    """The finding, left open if a run of one of `models` has diverged: that run might have decided otherwise."""
    lost = lost_runs_in_words(evidence.diverged, *models)
    return Finding(None, f"{finding.numbers}{lost}, which leaves it open") if lost else finding


def ordered(
    verdicts: Callable[[Evidence], list[Verdict]], sentence: Callable[[Verdict], str], sign: int, *pairs: tuple
) -> Rule:
    """Of each (first, second) of `pairs` the first has the higher measure (the lower one, for `sign` -1)."""

    def rule(evidence: Evidence) -> list[Finding]:
        by_pair = {frozenset((v.a, v.b)): v for v in verdicts(evidence)}
        findings = []
        for first, second in pairs:
            verdict = by_pair.get(frozenset((first, second)))
            if verdict is None:
                finding = Finding(None, f"{first} and {second}: no common seed with numbers")
            else:
                favoured = verdict.higher if sign > 0 else verdict.lower
                finding = Finding(favoured == first if verdict.word == "better" else None, sentence(verdict))
            findings.append(open_if_diverged(finding, evidence, first, second))
        return findings

    return rule


def more_accurate(*pairs: tuple[str, str]) -> Rule:
    def verdicts(evidence: Evidence) -> list[Verdict]:
        return accuracy_verdicts(evidence.runs, evidence.task.contrasts, evidence.task.equivalence_margin)

    return ordered(verdicts, accuracy_sentence, 1, *pairs)


def steadier(*pairs: tuple[str, str]) -> Rule:
    def verdicts(evidence: Evidence) -> list[Verdict]:
        return stability_verdicts(evidence.runs, evidence.task.contrasts)

    return ordered(verdicts, stability_sentence, -1, *pairs)


def quicker(measure: str, what: str, *pairs: tuple[str, str]) -> Rule:
    """Of each (first, second) the first takes less time, beyond 2%."""

    def rule(evidence: Evidence) -> list[Finding]:
        findings = []
        for first, second in pairs:
            if evidence.timing is None or not {first, second} <= evidence.timing.models.keys():
                findings.append(Finding(None, f"{first} and {second}: not timed"))
                continue
            times = [evidence.timing.models[model][measure] for model in (first, second)]
            ratio = ratio_interval(*times)
            holds = True if ratio.high < 1 - FASTER else False if ratio.low > 1 + FASTER else None
            findings.append(Finding(holds, f"{what} of {first} takes {share_of_time(ratio, second)}"))
        return findings

    return rule


def overfits(epochs: Mapping[str, int | None]) -> Rule:
    """Each model overfits from the given epoch, or not at all for None."""

    def found(records: Sequence[RunRecord]) -> tuple[list[int], bool, str]:
        undecided = any(not record.onset.decided for record in records)
        return onset_epochs(records), undecided, overfitting_in_short(records)

    return from_epochs(epochs, found)


def stagnates(epochs: Mapping[str, int]) -> Rule:
    """The validation accuracy of each model reaches its plateau in the given epoch."""

    def found(records: Sequence[RunRecord]) -> tuple[list[int], bool, str]:
        plateaus = plateau_epochs(records)
        too_short = any(len(record.history) < max(epochs.values()) + LAST_EPOCHS for record in records)
        return plateaus, too_short, f"plateau {'from ' if plateaus else ''}{plateau_in_words(plateaus, len(records))}"

    return from_epochs(epochs, found)


def from_epochs(
    epochs: Mapping[str, int | None], find: Callable[[Sequence[RunRecord]], tuple[list[int], bool, str]]
) -> Rule:
    """For each model something starts in the given epoch, or never for None, by the rule that ONSET and PLATEAU tell.

    `find` gives the epochs in those seeds that have one, whether others are undecided, and both in words.
    """

    def rule(evidence: Evidence) -> list[Finding]:
        findings = []
        for model, claimed in epochs.items():
            records = evidence.runs.get(model, ())
            found, undecided, numbers = find(records) if records else ([], True, "not run")
            finding = Finding(_starts(found, len(records), undecided, claimed), f"{model}: {numbers}")
            findings.append(open_if_diverged(finding, evidence, model))
        return findings

    return rule


def _starts(found: Sequence[int], n: int, undecided: bool, claimed: int | None) -> bool | None:
    if n < FEWEST_SEEDS:
        return None
    if 2 * len(found) <= n:
        return None if found or undecided else claimed is None
    if claimed is None:
        return False
    if 2 * sum(abs(epoch - claimed) <= 1 for epoch in found) > n:
        return True
    expected = prediction_interval(found)  # of one more run, which the original report's was
    elsewhere = claimed < expected.low or claimed > expected.high
    return False if elsewhere and not undecided else None


def cats_and_dogs(evidence: Evidence) -> list[Finding]:
    """Cat and dog are CIFARCNN's most confused pair, the residual net confuses them less, and the regularised one
    takes cats for frogs and dogs more often than for anything else; each by the seeds' own confusion matrices."""
    models = ("CIFARCNN", RESIDUAL, REGULARIZED)
    plain, residual, regularised = (evidence.runs.get(model, ()) for model in models)
    findings = []
    both_ways = [counts + counts.T for counts in map(_confusions, plain)]
    count = sum(set(np.unravel_index(np.argmax(c), c.shape)) == {CAT, DOG} for c in both_ways)
    numbers = f"cat and dog are CIFARCNN's most confused pair in {count} of {plural(len(plain), 'seed')}"
    findings.append(Finding(_unanimous(count, len(plain)), numbers if plain else "CIFARCNN: not run"))
    changes = [_confusions(b) - _confusions(a) for a, b in paired(plain, residual)]
    fewer = mean_interval([change[CAT, DOG] + change[DOG, CAT] for change in changes])
    holds = None if np.isnan(fewer.low) or fewer.low <= 0 <= fewer.high else fewer.high < 0
    told = f"{with_bounds(fewer, '{:+z.0f}'.format)} images, {plural(len(changes), 'common seed')}"
    numbers = f"cat and dog confused, CNNWithResidual minus CIFARCNN: {told}"
    findings.append(Finding(holds, numbers if changes else "CNNWithResidual and CIFARCNN: no common seed"))
    cats = [_confusions(record)[CAT] for record in regularised]
    count, n = sum(set(np.argsort(taken_for)[-2:]) == {DOG, FROG} for taken_for in cats), len(cats)
    numbers = f"with regularisation cats taken most for dogs and frogs in {count} of {plural(n, 'seed')}"
    findings.append(Finding(_unanimous(count, n), numbers if n else "the regularised net: not run"))
    concerned = (models[:1], models[:2], models[2:])
    return [open_if_diverged(finding, evidence, *its) for finding, its in zip(findings, concerned, strict=True)]


def _unanimous(count: int, n: int) -> bool | None:
    """True if all of at least three seeds say so, False if none does."""
    return None if n < FEWEST_SEEDS or 0 < count < n else count == n


def _confusions(record: RunRecord) -> np.ndarray:
    """Counts of wrong predictions, true classes in rows."""
    counts = record.counts_by_class
    np.fill_diagonal(counts, 0)
    return counts


def vanish(model: str) -> Rule:
    def rule(evidence: Evidence) -> list[Finding]:
        records = evidence.runs.get(model, ())
        verdict, last = depth_verdict(records), last_epoch_ratio(records)
        holds = None
        if verdict.word == "vanishing" and last.high < VANISHING:
            holds = True
        if verdict.word in ("exploding", "neither") and last.low >= VANISHING:
            holds = False
        late = "undefined" if np.isnan(last.estimate) else ratio_in_words(last)
        numbers = f"{depth_sentence(verdict)}; in the last epoch {late}" if records else f"{model}: not run"
        return [open_if_diverged(Finding(holds, numbers), evidence, model)]

    return rule


RESIDUAL, REGULARIZED = "CNNWithResidual", "CNNWithResidual-Regularized"
BETTER = "a verdict of better for each"
QUICKER = (
    "ratio of times in this session (the original: a GPU, with loading), 95% interval beyond 2%; among the models that "
    "it had"
)
HERE = "on this machine"
STARTS = (
    "confirmed: most of at least 3 seeds have {0} within 1 epoch of it; refuted: no seed has any {1}, or most have one "
    "and the claim lies outside their 95% prediction interval"
)
PLATEAU = (
    STARTS.format("a plateau", "plateau")
    + " (the original's own curves have one from epoch 9 for CIFARCNN and none for the other two)"
)
ONSET = (
    STARTS.format("an onset", "onset")
    + "; “not at all”: confirmed if no seed has any, refuted if most have one; undecided seeds leave open what they "
    "could change"
)
# Each claim of docs/original_report.json: how it is decided, in words, and what the outcome holds for.
RULES: dict[str, tuple[Rule, str, str]] = {
    "accuracy differences are small; CNNWithResidual is the most accurate, FCN the least": (
        more_accurate((RESIDUAL, "FCN"), (RESIDUAL, "SimpleCNN"), ("SimpleCNN", "FCN")),
        f"{BETTER}; “small” names no number and isn't judged",
        "the order",
    ),
    "FCN trains fastest, CNNWithResidual slowest": (
        quicker("train_epoch_seconds", "an epoch", ("FCN", "SimpleCNN"), ("SimpleCNN", RESIDUAL)),
        QUICKER,
        HERE,
    ),
    "CNNWithResidual processes a batch fastest, SimpleCNN slowest": (
        quicker("inference_batch_seconds", "a batch", (RESIDUAL, "FCN"), ("FCN", "SimpleCNN")),
        QUICKER,
        HERE,
    ),
    "CNNWithResidual trains most stably": (
        steadier((RESIDUAL, "FCN"), (RESIDUAL, "SimpleCNN")),
        "lower roughness of validation loss, Holm-adjusted",
        "",
    ),
    "overfitting starts after epoch 7 (FCN), 4 (SimpleCNN), 12 (CNNWithResidual)": (
        overfits({"FCN": 7, "SimpleCNN": 4, RESIDUAL: 12}),
        ONSET,
        "",
    ),
    "CIFARCNN trains fastest, the regularised residual net slowest": (
        quicker("train_epoch_seconds", "an epoch", ("CIFARCNN", RESIDUAL), (RESIDUAL, REGULARIZED)),
        QUICKER,
        HERE,
    ),
    "the residual net is more accurate than CIFARCNN": (more_accurate((RESIDUAL, "CIFARCNN")), BETTER, ""),
    "the regularised residual net is worse than the unregularised one": (
        more_accurate((RESIDUAL, REGULARIZED)),
        BETTER,
        "",
    ),
    "overfitting starts after epoch 9 (CIFARCNN), 4 (CNN), not at all (CNN-Regularized)": (
        overfits({"CIFARCNN": 9, RESIDUAL: 4, REGULARIZED: None}),
        ONSET,
        "",
    ),
    "accuracy stagnates from epoch 9 (CIFARCNN), 11 (CNN), 5 (CNN-Regularized)": (
        stagnates({"CIFARCNN": 9, RESIDUAL: 11, REGULARIZED: 5}),
        PLATEAU,
        "",
    ),
    "cats and dogs (classes 3 and 5) are confused, less by the residual net; the regularised one confuses class 3 with "
    "6 and 5": (cats_and_dogs, "confusion matrices, all seeds agreeing or an interval that excludes 0", ""),
    "gradients of CIFARCNN vanish towards iteration 6000, worst in fc1 and fc2": (
        vanish("CIFARCNN"),
        "first over last norm under 0.001, interval over seeds: confirmed in the first and the last epoch, refuted in "
        "neither; “worst in” isn't judged",
        "",
    ),
}


def examined(claims: Sequence[str], evidence: Evidence) -> list[list[str]]:
    """A row for each claim: the claim, our verdict on it, the numbers, the rule. Raises KeyError for one without."""
    rows = []
    for claim in claims:
        rule, in_words, scope = RULES[claim]
        findings = rule(evidence)
        word = f"**{outcome(findings)}**" + (f" ({scope})" if scope else "")
        rows.append([claim, word, "; ".join(f.numbers for f in findings), in_words])
    return rows
