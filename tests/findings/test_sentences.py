"""Sentences on times, test images and depth."""

import dataclasses

import numpy as np
import pytest
from made_counts import AB
from made_records import make_record, make_timing
from scipy import stats

from utils.findings.depth import DepthVerdict
from utils.findings.sentences import depth_sentence, secondary_sentence, time_sentence
from utils.findings.verdicts import accuracy_verdicts
from utils.stats.intervals import Interval


def test_faster_only_beyond_two_percent():
    timing = make_timing(["A", "B"])
    assert time_sentence(timing, "B", "A").startswith("A trains faster: an epoch takes 0.3")
    alike = dict.fromkeys(("A", "B"), timing.models["A"])
    alike["B"] = alike["A"] | {"train_epoch_seconds": [1.01 * s for s in alike["A"]["train_epoch_seconds"]]}
    assert "not distinguished" in time_sentence(dataclasses.replace(timing, models=alike), "A", "B")


def test_two_rounds_are_too_few_to_call_a_model_faster():
    timing = make_timing(["A", "B"])
    few = {name: {measure: s[:2] for measure, s in measured.items()} for name, measured in timing.models.items()}
    sentence = time_sentence(dataclasses.replace(timing, models=few), "A", "B")
    assert sentence.startswith("A and B: too few rounds (2; a verdict needs 3); an epoch of A takes 0.")


def test_times_that_are_equal_in_all_rounds_have_no_interval():
    timing = make_timing(["A", "B"])
    same = dataclasses.replace(timing, models=dict.fromkeys(("A", "B"), timing.models["A"]))
    assert time_sentence(same, "A", "B").endswith("an epoch of A takes 1.00 times B's time")


def test_mcnemar_is_told_for_a_single_seed_only():
    runs = {m: [make_record(m, s, accuracy=a, test_total=500) for s in range(2)] for m, a in (("A", 0.9), ("B", 0.95))}
    assert "McNemar" not in secondary_sentence(runs, *accuracy_verdicts(runs, AB, 0.0))
    one = {m: records[:1] for m, records in runs.items()}
    assert "McNemar" in secondary_sentence(one, *accuracy_verdicts(one, AB, 0.0))


def test_over_test_images_is_b_minus_a_over_the_seeds_of_both():
    """Seed 9 of A, which B lacks, must not count; image by image against scipy."""
    runs = {"A": [make_record("A", s, accuracy=0.8, test_total=500) for s in (9, 2, 0)]}
    runs["B"] = [make_record("B", s, accuracy=0.95, test_total=500) for s in (0, 2, 5)]
    right = {
        name: np.mean(
            [r.arrays["test_predictions"] == r.arrays["test_labels"] for r in records if r.seed in (0, 2)], axis=0
        )
        for name, records in runs.items()
    }
    change = 100 * (right["B"] - right["A"])
    low, high = stats.t.interval(0.95, 499, change.mean(), stats.sem(change))
    assert secondary_sentence(runs, *accuracy_verdicts(runs, AB, 0.0)) == (
        f"B minus A over test images: {change.mean():.2f} points ({low:.2f} to {high:.2f})"
    )


def test_over_test_images_is_told_for_the_seeds_of_the_look():
    runs = {m: [make_record(m, s, accuracy=a, test_total=500) for s in range(5)] for m, a in (("A", 0.8), ("B", 0.95))}
    first = {model: records[:3] for model, records in runs.items()}
    told, of_all = (
        secondary_sentence(runs, *accuracy_verdicts(runs, AB, 0.0, by_looks=by_looks)) for by_looks in (True, False)
    )
    assert told == secondary_sentence(first, *accuracy_verdicts(first, AB, 0.0)) != of_all


@pytest.mark.parametrize(
    ("ratio", "told"),
    [
        (Interval(0.8784, 0.853, 0.90004, 5), "0.878, 0.853 to 0.900; 5 seeds"),
        (Interval(124.4, 99.96, 155.5, 3), "124, 100 to 156; 3 seeds"),
        (Interval(1234, 999.4, 12_345, 3), "1,234, 999 to 12,345; 3 seeds"),
        (Interval(3e-5, 2.04e-5, 4.4e-5, 3), "3.00e-05, 2.04e-05 to 4.40e-05; 3 seeds"),
        (Interval(2.31, np.nan, np.nan, 1), "2.31; 1 seed"),
    ],
)
def test_the_sentence_on_depth_has_three_digits_of_each_ratio(ratio, told):
    assert depth_sentence(DepthVerdict("neither", ratio, ratio.n)) == (
        f"neither (norm of the first layer over that of the last {told})"
    )
