"""The streams of random numbers that a seed gives."""

import numpy as np
import torch
from torch import Tensor

from utils.data.images import augmentation_offsets


def epoch_order(examples: int, seed: int, epoch: int) -> Tensor:
    """The order of the examples in an epoch: the same for every model of that seed, on any device."""
    generator = torch.Generator().manual_seed(stream_seed(seed, "order", epoch))
    return torch.randperm(examples, generator=generator)


def epoch_offsets(examples: int, seed: int, epoch: int) -> Tensor:
    """Where each example is cropped and whether it is flipped in an epoch, (N, 3)."""
    generator = torch.Generator().manual_seed(stream_seed(seed, "augmentation", epoch))
    return augmentation_offsets(examples, generator)


# Each seed gives independent streams of random numbers, one for each of these uses.
STREAMS = ("initialisation", "order", "dropout", "augmentation")


def stream_seed(seed: int, stream: str, epoch: int = 0) -> int:
    """The seed of one stream of random numbers in one epoch: independent for each (seed, stream, epoch).

    Each epoch starts its streams afresh, so that a run resumed after epoch k needs no saved random state.
    """
    return int(np.random.SeedSequence([seed, STREAMS.index(stream), epoch]).generate_state(1, np.uint64)[0] >> 1)
