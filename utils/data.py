"""Images and labels that live on the device; a batch is an index operation and a normalisation."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

from utils.datasets import DataError, DatasetSpec
from utils.download import load_arrays

HOLD_OUT = 5000  # training images held out for validation
FIT_SUBSET = 5000  # training images on which fit_loss is computed
SPLIT_SEED = 0  # the split is the same for every seed


@dataclass(frozen=True)
class ImageSet:
    """`images` (N, H, W, C) uint8 and `labels` (N,) int64 on one device; `mean` and `std` per channel in [0, 1]."""

    images: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "ImageSet":
        rows = torch.as_tensor(indices, device=self.labels.device)
        return replace(self, images=self.images[rows], labels=self.labels[rows])

    def to(self, device: torch.device) -> "ImageSet":
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def batches(self, batch_size: int, order: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images (B, C, H, W), float32 in channels_last, and labels (B,); the last batch may be smaller.

        `order` (M,) int64 gives the examples and their order; without it they come as stored.
        """
        std = torch.tensor(self.std, device=self.labels.device)
        scale, shift = 1 / (255 * std), torch.tensor(self.mean, device=self.labels.device) / std
        for start in range(0, len(self) if order is None else len(order), batch_size):
            rows = slice(start, start + batch_size) if order is None else order[start : start + batch_size]
            images = self.images[rows].float().mul_(scale).sub_(shift)  # (B, H, W, C)
            yield images.permute(0, 3, 1, 2), self.labels[rows]


@dataclass(frozen=True)
class Splits:
    """What a run sees: `train` to learn from, `fit` (a fixed part of it) and `val` each epoch, `test` once."""

    train: ImageSet
    fit: ImageSet
    val: ImageSet
    test: ImageSet

    def to(self, device: torch.device) -> "Splits":
        return Splits(*(getattr(self, field.name).to(device) for field in fields(self)))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        _, height, width, channels = self.train.images.shape
        return channels, height, width


def stratified_subset(labels: np.ndarray, size: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of all but `size` examples, and of those: every class in proportion, fixed by SPLIT_SEED.

    Raises DataError if some class would be missing from the subset.
    """
    present = np.bincount(labels, minlength=num_classes) > 1  # one for either side
    if not present.all():
        raise _missing(size, ~present)
    rest, subset = train_test_split(np.arange(len(labels)), test_size=size, stratify=labels, random_state=SPLIT_SEED)
    present = np.bincount(labels[subset], minlength=num_classes) > 0
    if not present.all():
        raise _missing(size, ~present)
    return np.sort(rest), np.sort(subset)


def _missing(size: int, classes: np.ndarray) -> DataError:
    return DataError(f"the {size} examples split off hold none of class {', '.join(map(str, np.flatnonzero(classes)))}")


def image_set(images: np.ndarray, labels: np.ndarray, spec: DatasetSpec) -> ImageSet:
    """An ImageSet on the CPU from (N, H, W) or (N, H, W, C) uint8 images."""
    if images.ndim == 3:
        images = images[..., None]
    return ImageSet(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)), spec.mean, spec.std)


def load_splits(spec: DatasetSpec, data_dir: Path, download: bool = True, limit: int | None = None) -> Splits:
    """Load a data set and split it; `limit` keeps the first examples of the training split. All on the CPU.

    Raises utils.download.DataError if the data can't be had or are wrong.
    """
    arrays = load_arrays(spec, data_dir, download)
    train = image_set(arrays["train_images"], arrays["train_labels"], spec)
    test = image_set(arrays["test_images"], arrays["test_labels"], spec)
    labels, classes = arrays["train_labels"], len(spec.class_names)
    size = min(HOLD_OUT, len(train) // 5)  # the embedded data sets are small
    kept, held_out = stratified_subset(labels, size, classes)
    val, train = train.take(held_out), train.take(kept[:limit])
    if len(train) < FIT_SUBSET + classes:  # too few are left to split off one of each class
        return Splits(train, train.take(np.arange(min(FIT_SUBSET, len(train)))), val, test)
    _, fit = stratified_subset(train.labels.numpy(), FIT_SUBSET, classes)
    return Splits(train, train.take(fit), val, test)
