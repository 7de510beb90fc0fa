"""Statistics of repeated measurements, in plain arrays. Never loads torch.

An undefined result is NaN: too few values, or values that never vary, raise no error and give no warning.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

FEWEST_SEEDS = 3  # needed for an interval or a verdict over seeds
# Between values of order one, smaller differences are rounding errors.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Interval:
    """An estimate from `n` values and its two-sided confidence interval at `level`; undefined bounds are NaN."""

    estimate: float
    low: float
    high: float
    n: int
    level: float = 0.95


def mean_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """The mean of `values`, shape (n,), with Student's t-interval: mean +- t(n - 1) * sd / sqrt(n).

    There are no bounds for fewer than three values: for two, t is 12.7, and accuracies would exceed 100%. There are
    none either if all values are the same: with a few seeds that only shows that the measure is coarse, not that the
    mean is known exactly. If a value is not finite, the estimate is NaN too.

    Assumes independent values of one normal distribution (Student, 1908, Biometrika 6, 1-25). How well it covers skewed
    distributions is said in `utils.stats.paired.paired_comparison`.
    """
    values = np.asarray(values, dtype=float)
    n = len(values)
    if n == 0 or not np.isfinite(values).all():
        return Interval(np.nan, np.nan, np.nan, n, level)
    mean = float(values.mean())
    if n < FEWEST_SEEDS or np.ptp(values) <= ROUNDING * np.abs(values).max():
        return Interval(mean, np.nan, np.nan, n, level)
    low, high = stats.t.interval(level, n - 1, loc=mean, scale=stats.sem(values))
    return Interval(mean, float(low), float(high), n, level)


def as_share(interval: Interval) -> Interval:
    """The interval of a share, such as an accuracy, without what lies below 0 or above 1."""
    low, high = np.clip([interval.low, interval.high], 0, 1)
    return replace(interval, low=float(low), high=float(high))


def prediction_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """The prediction interval for one more value after `values`, shape (n,): mean +- t(n - 1) * sd * sqrt(1 + 1 / n).

    It is wider than the interval of the mean, since a single value varies more than a mean. Assumes values of one
    normal distribution (Hahn and Meeker, Statistical Intervals, 1991, section 4.3). Undefined where `mean_interval` is.
    """
    # The half width of the mean is t * sd / sqrt(n); times sqrt(n + 1) it is t * sd * sqrt(1 + 1 / n).
    mean = mean_interval(values, level)
    half = (mean.high - mean.estimate) * np.sqrt(mean.n + 1)
    return replace(mean, low=mean.estimate - half, high=mean.estimate + half)


def ratio_interval(numerator: ArrayLike, denominator: ArrayLike, level: float = 0.95) -> Interval:
    """The geometric mean of numerator / denominator, with its interval.

    Both hold positive times of shape (n,), paired by round. The interval is the t-interval of the log ratios,
    exponentiated; it assumes that these are normal and independent between rounds. Why a geometric mean: a / b and
    b / a then agree (Fleming and Wallace, 1986, Communications of the ACM 29(3)). Undefined where `mean_interval` is;
    all NaN if a time is not positive. Raises ValueError if the two differ in length.
    """
    times = np.array([numerator, denominator], dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = mean_interval(np.subtract(*np.log(times)), level)
    return Interval(*np.exp([logs.estimate, logs.low, logs.high]).tolist(), logs.n, level)


def relative_spread(values: ArrayLike) -> float:
    """Interquartile range over median of positive times, shape (n,), one for each round of a timing pass.

    More than 0.15 means that the machine was busy with something else. NaN for fewer than two values, or if a value is
    not positive.
    """
    values = np.asarray(values, dtype=float)
    if len(values) < 2 or not (np.isfinite(values) & (values > 0)).all():
        return np.nan
    lower, median, upper = np.percentile(values, [25, 50, 75])
    return float((upper - lower) / median)
