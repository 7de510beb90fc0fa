"""Two small data sets that need no download, in canonical form, for --smoke and the tests. Never loads torch."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from utils.data.specs import DIGITS, SHAPES, check_arrays


def digits() -> dict[str, np.ndarray]:
    """scikit-learn's 8x8 digits scaled from 0..16 to 0..255: 1,437 training and 360 test images, every class in both.

    Source: the test set of Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI repository.
    """
    pixels, labels = load_digits(return_X_y=True)
    images = np.rint(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    train, test = train_test_split(np.arange(len(labels)), test_size=360, stratify=labels, random_state=0)
    labels = labels.astype(np.uint8)
    arrays = {
        "train_images": images[train],
        "train_labels": labels[train],
        "test_images": images[test],
        "test_labels": labels[test],
    }
    check_arrays(DIGITS, arrays)
    return arrays


def shapes() -> dict[str, np.ndarray]:
    """Generated 32x32 RGB images of ten classes, five shapes in two textures, the same at every call.

    There are 1,000 training and 250 test images, equally many of each class. Position, size, angle, colours and the
    period, angle and phase of the texture are random, so that no single pixel gives the class away. But shapes are
    lighter than their background and nearly upright: a convolutional net should learn them in a few seconds.
    """
    rng = np.random.default_rng(0)
    sizes = (1000, 250)
    labels = np.concatenate([rng.permutation(np.arange(size) % 10) for size in sizes])

    def uniform(low: float, high: float) -> np.ndarray:
        """One number for each image, (N, 1, 1), to be broadcast over its pixels."""
        return rng.uniform(low, high, (len(labels), 1, 1)).astype(np.float32)

    rows, columns = np.mgrid[:32, :32].astype(np.float32)
    x, y = _rotate(columns - uniform(12, 19), rows - uniform(12, 19), uniform(-0.25, 0.25))
    radius = uniform(8, 12)
    # A class is a pair: label // 2 is the shape, label % 2 the texture (see SHAPES.class_names).
    shape = _inside(labels // 2, x / radius, y / radius)[..., None]
    across, along = _rotate(columns, rows, uniform(-0.25, 0.25))
    frequency = 2 * np.pi / uniform(5, 7)
    stripes = np.sin(across * frequency + uniform(0, 2 * np.pi))
    checks = stripes * np.sin(along * frequency + uniform(0, 2 * np.pi))
    light = (np.where(labels[:, None, None] % 2 == 0, stripes, checks) > 0)[..., None]

    background = rng.uniform(0, 0.3, (len(labels), 1, 1, 3)).astype(np.float32)
    colour = rng.uniform(0.35, 0.59, (len(labels), 1, 1, 3)).astype(np.float32)
    # (N, 32, 32, 1) masks and (N, 1, 1, 3) colours -> (N, 32, 32, 3)
    painted = np.where(shape, colour + light * np.float32(0.5), background)
    noise = rng.standard_normal(painted.shape, dtype=np.float32)
    images = np.rint(255 * np.clip(painted + np.float32(0.04) * noise, 0, 1)).astype(np.uint8)
    arrays = {
        "train_images": images[: sizes[0]],
        "train_labels": labels[: sizes[0]].astype(np.uint8),
        "test_images": images[sizes[0] :],
        "test_labels": labels[sizes[0] :].astype(np.uint8),
    }
    check_arrays(SHAPES, arrays)
    return arrays


def _rotate(x: np.ndarray, y: np.ndarray, angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)


def _inside(kind: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which points lie inside the shape, (N, H, W) bool, from coordinates (N, H, W); a shape has a radius of about 1.

    `kind` (N,) is the index of the shape: disc, ring, square, triangle, cross.
    """
    distance = np.hypot(x, y)
    larger, smaller = np.maximum(abs(x), abs(y)), np.minimum(abs(x), abs(y))
    disc = distance < 0.9
    ring = (distance > 0.5) & (distance < 1)
    square = larger < 0.8
    triangle = (y > -0.5) & (np.sqrt(3) * abs(x) + y < 1)
    cross = (smaller < 0.3) & (larger < 1)
    return np.choose(kind[:, None, None], [disc, ring, square, triangle, cross])


EMBEDDED = {"digits": digits, "shapes": shapes}
