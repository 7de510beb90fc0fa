"""Images and labels that stay on the device: making a batch is an indexing operation and a normalisation.

Most data sets are small (CIFAR-10 has 180 MB as uint8), so no loader processes and no copies per batch are needed.
A folder of images may be larger than memory: its arrays are memory maps. A CPU takes batches straight from the map, so
that all processes share its pages; a GPU too, where a part is larger than 1/DEVICE_SHARE of the GPU's memory.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from utils.data.sources import load_arrays
from utils.data.specs import SPLIT_SEED, DataError, DatasetSpec, data_sha256
from utils.data.store import read_set

HOLD_OUT = 5000  # training images held out for validation
FIT_SUBSET = 5000  # training images on which fit_loss is computed
DEVICE_SHARE = 16  # up to five processes keep the same images on a GPU, and the nets need most of its memory
PADDING = 4  # pixels on each side, for random crops


@dataclass(frozen=True)
class ImageSet:
    """`images` (N, H, W, C) uint8 and `labels` (N,) int64, on whose device batches come: see `to`.

    `mean` and `std` have one value per channel, for pixels scaled to [0, 1].
    """

    images: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "ImageSet":
        """The images and labels at `indices`, as a new ImageSet."""
        rows = torch.as_tensor(indices, device=self.images.device)
        return replace(self, images=self.images[rows], labels=self.labels[rows])

    def first(self, count: int) -> "ImageSet":
        """The first images, at most `count`, without copying them."""
        return replace(self, images=self.images[:count], labels=self.labels[:count])

    def to(self, device: torch.device) -> "ImageSet":
        """The same on another device. Images that would take too much of its memory stay where they are."""
        images = self.images.to(device) if self.images.nbytes <= room_for_images(device) else self.images
        return replace(self, images=images, labels=self.labels.to(device))

    def batches(
        self, batch_size: int, order: Tensor | None = None, offsets: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches: normalised images (B, C, H, W), float32 in channels_last, and labels (B,), int64.

        `order` (M,) int64 gives the indices of the examples in their order; without it they come as stored. `offsets`
        (N, 3) holds the crop and flip of every example, see `augmentation_offsets`; without it images stay as they are.
        The last batch may have another size, see `batch_sizes`.
        """
        scale, shift = self._scale_and_shift
        order = order if order is None else order.to(self.images.device)
        start = 0
        for size in batch_sizes(len(self) if order is None else len(order), batch_size):
            rows = slice(start, start + size) if order is None else order[start : start + size]
            start += size
            images = self.images[rows].to(self.labels.device)  # (B, H, W, C)
            if offsets is not None:
                images = crop_and_flip(images, offsets[rows])
            images = images.float().mul_(scale).sub_(shift)
            # (B, H, W, C) -> (B, C, H, W) changes only the strides: that is already PyTorch's channels_last layout,
            # in which many releases compute wrongly on MPS.
            images = images.permute(0, 3, 1, 2)
            yield images.contiguous() if images.device.type == "mps" else images, self.labels[rows]

    @cached_property
    def _scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """(x / 255 - mean) / std as one multiplication and one subtraction, x * scale - shift, each of shape (C,).

        On the device and made once: bringing them there makes the CPU wait.
        """
        std = torch.tensor(self.std, device=self.labels.device)
        return 1 / (255 * std), torch.tensor(self.mean, device=self.labels.device) / std


def room_for_images(device: torch.device) -> float:
    """How many bytes of images a set may keep on the device: 1/DEVICE_SHARE of its memory, on a CPU any number."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / DEVICE_SHARE
    return torch.mps.recommended_max_memory() / DEVICE_SHARE if device.type == "mps" else float("inf")


def batch_sizes(examples: int, batch_size: int) -> list[int]:
    """The sizes of the batches of one pass over `examples` examples.

    The last batch has the rest. If that is a single example, it joins the batch before: batch normalisation needs the
    variance of a batch, which one example does not have, and no example should be dropped.
    """
    whole, rest = divmod(examples, batch_size)
    sizes = [batch_size] * whole + [rest] * (rest > 0)
    if len(sizes) > 1 and rest == 1:
        sizes[-2:] = [batch_size + 1]
    return sizes


def augmentation_offsets(examples: int, generator: torch.Generator) -> Tensor:
    """How to crop and flip each example, (N, 3) int64: top row and left column of the crop, and whether to flip.

    Row and column count in the padded image, from 0 to 2 * PADDING; PADDING leaves the image in place. Flip is 0 or 1.
    """
    corners = torch.randint(2 * PADDING + 1, (examples, 2), generator=generator)
    flips = torch.randint(2, (examples, 1), generator=generator)
    return torch.cat([corners, flips], dim=1)


def crop_and_flip(images: Tensor, offsets: Tensor) -> Tensor:
    """Pad each of `images` (B, H, W, C) by PADDING black pixels, crop it to its old size and flip it if asked.

    `offsets` (B, 3) says where and whether, see `augmentation_offsets`. All images are handled at once, by indexing.
    Source: the usual augmentation of CIFAR-10 (He et al. 2016, section 4.2, https://arxiv.org/abs/1512.03385).
    """
    _, height, width, _ = images.shape
    # F.pad counts axes from the last: nothing for the channels, PADDING on each side of width and height.
    padded = F.pad(images, (0, 0, PADDING, PADDING, PADDING, PADDING))
    top, left, flip = offsets.T
    rows = top[:, None] + torch.arange(height, device=images.device)  # (B, H)
    columns = torch.arange(width, device=images.device).expand(len(images), width)  # (B, W)
    columns = left[:, None] + torch.where(flip[:, None] == 1, width - 1 - columns, columns)
    which = torch.arange(len(images), device=images.device)
    # The indices broadcast to (B, H, W); the channel axis stays: (B, H, W, C).
    return padded[which[:, None, None], rows[:, :, None], columns[:, None, :]]


@dataclass(frozen=True)
class Splits:
    """The data of a run: the model learns from `train`; `fit` and `val` are evaluated each epoch, `test` once.

    `fit` is a fixed part of `train`, so that its loss can be compared with that of `val`: both are measured in
    evaluation mode. By the original report's protocol, `val` is the test set.
    """

    train: ImageSet
    fit: ImageSet
    val: ImageSet
    test: ImageSet
    num_classes: int
    sha256: str = ""  # of the whole data set: see `utils.data.specs.data_sha256`

    def to(self, device: torch.device) -> "Splits":
        parts = {name: getattr(self, name).to(device) for name in ("train", "fit", "val", "test")}
        return replace(self, **parts)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W), the shape that a model expects."""
        _, height, width, channels = self.train.images.shape
        return channels, height, width


def stratified_subset(labels: np.ndarray, size: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Split off `size` examples, every class in proportion: the indices of the rest, and of the subset, both sorted.

    `labels` are class indices of shape (N,). The split is fixed by SPLIT_SEED. Raises DataError, which names the
    classes and the numbers needed, if not every class can be in both parts.
    """
    from sklearn.model_selection import train_test_split  # here: a bad option is answered before it is loaded

    counts = np.bincount(labels, minlength=num_classes)
    if (counts < 2).any():
        few = ", ".join(f"{name} has {counts[name]}" for name in np.flatnonzero(counts < 2))
        raise DataError(f"too few images to hold some of each class out: of class {few}; at least 2 are needed")
    if min(size, len(labels) - size) < num_classes:
        raise DataError(
            f"{size} of {len(labels)} images can't be split off with all {num_classes} classes in both parts"
        )
    rest, subset = train_test_split(np.arange(len(labels)), test_size=size, stratify=labels, random_state=SPLIT_SEED)
    missing = np.flatnonzero(np.bincount(labels[subset], minlength=num_classes) == 0)
    if missing.size:
        least = -(-len(labels) // size)
        few = ", ".join(f"{name} has {counts[name]}" for name in missing)
        raise DataError(f"too few images to hold some of each class out: of class {few}; about {least} are needed")
    return np.sort(rest), np.sort(subset)


def image_set(images: np.ndarray, labels: np.ndarray, spec: DatasetSpec) -> ImageSet:
    """An ImageSet on the CPU from uint8 images (N, H, W) or (N, H, W, C) and labels (N,)."""
    if images.ndim == 3:
        images = images[..., None]  # (N, H, W) -> (N, H, W, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a memory map is read-only, and nothing here writes into images
        pixels = torch.from_numpy(images)
    return ImageSet(pixels, torch.from_numpy(labels.astype(np.int64)), spec.mean, spec.std)


def load_splits(
    spec: DatasetSpec, data_dir: Path, download: bool = True, limit: int | None = None, protocol: str = "holdout"
) -> Splits:
    """Load a data set and split it, on the CPU.

    `limit` keeps so many of the training examples, every class in proportion, and as large a part of those held out
    for validation; the test set stays complete. With the `protocol` "original" no training images are held out, and
    `val` is the test set.

    Raises utils.data.specs.DataError if no source has the data, or if they are wrong or too few.
    """
    arrays = read_set(spec, data_dir) if spec.folder else load_arrays(spec, data_dir, download)
    train = image_set(arrays["train_images"], arrays["train_labels"], spec)
    test = image_set(arrays["test_images"], arrays["test_labels"], spec)
    classes = len(spec.class_names)

    def part(images: ImageSet, size: int) -> ImageSet:
        if size > len(images) - classes:  # too few would be left over to hold one of each class, so all are taken
            return images
        return images.take(stratified_subset(images.labels.numpy(), size, classes)[1])

    val = test
    if "val_images" in arrays:
        val = image_set(arrays["val_images"], arrays["val_labels"], spec)
    elif protocol == "holdout":
        size = min(HOLD_OUT, len(train) // 5)  # a fifth of the embedded data sets, which are small
        kept, held_out = stratified_subset(arrays["train_labels"], size, classes)
        val, train = train.take(held_out), train.take(kept)
    if limit and limit < len(train):
        if protocol == "holdout":
            val = part(val, max(classes, round(len(val) * limit / len(train))))
        train = part(train, limit)
    if spec.folder or len(train) < FIT_SUBSET + classes:  # in a random order; too small to split, one of each remaining
        fit = train.first(FIT_SUBSET)
    else:
        fit = part(train, FIT_SUBSET)
    return Splits(train, fit, val, test, classes, data_sha256(spec, arrays))
