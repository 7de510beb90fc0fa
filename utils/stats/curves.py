"""Statistics of learning curves, in plain arrays. Never loads torch.

Curves hold one value an epoch, and epochs are counted from 1. For curves that diverged, are too short or never vary,
these functions raise no error and give no warning: an undefined result is NaN, or None for an epoch.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from utils.stats.intervals import ROUNDING

LAST_EPOCHS = 3  # an onset or a plateau counts only if this many epochs at the end confirm it


@dataclass(frozen=True)
class Onset:
    """From which epoch a run overfits.

    `epoch` is None if the run does not overfit or if that is not decided; `reason` says in words which of them.
    `decided` is False for too few epochs, a loss that is not finite, or a rise that noise could explain. Only in the
    last case are `rise` and `noise` numbers, otherwise NaN: the rise of the smoothed loss in the last epochs, and 3
    sigma, both as fractions of the smoothed loss's minimum.
    """

    epoch: int | None
    reason: str
    decided: bool = True
    rise: float = np.nan
    noise: float = np.nan


def running_median(values: ArrayLike) -> np.ndarray:
    """The median of each value and its two neighbours; the first and the last value are repeated at the ends.

    Shape (epochs,) in and out. Unlike a running mean, it removes single spikes without lowering a lasting rise.
    """
    values = np.asarray(values, dtype=float)
    padded = np.concatenate([values[:1], values, values[-1:]])
    return np.median([padded[:-2], values, padded[2:]], axis=0)


def overfitting_onset(val_loss: ArrayLike, fit_loss: ArrayLike) -> Onset:
    """The epoch after which the validation loss only got worse while the loss on training images kept falling.

    `val_loss` and `fit_loss`, shape (epochs,), are losses in evaluation mode. Let e* be the argmin of the running
    median of 3 of val_loss, the smoothed loss. The onset is e* if two conditions hold:

    - in each of the last 3 epochs the smoothed loss lies more than max(1% of its minimum, 3 sigma) above its minimum.
      The noise is estimated by sigma = 1.4826 * MAD of the second differences of val_loss (the first one dropped)
      / sqrt(6);
    - fit_loss is lower at the end than at e*.

    A rise of more than 1% but at most 3 sigma leaves the question undecided, whatever fit_loss did: in such a noisy run
    two values of it say little. With fewer than 10 epochs the result is "too few epochs". Raises ValueError if the two
    curves differ in length.

    Measured on a + 0.3 exp(-t / 3) + white noise of sd 0.002 to 0.03, a = 0.05 to 1: an alarm in at most 0.3% of runs
    of 15 epochs and 0.6% of 30, on a flat line in 2.5%. A rise of 3 sigma an epoch from epoch 8 of 15 is found in
    99% of runs with sd 0.005 or more; with less noise that rise hardly outweighs the fall of the exponential.
    Limit: noise correlated between epochs raises the alarm rate. With AR(0.5) noise it is up to 3% at 15 epochs and
    11% at 30 on the falling curve, and 13% and 17% on a flat line.
    """
    val_loss, fit_loss = np.array([val_loss, fit_loss], dtype=float)
    epochs = len(val_loss)
    if epochs < 10:
        return Onset(None, f"too few epochs ({epochs}; an onset needs 10)", decided=False)
    if not np.isfinite([val_loss, fit_loss]).all():
        return Onset(None, "a loss is not finite", decided=False)
    smoothed = running_median(val_loss)
    best = int(smoothed.argmin())
    # Second differences remove level and slope and leave noise: x - 2y + z has the variance 6 sigma^2, hence sqrt(6).
    # 1.4826 * MAD estimates a normal sd and ignores outliers. The first difference is dropped, as the loss falls
    # steeply in the first epochs.
    sigma = 1.4826 * stats.median_abs_deviation(np.diff(val_loss, 2)[1:]) / np.sqrt(6)
    # If e* is one of the last 3 epochs, the rise is 0. So "e* lies before them" needs no check of its own.
    rise = smoothed[-LAST_EPOCHS:].min() - smoothed[best]
    if 0.01 * smoothed[best] < rise <= 3 * sigma:
        rise, noise = np.array([rise, 3 * sigma]) / (smoothed[best] or np.nan)  # a minimum of 0 gives NaN
        return Onset(None, "a rise that noise could explain", False, float(rise), float(noise))
    if rise > 0.01 * smoothed[best] and fit_loss[-1] < fit_loss[best]:
        return Onset(best + 1, f"overfits from epoch {best + 1}")
    return Onset(None, f"none within {epochs} epochs")


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
