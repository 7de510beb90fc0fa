"""Plateaus against plain-Python oracles and hand-worked values."""

import json
import math

import numpy as np
import pytest
from checkout_folder import CHECKOUT

from utils.stats.curves import accuracy_plateau, running_median

ORIGINAL = json.loads((CHECKOUT / "docs" / "original_report.json").read_text())["runs"]


def test_running_median_repeats_the_ends():
    assert running_median([9, 1, 5, 2, 8, 7]).tolist() == [9, 5, 2, 5, 7, 7]
    assert running_median([4, 1]).tolist() == [4, 1]
    assert running_median([]).tolist() == []


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None])
@pytest.mark.filterwarnings("error")
def test_no_plateau_of_curves_that_are_not_finite(bad):
    assert accuracy_plateau([0.5] * 9 + [bad]) is None and accuracy_plateau([]) is None


def test_plateaus_on_the_original_report():
    """As the claims' rule in docs/original_claims.py tells them."""
    plateaus = {m: accuracy_plateau(np.array(ORIGINAL[m]["val_accuracy"]) / 100) for m in list(ORIGINAL)[3:]}
    assert plateaus == {"CIFARCNN": 9, "CNN": None, "CNN-Regularized": None}


def test_accuracy_plateau():
    rising = [0.50, 0.60, 0.70, 0.75, 0.752, 0.753, 0.754, 0.753, 0.754]
    assert accuracy_plateau(rising) == 4
    assert accuracy_plateau([0.70, 0.70, 0.70, 0.60, 0.60, 0.60]) == 1  # a later fall is no better
    assert accuracy_plateau([0.5, 0.6, 0.7, 0.8, 0.9]) is None  # it rose to the end
    assert accuracy_plateau([0.5, 0.6, 0.7, 0.896, 0.9, 0.9, 0.9]) == 4
    assert accuracy_plateau([0.5, 0.6, 0.7, 0.896, 0.9, 0.9]) is None  # two later epochs show no plateau
    assert accuracy_plateau([0.7, 0.7, 0.7, 0.9, 0.7, 0.7]) == 1  # one outlier is smoothed away


def test_accuracy_plateau_counts_half_a_point_exactly():
    # 25 of 5,000 images are 0.5 points, however the two fractions round.
    for count in range(3000, 4900):
        assert accuracy_plateau([count / 5000] * 3 + [(count + 25) / 5000] * 4) == 4
        assert accuracy_plateau([count / 5000] * 3 + [(count + 24) / 5000] * 4) == 1
