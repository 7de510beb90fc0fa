"""Verdicts on a task's planned contrasts, in a fixed list of words. Never loads torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from utils.experiment import Contrast
from utils.findings.runs import balanced_accuracy, of_look
from utils.records.record import RunRecord, Runs, paired
from utils.records.timing import TimingRecord
from utils.stats.intervals import FEWEST_SEEDS, Interval, ratio_interval
from utils.stats.looks import LOOKS
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
    contrasts, and for the number of looks; None if it is undefined or there are too few seeds. At most 0.05 means
    better. `margin` is the margin of equivalence, and `within` says whether the interval of equivalence lies inside it.
    `look` is the number of seeds of the look that gave the verdict, 0 if none could be made yet, and None if the number
    of seeds was fixed beforehand.
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
    look: int | None = None

    @property
    def decided(self) -> bool:
        """Whether there is an answer; one that a look gives stays."""
        return self.word in ("better", "equivalent")

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
        adjusted = "Holm-adjusted" if self.look is None else "adjusted"
        return f"{self.seeds_in_words}; {adjusted} {p_in_words(self.p)}"

    @property
    def seeds_in_words(self) -> str:
        """Their number; in a folder that is judged by looks also whether this look decided."""
        n = plural(len(self.seeds), "seed")
        if not self.look:
            return n
        if self.decided:
            return f"decided at the look at {n}"
        return f"open after the {'last ' if self.look == LOOKS[-1] else ''}look at {n}"

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


class Measured(NamedTuple):
    """What a contrast is judged by: the numbers of its two models, one for each common seed."""

    contrast: Contrast
    seeds: tuple[int, ...]
    of_a: tuple[float, ...]
    of_b: tuple[float, ...]

    @property
    def pair(self) -> tuple[str, str]:
        return self.contrast.a, self.contrast.b


def judge(
    runs: Runs,
    contrasts: Sequence[Contrast],
    measure: Callable[[RunRecord], float],
    total: int = 1,
    margin: float = 0.0,
    by_looks: bool = False,
) -> list[Verdict]:
    """A verdict on each contrast whose two models have a finished run with a common seed.

    It compares `measure(record) / total`: an integer count out of `total`, or any number with a total of 1. A pair with
    an undefined number is left out. The family for Holm's method is all `contrasts`, even if some did not run:
    otherwise running fewer models would make verdicts easier.

    The seeds are all that two models have in common, as a number fixed beforehand; or, with `by_looks`, those of the
    look that decided, else of the last that could be made. A contrast that an earlier look called better counts in the
    family as rejected. So each look calls one of several equal models better with a probability of at most 5% / 3.
    """
    m, every = len(contrasts), _measured(runs, contrasts, measure)
    if not by_looks:
        return _verdicts(every, total, m, margin)
    found: dict[tuple[str, str], Verdict] = {}
    for n in LOOKS:
        of_seeds = {model: of_look(records, n) for model, records in runs.items()}
        seen = [one for one in _measured(of_seeds, contrasts, measure) if len(one.seeds) == n]
        still_open = [one for one in seen if one.pair not in found or not found[one.pair].decided]
        better = sum(verdict.word == "better" for verdict in found.values())
        found |= {(v.a, v.b): v for v in _verdicts(still_open, total, m, margin, look=n, better_before=better)}
    without = [one for one in every if one.pair not in found]
    found |= {(v.a, v.b): v for v in _verdicts(without, total, m, margin, look=0)}
    return [found[contrast.a, contrast.b] for contrast in contrasts if (contrast.a, contrast.b) in found]


def _measured(runs: Runs, contrasts: Sequence[Contrast], measure: Callable) -> list[Measured]:
    """The numbers of all contrasts that have any, see `judge`."""
    found = []
    for contrast in contrasts:
        both = paired(runs.get(contrast.a, ()), runs.get(contrast.b, ()))
        measured = [(a.seed, measure(a), measure(b)) for a, b in both]
        if defined := [row for row in measured if np.isfinite(row).all()]:
            found.append(Measured(contrast, *zip(*defined, strict=True)))
    return found


def _verdicts(
    measured: Sequence[Measured], total: int, m: int, margin: float, look: int | None = None, better_before: int = 0
) -> list[Verdict]:
    """The verdicts of one look, or of a number of seeds fixed beforehand (None); see `judge` and `Verdict.look`."""
    looks = 1 if look is None else len(LOOKS)
    compared = [paired_comparison(one.of_a, one.of_b, total, m, FAMILY_ERROR_RATE / looks) for one in measured]
    adjusted = [p and min(1.0, looks * p) for p in holm([comparison.p for comparison in compared], m - better_before)]
    return [
        Verdict(
            word=_word(
                0 if look == 0 else len(one.seeds),
                comparison,
                p,
                within := equivalent(comparison.equivalence, margin),
            ),
            a=one.contrast.a,
            b=one.contrast.b,
            seeds=one.seeds,
            differences=np.subtract(one.of_b, one.of_a) / total,
            comparison=comparison,
            p=p,
            m=m,
            margin=margin,
            within=within,
            look=look,
        )
        for one, comparison, p in zip(measured, compared, adjusted, strict=True)
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


def accuracy_verdicts(
    runs: Runs, contrasts: Sequence[Contrast], margin: float, by_looks: bool = False, balanced: bool = False
) -> list[Verdict]:
    """The verdicts on test accuracy with the final weights, from integer counts; or on balanced accuracy."""
    if balanced:
        return judge(runs, contrasts, balanced_accuracy, margin=margin, by_looks=by_looks)
    total = next((records[0].test_total for records in runs.values()), 1)
    return judge(runs, contrasts, lambda record: record.test_correct, total, margin, by_looks=by_looks)


def compared_times(timing: TimingRecord, a: str, b: str, measure: str = "train_epoch_seconds") -> tuple[str, Interval]:
    """What `a` is to `b`, and its time as a multiple of that of `b`, with the 95% interval over rounds.

    "faster" or "slower" if the interval lies more than 2% from 1 for the slower of the two, else "not distinguished";
    "too few rounds" for a pass that gives no verdict.
    """
    ratio = ratio_interval(timing.models[a][measure], timing.models[b][measure])
    if timing.rounds < FEWEST_ROUNDS:
        return "too few rounds", ratio
    if ratio.high < 1 - FASTER:
        return "faster", ratio
    return "slower" if ratio.low > 1 / (1 - FASTER) else "not distinguished", ratio


def open_after(verdicts: Sequence[Verdict], n: int) -> list[Verdict]:
    """Those that the look at `n` seeds could be made for, and that neither it nor a later one decided."""
    return [verdict for verdict in verdicts if (verdict.look or 0) >= n and not verdict.decided]
