"""The contact sheet: each class's own images beside its name, for any number of classes."""

import numpy as np
import pytest
from matplotlib.image import imread
from pictures import assert_nothing_overlaps, text_of

from utils.figures.lettering import fonts_for
from utils.figures.samples import contact_sheet, draw_samples


def images_of(classes: int, count: int = 12, side: int = 8, channels: tuple[int, ...] = (3,)) -> list[np.ndarray]:
    """Plain images: the first channel names the class, the second the image."""
    found = [np.zeros((count, side, side, 3), np.uint8) for _ in range(classes)]
    for label, images in enumerate(found):
        images[..., 0] = label
        images[..., 1] = np.arange(count)[:, None, None]
    return found if channels else [images[..., 0] for images in found]


@pytest.mark.parametrize(
    ("classes", "columns", "shown"), [(2, 1, 12), (10, 1, 12), (13, 2, 5), (47, 2, 5), (120, 3, 3)]
)
def test_each_row_shows_the_images_of_its_class(classes, columns, shown):
    names = [f"class {k}" for k in range(classes)]
    figure = contact_sheet("photos", names, images_of(classes))
    figure.draw_without_rendering()
    assert len(figure.axes) == columns and "photos: training images" in figure.get_suptitle()
    labels = [label for ax in figure.axes for label in ax.get_yticklabels()]
    assert [label.get_text() for label in labels] == names
    seen = []
    for ax in figure.axes:
        sheet = ax.images[0].get_array()
        step = sheet.shape[1] // shown
        for place in ax.get_yticks():
            row = sheet[int(place), 4::step]
            seen += [tuple(pixel) for pixel in row[:shown]]
    assert seen == [(label, image, 0) for label in range(classes) for image in range(shown)]


def test_a_class_with_few_images_leaves_white_behind_them_and_grey_stays_grey():
    images = images_of(2, channels=())
    images[0] = images[0][:3] + 100
    sheet = contact_sheet("x", ["a", "b"], images).axes[0].images[0].get_array()
    assert (
        sheet[4, 4].tolist() == [100] * 3 and (sheet[:8, 3 * 9 :] == 255).all() and not (sheet[9:17, 100] == 255).all()
    )


@pytest.mark.parametrize("classes", [2, 12, 24, 47])
def test_names_of_any_length_and_letters_stay_in_their_places(classes):
    odd = ["a|b", "$x$ and $", "two words", "x" * 60, "a long name with many words " * 4]
    names = [f"{odd[k % len(odd)]} {k}" for k in range(classes)]
    figure = contact_sheet("a long name of a folder " * 8, names, images_of(classes))
    assert_nothing_overlaps("samples", figure)
    assert "$x$" in text_of(figure)


def test_chinese_names_are_drawn_and_large_images_made_smaller(tmp_path, capsys):
    path = draw_samples("照片", ["猫", "狗"], images_of(2, side=500), tmp_path / "samples.png")
    assert imread(path).shape[1] == 1350
    with fonts_for(["猫"]):
        told = capsys.readouterr().err
    assert told.count("No installed font") in (0, 2)  # where there is none, a line says so
