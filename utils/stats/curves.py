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


def roughness(val_loss: ArrayLike) -> float:
    """Log of the sd of the second differences of log val_loss over epochs, the first one dropped.

    One number a run, from `val_loss` of shape (epochs,). The exponential of the difference between two runs is the
    ratio of their relative roughness. It depends neither on the level of the losses (the logarithm removes it) nor on a
    steady trend (the second differences do). NaN for fewer than 5 epochs, for a loss that is not positive and finite,
    or if the differences do not vary.
    """
    val_loss = np.asarray(val_loss, dtype=float)
    if len(val_loss) < 5 or not (np.isfinite(val_loss) & (val_loss > 0)).all():
        return np.nan
    spread = np.diff(np.log(val_loss), 2)[1:].std(ddof=1)
    return float(np.log(spread)) if spread > ROUNDING else np.nan
