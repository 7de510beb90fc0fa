"""Figures of classes: confusion matrices, their difference between two models, and mistakes."""

import dataclasses

import matplotlib.style
import numpy as np
import pytest
from pictures import CIFAR, LONG, assert_nothing_overlaps, text_of
from made_records import CIFAR_CLASSES, make_record
from scipy import stats
from sklearn.metrics import confusion_matrix

from utils.figures import classes as class_figures
from utils.figures.canvas import STYLE
from utils.findings.confusion import confusion_change
from utils.report.tables import confusion_change_table


@pytest.fixture(autouse=True)
def figure_style():
    with matplotlib.style.context(["default", STYLE]):
        yield


def test_confusion_matrix_has_true_classes_in_rows_and_sums_seeds():
    records = [make_record("CIFARCNN", seed, accuracy=0.8, **CIFAR) for seed in range(3)]
    for record in records:  # a class that no image has and no model predicts must keep its row and column
        for name in ("test_labels", "test_predictions"):
            record.arrays[name][record.arrays[name] == 7] = 6
    labels, predictions = (
        np.concatenate([record.arrays[name] for record in records]) for name in ("test_labels", "test_predictions")
    )
    expected = confusion_matrix(labels, predictions, labels=range(10))
    assert not np.array_equal(expected, expected.T)
    figure = class_figures.model_confusion_matrix(records)
    figure.draw_without_rendering()
    (ax,) = figure.axes
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("true class", "predicted class")
    assert [label.get_text() for label in ax.get_xticklabels()] == list(CIFAR_CLASSES)
    assert [label.get_text() for label in ax.get_yticklabels()] == list(CIFAR_CLASSES)
    shares = expected / np.maximum(expected.sum(axis=1, keepdims=True), 1)
    np.testing.assert_allclose(ax.images[0].get_array(), shares)
    cells = {text.get_position(): text for text in ax.texts}
    for (row, column), count in np.ndenumerate(expected):
        cell = cells[column, row]
        assert cell.get_text() == (f"{count:,}\n{shares[row, column]:.1%}" if count else "0")
        (left, top), (right, bottom) = ax.transData.transform([(column - 0.5, row - 0.5), (column + 0.5, row + 0.5)])
        box = cell.get_window_extent()
        assert left < box.x0 and box.x1 < right and bottom < box.y0 and box.y1 < top
    assert "summed over 3 seeds" in text_of(figure)


@pytest.mark.parametrize(("options", "arrow"), [({}, " → "), (CIFAR, "\n→ ")], ids=["grey", "colour"])
def test_mistakes_show_the_lowest_seeds_images_with_both_classes(options, arrow):
    records = [make_record("FCN", seed, **options) for seed in (4, 2)]
    lowest = records[1]
    figure = class_figures.model_mistakes(records)
    assert "seed 2" in figure.get_suptitle() and len(figure.axes) == 16
    for rank, ax in enumerate(figure.axes):
        pixels = np.moveaxis(lowest.arrays["mistake_images"][rank], 0, -1)
        np.testing.assert_array_equal(np.squeeze(ax.images[0].get_array()), np.squeeze(pixels))
        index = lowest.arrays["mistake_indices"][rank]
        true, wrong = (lowest.class_names[lowest.arrays[name][index]] for name in ("test_labels", "test_predictions"))
        assert true != wrong
        assert ax.get_title() == f"{true}{arrow}{wrong}\n{lowest.arrays['mistake_confidences'][rank]:.2%}"
        assert ax.images[0].get_clim() == (0, 255)  # not stretched to each picture's own range


@pytest.mark.parametrize("count", [0, 5])
def test_fewer_mistakes_than_places(count):
    record = make_record("FCN", 0)
    for name in ("mistake_indices", "mistake_images", "mistake_confidences"):
        record.arrays[name] = record.arrays[name][:count]
    figure = class_figures.model_mistakes([record])
    figure.draw_without_rendering()
    assert sum(len(ax.images) for ax in figure.axes) == count
    assert f"the {count} most confident" in figure.get_suptitle()


def with_predictions(seed: int, model: str, predictions) -> object:
    """Ten images of class 0, twenty of class 1, predicted as said; a third class has none."""
    record = make_record(model, seed, class_names=("a", "b", "c"))
    arrays = {"test_labels": np.repeat([0, 1], [10, 20]), "test_predictions": np.asarray(predictions)}
    return dataclasses.replace(record, arrays=arrays)


def predictions_of(wrong_zeros: int, wrong_ones: int) -> np.ndarray:
    """So many images of class 0 taken for class 2, and of class 1 for class 0."""
    zeros, ones = np.zeros(10, dtype=int), np.ones(20, dtype=int)
    zeros[:wrong_zeros], ones[:wrong_ones] = 2, 0
    return np.concatenate([zeros, ones])


def pair_of_models(a_wrong, b_wrong):
    return (
        [with_predictions(seed, model, predictions_of(*wrong)) for seed, wrong in enumerate(counts)]
        for model, counts in (("A", a_wrong), ("B", b_wrong))
    )


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


def test_confusion_difference_greys_and_says_what_it_is_not_sure_of():
    a, b = pair_of_models([(5, 2), (6, 4), (5, 1)], [(1, 2), (3, 2), (2, 3)])
    figure = class_figures.confusion_difference(a, b)
    ax = figure.axes[0]
    image = ax.images[0]
    assert image.get_array().mask.tolist() == confusion_change(a, b).unsure.tolist()
    assert image.norm.vmin == -image.norm.vmax and image.norm(0.0) == 0.5
    texts = {text.get_position(): text.get_text() for text in ax.texts}
    assert (texts[2, 0], texts[0, 0], texts[1, 0]) == ("−33.3", "+33.3", "0.0")
    title = figure.get_suptitle()
    assert "B minus A" in title and "3 seeds" in title and "unadjusted 95% t-interval" in title
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("true class", "predicted class")


def test_the_table_of_changes_names_the_largest_first():
    a, b = pair_of_models([(5, 2), (6, 4), (5, 1)], [(1, 2), (3, 2), (2, 3)])
    text = confusion_change_table({"A": a, "B": b}, "A", "B")
    assert "B minus A" in text and text.splitlines()[4:] == ["| a → c | -33.3 | excludes 0 |"]
    b[0].arrays["test_predictions"][10:15] = 0
    rows = confusion_change_table({"A": a, "B": b}, "A", "B").splitlines()[4:]
    assert rows == ["| a → c | -33.3 | excludes 0 |", "| b → a | +5.0 | covers 0 or is undefined |"]
    assert "| a → c | -40.0 | none (1 seed) |" in confusion_change_table({"A": a[:1], "B": b}, "A", "B")


@pytest.mark.parametrize("seeds", [1, 2])
def test_with_few_seeds_no_cell_is_grey(seeds):
    a, b = ([make_record(model, seed, **CIFAR) for seed in range(seeds)] for model in ("CNNWithResidual", LONG))
    figure = class_figures.confusion_difference(a, b)
    assert not np.ma.getmaskarray(figure.axes[0].images[0].get_array()).any()
    assert "too few for intervals, so no cell is greyed" in figure.get_suptitle()
    assert_nothing_overlaps("confusion_difference", figure)
    same = class_figures.confusion_difference(a, a)  # nothing but zeros
    same.draw_without_rendering()
    assert {text.get_text() for text in same.axes[0].texts} == {"0.0"}


def test_models_without_a_seed_in_common_have_no_difference():
    with pytest.raises(ValueError, match="FCN and CIFARCNN have no seed in common"):
        confusion_change([make_record("FCN", 0)], [make_record("CIFARCNN", 1)])
