"""The contact sheet of a data set: a few images of each class. Never loads torch."""

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from utils.figures.canvas import STYLE, WIDTH, new_figure, save
from utils.figures.lettering import fonts_for, shortened

IN_A_ROW = {1: 12, 2: 5, 3: 3}  # {columns of classes: images of each}
MOST_ROWS = {1: 12, 2: 24}  # classes in a column; with more there is another one
NAME_POINTS = 100  # the width of a class's name
NAME_SIZE = 9
LARGEST = 96  # pixels that an image is shown with
GAP = 0.08  # between images, as a share of one


def class_columns(classes: int) -> int:
    """In how many columns a sheet of so many classes has them; IN_A_ROW says how many images of each it shows."""
    return next((columns for columns, rows in MOST_ROWS.items() if classes <= columns * rows), 3)


def draw_samples(data_name: str, class_names: Sequence[str], images: Sequence[np.ndarray], path: Path) -> Path:
    """Draw `contact_sheet` into the file `path`. Raises OSError."""
    # The style is ours, not that of the user's own settings (matplotlibrc).
    with matplotlib.style.context(["default", STYLE]), fonts_for([data_name, *class_names]):
        return save(contact_sheet(data_name, class_names, images), path)


def contact_sheet(data_name: str, class_names: Sequence[str], images: Sequence[np.ndarray]) -> Figure:
    """A row of images for each class; `images` has an array for each, uint8 of shape (M, H, W) or (M, H, W, C)."""
    columns = class_columns(len(class_names))
    rows, shown = math.ceil(len(class_names) / columns), IN_A_ROW[columns]
    side = (WIDTH / columns - NAME_POINTS / 72 - 0.2) / shown  # of an image, in inches
    figure = new_figure(0.6 + rows * side * (1 + GAP), f"{data_name}: training images of each class")
    for column, ax in enumerate(figure.subplots(1, columns, squeeze=False).flat):
        classes = slice(column * rows, (column + 1) * rows)
        class_rows(ax, class_names[classes], [of_class[:shown] for of_class in images[classes]], rows, shown)
    return figure


def class_rows(ax: Axes, names: Sequence[str], images: Sequence[np.ndarray], rows: int, shown: int) -> Axes:
    """Classes below each other, at most `shown` images of each in a row, with room for `rows` classes."""
    side = min(LARGEST, images[0].shape[1])
    step = side + max(1, round(GAP * side))
    sheet = np.full((rows * step, shown * step, 3), 255, np.uint8)
    for row, of_class in enumerate(images):
        for place, image in enumerate(of_class):
            small = np.asarray(Image.fromarray(image.squeeze()).convert("RGB").resize((side, side)))
            sheet[row * step :, place * step :][:side, :side] = small
    ax.imshow(sheet)
    ax.set_yticks(
        [row * step + side / 2 for row in range(len(names))],
        [shortened(name, NAME_POINTS, NAME_SIZE, rows=2) for name in names],
        fontsize=NAME_SIZE,
    )
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.grid(False)
    return ax
