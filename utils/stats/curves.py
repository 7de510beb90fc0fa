"""Statistics of learning curves, in plain arrays. Never loads torch.

Curves hold one value an epoch, and epochs are counted from 1. For curves that diverged, are too short or never vary,
these functions raise no error and give no warning: an undefined result is NaN, or None for an epoch.
"""

import numpy as np
from numpy.typing import ArrayLike

from utils.stats.intervals import ROUNDING

LAST_EPOCHS = 3  # a plateau counts only if this many epochs at the end confirm it


def running_median(values: ArrayLike) -> np.ndarray:
    """The median of each value and its two neighbours; the first and the last value are repeated at the ends.

    Shape (epochs,) in and out. Unlike a running mean, it removes single spikes without lowering a lasting rise.
    """
    values = np.asarray(values, dtype=float)
    padded = np.concatenate([values[:1], values, values[-1:]])
    return np.median([padded[:-2], values, padded[2:]], axis=0)


def accuracy_plateau(val_accuracy: ArrayLike) -> int | None:
    """The first epoch whose smoothed accuracy no later epoch exceeds by 0.5 percentage points (0.005) or more.

    `val_accuracy`, shape (epochs,), holds fractions; it is smoothed by the running median. None if fewer than 3 epochs
    follow, since these would show no plateau, if there is no epoch, or if a value is not finite.
    """
    smoothed = running_median(val_accuracy)
    if not len(smoothed) or not np.isfinite(smoothed).all():
        return None
    # Entry i is the maximum over the epochs from i on: a running maximum of the reversed curve, reversed back.
    best_from_here = np.maximum.accumulate(smoothed[::-1])[::-1]
    epoch = int((best_from_here - smoothed < 0.005 - ROUNDING).argmax()) + 1
    return epoch if epoch <= len(smoothed) - LAST_EPOCHS else None
