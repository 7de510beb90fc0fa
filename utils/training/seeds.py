"""The streams of random numbers that a run draws from its seed.

Order and augmentation are drawn with generators of their own on the CPU. So all models of one seed see the same batches
on any device, and their results can be compared in pairs.
"""

import random

import numpy as np
import torch
from torch import Tensor

from utils.data.images import augmentation_offsets


def epoch_order(examples: int, seed: int, epoch: int) -> Tensor:
    """The order of the examples in an epoch, (examples,) int64: the same for every model of that seed."""
    generator = torch.Generator().manual_seed(stream_seed(seed, "order", epoch))
    return torch.randperm(examples, generator=generator)


def epoch_offsets(examples: int, seed: int, epoch: int) -> Tensor:
    """The crop and flip of each example in an epoch, (examples, 3): see `augmentation_offsets`."""
    generator = torch.Generator().manual_seed(stream_seed(seed, "augmentation", epoch))
    return augmentation_offsets(examples, generator)


# The uses of random numbers; each has a stream of its own, so that, for example, a model without dropout sees the same
# order of examples as one with it. A stream's index here is part of its seed: add new ones at the end only, or the old
# ones change.
STREAMS = ("initialisation", "order", "dropout", "augmentation", "other libraries", "batch-norm statistics")


def seed_model(seed: int, stream: str, epoch: int = 0) -> None:
    """Seed all generators that a model may draw from: PyTorch's by `stream`, Python's and NumPy's by one of their own.

    Called before a model is built, before each epoch, and before batch-norm statistics are re-estimated.
    """
    torch.manual_seed(stream_seed(seed, stream, epoch))
    other = stream_seed(seed, "other libraries", epoch)
    random.seed(other)
    np.random.seed(other % 2**32)  # the global generator takes 32 bits


def stream_seed(seed: int, stream: str, epoch: int = 0) -> int:
    """The seed of one stream of random numbers in one epoch, from 0 to 2**63 - 1.

    Different (seed, stream, epoch) give statistically independent numbers (`numpy.random.SeedSequence` mixes them).
    Each epoch seeds its streams anew, so that a run resumed after epoch k needs no saved random state.
    """
    # >> 1 leaves 63 bits, since PyTorch takes seeds as signed 64-bit integers.
    return int(np.random.SeedSequence([seed, STREAMS.index(stream), epoch]).generate_state(1, np.uint64)[0] >> 1)
