"""How many seeds would decide: against simulated t-tests, a double integral, and a printed table."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from utils.stats.intervals import Interval
from utils.stats.overfitting import Overfitting
from utils.stats.power import seeds_needed


@pytest.mark.parametrize(("effect", "n"), [(0.5, 34), (0.8, 15), (1.0, 10), (1.5, 6)])
def test_a_paired_t_test_by_the_books(effect, n):
    """Two-sided 5%, 80% power: n by G*Power 3.1, "means: difference between two dependent means"."""
    assert seeds_needed(effect, 1, 2, tail=0.025) == n
    assert seeds_needed(-0.01 * effect, 0.01, 2, tail=0.025) == n


def power_of(n, shift, tail, degrees):
    """P(z + shift > t s), with s^2 a chi-square over its degrees: an integral over s, without the noncentral t."""
    critical = stats.t.isf(tail, degrees)

    def integrand(s):
        return stats.norm.sf(critical * s - shift) * stats.chi.pdf(s * math.sqrt(degrees), degrees) * math.sqrt(degrees)

    return integrate.quad(integrand, 0, 10)[0]


@pytest.mark.parametrize("degrees_lost", [0, 1])
@pytest.mark.parametrize("tail", [0.025, 0.025 / 3, 0.025 / 9])
def test_it_is_the_smallest_number_with_80_percent(tail, degrees_lost):
    found = []
    for ratio in (0.55, 0.8, 1.3, 2.5, 6):
        n = seeds_needed(ratio, 1, 2, tail, degrees_lost)
        if n is None:
            assert power_of(50, ratio * math.sqrt(50), tail, 50 - degrees_lost) < 0.8
            continue
        found.append(n)
        assert power_of(n, ratio * math.sqrt(n), tail, n - degrees_lost) >= 0.8
        if n > 3:
            assert power_of(n - 1, ratio * math.sqrt(n - 1), tail, n - 1 - degrees_lost) < 0.8
    assert len(found) >= 4 and found == sorted(found, reverse=True)


def test_the_tests_that_it_plans_find_the_effect():
    rng, tail = np.random.default_rng(3), 0.025 / 3
    n = seeds_needed(0.9, 1, 2, tail)
    for seeds, enough in ((n, True), (n - 1, False)):
        found = stats.ttest_1samp(rng.normal(0.9, 1, (40_000, seeds)), 0, axis=1, alternative="greater").pvalue < tail
        assert (found.mean() >= 0.795) == enough or abs(found.mean() - 0.8) < 0.006


@pytest.mark.filterwarnings("error")
def test_limits():
    assert seeds_needed(100, 1, 2, 0.025) == 3  # never fewer
    assert seeds_needed(100, 1, 6, 0.025) == 7  # the present ones did not decide it
    assert seeds_needed(0.3, 1, 2, 0.025) is None and seeds_needed(0, 1, 2, 0.025) is None  # more than 50
    assert seeds_needed(1, 0, 2, 0.025) is None and seeds_needed(1, math.nan, 2, 0.025) is None
    assert seeds_needed(1, 1, 60, 0.025) is None


def test_overfitting_is_decided_by_the_nearer_word():
    def needed(rise, se=0.02, seeds=3, tail=0.025):
        interval = Interval(math.expm1(rise), -0.1, 0.2, seeds)
        return Overfitting("not decided", seeds, (15, 15), interval, se, tail).seeds_needed

    sd = 0.02 * math.sqrt(3)
    assert needed(0.06) == seeds_needed(0.06 - math.log(1.01), sd, 3, 0.025, degrees_lost=0)
    assert needed(-0.03) == seeds_needed(math.log(1.02) + 0.03, sd, 3, 0.025, degrees_lost=0)
    assert needed(0.06) == needed(-0.03) == 6
    assert needed(0.06, tail=0.025 / 3) > needed(0.06) and needed(0.015) is None
