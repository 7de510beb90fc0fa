"""Statistics of learning curves, in plain arrays. Never loads torch.

What is undefined comes back as NaN (None for an epoch): curves that diverged, are too short or never vary make these
functions neither raise nor warn. Curves hold one value an epoch, and epochs count from 1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from utils.stats.intervals import ROUNDING

LAST_EPOCHS = 3  # that have to bear out an onset or a plateau


@dataclass(frozen=True)
class Onset:
    """The epoch from which a run overfits, None if it doesn't or isn't decided, and `reason` in words for both.

    `decided` is False with too few epochs, a loss that isn't finite, or a rise that noise could explain: then `rise` is
    that of the smoothed loss in the last epochs and `noise` 3 sigma, both over its minimum, and else NaN.
    """

    epoch: int | None
    reason: str
    decided: bool = True
    rise: float = np.nan
    noise: float = np.nan


def running_median(values: ArrayLike) -> np.ndarray:
    """Median of each value and its two neighbours, the ends repeated; shape (epochs,) in and out."""
    values = np.asarray(values, dtype=float)
    padded = np.concatenate([values[:1], values, values[-1:]])
    return np.median([padded[:-2], values, padded[2:]], axis=0)


def overfitting_onset(val_loss: ArrayLike, fit_loss: ArrayLike) -> Onset:
    """The epoch after which validation loss only got worse while the loss on training images went on falling.

    `val_loss` and `fit_loss`, shape (epochs,), are losses in evaluation mode. e* is the argmin of the running median
    of 3 of val_loss. The onset is e* only if the smoothed loss stays more than max(1% of its minimum, 3 sigma) above
    its minimum for each of the last 3 epochs, where sigma = 1.4826 * MAD of the second differences of val_loss (the
    first one dropped) / sqrt(6), and fit_loss is lower at the end than at e*. A rise of more than 1% but not of 3 sigma
    leaves it open, whatever fit_loss did: in a run so noisy two of its values say little. Raises ValueError if the two
    differ in length; says "too few epochs" below 10.

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
    sigma = 1.4826 * stats.median_abs_deviation(np.diff(val_loss, 2)[1:]) / np.sqrt(6)
    # The last 3 epochs lie above the minimum only if e* is none of them, so that needs no test of its own.
    rise = smoothed[-LAST_EPOCHS:].min() - smoothed[best]
    if 0.01 * smoothed[best] < rise <= 3 * sigma:
        rise, noise = np.array([rise, 3 * sigma]) / (smoothed[best] or np.nan)
        return Onset(None, "a rise that noise could explain", False, float(rise), float(noise))
    if rise > 0.01 * smoothed[best] and fit_loss[-1] < fit_loss[best]:
        return Onset(best + 1, f"overfits from epoch {best + 1}")
    return Onset(None, f"none within {epochs} epochs")


def accuracy_plateau(val_accuracy: ArrayLike) -> int | None:
    """The first epoch whose running-median accuracy no later one exceeds by 0.5 points (0.005) or more.

    `val_accuracy`, shape (epochs,), holds fractions. None if fewer than 3 epochs follow, which would show no plateau;
    also if there is no epoch or a value isn't finite.
    """
    smoothed = running_median(val_accuracy)
    if not len(smoothed) or not np.isfinite(smoothed).all():
        return None
    best_from_here = np.maximum.accumulate(smoothed[::-1])[::-1]
    epoch = int((best_from_here - smoothed < 0.005 - ROUNDING).argmax()) + 1
    return epoch if epoch <= len(smoothed) - LAST_EPOCHS else None


def roughness(val_loss: ArrayLike) -> float:
    """Log of the sd of the second differences of log val_loss over epochs, the first one dropped.

    One number a run, from `val_loss` of shape (epochs,); the exponential of a difference between two runs is the ratio
    of their relative roughness, whatever the level and the trend of their losses. NaN for fewer than 5 epochs, a loss
    that isn't positive and finite, or differences that don't vary.
    """
    val_loss = np.asarray(val_loss, dtype=float)
    if len(val_loss) < 5 or not (np.isfinite(val_loss) & (val_loss > 0)).all():
        return np.nan
    spread = np.diff(np.log(val_loss), 2)[1:].std(ddof=1)
    return float(np.log(spread)) if spread > ROUNDING else np.nan
