"""Splits and batches of images, by either protocol."""

import numpy as np
import pytest
import torch

from utils.data.images import batch_sizes, load_splits, stratified_subset
from utils.data.specs import DIGITS


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
    with pytest.raises(ValueError, match="hold none of class 10"):
        stratified_subset(labels, 111, 11)


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
