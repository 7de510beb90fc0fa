"""Paired comparisons against SciPy, statsmodels and hand-worked values; coverage and power by simulation."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from utils.stats.intervals import Interval, mean_interval
from utils.stats.paired import SMALLEST_P, equivalent, holm, mcnemar, paired_comparison

A, B, TOTAL = [9871, 9880, 9865, 9890], [9895, 9878, 9899, 9901], 10_000


# Paired comparison


@pytest.mark.parametrize("m", [1, 3])
def test_paired_comparison_is_the_paired_t_test(m):
    found = paired_comparison(A, B, TOTAL, m)
    expected = stats.ttest_rel(np.divide(B, TOTAL), np.divide(A, TOTAL))
    for interval, level in ((found.difference, 1 - 0.05 / m), (found.equivalence, 0.9)):
        assert (interval.low, interval.high) == pytest.approx(tuple(expected.confidence_interval(level)), rel=1e-9)
        assert interval.estimate == pytest.approx((24 - 2 + 34 + 11) / 4 / TOTAL) and interval.n == 4
    assert found.p == pytest.approx(expected.pvalue)
    assert found.sd == pytest.approx(statistics.stdev([24, -2, 34, 11]) / TOTAL)


def test_paired_comparison_by_hand():
    # Differences 1, 2, 3, 4, 5: mean 3, sd sqrt(2.5), t = 3 / sqrt(0.5) = 4.243. Printed tables for 4 degrees of
    # freedom: t = 4.604 at a two-sided 1%, 3.747 at 2%, 2.776 at 5% and 2.132 at 10%.
    found = paired_comparison([10, 20, 30, 40, 50], [11, 22, 33, 44, 55], 100, m=1)
    assert 0.01 < found.p < 0.02
    assert found.difference.high == pytest.approx(0.03 + 0.02776 * math.sqrt(0.5), rel=1e-3)
    assert found.equivalence.low == pytest.approx(0.03 - 0.02132 * math.sqrt(0.5), rel=1e-3)


def test_another_measure_than_counts():
    found = paired_comparison([-3.1, -2.9, -3.3], [-2.0, -2.2, -2.6], 1, m=3)
    assert found.difference.estimate == pytest.approx(2.5 / 3)
    assert found.p == pytest.approx(stats.ttest_1samp([1.1, 0.7, 0.7], 0).pvalue)


def assert_undefined(comparison, estimate):
    for interval in (comparison.difference, comparison.equivalence):
        assert interval.estimate == pytest.approx(estimate, nan_ok=True)
        assert math.isnan(interval.low) and math.isnan(interval.high)
    assert math.isnan(comparison.sd)
    assert comparison.p is None
    assert equivalent(comparison.equivalence, 1.0) is False


@pytest.mark.filterwarnings("error")
def test_same_runs_do_not_differ():
    found = paired_comparison(A, A, TOTAL, 3)
    assert found.difference.estimate == 0 and found.difference.n == 4
    assert_undefined(found, 0)


# 5001/10,000 - 5000/10,000 isn't 8191/10,000 - 8190/10,000 in floating point: only counts show that both are one image.
@pytest.mark.parametrize(
    "a, b, estimate",
    [
        ([9871], [9873], 0.0002),
        ([], [], math.nan),
        ([5000, 8190, 9871], [5001, 8191, 9872], 0.0001),
        (np.array([8713, 8741], np.uint16), np.array([8706, 8734], np.uint16), -0.0007),
        ([9871, 9880, None], [9895, 9878, 9899], math.nan),
    ],
)
@pytest.mark.filterwarnings("error")
def test_no_p_from_one_seed_no_variance_or_a_missing_run(a, b, estimate):
    assert_undefined(paired_comparison(a, b, TOTAL, 3), estimate)


@pytest.mark.filterwarnings("error")
def test_p_is_never_0():
    a, b = np.zeros(200), TOTAL - np.arange(200) % 2
    assert stats.ttest_rel(b, a).pvalue == 0  # too small for a float
    assert paired_comparison(a, b, TOTAL, 1).p == SMALLEST_P > 0
    assert mcnemar([False] * 5000, [True] * 5000) == SMALLEST_P


@pytest.mark.parametrize("a, b", [(A, B[:3]), (A, B[:1]), (A, [])])
def test_as_many_runs_of_one_as_of_the_other(a, b):
    with pytest.raises(ValueError):
        paired_comparison(a, b, TOTAL, 3)


def test_order_of_seeds_and_direction():
    found, flipped = paired_comparison(A, B, TOTAL, 3), paired_comparison(B, A, TOTAL, 3)
    order = [2, 0, 3, 1]
    shuffled = paired_comparison(np.take(A, order), np.take(B, order), TOTAL, 3)
    for one, interval, other in (
        (found.difference, shuffled.difference, flipped.difference),
        (found.equivalence, shuffled.equivalence, flipped.equivalence),
    ):
        assert (interval.estimate, interval.low, interval.high) == pytest.approx((one.estimate, one.low, one.high))
        assert (-other.estimate, -other.high, -other.low) == pytest.approx((one.estimate, one.low, one.high))
    assert shuffled.p == pytest.approx(found.p) == flipped.p and shuffled.sd == pytest.approx(found.sd)


@given(st.data())
@settings(max_examples=100, deadline=None)
@pytest.mark.filterwarnings("error")
def test_arbitrary_small_results(data):
    total = data.draw(st.integers(1, 50))
    m = data.draw(st.integers(2, 6))
    contrasts = []
    for _ in range(data.draw(st.integers(1, m))):
        pairs = data.draw(st.lists(st.tuples(st.integers(0, total), st.integers(0, total)), min_size=1, max_size=8))
        a, b = zip(*pairs, strict=True)
        found = paired_comparison(a, b, total, m)
        contrasts.append(found)
        changes = {y - x for x, y in pairs}
        assert found.difference.estimate == pytest.approx(sum(y - x for x, y in pairs) / len(pairs) / total)
        assert (found.p is None) == (len(changes) == 1 or len(pairs) < 3) == math.isnan(found.sd)
        if found.p is not None:
            assert 0 < found.p <= 1
            assert found.difference.low < found.equivalence.low < found.equivalence.high < found.difference.high
    adjusted = holm([found.p for found in contrasts], m)
    for found, p in zip(contrasts, adjusted, strict=True):
        assert p is None if found.p is None else 0 < found.p <= p <= 1


# How often the interval covers the true difference; the shortfalls are those that the docstring states.


def repetitions(draw, n, count=20_000):
    """t-tests of `count` simulated comparisons of `n` differences each, against 0."""
    return stats.ttest_1samp(draw(np.random.default_rng(n), (count, n)), 0, axis=1)


def coverage(draw, n, level=0.95):
    interval = repetitions(draw, n).confidence_interval(level)
    return np.mean((interval.low <= 0) & (0 <= interval.high))


def normal(rng, shape):
    return rng.normal(size=shape)


def exponential(rng, shape):
    return rng.exponential(size=shape) - 1


def log_normal(rng, shape):
    return rng.lognormal(size=shape) - math.exp(0.5)


@pytest.mark.parametrize(
    "draw, stated",
    [(normal, (0.95, 0.95, 0.95)), (exponential, (0.88, 0.89, 0.90)), (log_normal, (0.84, 0.82, 0.84)),
     (lambda rng, shape: rng.standard_t(3, size=shape), (0.96, 0.96, 0.96))],
)  # fmt: skip
def test_stated_coverage(draw, stated):
    assert [coverage(draw, n) for n in (3, 6, 10)] == pytest.approx(stated, abs=0.011)


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 6, 10])
def test_coverage_and_power_on_counts_of_images(n):
    rng = np.random.default_rng(n)
    count, total, m, sd = 1500, 10_000, 3, 0.004  # of either model, between seeds; rounding to whole images included
    critical = stats.t.isf(0.025 / m, n - 1)
    shift = optimize.brentq(lambda shift: stats.nct.sf(critical, n - 1, shift) - 0.8, 0, 50)  # found in four of five
    true = shift * sd * math.sqrt(2 / n)
    accuracy = rng.normal([[[0.87]], [[0.87 + true]]], sd, size=(2, count, n)).clip(max=1)
    found = [paired_comparison(a, b, total, m) for a, b in zip(*np.rint(accuracy * total), strict=True)]
    means = [mean_interval(counts / total) for counts in np.rint(accuracy[0] * total)]
    assert np.mean([each.low <= 0.87 <= each.high for each in means]) == pytest.approx(0.95, abs=0.02)
    covered = np.mean([each.equivalence.low <= true <= each.equivalence.high for each in found])
    covered_by_wide = np.mean([each.difference.low <= true <= each.difference.high for each in found])
    assert covered == pytest.approx(0.9, abs=0.03) and covered_by_wide == pytest.approx(1 - 0.05 / m, abs=0.01)
    assert np.mean([each.p < 0.05 / m for each in found]) == pytest.approx(0.8, abs=0.05)


# Families of tests


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04, times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.04, which may not fall again.
    assert holm([0.04, 0.01, 0.03, 0.02], m=4) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.3], m=2) == pytest.approx([0.6, 0.6])
    assert holm([0.6, 0.7, 0.5], m=3) == [1, 1, 1]
    assert holm([0.03], m=1) == [0.03] and holm([], m=3) == []


def test_holm_against_statsmodels():
    # statsmodels 0.15.0: multipletests([0.02, 0.011, 0.03, 0.9, 0.5], method="holm")[1]
    assert holm([0.02, 0.011, 0.03, 0.9, 0.5], m=5) == pytest.approx([0.08, 0.055, 0.09, 1.0, 1.0])


def test_holm_counts_what_is_undefined_or_did_not_run():
    expected = holm([0.02, 0.001, 1.0, 1.0, 1.0], m=5)[:2]
    assert expected == pytest.approx([0.08, 0.005])
    assert holm([0.02, 0.001], m=5) == expected
    assert holm([None, 0.02, None, 0.001], m=5) == [None, expected[0], None, expected[1]]
    assert holm([None, None], m=3) == [None, None]
    with pytest.raises(ValueError, match="4 p-values of a family of 3"):
        holm([0.1, 0.2, None, None], m=3)


# Equivalence


@pytest.mark.parametrize(
    "low, high, expected",
    [(-0.0009, 0.0004, True), (-0.0011, 0.0004, False), (-0.0004, 0.0011, False), (-0.002, 0.002, False),
     (0.0011, 0.0019, False), (-0.0019, -0.0011, False), (0.0009, 0.0019, False), (math.nan, math.nan, False)],
)  # fmt: skip
def test_equivalent(low, high, expected):
    assert equivalent(Interval((low + high) / 2, low, high, 6), 0.001) is expected


def test_equivalence_is_two_one_sided_tests():
    rng = np.random.default_rng(4)
    outcomes = set()
    for _ in range(60):
        a, b = rng.integers(9860, 9875, (2, 5))
        margin = rng.uniform(0.0002, 0.002)
        tests = [
            stats.ttest_1samp((b - a) / TOTAL, bound, alternative=side).pvalue < 0.05
            for bound, side in ((-margin, "greater"), (margin, "less"))
        ]
        outcome = equivalent(paired_comparison(a, b, TOTAL, 3).equivalence, margin)
        assert outcome == all(tests)
        outcomes.add(outcome)
    assert outcomes == {True, False}
