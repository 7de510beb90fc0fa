"""Sentences on steadiness, times, test images and depth."""

import dataclasses
import re

import numpy as np
import pytest
from made_counts import AB
from made_records import make_record, make_timing, wavy_record
from scipy import stats

from utils.experiment import Contrast
from utils.findings.depth import DepthVerdict
from utils.findings.sentences import depth_sentence, secondary_sentence, stability_sentence, time_sentence
from utils.findings.verdicts import stability_verdicts
from utils.stats.intervals import Interval
from utils.stats.power import seeds_needed


def test_steadiness_that_is_not_distinguished_says_how_many_seeds_would_decide():
    runs = {"A": [wavy_record("A", s, 0.3) for s in range(6)], "BB": [wavy_record("BB", s, 0.36) for s in range(6)]}
    (verdict,) = stability_verdicts(runs, [Contrast("A", "BB")])
    n = seeds_needed(verdict.differences.mean(), verdict.differences.std(ddof=1), 6, 0.025)
    assert 6 < n <= 50 and stability_sentence(verdict).endswith(f"); about {n} seeds would probably decide it")


def test_steadiness_with_too_few_seeds_or_without_spread():
    few = {"A": [wavy_record("A", s, 0.3) for s in range(2)], "BB": [wavy_record("BB", s, 0.03) for s in range(2)]}
    (verdict,) = stability_verdicts(few, [Contrast("A", "BB")])
    start = r"A and BB, steadiness: too few seeds \(2 seeds in common; roughness of BB over that of A: 0\.\d+\)$"
    assert re.match(start, stability_sentence(verdict))
    same = [wavy_record("A", s, 0.3) for s in range(3)]
    alike = {"A": same, "B": [dataclasses.replace(record, model="B") for record in same]}
    (verdict,) = stability_verdicts(alike, AB)
    told = "A and B, steadiness: undefined (3 seeds in common; roughness of B over that of A: 1.00)"
    assert stability_sentence(verdict) == told


def test_steadier_is_the_smaller_roughness_told_as_a_ratio():
    runs = {"A": [wavy_record("A", s, 0.3) for s in range(6)], "BB": [wavy_record("BB", s, 0.03) for s in range(6)]}
    (verdict,) = stability_verdicts(runs, [Contrast("A", "BB")])
    sentence = stability_sentence(verdict)
    ratio = float(re.match(r"BB trains more steadily than A: (0\.\d+) times the roughness", sentence)[1])
    assert 0.05 < ratio < 0.2
    (mirrored,) = stability_verdicts(runs, [Contrast("BB", "A")])
    assert stability_sentence(mirrored) == sentence


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
    assert "McNemar" not in secondary_sentence(runs, AB[0])
    assert "McNemar" in secondary_sentence({m: records[:1] for m, records in runs.items()}, AB[0])


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
    assert secondary_sentence(runs, AB[0]) == (
        f"B minus A over test images: {change.mean():.2f} points ({low:.2f} to {high:.2f})"
    )


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
