"""What arrays must be before anybody sees them, and that every departure is named."""

import numpy as np
import pytest
from data_files import random_arrays, spec_of, tiny_cifar10, tiny_mnist

from utils.data.specs import CIFAR10, DATASETS, MNIST, DataError, check_arrays


def test_real_specs_are_consistent():
    assert set(DATASETS) == {"mnist", "cifar10"}
    assert MNIST.image_shape == (1, 28, 28) and CIFAR10.image_shape == (3, 32, 32)
    assert MNIST.class_names == tuple("0123456789")
    # the names and their order: the data set's own page, as torchvision's users know it
    assert " ".join(CIFAR10.class_names) == "airplane automobile bird cat deer dog frog horse ship truck"


def changed(arrays, name, change):
    return arrays | {name: change(arrays[name])}


def with_label(value):
    def change(labels):
        labels = labels.astype(np.int64)
        labels[2] = value
        return labels

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("train_labels", with_label(10), r"train_labels\[2\] is 10; the 10 classes are 0 to 9"),
        ("test_labels", with_label(-1), r"test_labels\[2\] is -1; the 10 classes are 0 to 9"),
        ("train_labels", lambda a: a[:-1], r"train_images has the shape \(7, 4, 5\), but there are 6 train_labels"),
        ("test_images", lambda a: a[1:], r"test_images has the shape \(2, 4, 5\), but there are 3 test_labels"),
        ("test_images", lambda a: np.uint8(3), r"test_images has the shape \(\), but"),
        ("train_labels", lambda a: a.astype(float), "train_labels are float64"),
        ("train_labels", lambda a: np.eye(7, dtype=np.uint8), r"train_labels are uint8 of shape \(7, 7\)"),
        ("train_images", lambda a: a / 255, "train_images is float64"),
        ("train_images", lambda a: a.swapaxes(1, 2), r"of shape \(7, 5, 4\), not uint8 of shape \(7, 4, 5\)"),
        ("test_images", lambda a: a ^ (np.arange(60) == 59).reshape(3, 4, 5), "test_images has the SHA-256"),
        ("test_images", lambda a: a[::-1], "test_images has the SHA-256"),
    ],
)
def test_wrong_arrays_are_named(name, change, message):
    """Labels 10 and -1, arrays too short, of wrong type or shape, transposed, one pixel altered, another order."""
    spec, arrays = tiny_mnist()
    check_arrays(spec, arrays)
    with pytest.raises(DataError, match=message):
        check_arrays(spec, changed(arrays, name, change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a ^ (np.arange(a.size) == 4000).reshape(a.shape), "train_images has the SHA-256"),
        (lambda a: a[..., 0], r"train_images is uint8 of shape \(10, 32, 32\), not uint8 of shape \(10, 32, 32, 3\)"),
        (lambda a: a[..., ::-1], "train_images has the SHA-256"),
    ],
    ids=["one altered pixel", "grey images", "BGR"],
)
def test_wrong_cifar10_images_are_named(change, message):
    """One altered pixel, grey images, blue and red exchanged."""
    spec, arrays = tiny_cifar10()
    check_arrays(spec, arrays)
    with pytest.raises(DataError, match=f"cifar10: {message}"):
        check_arrays(spec, changed(arrays, "train_images", change))


def test_missing_and_empty_arrays_are_named():
    """Two arrays of four, and a test set of no image."""
    spec, arrays = tiny_mnist()
    with pytest.raises(DataError, match="mnist: no test_images and no test_labels; it has train_images, train_labels"):
        check_arrays(spec, {name: arrays[name] for name in ("train_images", "train_labels")})
    empty = random_arrays(7, 0, (4, 5))
    with pytest.raises(DataError, match="mnist: test_images is empty"):
        check_arrays(spec_of(MNIST, empty), empty)


def test_the_check_sees_values_and_not_memory_layout():
    spec, arrays = tiny_mnist()
    check_arrays(spec, {name: np.asfortranarray(array) for name, array in arrays.items()})
    check_arrays(spec, {name: np.repeat(array, 2, axis=0)[::2] for name, array in arrays.items()})
