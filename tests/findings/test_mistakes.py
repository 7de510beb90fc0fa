"""Which images are misclassified by all models, by all but one, and which come first in a cell."""

import dataclasses

import numpy as np
from made_records import make_record

from utils.findings.mistakes import MOST_SHOWN, images_to_show, right_in_one, usual_prediction, wrong_in_all

LABELS = [0, 0, 0, 0, 1, 1, 2, 2]


def runs_of(**predictions):
    """{model: rows of predictions, one for each seed} as runs on eight images of three classes."""
    template = make_record(class_names=("a", "b", "c"))
    return {
        model: [
            dataclasses.replace(
                template,
                model=model,
                seed=seed,
                arrays={"test_labels": np.array(LABELS, np.uint8), "test_predictions": np.array(row, np.uint8)},
            )
            for seed, row in enumerate(rows)
        ]
        for model, rows in predictions.items()
    }


RUNS = runs_of(
    A=[[0, 1, 1, 2, 1, 1, 2, 0], [0, 1, 0, 2, 1, 1, 2, 0], [0, 1, 1, 2, 1, 2, 2, 0]],
    B=[[0, 0, 2, 1, 1, 0, 2, 1]],
)


def test_wrong_in_all_is_by_more_than_half_of_each_models_seeds():
    assert wrong_in_all(RUNS) == [3, 7, 2]  # all runs, then three of four
    assert right_in_one(RUNS) == {"A": [5], "B": [1]}
    assert right_in_one({"A": RUNS["A"]}) == {}
    assert usual_prediction(RUNS["A"], 2) == 1


def test_a_tie_is_neither_right_nor_wrong():
    tied = runs_of(A=[LABELS, [1, *LABELS[1:]]], B=[[1, *LABELS[1:]]])
    assert wrong_in_all(tied) == [] and right_in_one(tied) == {}


def test_of_each_cell_the_image_that_most_seeds_put_there_comes_first():
    runs = runs_of(A=[[1, 1, 0, 0, 1, 1, 2, 2], [0, 1, 1, 0, 1, 1, 2, 2], [0, 1, 1, 0, 1, 1, 2, 2]])
    order = images_to_show(runs)
    assert order[:3] == [1, 2, 0]  # taken for b with three seeds, two and one; then what is right
    assert sorted(order) == list(range(8))


def test_no_more_of_a_cell_than_are_shown():
    labels = np.zeros(100, np.uint8)
    record = dataclasses.replace(
        make_record(class_names=("a", "b", "c")), arrays={"test_labels": labels, "test_predictions": labels + 1}
    )
    assert images_to_show({"A": [record]}) == list(range(MOST_SHOWN))
