"""Test images for a page: as many as fit, side by side in one image. Never loads torch."""

import base64
import io
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, features

COLUMNS = 32
LOSSLESS_SIDE, LARGEST_SIDE = 32, 64  # pixels; larger images are made so small, and lose what JPEG drops
TRIED = 200  # images, from which it is known how many fit


class Atlas(NamedTuple):
    """`url` holds the images of the test set with the numbers `images`, COLUMNS a row; `tile` is (width, height)."""

    url: str
    images: list[int]
    tile: tuple[int, int]


def atlas_of(images: np.ndarray, wanted: Sequence[int], most_letters: int) -> Atlas:
    """The first of the `wanted` images that fit into a data URL of so many letters; none if not one does.

    `images` (N, H, W) or (N, H, W, C) uint8 may be a memory map.
    """
    height, width = images.shape[1:3]
    shrink = min(1, LARGEST_SIDE / max(height, width))
    tile = max(1, round(shrink * width)), max(1, round(shrink * height))
    count = len(wanted)
    if count > TRIED:
        count = max(0, min(count, int(0.97 * most_letters / len(_url(images, wanted[:TRIED], tile)) * TRIED)))
    url = _url(images, wanted[:count], tile)
    while count and len(url) > most_letters:
        count = max(0, min(count - 1, int(0.97 * count * most_letters / len(url))))
        url = _url(images, wanted[:count], tile)
    return Atlas(url, list(wanted[:count]), tile)


def _url(images: np.ndarray, wanted: Sequence[int], tile: tuple[int, int]) -> str:
    width, height = tile
    mode = "L" if images.ndim == 3 or images.shape[3] == 1 else "RGB"
    sheet = Image.new(mode, (COLUMNS * width, max(1, math.ceil(len(wanted) / COLUMNS)) * height))
    for place, number in enumerate(wanted):
        image = Image.fromarray(np.asarray(images[number]).squeeze())
        image = image if image.size == tile else image.resize(tile)
        sheet.paste(image, (place % COLUMNS * width, place // COLUMNS * height))
    lossless = max(images.shape[1:3]) <= LOSSLESS_SIDE
    form = ("WEBP" if features.check("webp") else "PNG") if lossless else "JPEG"
    buffer = io.BytesIO()
    sheet.save(buffer, form, lossless=True, quality=60 if lossless else 85)  # of WebP: how hard it tries
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
