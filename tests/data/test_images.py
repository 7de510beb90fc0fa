"""Splits and batches of images, by either protocol."""

import dataclasses

import numpy as np
import pytest
import torch

from utils.data.images import batch_sizes, load_splits, stratified_subset
from utils.data.sources import load_arrays
from utils.data.specs import DIGITS, DataError, data_sha256


@pytest.mark.parametrize(
    ("examples", "sizes"), [(6, [3, 3]), (7, [3, 4]), (8, [3, 3, 2]), (4, [4]), (3, [3]), (1, [1]), (2, [2])]
)
def test_a_last_batch_of_one_joins_the_one_before(data, examples, sizes):
    assert batch_sizes(examples, 3) == sizes and batch_sizes(examples, 1) == [1] * examples
    order = torch.arange(examples).flip(0) + 5
    batches = list(data.train.batches(3, order))
    assert [len(images) for images, _ in batches] == [len(labels) for _, labels in batches] == sizes
    assert torch.equal(torch.cat([labels for _, labels in batches]), data.train.labels[order])


def test_splits_are_disjoint_and_hold_every_class(data):
    labels = np.repeat(np.arange(10), [200, 100, 50, 300, 120, 80, 90, 60, 70, 40])
    rest, subset = stratified_subset(labels, 111, 10)
    assert len(subset) == 111 and not set(rest) & set(subset) and len(rest) + len(subset) == len(labels)
    np.testing.assert_allclose(np.bincount(labels[subset]), np.bincount(labels) * 111 / len(labels), atol=1)
    with pytest.raises(DataError, match="too few images .*: of class 10 has 0; at least 2 are needed"):
        stratified_subset(labels, 111, 11)


def test_too_few_images_of_a_class_are_named_with_how_many_are_needed():
    labels = np.repeat([0, 1, 2, 3], [100, 1, 3, 0])
    with pytest.raises(DataError, match="of class 1 has 1, 3 has 0; at least 2 are needed$"):
        stratified_subset(labels, 20, 4)
    with pytest.raises(DataError, match="^3 of 104 images can't be split off with all 4 classes in both parts$"):
        stratified_subset(np.repeat([0, 1, 2, 3], 26), 3, 4)
    with pytest.raises(DataError, match="^102 of 104 images can't be split off with all 4 classes in both parts$"):
        stratified_subset(np.repeat([0, 1, 2, 3], 26), 102, 4)
    with pytest.raises(DataError, match="of class 2 has 2; about 11 are needed$"):
        stratified_subset(np.repeat([0, 1, 2], [100, 100, 2]), 20, 3)


def test_a_limit_keeps_classes_in_proportion_and_as_large_a_part_for_validation(tmp_path):
    whole, part = (load_splits(DIGITS, tmp_path, limit=limit) for limit in (None, 230))
    assert (len(part.train), len(part.val), len(part.test)) == (230, 57, 360)  # a fifth of 1150 and 287
    for ours, theirs in ((part.train, whole.train), (part.val, whole.val)):
        shares = [np.bincount(images.labels, minlength=10) / len(images) for images in (ours, theirs)]
        np.testing.assert_allclose(*shares, atol=1 / len(ours))
    assert load_splits(DIGITS, tmp_path, limit=10**6).train.labels.equal(whole.train.labels)
    smallest = load_splits(DIGITS, tmp_path, limit=10)
    assert np.bincount(smallest.train.labels).tolist() == [1] * 10 and len(smallest.val) == 10
    with pytest.raises(DataError, match="9 of 1150 images can't be split off with all 10 classes"):
        load_splits(DIGITS, tmp_path, limit=9)


def test_splits_know_their_classes_and_the_bytes_that_they_come_from(tmp_path, monkeypatch):
    splits = load_splits(DIGITS, tmp_path)
    assert splits.num_classes == 10 and len(splits.sha256) == 64
    assert load_splits(DIGITS, tmp_path, limit=100).sha256 == splits.sha256  # of the whole data set
    arrays = load_arrays(DIGITS, tmp_path)
    assert data_sha256(DIGITS, arrays) == splits.sha256
    one_pixel = arrays | {"train_images": arrays["train_images"].copy()}
    one_pixel["train_images"][3, 4, 5] += 1
    others = [data_sha256(DIGITS, one_pixel)]
    for changes in ({"mean": (0.5,)}, {"std": (0.5,)}, {"class_names": tuple("abcdefghij")}):
        others.append(data_sha256(dataclasses.replace(DIGITS, **changes), arrays))
    assert len({splits.sha256, *others}) == 5


def test_what_normalises_a_batch_is_made_once(data):
    images = dataclasses.replace(data.train)
    assert images._scale_and_shift is images._scale_and_shift


def test_batches_are_normalised_and_keep_images_and_labels_together(data):
    order = torch.tensor([5, 3, 8, 9, 1])
    (images, labels), (last, _) = data.train.batches(3, order)
    assert images.shape == (3, 1, 8, 8) and len(last) == 2
    expected = (data.train.images[order[:3], ..., 0] / 255.0 - DIGITS.mean[0]) / DIGITS.std[0]
    torch.testing.assert_close(images[:, 0], expected)
    assert torch.equal(labels, data.train.labels[order[:3]])


def test_the_splits_of_both_protocols(tmp_path):
    ours, theirs = (load_splits(DIGITS, tmp_path, protocol=protocol) for protocol in ("holdout", "original"))
    assert (len(ours.train), len(ours.val), len(ours.test)) == (1150, 287, 360)
    assert (len(theirs.train), len(theirs.val), len(theirs.test)) == (1437, 360, 360)
    assert theirs.val.labels.equal(theirs.test.labels) and theirs.val.images.equal(ours.test.images)
    assert len(load_splits(DIGITS, tmp_path, limit=100, protocol="original").train) == 100
