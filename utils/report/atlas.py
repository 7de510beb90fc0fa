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
    """`url` holds the images of the test set with the numbers `images`, row by row, COLUMNS a row, each `side` wide."""

    url: str
    images: list[int]
    side: int


def atlas_of(images: np.ndarray, wanted: Sequence[int], most_letters: int) -> Atlas:
    """The first of the `wanted` images that fit into a data URL of so many letters.

    `images` (N, H, W) or (N, H, W, C) uint8 are square, and may be a memory map.
    """
    side = min(images.shape[1], LARGEST_SIDE)
    count = len(wanted)
    if count > TRIED:
        count = min(count, int(0.97 * most_letters / len(_url(images, wanted[:TRIED], side)) * TRIED))
    url = _url(images, wanted[:count], side)
    while len(url) > most_letters:
        count = min(count - 1, int(0.97 * count * most_letters / len(url)))
        url = _url(images, wanted[:count], side)
    return Atlas(url, list(wanted[:count]), side)


def _url(images: np.ndarray, wanted: Sequence[int], side: int) -> str:
    sheet = Image.new("L" if images.ndim == 3 or images.shape[3] == 1 else "RGB", _size(len(wanted), side))
    for place, number in enumerate(wanted):
        image = Image.fromarray(np.asarray(images[number]).squeeze())
        image = image if image.width == side else image.resize((side, side))
        sheet.paste(image, (place % COLUMNS * side, place // COLUMNS * side))
    buffer, lossless = io.BytesIO(), images.shape[1] <= LOSSLESS_SIDE
    form = ("WEBP" if features.check("webp") else "PNG") if lossless else "JPEG"
    sheet.save(buffer, form, lossless=True, quality=60 if lossless else 85)  # of WebP: how hard it tries
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _size(count: int, side: int) -> tuple[int, int]:
    return COLUMNS * side, max(1, math.ceil(count / COLUMNS)) * side
