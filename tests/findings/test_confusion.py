"""Which classes are confused, and how that differs between two models."""

import numpy as np
import pytest
from made_page import rows_of
from made_records import CIFAR_CLASSES, make_record, pair_of_models, predictions_of, with_predictions
from scipy import stats

from utils.findings.confusion import confusion_change, most_confused
from utils.report.tables import confused_pairs_table


def test_confusion_difference_is_b_minus_a_over_the_seeds_of_both():
    a, b = pair_of_models([(5, 2), (6, 4), (5, 1)], [(1, 2), (3, 2), (2, 3)])
    extra = with_predictions(7, "B", predictions_of(9, 9))  # a seed that A lacks
    change = confusion_change(a[::-1], [extra, *b])
    fewer, ones = np.array([-4, -3, -3]) / 10, np.array([0, -2, 2]) / 20
    np.testing.assert_allclose(change.mean[0], [-fewer.mean(), 0, fewer.mean()])
    np.testing.assert_allclose(change.mean[1], [ones.mean(), -ones.mean(), 0], atol=1e-12)
    np.testing.assert_array_equal(change.mean[2], [0, 0, 0])
    assert change.n == 3
    low, high = stats.t.interval(0.95, 2, fewer.mean(), stats.sem(fewer))
    assert high < 0
    assert change.unsure.tolist() == [[False, True, False], [True, True, True], [True, True, True]]


def test_models_without_a_seed_in_common_have_no_difference():
    with pytest.raises(ValueError, match="FCN and CIFARCNN have no seed in common"):
        confusion_change([make_record("FCN", 0)], [make_record("CIFARCNN", 1)])


def test_the_most_confused_pairs_are_shares_of_the_true_class_summed_over_seeds():
    records = [make_record("FCN", seed, accuracy=0.7, class_names=CIFAR_CLASSES) for seed in range(2)]
    labels, predictions = (
        np.concatenate([r.arrays[name] for r in records]) for name in ("test_labels", "test_predictions")
    )
    expected = {
        (true, predicted): np.mean(predictions[labels == i] == j)
        for i, true in enumerate(CIFAR_CLASSES)
        for j, predicted in enumerate(CIFAR_CLASSES)
        if i != j
    }
    best = sorted(expected, key=expected.get, reverse=True)[:5]
    found = most_confused(records, 5)
    assert [pair[:2] for pair in found] == best
    np.testing.assert_allclose([pair[2] for pair in found], [expected[pair] for pair in best])
    (row,) = rows_of(confused_pairs_table({"FCN": records}), "1").values()
    assert row["model"] == "FCN (2 seeds)" and row["1"] == f"{best[0][0]} → {best[0][1]} ({expected[best[0]]:.1%})"


def test_fewer_confused_pairs_than_places():
    record = make_record("FCN", class_names=("a", "b"), accuracy=0.9)
    assert len(most_confused([record], 5)) == 2
    record.arrays["test_predictions"][:] = record.arrays["test_labels"]
    assert most_confused([record], 5) == []
    assert "FCN (1 seed)" in confused_pairs_table({"FCN": [record]})
