"""What each data set must be: array names, shapes, checksums, class names, normalisation. Never loads torch."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from utils.files import sha256

ARRAY_NAMES = ("train_images", "train_labels", "test_images", "test_labels")


class DataError(ValueError):
    """Data that can't be had or isn't what it should be; the message names the source and the fault."""


@dataclass(frozen=True)
class ArraySpec:
    """One uint8 array: its shape and the SHA-256 of its bytes in C order; None where the bytes aren't pinned."""

    shape: tuple[int, ...]
    sha256: str | None = None


@dataclass(frozen=True)
class DatasetSpec:
    """A data set in canonical form: four uint8 arrays, named as in ARRAY_NAMES.

    Images have the shape (N, H, W) or (N, H, W, 3), labels (N,), holding indices into `class_names`. `mean` and
    `std` are those of the training pixels scaled to [0, 1], one value a channel.
    """

    name: str
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    arrays: Mapping[str, ArraySpec]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W), as a model wants it."""
        height, width = self.arrays["train_images"].shape[1:3]
        return (len(self.mean), height, width)


MNIST = DatasetSpec(
    name="mnist",
    class_names=tuple("0123456789"),
    mean=(0.1307,),
    std=(0.3081,),
    arrays={
        "train_images": ArraySpec((60000, 28, 28), "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757"),
        "train_labels": ArraySpec((60000,), "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13"),
        "test_images": ArraySpec((10000, 28, 28), "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161"),
        "test_labels": ArraySpec((10000,), "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5"),
    },
)
CIFAR10 = DatasetSpec(
    name="cifar10",
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    arrays={
        "train_images": ArraySpec(
            (50000, 32, 32, 3), "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a"
        ),
        "train_labels": ArraySpec((50000,), "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253"),
        "test_images": ArraySpec(
            (10000, 32, 32, 3), "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04"
        ),
        "test_labels": ArraySpec((10000,), "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5"),
    },
)
DATASETS = {spec.name: spec for spec in (MNIST, CIFAR10)}
# Made by utils.data.embedded, which needs no source: only for --smoke and the tests.
DIGITS = DatasetSpec(
    name="digits",
    class_names=tuple("0123456789"),
    mean=(0.3054,),
    std=(0.3760,),
    arrays={
        "train_images": ArraySpec((1437, 8, 8)),
        "train_labels": ArraySpec((1437,)),
        "test_images": ArraySpec((360, 8, 8)),
        "test_labels": ArraySpec((360,)),
    },
)
SHAPES = DatasetSpec(
    name="shapes",
    class_names=tuple(
        f"{texture} {shape}"
        for shape in ("disc", "ring", "square", "triangle", "cross")
        for texture in ("striped", "checked")
    ),
    mean=(0.3402, 0.3413, 0.3458),
    std=(0.2217, 0.2209, 0.2227),
    arrays={
        "train_images": ArraySpec((2000, 32, 32, 3)),
        "train_labels": ArraySpec((2000,)),
        "test_images": ArraySpec((500, 32, 32, 3)),
        "test_labels": ArraySpec((500,)),
    },
)
STAND_INS = {"mnist": DIGITS, "cifar10": SHAPES}


def check_arrays(spec: DatasetSpec, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise DataError, naming array and fault, unless `arrays` are what `spec` says, to the last byte if pinned."""
    missing = [name for name in ARRAY_NAMES if name not in arrays]
    if missing:
        raise DataError(f"{spec.name}: no {' and no '.join(missing)}; it has {', '.join(arrays) or 'nothing'}")
    for split in ("train", "test"):
        _check_labels(spec, split, arrays[f"{split}_images"], arrays[f"{split}_labels"])
    for name in ARRAY_NAMES:
        array, expected = arrays[name], spec.arrays[name]
        if array.dtype != np.uint8 or array.shape != expected.shape:
            raise DataError(
                f"{spec.name}: {name} is {array.dtype} of shape {array.shape}, not uint8 of shape {expected.shape}"
            )
        if expected.sha256 is not None:
            found = sha256(np.ascontiguousarray(array).reshape(-1))
            if found != expected.sha256:
                raise DataError(f"{spec.name}: {name} has the SHA-256 {found}, not {expected.sha256}")


def _check_labels(spec: DatasetSpec, split: str, images: np.ndarray, labels: np.ndarray) -> None:
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"{spec.name}: {split}_labels are {labels.dtype} of shape {labels.shape}, not integers (N,)")
    if images.shape[:1] != labels.shape:
        raise DataError(
            f"{spec.name}: {split}_images has the shape {images.shape}, but there are {len(labels)} {split}_labels"
        )
    if len(labels) == 0:
        raise DataError(f"{spec.name}: {split}_images is empty")
    outside = np.flatnonzero((labels < 0) | (labels >= len(spec.class_names)))
    if outside.size:
        raise DataError(
            f"{spec.name}: {split}_labels[{outside[0]}] is {labels[outside[0]]}; "
            f"the {len(spec.class_names)} classes are 0 to {len(spec.class_names) - 1}"
        )
