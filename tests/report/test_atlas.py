"""Test images side by side in one image."""

import base64
import io

import numpy as np
import pytest
from made_html import numbered_images
from PIL import Image

from utils.report.atlas import COLUMNS, atlas_of


def opened(atlas):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(atlas.url.partition(",")[2]))))


@pytest.mark.parametrize("colours", [False, True])
def test_each_tile_is_its_image_to_the_pixel(colours):
    images, wanted = numbered_images(90, 9, colours), [5, 80, *range(40)]
    atlas = atlas_of(images, wanted, 10**6)
    sheet, (width, height) = opened(atlas), atlas.tile
    assert atlas.images == wanted and (width, height) == (9, 9)
    for place, number in enumerate(wanted):
        row, column = divmod(place, COLUMNS)
        tile = sheet[row * height :, column * width :][:height, :width]
        assert (tile.reshape(9, 9, -1)[..., : 3 if colours else 1] == images[number].reshape(9, 9, -1)).all()


def test_as_many_as_fit_and_those_that_are_needed_most():
    images = numbered_images(600)
    whole = atlas_of(images, range(600), 10**8)
    part = atlas_of(images, range(600), len(whole.url) // 2)
    assert len(part.url) <= len(whole.url) // 2 and part.images == list(range(len(part.images)))
    assert 270 < len(part.images) <= 300
    assert atlas_of(images, range(600), -5).images == []


def test_large_images_of_another_shape_become_small():
    images = numbered_images(4, 200)[:, :100]  # 100 high, 200 wide
    atlas = atlas_of(images, range(4), 10**6)
    assert atlas.tile == (64, 32) and atlas.url.startswith("data:image/jpeg") and opened(atlas).shape[:2] == (32, 2048)
