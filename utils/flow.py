"""Gradient flow after training: thinned for the records, and what it says of depth. Never loads torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from utils.results import RunRecord
from utils.stats import FEWEST_SEEDS, Interval, mean_interval, ratio_interval

BINS = 60  # about so many over a whole run
QUANTILES = (0.1, 0.5, 0.9)
SHORTCUT = "shortcut"  # modules of this name lie beside the main path
VANISHING, EXPLODING = 1e-3, 1e3  # of the first layer's norm over the last's


@dataclass(frozen=True)
class DepthVerdict:
    """What happens to gradients on their way to the input: "vanishing", "exploding", "neither", "not decided", "too few
    seeds" or "undefined"; and over the `n` seeds with gradient flow the geometric mean of the ratio of norms, first
    weight of the main path over last, with its 95% interval."""

    word: str
    ratio: Interval
    n: int


def on_main_path(weight_names: Sequence[str]) -> np.ndarray:
    """Which weights the main path from input to logits passes, (W,) bool: all but those of shortcuts."""
    return np.array([SHORTCUT not in name.split(".") for name in weight_names])


def thin(norms: np.ndarray, update_ratios: np.ndarray, weight_names: Sequence[str], epochs: int) -> dict:
    """The arrays that a record keeps of a whole run's gradient flow.

    `norms` (steps, W) and `update_ratios` (fewer rows, W, evenly over the same epochs) come from GradientFlow.
    Returns flow_weight_names (W,), flow_norms and flow_update_ratios (bins, W, 3), quantiles 0.1, 0.5 and 0.9 over
    the rows of each bin (bins split every epoch evenly), flow_epoch_norms (epochs, W), each epoch's median, and
    flow_first_epoch_ratio (), the median over the first epoch's steps of the first weight's norm over the last's, on
    the main path.
    """
    bins_an_epoch = max(1, BINS // epochs)
    main = np.flatnonzero(on_main_path(weight_names))
    first_epoch = norms[: len(norms) // epochs, main].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = first_epoch[:, 0] / first_epoch[:, -1]
    return {
        "flow_weight_names": np.array(weight_names),
        "flow_norms": _quantiles(norms, epochs, bins_an_epoch),
        "flow_update_ratios": _quantiles(update_ratios, epochs, bins_an_epoch),
        "flow_epoch_norms": np.median(norms.reshape(epochs, -1, norms.shape[1]), axis=1),
        "flow_first_epoch_ratio": np.median(ratios),
    }


def _quantiles(values: np.ndarray, epochs: int, bins_an_epoch: int) -> np.ndarray:
    """Quantiles over the rows of each bin, (epochs * bins_an_epoch or fewer, W, 3) float32; no bin is empty."""
    bins = []
    for epoch in np.split(values, epochs):
        bins += np.array_split(epoch, min(bins_an_epoch, len(epoch)))
    return np.stack([np.quantile(rows, QUANTILES, axis=0).T for rows in bins]).astype(np.float32)


def has_flow(record: RunRecord) -> bool:
    """Whether the record holds gradient flow: those of older versions don't."""
    return "flow_norms" in record.arrays


def slope_over_depth(norms: ArrayLike) -> float:
    """Least-squares slope of log norm over depth from `norms` (L,), those of the main path's weights from the input.

    The unit is one weight: exp(slope) is the factor from a weight to the next. NaN for fewer than two weights, or if a
    norm isn't positive and finite.
    """
    norms = np.asarray(norms, dtype=float)
    if len(norms) < 2 or not (np.isfinite(norms) & (norms > 0)).all():
        return np.nan
    return float(np.polyfit(np.arange(len(norms)), np.log(norms), 1)[0])


def depth_verdict(records: Sequence[RunRecord]) -> DepthVerdict:
    """Do a model's gradients vanish or explode over depth in the first epoch? `records` are its seeds.

    Vanishing: both the 95% t-interval of the log ratio first/last norm lies below 1e-3 and that of the slope of log
    norm over depth lies above 0; exploding: above 1e3 and below 0; neither: an interval contradicts each of them; not
    decided otherwise. Norms that fall while training converges change nothing. A gradient that is exactly zero, or
    seeds that don't differ at all, leave the verdict undefined.
    """
    records = [record for record in records if has_flow(record)]
    ratio = ratio_interval([record.arrays["flow_first_epoch_ratio"] for record in records], np.ones(len(records)))
    slope = mean_interval([slope_over_depth(_main_path_norms(record, 0)) for record in records])
    if len(records) < FEWEST_SEEDS:
        word = "too few seeds"
    elif np.isnan([ratio.low, slope.low]).any():
        word = "undefined"
    elif ratio.high < VANISHING and slope.low > 0:
        word = "vanishing"
    elif ratio.low > EXPLODING and slope.high < 0:
        word = "exploding"
    elif (ratio.low >= VANISHING or slope.high <= 0) and (ratio.high <= EXPLODING or slope.low >= 0):
        word = "neither"
    else:
        word = "not decided"
    return DepthVerdict(word, ratio, len(records))


def last_epoch_ratio(records: Sequence[RunRecord]) -> Interval:
    """Geometric mean over seeds of the first weight's norm over the last's on the main path, each its median over the
    last epoch's steps, with the 95% interval. NaN where a gradient is exactly zero."""
    norms = [_main_path_norms(record, -1) for record in records if has_flow(record)]
    return ratio_interval([of_seed[0] for of_seed in norms], [of_seed[-1] for of_seed in norms])


def _main_path_norms(record: RunRecord, epoch: int) -> np.ndarray:
    """The norms of the main path's weights in an epoch, counted from 0, each the median over its steps; (L,)."""
    return record.arrays["flow_epoch_norms"][epoch, on_main_path(record.arrays["flow_weight_names"])]
