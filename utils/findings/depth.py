"""What gradients say of depth: vanishing, exploding or neither. Never loads torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from utils.records.flow import on_main_path
from utils.records.record import RunRecord
from utils.stats.intervals import FEWEST_SEEDS, Interval, mean_interval, ratio_interval

VANISHING, EXPLODING = 1e-3, 1e3  # of the first layer's norm over the last's


@dataclass(frozen=True)
class DepthVerdict:
    """What happens to gradients on their way to the input: "vanishing", "exploding", "neither", "not decided", "too few
    seeds" or "undefined"; and over the `n` seeds with gradient flow the geometric mean of the ratio of norms, first
    weight of the main path over last, with its 95% interval."""

    word: str
    ratio: Interval
    n: int


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
