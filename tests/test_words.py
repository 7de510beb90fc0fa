"""Numbers in words, where rounding or an undefined bound could mislead."""

import numpy as np
import pytest

from utils.stats.intervals import Interval
from utils.words import epochs_in_words, p_in_words, plain, runs_in_words, setting, three_digits, with_bounds


@pytest.mark.parametrize(
    ("p", "told"),
    [
        (1e-300, "p < 0.001"),
        (0.00099, "p < 0.001"),
        (0.0496, "p = 0.050"),
        (0.05, "p = 0.050"),
        (0.0504, "p > 0.05"),  # 0.050 would look like one that decides
        (0.0506, "p = 0.051"),
        (0.284, "p = 0.28"),
        (None, "p undefined"),
    ],
)
def test_a_p_value_is_never_rounded_across_its_thresholds(p, told):
    assert p_in_words(p) == told


def test_numbers_with_and_without_bounds():
    assert with_bounds(Interval(0.5, 0.25, 0.75, 3), "{:.1f}".format) == "0.5 (0.2 to 0.8)"
    assert with_bounds(Interval(0.5, np.nan, np.nan, 1), "{:.1f}".format) == "0.5"
    assert [three_digits(ratio) for ratio in (0.05812, 31.49, 999.4, 999.6, 1234)] == [
        "0.0581", "31.5", "999", "1,000", "1,234",
    ]  # fmt: skip


def test_the_median_of_epochs_is_one_of_them():
    assert epochs_in_words([9, 4]) == "4, 4 to 9"
    assert epochs_in_words([9, 4, 8]) == "8, 4 to 9"
    assert epochs_in_words([7, 7]) == "7"


def test_switches_and_runs():
    assert [plain(value) for value in (True, False, 0.0, 0.25, 3, (1, 2))] == ["on", "off", "0", "0.25", "3", "(1, 2)"]
    assert runs_in_words({"A": [1, 2], "B": [0]}) == "A with seeds 1, 2 and B with seed 0"
    assert runs_in_words({"A": [1]}, " diverged") == "A diverged with seed 1"


def test_settings_of_any_type_are_told():
    told = [setting(*item) for item in (("widths", (1, 2)), ("limit", None), ("optimizer", "adam"), ("dropout", 0.0))]
    assert told == ["widths (1, 2)", "limit None", "optimizer adam", "dropout 0"]
