"""Comparisons over test images instead of seeds, and McNemar's test against statsmodels."""

import math

import numpy as np
import pytest
from scipy import stats

from utils.stats.paired import mcnemar, over_images


def test_over_images_takes_each_image_once():
    rng = np.random.default_rng(6)
    a, b = rng.random((3, 400)) < 0.8, rng.random((3, 400)) < 0.85
    interval = over_images(a, b)
    expected = stats.ttest_rel(b.mean(axis=0), a.mean(axis=0))
    assert (interval.low, interval.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert interval.estimate == pytest.approx(b.mean() - a.mean()) and interval.n == 400
    assert over_images(a[[2, 0, 1]], b[[2, 0, 1]]) == interval
    assert over_images(np.tile(a, (5, 1)), np.tile(b, (5, 1))).high == pytest.approx(interval.high)


@pytest.mark.filterwarnings("error")
def test_over_images_where_it_is_undefined():
    right = np.array([[True, False, True], [False, False, True]])
    same = over_images(right, right)
    assert same.estimate == 0 and math.isnan(same.low) and same.n == 3
    assert over_images(right, right[::-1]).estimate == 0  # other seeds failed, on the same image as often
    assert math.isnan(over_images(right[:, :1], ~right[:, :1]).low)
    with pytest.raises(ValueError):
        over_images(right, right[:1])


def checkpoints(only_a: int, only_b: int) -> tuple[np.ndarray, np.ndarray]:
    """Right answers of two checkpoints: on 100 images both, on `only_a` and `only_b` one, on 20 none."""
    counts = [100, only_a, only_b, 20]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


@pytest.mark.parametrize(
    "only_a, only_b, p", [(5, 14, 0.063568115234375), (0, 9, 2**-8), (40, 61, 0.046044066929342785)]
)
def test_mcnemar_against_statsmodels(only_a, only_b, p):
    # statsmodels 0.15.0: mcnemar([[100, only_a], [only_b, 20]], exact=True).pvalue
    assert mcnemar(*checkpoints(only_a, only_b)) == pytest.approx(p)
    assert mcnemar(*checkpoints(only_b, only_a)) == pytest.approx(p)


@pytest.mark.filterwarnings("error")
def test_mcnemar_at_its_edges():
    assert mcnemar(*checkpoints(0, 0)) is None and mcnemar([], []) is None
    assert mcnemar(*checkpoints(3, 3)) == mcnemar(*checkpoints(1, 0)) == 1
    with pytest.raises(ValueError):
        mcnemar([True, False], [True])
