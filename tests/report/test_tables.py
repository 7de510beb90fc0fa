"""Tables of the ablation and of confusions, and the text around them."""

import dataclasses

import numpy as np
from made_ablation import ABLATION, ablation_runs
from made_page import TASK, make_runs, rows_of, text_of
from made_records import make_record, pair_of_models, with_predictions
from pictures import CIFAR
from scipy import stats
from sklearn.metrics import f1_score, precision_score, recall_score

from utils.findings.results import Results
from utils.report.page import original_protocol_text
from utils.report.tables import ablation_table, classes_table, confusion_change_table


def test_the_table_of_changes_names_the_largest_first():
    a, b = pair_of_models([(5, 2), (6, 4), (5, 1)], [(1, 2), (3, 2), (2, 3)])
    text = confusion_change_table({"A": a, "B": b}, "A", "B")
    assert "B minus A" in text and text.splitlines()[4:] == ["| a → c | -33.3 | excludes 0 |"]
    b[0].arrays["test_predictions"][10:15] = 0
    rows = confusion_change_table({"A": a, "B": b}, "A", "B").splitlines()[4:]
    assert rows == ["| a → c | -33.3 | excludes 0 |", "| b → a | +5.0 | covers 0 or is undefined |"]
    assert "| a → c | -40.0 | none (1 seed) |" in confusion_change_table({"A": a[:1], "B": b}, "A", "B")


def test_differences_of_the_ablation_are_paired_by_seed():
    runs = ablation_runs(4)
    plain, dropped = runs["CNNWithResidual"], runs["CNNWithResidual-Dropout"]
    correct = np.array([[r.test_correct for r in records[1:]] for records in (plain, dropped)])
    difference = 100 * (correct[1] - correct[0]) / 2000
    low, high = stats.t.interval(0.95, 2, difference.mean(), stats.sem(difference))
    runs["CNNWithResidual-Dropout"] = dropped[1:]
    rows = rows_of(ablation_table(Results(ABLATION, {}, runs)), "overfitting")
    title = "minus CNNWithResidual, points (same seeds)"
    found = rows["CNNWithResidual-Dropout (3 seeds)"][title]
    assert found == f"{difference.mean():.2f} ({low:.2f} to {high:.2f}), 3 seeds"  # of 4 and 3
    runs["CNNWithResidual-Dropout"] = [make_record("CNNWithResidual-Dropout", 9, **CIFAR)]
    rows = rows_of(ablation_table(Results(ABLATION, {}, runs)), "overfitting")
    assert rows["CNNWithResidual-Dropout (1 seed)"][title] == "no common seed"
    runs["CNNWithResidual-Dropout"] += dropped[3:]
    rows = rows_of(ablation_table(Results(ABLATION, {}, runs)), "overfitting")
    one = 100 * (dropped[3].test_correct - plain[3].test_correct) / 2000
    assert rows["CNNWithResidual-Dropout (2 seeds)"][title] == f"{one:.2f}, 1 seed"


def test_the_original_protocols_text_is_labelled_and_names_what_is_left_out():
    text = original_protocol_text(
        Results(TASK, make_runs(2, ("FCN",)), left_out=["B-seed0.json: failed (out of memory)"])
    )
    assert "2 seeds (0, 1)" in text and "only to check its figures" in text and "- B-seed0.json: failed" in text
    assert "No finished run" in original_protocol_text(Results(TASK, {}))


def test_the_table_of_each_class_has_the_means_of_scikit_learns_values():
    """Of class a 10 images and of b 20, unlike mistakes in two seeds; c has no image, and in one seed no prediction."""
    for wrong in ([(3, 5), (1, 8)], [(0, 5), (1, 8)]):
        records, _ = pair_of_models(wrong, wrong)
        records = list(records)
        labels = records[0].arrays["test_labels"]
        rows = [line.strip("| ").split(" | ") for line in classes_table(records).splitlines() if line.startswith("|")]
        assert rows[0] == ["class", "precision", "recall", "F1"] and [row[0] for row in rows[2:]] == ["a", "b", "c"]
        options = {"labels": range(3), "average": None, "zero_division": np.nan}
        for column, score in enumerate((precision_score, recall_score, f1_score), 1):
            of_seeds = [score(labels, record.arrays["test_predictions"], **options) for record in records]
            for row, value in zip(rows[2:], np.mean(of_seeds, axis=0), strict=True):
                assert row[column] == ("undefined" if np.isnan(value) else f"{value:.1%}"), (row, column)
        assert rows[4][2] == "undefined" and rows[2][1] != rows[2][2]
        assert "means over 2 seeds" in classes_table(records) and "1 seed" in classes_table(records[:1])
        assert classes_table([records[0], dataclasses.replace(records[1], per_class=None)]) == ""
    assert rows[4] == ["c", "undefined", "undefined", rows[4][3]]


def test_a_class_that_is_never_predicted_has_an_undefined_precision_and_stands_in_the_page():
    record = with_predictions(0, "FCN", np.ones(30, dtype=int))
    (row,) = [line for line in classes_table([record]).splitlines() if line.startswith("| a |")]
    assert row.startswith("| a | undefined | 0.0% |")
    record = make_record("FCN")
    assert classes_table([record]) in text_of({"FCN": [record]})
