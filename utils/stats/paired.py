"""Is B better than A? Statistics of the same seeds and the same test images under two models. Never loads torch.

B minus A throughout. `m` is the number of contrasts that the task declares, whatever ran: the family-wise error rate of
their differences is 5%; equivalence is tested at 5% for each. What is undefined comes back as NaN or None, with neither
an error nor a warning, and never as a p-value of 0.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from utils.stats.intervals import Interval, mean_interval

FAMILY_ERROR_RATE = 0.05
SMALLEST_P = sys.float_info.min  # stands for a p-value too small for a float, which is not 0


@dataclass(frozen=True)
class Comparison:
    """The mean of paired differences, the same `n` in both intervals, and whether it may be 0.

    `difference` has the level 1 - 0.05/m, `interval90` that of two one-sided tests at 5%; `sd` is the differences'.
    `p` is two-sided and not adjusted for the family. Where undefined, bounds and `sd` are NaN and `p` is None.
    """

    difference: Interval
    interval90: Interval
    sd: float
    p: float | None


def paired_comparison(a: ArrayLike, b: ArrayLike, total: int, m: int) -> Comparison:
    """Student's paired t-test of (b - a) / total with its intervals: t = mean / (sd / sqrt(n)), n - 1 degrees.

    `a` and `b`, shape (n,), one value a seed, the same seeds in the same order: right test predictions of `total`
    images, so that everything is a fraction; or any other measure, such as `utils.stats.curves.roughness`, with a total of 1.
    Source: Student (1908), The probable error of a mean, Biometrika 6, 1-25. Raises ValueError if lengths differ.

    Undefined for fewer than three seeds and for differences that are all the same, which is found on the integers
    before a test is asked: equal differences at a few seeds show a coarse measure, not certainty. A run without a
    value (None, such as the test predictions of a diverged one) leaves the estimate undefined as well; who leaves out
    that pair has to say so.

    Assumes seeds drawn independently and differences that are roughly normal. Simulated, the 95% interval covers
    normal differences in 95% of repetitions at 3, 6 and 10 seeds; exponential ones (skewness 2) in only 88%, 89% and
    90%, log-normal ones (sd of the log 1, skewness 6.2) in 84%, 82% and 84%. Two models whose accuracies are skewed
    alike have symmetric differences, of which it rather covers too many (Student's t with 3 degrees: 96%).
    """
    a, b = np.array([a, b], dtype=float)  # counts are exact in it, and it has a NaN for None
    differences = (b - a) / total
    interval = mean_interval(differences, 1 - FAMILY_ERROR_RATE / m)
    if np.isnan(interval.low):
        return Comparison(interval, interval, np.nan, None)
    p = max(float(stats.ttest_1samp(differences, 0).pvalue), SMALLEST_P)
    return Comparison(interval, mean_interval(differences, 0.9), float(differences.std(ddof=1)), p)


def holm(p_values: Sequence[float | None], m: int) -> list[float | None]:
    """Holm's adjusted p-values of a family of `m` tests, in the order given: significant at 5% where at most 0.05.

    The i-th smallest becomes the maximum over j <= i of (m - j + 1) * p_(j), at most 1. A test that is undefined
    (None, and None in the result) or missing from `p_values` counts in `m` all the same, as if its p-value were 1.
    Needs no independence. Source: Holm (1979), A simple sequentially rejective multiple test procedure, Scandinavian
    Journal of Statistics 6, 65-70. Raises ValueError for more than `m` p-values.
    """
    if len(p_values) > m:
        raise ValueError(f"{len(p_values)} p-values of a family of {m}")
    adjusted: list[float | None] = [None] * len(p_values)
    defined = [index for index, p in enumerate(p_values) if p is not None]
    largest = 0.0
    for rank, index in enumerate(sorted(defined, key=lambda index: p_values[index])):
        largest = adjusted[index] = max(largest, min(1.0, (m - rank) * p_values[index]))
    return adjusted


def detectable_difference(sd: float, n: int, m: int, power: float = 0.8) -> float:
    """The true mean difference that `n` seeds find at the two-sided level 0.05/m in a share `power` of repetitions.

    In the unit of `sd`, taken as the true spread of the differences: "with this spread". With u = |mean| sqrt(n) / sd
    and s the estimated over the true spread, distributed as chi(n - 1) / sqrt(n - 1) and independent of the mean,
    power = E over s of P(u > t s), t being the critical value. The expectation is taken by Gauss-Legendre quadrature
    over the quantiles of s and solved for the mean; `scipy.stats.nct`, its closed form, returns NaN in places. Source:
    Cohen (1988), Statistical power analysis for the behavioral sciences, chapter 2. Assumes normal differences.

    NaN for fewer than two seeds or a spread that isn't positive. Raises ValueError unless 0.05/m < power < 1.
    """
    if not FAMILY_ERROR_RATE / m < power < 1:
        raise ValueError(f"a power of {power:g} is not between the level {FAMILY_ERROR_RATE / m:.3g} and 1")
    if n < 2 or not sd > 0:
        return np.nan
    nodes, weights = np.polynomial.legendre.leggauss(200)  # on [-1, 1]; 200 give six digits from 2 to 1,000 seeds
    quantiles = np.append((nodes + 1) / 2, (1 + power) / 2)
    *thresholds, high = stats.t.isf(FAMILY_ERROR_RATE / m / 2, n - 1) * stats.chi.ppf(quantiles, n - 1) / np.sqrt(n - 1)

    def excess(shift: float) -> float:
        found = stats.norm.sf(thresholds, loc=shift) + stats.norm.sf(thresholds, loc=-shift)
        return weights / 2 @ found - power

    # With a share of (1 + power) / 2 both s and the mean are good enough at this end: more than `power` together.
    return float(sd / np.sqrt(n) * optimize.brentq(excess, 0, high + stats.norm.ppf((1 + power) / 2)))


def equivalent(interval90: Interval, margin: float) -> bool:
    """Whether equivalence is shown: the interval lies inside (-margin, margin). False if it is undefined.

    That is two one-sided t-tests at 5%, both significant. Source: Schuirmann (1987), A comparison of the two one-sided
    tests procedure and the power approach, Journal of Pharmacokinetics and Biopharmaceutics 15, 657-680. The margin has
    to be declared before the data are seen.
    """
    return -margin < interval90.low and interval90.high < margin


def over_images(correct_a: ArrayLike, correct_b: ArrayLike) -> Interval:
    """Mean accuracy difference and its 95% t-interval over test images: would it hold on new images? (secondary)

    `correct_a` and `correct_b`, bool of shape (seeds, images): one or more seeds, the same for both, images in the
    same order. An image counts once, by the mean over seeds of its difference; so this says nothing about new seeds,
    and assumes images drawn independently from those that matter. Undefined where `mean_interval` is: for fewer than
    three images, or models that are right on the same images. Raises ValueError if shapes differ.
    """
    a, b = np.array([correct_a, correct_b], dtype=int)
    return mean_interval((b - a).sum(axis=0) / len(a))


def mcnemar(correct_a: ArrayLike, correct_b: ArrayLike) -> float | None:
    """Exact two-sided p-value of McNemar's test that two checkpoints are right equally often. (secondary)

    `correct_a` and `correct_b`, bool of shape (images,), one trained network each: of the images on which only one
    is right, the number on which B is has the distribution Binomial(., 1/2). Source: McNemar (1947), Psychometrika 12,
    153-157. Assumes images drawn independently; it says nothing about other seeds, and several seeds must not be
    pooled in it. None where both are right on the same images. Raises ValueError if shapes differ.
    """
    a, b = np.array([correct_a, correct_b], dtype=bool)
    discordant = int((a != b).sum())
    if discordant == 0:
        return None
    return max(float(stats.binomtest(int((b & ~a).sum()), discordant).pvalue), SMALLEST_P)
