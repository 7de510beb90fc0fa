"""Which classes are confused: confusion matrices, their difference between two models, mistakes. Never loads torch."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm, PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from utils.figures.canvas import new_figure, seed_count, signed
from utils.figures.lettering import shortened, width_of
from utils.findings.confusion import confusion_change, shares_of_rows
from utils.records.record import RunRecord
from utils.stats.intervals import FEWEST_SEEDS

MISTAKES_A_ROW = 8
GREY = "#dddddd"
FEW_CLASSES, MOST_WITH_TEXT = 12, 25
MATRIX_POINTS = 430  # the side of a matrix with a colour bar beside it, in points
CLASS_POINTS = 120  # the width of a class's name beside a matrix, in points
LETTERS_OF_MISTAKE, MISTAKE_POINTS = 10, 62  # of a class's name above a small picture; longer ones are smaller
SHARES = (0, 0.001, 0.01, 0.05, 0.2, 0.5, 1)  # ticks of a colour bar of shares


def model_confusion_matrix(records: Sequence[RunRecord]) -> Figure:
    """The confusion matrix of one model's test predictions, summed over its seeds."""
    first, n = records[0], len(records)
    summed = f"summed over {n} seeds" if n > 1 else "1 seed"
    written = text_in_cells(first, 4)
    how = "Percent of each row" if not written else "Counts, coloured by percent of each row; empty: none"
    how = "Counts and percent of each row" if has_few_classes(first) else how
    figure = new_figure(8.2, f"{first.model} on {first.data_name}: test images by class, {summed}\n{how}")
    ax = figure.subplots()
    image = confusion(ax, records)
    if not has_few_classes(first):
        bar = figure.colorbar(image, ax=ax, shrink=0.7, pad=0.02, ticks=SHARES, format="{x:.1%}")
        bar.set_label("share of the true class's test images")
        bar.outline.set_visible(False)
    return figure


def confusion(ax: Axes, records: Sequence[RunRecord]) -> AxesImage:
    """Counts summed over seeds: true classes in rows, predicted ones in columns. Percentages are shares of the row.

    The colour follows the cube root of the share; otherwise all errors of a good model would look white. With more
    classes than 12, cells hold counts alone, with more than about 25 nothing.
    """
    counts = sum(record.counts_by_class for record in records)
    shares = shares_of_rows(counts)
    image = ax.imshow(shares, cmap="Blues", norm=PowerNorm(1 / 3, vmin=0, vmax=1))
    name_classes(ax, records[0])
    few, size = has_few_classes(records[0]), text_in_cells(records[0], len(f"{counts.max():,}"))
    for (row, column), count in np.ndenumerate(counts) if size else ():
        text = (f"{count:,}\n{shares[row, column]:.1%}" if count else "0") if few else (f"{count:,}" if count else "")
        color = "white" if shares[row, column] > 0.2 else "black" if count else "#aaaaaa"
        write_in_cell(ax, row, column, text, color, size)
    return image


def has_few_classes(record: RunRecord) -> bool:
    """Whether each cell has room for two rows of text, and each class for its name at full size."""
    return len(record.class_names) <= FEW_CLASSES


def text_in_cells(record: RunRecord, letters: int) -> float:
    """The font size for texts of so many letters in the cells of a confusion matrix; 0 if nobody could read them."""
    if has_few_classes(record):
        return 9
    size = min(8, 0.85 * MATRIX_POINTS / len(record.class_names) / (0.62 * letters))
    return size if len(record.class_names) <= MOST_WITH_TEXT and size >= 4.5 else 0


def write_in_cell(ax: Axes, row: int, column: int, text: str, color: str, size: float) -> None:
    # The text lies inside the axes anyway. Left in the layout, each of a hundred texts would be measured, which is
    # slow.
    ax.text(column, row, text, ha="center", va="center", color=color, fontsize=size).set_in_layout(False)


def name_classes(ax: Axes, record: RunRecord) -> Axes:
    """Label the rows with the true classes and the columns with the predicted ones."""
    step, size, upright = 1, 10, False
    if not has_few_classes(record):  # smaller, and only as many as there is room for
        size, cell = 8, MATRIX_POINTS / len(record.class_names)
        upright = has_long_names(record)
        widest = max(width_of(name, size) for name in record.class_names)
        step = math.ceil(max(1.4 * size, 0 if upright else widest + 5) / cell)
    names = [shortened(name, CLASS_POINTS, size) for name in record.class_names[::step]]
    places = range(0, len(record.class_names), step)
    look = {} if size == 10 else {"fontsize": size}
    if upright:
        ax.set_xticks(places, names, rotation=90, **look)
    elif has_long_names(record):
        ax.set_xticks(places, names, rotation=35, ha="right", rotation_mode="anchor")
    else:
        ax.set_xticks(places, names, **look)
    ax.set_yticks(places, names, **look)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.grid(False)
    ax.set(xlabel="predicted class", ylabel="true class")
    return ax


def confusion_difference(a_records: Sequence[RunRecord], b_records: Sequence[RunRecord]) -> Figure:
    """Which confusions are more or less frequent in b than in a, in percentage points of the true class's test images.

    Raises ValueError if the two have no seed in common.
    """
    a, b = a_records[0], b_records[0]
    change = confusion_change(a_records, b_records)
    title = f"{b.data_name}: confusion of {b.model} minus {a.model}\n"
    if change.n < FEWEST_SEEDS:
        title += f"Points of each row, {seed_count([change.n])}: too few for intervals, so no cell is greyed"
    else:
        title += (
            f"Points of each row, mean of {change.n} seeds; grey: unadjusted 95% t-interval covers 0 or is undefined"
        )
    figure = new_figure(8.2, title)
    ax = figure.subplots()
    points = 100 * change.mean
    largest = max(float(np.abs(points).max()), 0.1)  # at least 0.1, as a colour scale needs some range
    shown = np.ma.masked_array(points, change.unsure)
    image = ax.imshow(shown, cmap=colormaps["PuOr"].with_extremes(bad=GREY), norm=CenteredNorm(halfrange=largest))
    texts = [signed(value, 1) for value in points.flat]
    size = text_in_cells(b, max(map(len, texts)))
    for (row, column), value in np.ndenumerate(points) if size else ():
        dark = abs(value) > 0.6 * largest and not change.unsure[row, column]
        color = "#777777" if change.unsure[row, column] else "white" if dark else "black"
        write_in_cell(ax, row, column, signed(value, 1), color, size)
    name_classes(ax, b)
    bar = figure.colorbar(image, ax=ax, shrink=0.7, pad=0.02)
    bar.set_label("more often (+) or less often (−), points of the row")
    bar.outline.set_visible(False)
    return figure


def model_mistakes(records: Sequence[RunRecord]) -> Figure:
    """The most confident wrong test images of one model's lowest seed."""
    record = min(records, key=lambda record: record.seed)
    count = len(record.arrays["mistake_indices"])
    title = f"{record.model} on {record.data_name}: the {count} most confident test mistakes, seed {record.seed}"
    title += "\nTrue class → predicted class, and the probability it gave"
    rows = max(1, math.ceil(count / MISTAKES_A_ROW))
    height = 1.75 if has_very_long_names(record) else 1.5 if has_long_names(record) else 1.3
    figure = new_figure(0.8 + height * rows, title)
    axes = figure.subplots(rows, MISTAKES_A_ROW, squeeze=False)
    for index, ax in enumerate(axes.flat):
        if index < count:
            mistake(ax, record, index)
        else:
            ax.set_axis_off()
    return figure


def has_long_names(record: RunRecord) -> bool:
    """Whether two class names need more than one line above a small picture."""
    return max(map(len, record.class_names)) > 4


def has_very_long_names(record: RunRecord) -> bool:
    """Whether a class name may be wider than a small picture."""
    return max(map(len, record.class_names)) > LETTERS_OF_MISTAKE


def mistake(ax: Axes, record: RunRecord, index: int) -> Axes:
    """The wrong test image of rank `index`, with its true class, its predicted class and the latter's probability."""
    arrays = record.arrays
    image = arrays["mistake_images"][index].transpose(1, 2, 0)  # (C, H, W) -> (H, W, C)
    ax.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    where = arrays["mistake_indices"][index]
    true = record.class_names[arrays["test_labels"][where]]
    predicted = record.class_names[arrays["test_predictions"][where]]
    arrow = "\n→ " if has_long_names(record) else " → "
    look = {}
    if has_very_long_names(record):
        true, predicted = (shortened(name, MISTAKE_POINTS, 8, rows=2) for name in (true, predicted))
        look = {"fontsize": 8}
    ax.set_title(f"{true}{arrow}{predicted}\n{arrays['mistake_confidences'][index]:.2%}", **look)
    ax.set_axis_off()
    return ax
