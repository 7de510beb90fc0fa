"""Is B better than A? Statistics of the same seeds and the same test images under two models. Never loads torch.

Differences are always B minus A. `m` is the number of contrasts that the task declares, even if not all of them ran:
the family-wise error rate over their differences is 5%. Equivalence is tested at 5% for each contrast. Of several looks
each has its share of these 5% (`utils.stats.looks`). An undefined result is NaN or None, without an error or a warning,
and never a p-value of 0.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from utils.stats.intervals import Interval, mean_interval

FAMILY_ERROR_RATE = 0.05
SMALLEST_P = sys.float_info.min  # replaces a p-value that was rounded to 0: no p-value is exactly 0


@dataclass(frozen=True)
class Comparison:
    """The mean of paired differences, with two intervals and a p-value.

    For the error rate r (5%, or the share of a look), `difference` is the interval at the level 1 - r/m, and
    `equivalence` that at 1 - 2r, which belongs to two one-sided tests at r. `sd` is the standard deviation of the
    differences. `p` is two-sided and not adjusted for the family. Where undefined, the bounds and `sd` are NaN and `p`
    is None.
    """

    difference: Interval
    equivalence: Interval
    sd: float
    p: float | None


def paired_comparison(
    a: ArrayLike, b: ArrayLike, total: int, m: int, error_rate: float = FAMILY_ERROR_RATE
) -> Comparison:
    """Student's paired t-test of (b - a) / total with its intervals: t = mean / (sd / sqrt(n)), n - 1 degrees.

    `a` and `b`, shape (n,), have one value for each seed, with the same seeds in the same order. The values are counts
    of correct test predictions out of `total` images, so that the results are fractions; or any other measure, with a
    total of 1. Source: Student (1908), The probable error of a mean, Biometrika 6, 1-25. Raises ValueError if the
    lengths differ.

    Undefined for fewer than three seeds, and for differences that are all the same: with a few seeds that shows a
    coarse measure, not certainty. This is checked before the test is called. A value of None (such as the test
    predictions of a diverged run) makes the estimate undefined too; a caller who leaves out that pair instead has to
    say so.

    Assumes seeds drawn independently and differences that are roughly normal. In simulations with 3, 6 and 10 seeds,
    the 95% interval covers normal differences in 95% of repetitions; exponential ones (skewness 2) in only 88%, 89% and
    90%; log-normal ones (sd of the log 1, skewness 6.2) in 84%, 82% and 84%. If the accuracies of two models are skewed
    in the same way, their differences are symmetric, and the interval covers slightly too many (Student's t with 3
    degrees: 96%).
    """
    a, b = np.array([a, b], dtype=float)  # float holds counts exactly and turns None into NaN
    differences = (b - a) / total
    interval = mean_interval(differences, 1 - error_rate / m)
    if np.isnan(interval.low):
        return Comparison(interval, interval, np.nan, None)
    p = max(float(stats.ttest_1samp(differences, 0).pvalue), SMALLEST_P)
    equivalence = mean_interval(differences, 1 - 2 * error_rate)
    return Comparison(interval, equivalence, float(differences.std(ddof=1)), p)


def holm(p_values: Sequence[float | None], m: int) -> list[float | None]:
    """Holm's adjusted p-values for a family of `m` tests, in the given order. At most 0.05 means significant at 5%.

    The i-th smallest becomes the maximum over j <= i of (m - j + 1) * p_(j), at most 1. A test that is undefined (None,
    also in the result) or missing from `p_values` still counts in `m`, as if its p-value were 1. The tests need not be
    independent. Source: Holm (1979), A simple sequentially rejective multiple test procedure, Scandinavian
    Journal of Statistics 6, 65-70. Raises ValueError for more than `m` p-values.
    """
    if len(p_values) > m:
        raise ValueError(f"{len(p_values)} p-values of a family of {m}")
    adjusted: list[float | None] = [None] * len(p_values)
    defined = [index for index, p in enumerate(p_values) if p is not None]
    largest = 0.0  # an adjusted p-value must not be smaller than that of a smaller p-value
    for rank, index in enumerate(sorted(defined, key=lambda index: p_values[index])):
        largest = adjusted[index] = max(largest, min(1.0, (m - rank) * p_values[index]))
    return adjusted


def equivalent(equivalence: Interval, margin: float) -> bool:
    """Whether equivalence is shown: the interval lies inside (-margin, margin). False if the interval is undefined.

    For an interval at 90% this is the same as two one-sided t-tests at 5% that are both significant. Source: Schuirmann
    (1987), A comparison of the two one-sided tests procedure and the power approach, Journal of Pharmacokinetics and
    Biopharmaceutics 15, 657-680. The margin must be declared before the data are seen.
    """
    return -margin < equivalence.low and equivalence.high < margin


def over_images(correct_a: Iterable[ArrayLike], correct_b: Iterable[ArrayLike]) -> Interval:
    """The mean accuracy difference and its 95% t-interval over test images: would it hold on new images? (secondary)

    `correct_a` and `correct_b` are bool of shape (seeds, images), read one seed at a time: one or more seeds, the same
    for both, and images in the same order. Each image counts once, with its difference averaged over the seeds. So the
    interval says nothing about new seeds. It assumes that the images are an independent sample of the images that
    matter. Undefined where `mean_interval` is: for fewer than three images, or models that are correct on the same
    images. Raises ValueError if the shapes differ.
    """
    total, seeds = 0, 0
    for of_seed in zip(correct_a, correct_b, strict=True):
        a, b = np.array(of_seed, dtype=int)
        total, seeds = total + (b - a), seeds + 1
    return mean_interval(total / seeds)


def mcnemar(correct_a: ArrayLike, correct_b: ArrayLike) -> float | None:
    """The exact two-sided p-value of McNemar's test that two trained networks are correct equally often. (secondary)

    `correct_a` and `correct_b` are bool of shape (images,), one trained network each. Only images on which exactly one
    of them is correct count; if both are equally good, the number on which B is correct is Binomial(., 1/2). Source:
    McNemar (1947), Psychometrika 12, 153-157. Assumes images drawn independently. It says nothing about other seeds,
    and several seeds must not be pooled in it. None if both are correct on the same images. Raises ValueError if the
    shapes differ.
    """
    a, b = np.array([correct_a, correct_b], dtype=bool)
    discordant = int((a != b).sum())
    if discordant == 0:
        return None
    return max(float(stats.binomtest(int((b & ~a).sum()), discordant).pvalue), SMALLEST_P)
