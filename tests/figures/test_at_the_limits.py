"""Accuracies near 0% and 100%: no interval ends beyond, in pictures as in tables."""

import dataclasses

import numpy as np
import pytest
from made_page import rows_of, text_of
from made_records import make_record, make_timing
from matplotlib.collections import LineCollection
from pictures import CIFAR, assert_nothing_overlaps
from pictures import text_of as text_in

from docs.original_report import Original, protocol_table
from utils.figures import panels
from utils.figures import task as figures
from utils.figures.canvas import model_styles
from utils.findings.runs import accuracies_of, accuracy_over_seeds
from utils.stats.intervals import Interval, as_share, mean_interval


def records_of(model, counts, total=10_000):
    return [
        dataclasses.replace(make_record(model, seed, **CIFAR), test_correct=c, test_total=total)
        for seed, c in enumerate(counts)
    ]


HIGH, LOW, MIDDLE = (9999, 9990, 9960), (1, 10, 40), (9800, 9810, 9790)
RUNS = {
    "FCN": records_of("FCN", HIGH),
    "SimpleCNN": records_of("SimpleCNN", LOW),
    "CIFARCNN": records_of("CIFARCNN", MIDDLE),
}


def test_a_share_lies_between_0_and_1_and_what_is_not_defined_stays_so():
    assert as_share(Interval(0.99, 0.98, 1.02, 3)) == Interval(0.99, 0.98, 1.0, 3)
    assert as_share(Interval(0.01, -0.2, 0.3, 3)) == Interval(0.01, 0.0, 0.3, 3)
    assert as_share(Interval(0.5, 0.4, 0.6, 4, 0.9)) == Interval(0.5, 0.4, 0.6, 4, 0.9)
    nothing = as_share(Interval(0.5, np.nan, np.nan, 2))
    assert nothing.estimate == 0.5 and np.isnan([nothing.low, nothing.high]).all()


@pytest.mark.parametrize("weights", ["", "best_"])
def test_the_interval_of_an_accuracy_ends_at_0_and_100_percent(weights):
    records = [
        dataclasses.replace(record, best_test_correct=record.test_correct, best_test_accuracy=0.5)
        for record in RUNS["FCN"]
    ]
    plain, found = mean_interval(accuracies_of(records, weights)), accuracy_over_seeds(records, weights)
    assert plain.high > 1 and found == dataclasses.replace(plain, high=1.0)
    low = accuracy_over_seeds(RUNS["SimpleCNN"])
    assert mean_interval(accuracies_of(RUNS["SimpleCNN"])).low < 0 and low.low == 0
    assert accuracy_over_seeds(RUNS["CIFARCNN"]) == mean_interval(accuracies_of(RUNS["CIFARCNN"]))


def test_a_lopsided_interval_is_said_by_its_bounds():
    words = {model: panels.accuracy_in_words(accuracy_over_seeds(records)) for model, records in RUNS.items()}
    assert words == {
        "FCN": "99.83% (99.32% to 100.00%)",
        "SimpleCNN": "0.17% (0.00% to 0.68%)",
        "CIFARCNN": "98.00 ± 0.25%",
    }
    assert panels.accuracy_in_words(accuracy_over_seeds(RUNS["FCN"][:2])) == "99.94%"


def test_bars_and_axes_end_there_too():
    runs = {"FCN": RUNS["FCN"], "CIFARCNN": RUNS["CIFARCNN"]}
    styles, timing = model_styles(list(runs)), make_timing(list(runs))
    assert panels.accuracy_limits(runs)[1] <= 1.0005
    comparison, costs = figures.comparison(runs, timing, styles), figures.accuracy_vs_cost(runs, timing, styles)
    for figure, ax, axis in ((comparison, comparison.axes[3], 0), (costs, costs.axes[0], 1)):
        assert_nothing_overlaps("at the limits", figure)
        bars = [bar for bar in ax.collections if isinstance(bar, LineCollection)]
        bounds = [bound for bar in bars for segment in bar.get_segments() for bound in segment[:, axis]]
        assert max(bounds) == 1.0 and min(bounds) > 0.97
    assert "99.83% (99.32% to 100.00%)" in text_in(comparison)


def test_tables_and_the_prediction_of_one_more_run_end_there():
    shown = rows_of(text_of({"FCN": RUNS["FCN"]}), "test accuracy")["FCN"]["test accuracy, final weights"]
    assert shown == "99.83% (99.32% to 100.00%)"
    runs = {"FCN": []}
    for seed, accuracy in enumerate((0.9999, 0.9990, 0.9960)):
        record = make_record("FCN", seed)
        record.history[-1]["val_accuracy"] = accuracy
        runs["FCN"].append(record)
    original = Original(runs={"FCN": {"val_accuracy": [99.5]}})
    row = rows_of(protocol_table(runs, original), "original")["FCN"]
    assert row["ours"] == "99.83% (99.32% to 100.00%)"
    assert row["more than seeds explain?"] == "no: one more run is expected at 98.82% to 100.00% (3 seeds)"
