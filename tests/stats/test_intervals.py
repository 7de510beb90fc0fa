"""Intervals against SciPy and hand-worked values."""

import math
import statistics

import numpy as np
import pytest
from scipy.stats import gmean, ttest_1samp

from utils.stats.intervals import mean_interval, prediction_interval, ratio_interval, relative_spread

UNEVEN = [0.9912, 0.9931, 0.9904, 0.9957]


@pytest.mark.parametrize("level", [0.95, 0.9])
@pytest.mark.parametrize("values", [UNEVEN, UNEVEN[:3], [-3.0, 1.0, 40.0]])
def test_mean_interval_is_the_t_interval(values, level):
    interval = mean_interval(values, level)
    expected = ttest_1samp(values, 0).confidence_interval(level)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert (interval.estimate, interval.n) == (pytest.approx(statistics.mean(values)), len(values))


def test_mean_interval_by_hand():
    # mean 3, sd sqrt(2.5), t(4) at 97.5% from a printed table: 2.776
    interval = mean_interval([1, 2, 3, 4, 5])
    assert interval.high - interval.estimate == pytest.approx(2.776 * math.sqrt(2.5 / 5), rel=1e-3)


def test_prediction_interval_by_hand_and_by_simulation():
    # mean 3, sd sqrt(2.5), t(4) at 97.5% from a printed table: 2.776
    interval = prediction_interval([1, 2, 3, 4, 5])
    assert interval.high - 3 == 3 - interval.low == pytest.approx(2.776 * math.sqrt(2.5 * (1 + 1 / 5)), rel=1e-3)
    values = np.random.default_rng(0).normal(0.8, 0.01, (4000, 4))
    intervals = np.array([[i.low, i.high] for i in (prediction_interval(row[:3]) for row in values)])
    covered = np.mean((intervals[:, 0] <= values[:, 3]) & (values[:, 3] <= intervals[:, 1]))
    assert 0.94 < covered < 0.96
    assert math.isnan(prediction_interval([0.9]).low)


# 0.1 + 0.2 is not 0.3 in floating point: values that are equal but for rounding have no interval either.
@pytest.mark.parametrize("values", [[0.7], [0.7, 0.7], [0.1, 0.1, 0.1], [0.3, 0.1 + 0.2, 0.3], [0.0, 0.0, 0.0]])
@pytest.mark.filterwarnings("error")
def test_no_bounds_from_too_few_values_or_from_no_variance(values):
    interval = mean_interval(values)
    assert interval.estimate == pytest.approx(values[0])
    assert math.isnan(interval.low) and math.isnan(interval.high) and interval.n == len(values)


def test_two_values_have_a_mean_alone():
    interval = mean_interval([0.25, 0.75])
    assert interval.estimate == 0.5 and math.isnan(interval.low) and math.isnan(interval.high) and interval.n == 2


@pytest.mark.parametrize("values", [[], [math.nan, 1.0, 2.0], [math.inf, 1.0], [None, 1.0]])
@pytest.mark.filterwarnings("error")
def test_mean_interval_of_values_that_are_not_finite_is_nan(values):
    interval = mean_interval(values)
    assert np.isnan([interval.estimate, interval.low, interval.high]).all() and interval.n == len(values)


def test_ratio_interval_is_the_t_interval_of_paired_logs():
    slow, fast = np.array([3.1, 6.4, 2.9, 3.3]), np.array([1.0, 2.0, 1.0, 1.2])  # the busy round slows both
    ratio, inverse = ratio_interval(slow, fast), ratio_interval(fast, slow)
    expected = ttest_1samp(np.log(slow / fast), 0).confidence_interval(0.95)
    assert ratio.estimate == pytest.approx(gmean(slow / fast)) and ratio.n == 4
    assert (ratio.low, ratio.high) == pytest.approx((np.exp(expected.low), np.exp(expected.high)))
    assert (1 / inverse.high, 1 / inverse.low) == pytest.approx((ratio.low, ratio.high))


@pytest.mark.filterwarnings("error")
def test_ratio_interval_where_it_is_undefined():
    same = ratio_interval([1.5, 2.5, 3.5], [1.5, 2.5, 3.5])  # a model beside itself
    assert (same.estimate, same.n) == (1, 3) and math.isnan(same.low) and math.isnan(same.high)
    for numerator, denominator in (([1, 2], [0, 1]), ([0, 0], [0, 0]), ([-1, 2], [1, 2]), ([], [])):
        assert math.isnan(ratio_interval(numerator, denominator).estimate)
    with pytest.raises(ValueError):
        ratio_interval([1.0, 2.0, 3.0], [1.0])


def test_relative_spread():
    times = [1.0, 2.0, 10.0, 3.0, 4.0]
    assert relative_spread(times) == pytest.approx((4 - 2) / 3)
    lower, median, upper = statistics.quantiles([0.31, 0.29, 0.42, 0.3], n=4, method="inclusive")
    assert relative_spread([0.31, 0.29, 0.42, 0.3]) == pytest.approx((upper - lower) / median)
    assert relative_spread(np.multiply(times, 1e-6)) == pytest.approx(relative_spread(times))


@pytest.mark.parametrize("values", [[], [1.0], [0.0, 0.0, 0.0], [1.0, math.nan, 2.0]])
@pytest.mark.filterwarnings("error")
def test_relative_spread_where_it_is_undefined(values):
    assert math.isnan(relative_spread(values))
