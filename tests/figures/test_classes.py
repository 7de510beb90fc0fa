"""Figures of classes: confusion matrices, their difference between two models, and mistakes."""

import numpy as np
import pytest
from made_records import CIFAR_CLASSES, make_record, pair_of_models
from pictures import CIFAR, LONG, assert_nothing_overlaps, text_of
from sklearn.metrics import confusion_matrix

from utils.figures import classes as class_figures
from utils.findings.confusion import confusion_change


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
