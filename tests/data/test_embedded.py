"""The embedded data: what their names and numbers say, and that shapes can be learned, but not from single pixels."""

import numpy as np
import pytest
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier

from utils.data.embedded import digits, shapes
from utils.data.specs import DIGITS, SHAPES


@pytest.fixture(scope="module")
def shape_arrays():
    return shapes()


@pytest.mark.parametrize(("spec", "make"), [(DIGITS, digits), (SHAPES, shapes)])
def test_embedded_data_are_the_same_at_every_call_and_balanced(spec, make):
    arrays, again = make(), make()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, again[name])
    for split, size in (("train", 0.8), ("test", 0.2)):
        counts = np.bincount(arrays[f"{split}_labels"], minlength=10)
        total = sum(len(arrays[f"{part}_labels"]) for part in ("train", "test"))
        assert counts.sum() == pytest.approx(size * total, abs=1)
        assert counts.max() - counts.min() <= 10  # of about 144 in digits, whose classes differ
    pixels = arrays["train_images"] / 255
    axes = (0, 1, 2)  # leaves the channels, where there are any
    np.testing.assert_allclose(pixels.mean(axes), spec.mean if pixels.ndim == 4 else spec.mean[0], atol=1e-4)
    np.testing.assert_allclose(pixels.std(axes), spec.std if pixels.ndim == 4 else spec.std[0], atol=1e-4)


def test_digits_are_those_of_scikit_learn_with_their_labels():
    arrays, source = digits(), load_digits()
    ours = [
        (label, image.tobytes())
        for split in ("train", "test")
        for label, image in zip(arrays[f"{split}_labels"], arrays[f"{split}_images"], strict=True)
    ]
    theirs = [
        (label, np.round(image / 16 * 255).astype(np.uint8).tobytes())
        for label, image in zip(source.target, source.images, strict=True)
    ]
    assert sorted(ours) == sorted(theirs)


def test_shapes_show_what_their_class_names_say(shape_arrays):
    images, labels = shape_arrays["train_images"] / 255, shape_arrays["train_labels"]
    names = [SHAPES.class_names[label].split() for label in labels]
    texture, shape = np.array(names).T
    border = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    background = np.median(border, axis=1)[:, None, None]
    distance = np.abs(images - background).max(-1)
    mask = ndimage.median_filter(distance, size=(1, 3, 3)) > 0.25
    area = mask.sum((1, 2))
    assert min(("disc", "ring", "square", "triangle", "cross"), key=lambda s: area[shape == s].mean()) == "triangle"

    middles = [ndimage.center_of_mass(ndimage.binary_fill_holes(one)) for one in mask]
    covered = [one[round(y), round(x)] for one, (y, x) in zip(mask, np.nan_to_num(middles), strict=True)]
    covered = np.array(covered)
    assert covered[shape == "ring"].mean() < 0.3 < 0.7 < covered[shape == "disc"].mean()

    # Stripes have one direction of change, checks two: the coherence of the structure tensor inside the shape.
    gray = images.mean(-1)
    dy, dx = ndimage.sobel(gray, axis=1), ndimage.sobel(gray, axis=2)
    inner = ndimage.binary_erosion(mask, structure=np.ones((1, 3, 3)))
    xx, yy, xy = ((a * inner).sum((1, 2)) for a in (dx * dx, dy * dy, dx * dy))
    coherence = np.sqrt((xx - yy) ** 2 + 4 * xy**2) / (xx + yy + 1e-9)
    for name in ("disc", "square"):
        striped = coherence[(shape == name) & (texture == "striped")]
        checked = coherence[(shape == name) & (texture == "checked")]
        assert np.median(striped) > np.median(checked) + 0.2


def test_shapes_can_be_learned_but_not_from_single_pixels(shape_arrays):
    def score(features):
        classifier = RidgeClassifier(alpha=100)
        classifier.fit(features("train"), shape_arrays["train_labels"])
        return classifier.score(features("test"), shape_arrays["test_labels"])

    def pixels(split):
        return shape_arrays[f"{split}_images"].reshape(-1, 3072)[:, ::4] / 255

    def spectrum(split):
        gray = shape_arrays[f"{split}_images"].mean(-1) / 255
        gray -= gray.mean((1, 2), keepdims=True)
        return np.log1p(np.abs(np.fft.rfft2(gray))).reshape(len(gray), -1)

    assert score(pixels) < 0.45 < 0.5 < score(spectrum)
