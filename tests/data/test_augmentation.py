"""Random crops and flips: against torchvision, in distribution, and for the training images alone."""

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import functional as tv

from models import FCN
from utils.data.images import PADDING, augmentation_offsets, crop_and_flip
from utils.experiment import TrainConfig
from utils.training.device import Execution
from utils.training.fit import fit
from utils.training.seeds import epoch_offsets

EXECUTION = Execution(torch.device("cpu"), "fp32", 1)
PLACES = 2 * PADDING + 1


def test_crops_and_flips_are_torchvisions():
    """Of images that are neither square nor symmetric, at every corner of the padding and in between."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(1, 256, (12, 6, 9, 3), dtype=torch.uint8, generator=generator)  # no black inside
    offsets = torch.tensor([[top, left, flip] for top in (0, 3, 8) for left in (0, 5) for flip in (0, 1)])
    ours = crop_and_flip(images, offsets)
    assert ours.shape == images.shape and ours.dtype == torch.uint8
    for image, (top, left, flip), moved in zip(images, offsets.tolist(), ours, strict=True):
        expected = tv.crop(tv.pad(image.permute(2, 0, 1), PADDING), top, left, 6, 9)
        expected = tv.hflip(expected) if flip else expected
        assert torch.equal(moved.permute(2, 0, 1), expected)


def test_every_place_and_either_flip_is_equally_likely_and_independent():
    offsets = augmentation_offsets(100_000, torch.Generator().manual_seed(1)).numpy()
    assert offsets.min(axis=0).tolist() == [0, 0, 0] and offsets.max(axis=0).tolist() == [8, 8, 1]
    cells = np.bincount((offsets * [2 * PLACES, 2, 1]).sum(axis=1), minlength=2 * PLACES**2)
    assert len(cells) == 162 and stats.chisquare(cells).pvalue > 0.001


def test_offsets_follow_from_seed_and_epoch_and_differ_from_image_to_image():
    first = epoch_offsets(50, 0, 1)
    assert torch.equal(first, epoch_offsets(50, 0, 1)) and len(first.unique(dim=0)) > 20
    others = [epoch_offsets(50, seed, epoch) for seed, epoch in ((0, 2), (1, 1))]
    assert not any(torch.equal(first, other) for other in others)


def test_each_example_has_its_own_offsets_whatever_the_order(data):
    offsets, order = epoch_offsets(len(data.train), 0, 1), torch.tensor([7, 3, 11, 3, 0])
    for images, expected in zip(
        [images for images, _ in data.train.batches(2, order, offsets)], order.split([2, 3]), strict=True
    ):
        moved = crop_and_flip(data.train.images[expected], offsets[expected])
        std = torch.tensor(data.train.std)
        torch.testing.assert_close(images, ((moved / 255 - torch.tensor(data.train.mean)) / std).permute(0, 3, 1, 2))


@pytest.mark.parametrize("augmentation", [True, False])
def test_only_training_images_are_moved(data, augmentation):
    seen = {True: [], False: []}
    model = FCN(image_shape=data.image_shape, num_classes=10)
    model.register_forward_pre_hook(lambda module, args: seen[module.training].append(args[0].clone()))
    config = TrainConfig(2, 64, "sgd", 0.01, augmentation=augmentation)
    fit(model, config, 0, data, EXECUTION)
    evaluated = torch.cat(seen[False])
    expected = [images for part in (data.fit, data.val) * 2 for images, _ in part.batches(500)]
    assert torch.equal(evaluated, torch.cat(expected))

    def sorted_pixels(batches):
        return torch.cat(batches).sum(dim=(1, 2, 3)).sort().values

    first, second = (sorted_pixels(seen[True][half]) for half in (slice(18), slice(18, 36)))
    untouched = sorted_pixels([images for images, _ in data.train.batches(64)])
    assert torch.equal(first, untouched) == torch.equal(second, untouched) == (not augmentation)
    assert torch.equal(first, second) == (not augmentation)  # moved anew in each epoch
