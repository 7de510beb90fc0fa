"""Which images are misclassified by all models, by all but one, and which come first in a cell."""

import numpy as np

from utils.findings.mistakes import (
    MOST_SHOWN,
    Predictions,
    images_to_show,
    right_in_one,
    usual_predictions,
    wrong_in_all,
)

LABELS = [0, 0, 0, 0, 1, 1, 2, 2]


def made_of(**predictions):
    """{model: rows of predictions, one for each seed} on eight images of three classes."""
    return Predictions(np.array(LABELS, np.uint8), {m: np.array(rows, np.uint8) for m, rows in predictions.items()})


MADE = made_of(
    A=[[0, 1, 1, 2, 1, 1, 2, 0], [0, 1, 0, 2, 1, 1, 2, 0], [0, 1, 1, 2, 1, 2, 2, 0]],
    B=[[0, 0, 2, 1, 1, 0, 2, 1]],
)


def test_wrong_in_all_is_by_more_than_half_of_each_models_seeds():
    assert wrong_in_all(MADE) == [3, 7, 2]  # all runs, then three of four
    assert right_in_one(MADE) == {"A": [5], "B": [1]}
    assert right_in_one(Predictions(MADE.labels, {"A": MADE.of_models["A"]})) == {}
    assert usual_predictions(MADE, 2) == [1, 2]


def test_a_tie_is_neither_right_nor_wrong():
    tied = made_of(A=[LABELS, [1, *LABELS[1:]]], B=[[1, *LABELS[1:]]])
    assert wrong_in_all(tied) == [] and right_in_one(tied) == {}


def test_of_each_cell_the_image_that_most_seeds_put_there_comes_first():
    runs = made_of(A=[[1, 1, 0, 0, 1, 1, 2, 2], [0, 1, 1, 0, 1, 1, 2, 2], [0, 1, 1, 0, 1, 1, 2, 2]])
    order = images_to_show(runs)
    assert order[:3] == [1, 2, 0]  # taken for b with three seeds, two and one; then what is right
    assert sorted(order) == list(range(8))


def test_no_more_of_a_cell_than_are_shown():
    labels = np.zeros(100, np.uint8)
    assert images_to_show(Predictions(labels, {"A": labels[None] + 1})) == list(range(MOST_SHOWN))
