"""Does a model overfit? Judged over seeds: a seed's curve counts as one observation. Never loads torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from utils.stats.intervals import FEWEST_SEEDS, ROUNDING, Interval, mean_interval
from utils.stats.power import seeds_needed

FEWEST_EPOCHS = 10
OVERFITS, NONE = np.log(1.01), np.log(1.02)  # a log rise surely above the one, or surely below the other, decides
TAIL = 0.025  # the error rate of each bound
WORDS = (
    *("overfits", "rises", "none", "not decided"),
    *("unequal lengths", "too few epochs", "too few seeds", "undefined"),
)
UNKNOWN = Interval(np.nan, np.nan, np.nan, 0)


@dataclass(frozen=True)
class Overfitting:
    """Whether validation loss rises over the epochs while the fit loss falls. A stretch is a window of epochs.

    - `word`: one of WORDS; "rises" means that validation loss rises, though the fit loss isn't shown to fall.
    - `seeds` is their number, `lengths` the epochs of the shortest and of the longest run.
    - `rise`: from the lowest earlier stretch to the last one, of validation loss, as a fraction (0.12: 12% higher).
      `rise.high` bounds the rise since every earlier stretch from above. `se`: standard error of log(1 + rise).
    - `lowest`: the epoch at the centre of the lowest stretch; `kept`: the centres of all that may be the lowest one.
    - `val_changes`, `fit_changes`: of each seed, the loss of the last stretch minus that of the lowest.

    For "too few seeds", numbers tell what the runs did, without bounds. For "unequal lengths", "too few epochs" and
    "undefined" there are none.
    """

    word: str
    seeds: int
    lengths: tuple[int, int]
    rise: Interval = UNKNOWN
    se: float = np.nan
    tail: float = TAIL
    lowest: int | None = None
    kept: tuple[int, ...] = ()
    val_changes: tuple[float, ...] = ()
    fit_changes: tuple[float, ...] = ()

    @property
    def gap_growth(self) -> Interval:
        """How much the gap, validation minus fit loss, has grown since the lowest stretch, with its t-interval.

        It is the sum of how much validation loss rose and how much the fit loss fell. By itself it is no evidence of
        overfitting.
        """
        return mean_interval(np.subtract(self.val_changes, self.fit_changes), 1 - 2 * self.tail)

    @property
    def seeds_needed(self) -> int | None:
        """How many seeds would probably decide it, for "not decided"; None for more than 50.

        By the nearer of "overfits" and "none", on the log scale.
        """
        rise, sd = np.log1p(self.rise.estimate), self.se * np.sqrt(self.seeds)
        return seeds_needed(max(rise - OVERFITS, NONE - rise), sd, self.seeds, self.tail, degrees_lost=0)


def overfitting(val_loss: Sequence[ArrayLike], fit_loss: Sequence[ArrayLike], tail: float = TAIL) -> Overfitting:
    """Judge the curves of a model's seeds, each of shape (epochs,): losses in evaluation mode.

    Stretches are windows of w = max(3, epochs // 5) epochs. A seed's rise is the mean log validation loss of the last
    window minus that of the lowest window before it. The *other* seeds choose the lowest one, softly, by weights
    exp(-loss / its standard error): choosing it on the same curve would flatter the rise. Verdicts, in this order:

    - overfits: the lower bound of the mean rise exceeds 1%, and the raw fit loss falls between the same windows;
    - rises: the former alone;
    - none: the upper bounds of the rise since *every* earlier window lie below 2%;
    - not decided: everything else.

    Bounds are mean -+ t(1 - tail, S) se, with se^2 = ((S - 1) var(rise) + P) / S^2 for S seeds. P, the variance over
    seeds of the difference of two windows, averaged over all pairs that share no epoch, counts as one more degree of
    freedom: seeds that agree by luck can't make the interval narrow. A window may be the lowest one unless it lies
    significantly above the soft choice among all others.

    Simulated with 3 to 10 seeds, 10 to 30 epochs and white, autocorrelated, heavy-tailed and one-sided noise: false
    alarms at a true rise of 1% in at most 5% of cases. Sources: the soft choice, Zhang, Lee and Lei (2024),
    arXiv 2408.02060; the pooled degree of freedom, Smyth (2004), Statistical Applications in Genetics and Molecular
    Biology 3(1); the upper bound, an intersection-union test, Berger (1982), Technometrics 24, 295-300.

    Undefined for a loss that is not finite or a validation loss that is not positive, since no seed is left out, and
    for rises that don't vary. All seeds share one validation set: the verdict holds for its images.
    """
    seeds, lengths = len(val_loss), [len(curve) for curve in (*val_loss, *fit_loss)]
    about = {"seeds": seeds, "lengths": (min(lengths), max(lengths)), "tail": tail}
    if min(lengths) < max(lengths):
        return Overfitting("unequal lengths", **about)
    if lengths[0] < FEWEST_EPOCHS:
        return Overfitting("too few epochs", **about)
    val_loss, fit_loss = np.array([val_loss, fit_loss], dtype=float)  # (S, T) each
    defined = np.isfinite([val_loss, fit_loss]).all() and (val_loss > 0).all()
    word = "too few seeds" if seeds < FEWEST_SEEDS else "undefined"
    if not defined:
        return Overfitting(word, **about)
    width = max(3, lengths[0] // 5)
    val, fit, logs = (_window_means(losses, width) for losses in (val_loss, fit_loss, np.log(val_loss)))  # (S, n)
    if seeds < FEWEST_SEEDS:
        return Overfitting(word, **about, **_what_they_did(logs, val, fit, width))

    windows, earlier = logs.shape[1], logs.shape[1] - width  # windows in all, and before the last one
    log_weights = _log_weights(logs)
    weights = special.softmax(log_weights[:, :earlier], axis=1)

    def since_lowest(of_windows: np.ndarray) -> np.ndarray:
        """(S, n) to (S,): the last window minus the soft choice of the earlier ones."""
        return of_windows[:, -1] - (weights * of_windows[:, :earlier]).sum(axis=1)

    rises, pooled = since_lowest(logs), _variance_of_differences(logs, width)
    if np.ptp(rises) <= ROUNDING:
        return Overfitting(word, **about)
    t = special.stdtrit(seeds, 1 - tail)
    rise, se = rises.mean(), _standard_error(rises, pooled)
    since_each = logs[:, -1:] - logs[:, :earlier]
    high = max(rise, (since_each.mean(axis=0) + t * _standard_error(since_each, pooled)).max())

    candidates = earlier if rise - t * se > OVERFITS else windows
    # For each window the soft choice among all others: (S, window, other windows).
    among_others = special.softmax(np.where(np.eye(windows), -np.inf, log_weights[:, None, :]), axis=2)
    above_others = logs - (among_others @ logs[:, :, None])[:, :, 0]
    kept = above_others.mean(axis=0) - t * _standard_error(above_others, pooled) <= 0
    centre = 1 + (width - 1) // 2  # of the first window; epochs are counted from 1

    fit_changes = since_lowest(fit)
    return Overfitting(
        word=_word(rise - t * se, high, fit_changes, tail),
        rise=Interval(*np.expm1([rise, rise - t * se, high]).tolist(), seeds, 1 - 2 * tail),
        se=float(se),
        lowest=centre + int(logs.mean(axis=0)[:candidates].argmin()),
        kept=tuple((centre + np.flatnonzero(kept[:candidates])).tolist()),
        val_changes=tuple(since_lowest(val).tolist()),
        fit_changes=tuple(fit_changes.tolist()),
        **about,
    )


def _word(low: float, high: float, fit_changes: np.ndarray, tail: float) -> str:
    """The verdict, from the bounds of the log rise and each seed's change of the fit loss."""
    seeds = len(fit_changes)
    half_width = special.stdtrit(seeds - 1, 1 - tail) * fit_changes.std(ddof=1) / np.sqrt(seeds)
    if low > OVERFITS:
        return "overfits" if fit_changes.mean() + half_width < 0 else "rises"
    return "none" if high < NONE else "not decided"


def _window_means(losses: np.ndarray, width: int) -> np.ndarray:
    """(S, T) to (S, n), n = T - width + 1: the mean over each window of `width` successive epochs."""
    return np.lib.stride_tricks.sliding_window_view(losses, width, axis=1).mean(axis=2)


def _log_weights(logs: np.ndarray) -> np.ndarray:
    """(S, n): the logarithms of the weights with which the other seeds choose each seed's lowest window.

    They are minus the others' mean over its standard error, which comes from the interaction of seeds and windows: the
    seeds' different levels don't count.
    """
    seeds, windows = logs.shape
    of_others = (logs.sum(axis=0) - logs) / (seeds - 1)
    interaction = logs - logs.mean(axis=1, keepdims=True)
    interaction -= interaction.mean(axis=0)
    squares = interaction**2
    # Without a seed, the mean of the others moves, so its own deviation is lost n / (n - 1) times.
    left = np.maximum(squares.sum(axis=0) - squares * seeds / (seeds - 1), 0).sum(axis=1)
    variance = left / ((seeds - 2) * (windows - 1))
    return -of_others / np.maximum(np.sqrt(variance / (seeds - 1)), ROUNDING)[:, None]


def _variance_of_differences(logs: np.ndarray, width: int) -> float:
    """The variance over seeds of the difference of two windows, averaged over all pairs that share no epoch."""
    first, second = np.triu_indices(logs.shape[1], width)
    return (logs[:, second] - logs[:, first]).var(axis=0, ddof=1).mean()


def _standard_error(values: np.ndarray, pooled: float) -> np.ndarray:
    """Of the means over seeds of `values` (S, ...), with the variance `pooled` as one more degree of freedom."""
    seeds = len(values)
    return np.sqrt((seeds - 1) * values.var(axis=0, ddof=1) + pooled) / seeds


def _what_they_did(logs: np.ndarray, val: np.ndarray, fit: np.ndarray, width: int) -> dict:
    """The fields of an `Overfitting` for too few seeds: the last window minus the lowest one of their mean."""
    mean = logs.mean(axis=0)
    lowest = int(mean.argmin())
    return {
        "rise": Interval(float(np.expm1(mean[-1] - mean[lowest])), np.nan, np.nan, len(logs)),
        "lowest": 1 + (width - 1) // 2 + lowest,
        "val_changes": tuple((val[:, -1] - val[:, lowest]).tolist()),
        "fit_changes": tuple((fit[:, -1] - fit[:, lowest]).tolist()),
    }
