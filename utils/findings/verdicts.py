"""What the numbers support, in a closed vocabulary: verdicts on a task's planned contrasts. Never loads torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from utils.experiment import Contrast
from utils.records.record import RunRecord, Runs, paired
from utils.stats.curves import roughness
from utils.stats.intervals import FEWEST_SEEDS, Interval
from utils.stats.paired import FAMILY_ERROR_RATE, Comparison, equivalent, holm, paired_comparison
from utils.words import p_in_words, plural

WORDS = ("better", "equivalent", "not distinguished", "too few seeds", "undefined")
SEEDS_FOR_POWER = 5  # from here on the spread is known well enough to say what would have been found
FASTER = 0.02  # a ratio of times counts only beyond 2%
FEWEST_ROUNDS = 3  # of a timing pass, for its times to mean something


@dataclass(frozen=True)
class Verdict:
    """One of WORDS on a contrast, with the numbers behind it: `b` minus `a`, paired by seed.

    `differences` has one value a seed; `p` is adjusted by Holm over the family of `m` declared contrasts, None where
    undefined or from too few seeds. `margin` is that of equivalence; `within` says whether the 90% interval lies inside
    it.
    """

    word: str
    a: str
    b: str
    seeds: tuple[int, ...]
    differences: np.ndarray
    comparison: Comparison
    p: float | None
    m: int
    margin: float
    within: bool

    @property
    def in_short(self) -> str:
        """The word, with the better one's name, and on a line of its own that the interval alone wouldn't say so."""
        if self.word != "better":
            return self.word
        return f"{self.higher} better" + ("\nby the adjusted p" if self.caveat else "")

    @property
    def higher(self) -> str:
        """The model with the higher mean."""
        return self.b if self.comparison.difference.estimate > 0 else self.a

    @property
    def lower(self) -> str:
        return self.a if self.higher == self.b else self.b

    @property
    def lead(self) -> Interval:
        """By how much `higher` is above `lower`, at the level of the planned differences."""
        d = self.comparison.difference
        return d if self.higher == self.b else replace(d, estimate=-d.estimate, low=-d.high, high=-d.low)

    @property
    def tested(self) -> str:
        """How many seeds and which p decided."""
        return f"{plural(len(self.seeds), 'seed')}; Holm-adjusted {p_in_words(self.p)}"

    @property
    def caveat(self) -> str:
        """Where Holm's test says "better", though the interval, which is wider than its later steps, covers 0."""
        return ": the interval includes equality, but the adjusted p decides" if self.lead.low <= 0 else ""


def judge(
    runs: Runs,
    contrasts: Sequence[Contrast],
    measure: Callable[[RunRecord], float],
    total: int = 1,
    margin: float = 0.0,
) -> list[Verdict]:
    """A verdict on each contrast whose two models have a finished run of the same seed.

    `measure(record) / total` is compared: an integer count of `total`, or any number with a total of 1. Undefined
    numbers, such as a roughness of too few epochs, leave their pair out. The family is all `contrasts`, whatever ran.
    """
    m, pairs = len(contrasts), []
    for contrast in contrasts:
        both = paired(runs.get(contrast.a, ()), runs.get(contrast.b, ()))
        measured = [(a.seed, measure(a), measure(b)) for a, b in both]
        defined = [row for row in measured if np.isfinite(row).all()]
        if defined:
            pairs.append((contrast, *zip(*defined, strict=True)))
    compared = [paired_comparison(a, b, total, m) for *_, a, b in pairs]
    adjusted = holm([comparison.p for comparison in compared], m)
    return [
        Verdict(
            word=_word(len(seeds), comparison, p, within := equivalent(comparison.interval90, margin)),
            a=contrast.a,
            b=contrast.b,
            seeds=seeds,
            differences=np.subtract(b, a) / total,
            comparison=comparison,
            p=p,
            m=m,
            margin=margin,
            within=within,
        )
        for (contrast, seeds, a, b), comparison, p in zip(pairs, compared, adjusted, strict=True)
    ]


def _word(n: int, comparison: Comparison, p: float | None, within: bool) -> str:
    if n < FEWEST_SEEDS:
        return "too few seeds"
    if p is None:
        return "undefined"
    if p <= FAMILY_ERROR_RATE:
        return "better"
    return "equivalent" if within else "not distinguished"


def accuracy_verdicts(runs: Runs, contrasts: Sequence[Contrast], margin: float) -> list[Verdict]:
    """On test accuracy with the final weights, from integer counts."""
    total = next((records[0].test_total for records in runs.values()), 1)
    return judge(runs, contrasts, lambda record: record.test_correct, total, margin)


def stability_verdicts(runs: Runs, contrasts: Sequence[Contrast]) -> list[Verdict]:
    """On the roughness of validation loss."""
    return judge(runs, contrasts, lambda record: roughness(record.curve("val_loss")))
