"""Verdicts on a task's planned contrasts, in a fixed list of words. Never loads torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from utils.experiment import Contrast
from utils.findings.runs import lengths_in_words
from utils.records.record import RunRecord, Runs, paired
from utils.stats.curves import roughness
from utils.stats.intervals import FEWEST_SEEDS, Interval
from utils.stats.paired import FAMILY_ERROR_RATE, Comparison, equivalent, holm, paired_comparison
from utils.stats.power import seeds_needed
from utils.words import p_in_words, plural

WORDS = ("better", "equivalent", "not distinguished", "too few seeds", "undefined")
FASTER = 0.02  # a ratio of times counts only if it lies more than 2% from 1
FEWEST_ROUNDS = 3  # a timing pass with fewer rounds gives no verdict


@dataclass(frozen=True)
class Verdict:
    """One of WORDS on a contrast, with the numbers behind it: `b` minus `a`, paired by seed.

    `differences` has one value for each of `seeds`. `p` is adjusted by Holm's method over the family of `m` declared
    contrasts; None if it is undefined or there are too few seeds. `margin` is the margin of equivalence, and `within`
    says whether the 90% interval lies inside it.
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
        """The word, with the better model's name; and a second line if the interval alone would not say so."""
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
        """`higher` minus `lower`, with the interval of `comparison.difference`."""
        d = self.comparison.difference
        return d if self.higher == self.b else replace(d, estimate=-d.estimate, low=-d.high, high=-d.low)

    @property
    def tested(self) -> str:
        """The number of seeds and the p-value that decided."""
        return f"{plural(len(self.seeds), 'seed')}; Holm-adjusted {p_in_words(self.p)}"

    @property
    def caveat(self) -> str:
        """A remark for the case that Holm's test says "better" but the interval covers 0; otherwise "".

        That can happen since the interval has the level 1 - 0.05/m, while Holm's later steps use a less strict level.
        """
        return ": the interval includes equality, but the adjusted p decides" if self.lead.low <= 0 else ""

    @property
    def seeds_needed(self) -> int | None:
        """How many seeds would probably decide it, at the level of its interval; None for more than 50."""
        difference = self.comparison.difference
        return seeds_needed(difference.estimate, self.comparison.sd, difference.n, (1 - difference.level) / 2)


def judge(
    runs: Runs,
    contrasts: Sequence[Contrast],
    measure: Callable[[RunRecord], float],
    total: int = 1,
    margin: float = 0.0,
    comparable: Callable[[Sequence[RunRecord], Sequence[RunRecord]], bool] = lambda a, b: True,
) -> list[Verdict]:
    """A verdict on each contrast whose two models have a finished run with a common seed.

    It compares `measure(record) / total`: an integer count out of `total`, or any number with a total of 1. A pair with
    an undefined number, such as the roughness of too few epochs, is left out. The family for Holm's method is all
    `contrasts`, even if some did not run: otherwise running fewer models would make verdicts easier.
    """
    m, pairs = len(contrasts), []
    for contrast in contrasts:
        of_a, of_b = runs.get(contrast.a, ()), runs.get(contrast.b, ())
        both = paired(of_a, of_b) if comparable(of_a, of_b) else []
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
    """The verdict's word. "Better" comes before "equivalent": a difference can be both proven and small."""
    if n < FEWEST_SEEDS:
        return "too few seeds"
    if p is None:
        return "undefined"
    if p <= FAMILY_ERROR_RATE:
        return "better"
    return "equivalent" if within else "not distinguished"


def accuracy_verdicts(runs: Runs, contrasts: Sequence[Contrast], margin: float) -> list[Verdict]:
    """The verdicts on test accuracy with the final weights, from integer counts."""
    total = next((records[0].test_total for records in runs.values()), 1)
    return judge(runs, contrasts, lambda record: record.test_correct, total, margin)


def stability_verdicts(runs: Runs, contrasts: Sequence[Contrast]) -> list[Verdict]:
    """The verdicts on the roughness of validation loss; none where runs stopped after different numbers of epochs."""
    return judge(
        runs,
        contrasts,
        lambda record: roughness(record.curve("val_loss")),
        comparable=lambda a, b: not lengths_in_words(a, b),
    )
