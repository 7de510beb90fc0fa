"""Statistics of repeated measurements and of learning curves, in plain arrays. Never loads torch.

What is undefined comes back as NaN (None for an epoch): curves that diverged, are too short or never vary make these
functions neither raise nor warn. Curves hold one value an epoch, and epochs count from 1.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

FEWEST_SEEDS = 3  # for an interval or a verdict over seeds
# Differences this small, beside values of order one, are rounding.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Interval:
    """An estimate from `n` values and its two-sided interval at `level`; `low` and `high` are NaN where undefined."""

    estimate: float
    low: float
    high: float
    n: int
    level: float = 0.95


def mean_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Mean of `values`, shape (n,), one a seed, with Student's t-interval: mean +- t(n - 1) * sd / sqrt(n).

    There are no bounds for fewer than three values (for two t is 12.7: accuracies beyond 100%), nor for values that are
    all the same: at a few seeds that shows a coarse measure, not a mean known exactly. One value that isn't finite
    makes the estimate NaN as well. Assumes independent values of one normal distribution (Student, 1908, Biometrika 6,
    1-25); `utils.stats.paired.paired_comparison` says how far skewed ones fall short.
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


def prediction_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Where one more value is expected after `values`, shape (n,): mean +- t(n - 1) * sd * sqrt(1 + 1 / n).

    Assumes values of one normal distribution (Hahn and Meeker, Statistical Intervals, 1991, section 4.3). Undefined
    where `mean_interval` is.
    """
    mean = mean_interval(values, level)  # its half width is t(n - 1) * sd / sqrt(n)
    half = (mean.high - mean.estimate) * np.sqrt(mean.n + 1)
    return replace(mean, low=mean.estimate - half, high=mean.estimate + half)


def ratio_interval(numerator: ArrayLike, denominator: ArrayLike, level: float = 0.95) -> Interval:
    """Geometric mean of numerator / denominator, paired positive times of shape (n,), one pair a round.

    Its interval is the t-interval of the log ratios, exponentiated, which assumes them to be normal and independent
    between rounds (Fleming and Wallace, 1986, Communications of the ACM 29(3), for the geometric mean). Undefined where
    `mean_interval` is; all NaN if a time isn't positive. Raises ValueError if the two differ in length.
    """
    times = np.array([numerator, denominator], dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = mean_interval(np.subtract(*np.log(times)), level)
    return Interval(*np.exp([logs.estimate, logs.low, logs.high]).tolist(), logs.n, level)


def relative_spread(values: ArrayLike) -> float:
    """Interquartile range over median of positive times, shape (n,), one a round of a timing pass.

    Over 0.15 the machine was busy with something else. NaN for fewer than two values or a value that isn't positive.
    """
    values = np.asarray(values, dtype=float)
    if len(values) < 2 or not (np.isfinite(values) & (values > 0)).all():
        return np.nan
    lower, median, upper = np.percentile(values, [25, 50, 75])
    return float((upper - lower) / median)
