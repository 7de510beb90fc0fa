"""Whether gradients vanish or explode over the depth of a network. Never loads torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from utils.records.flow import on_main_path
from utils.records.record import RunRecord
from utils.stats.intervals import FEWEST_SEEDS, Interval, mean_interval, ratio_interval

VANISHING, EXPLODING = 1e-3, 1e3  # limits of the ratio: norm of the first layer over norm of the last


@dataclass(frozen=True)
class DepthVerdict:
    """What happens to gradients on their way back to the input.

    `word` is "vanishing", "exploding", "neither", "not decided", "too few seeds" or "undefined". `ratio` is the norm of
    the first weight on the main path over that of the last: the geometric mean over the `n` seeds with gradient flow,
    with its 95% interval.
    """

    word: str
    ratio: Interval
    n: int


def has_flow(record: RunRecord) -> bool:
    """Whether the record holds gradient flow. Records of older versions don't."""
    return "flow_norms" in record.arrays


def slope_over_depth(norms: ArrayLike) -> float:
    """The least-squares slope of log norm over depth.

    `norms` (L,) are those of the main path's weights, counted from the input. exp(slope) is the factor from one weight
    to the next. NaN for fewer than two weights, or if a norm is not positive and finite.
    """
    norms = np.asarray(norms, dtype=float)
    if len(norms) < 2 or not (np.isfinite(norms) & (norms > 0)).all():
        return np.nan
    return float(np.polyfit(np.arange(len(norms)), np.log(norms), 1)[0])


def depth_verdict(records: Sequence[RunRecord]) -> DepthVerdict:
    """Whether a model's gradients vanish or explode over depth in the first epoch. `records` are its seeds.

    It uses two 95% t-intervals over seeds: R of the ratio of norms, first weight over last (computed on logarithms),
    and S of the slope of log norm over depth.

    - vanishing: R lies below 1e-3 and S above 0, so the norms shrink towards the input;
    - exploding: R lies above 1e3 and S below 0;
    - neither: the intervals contradict both;
    - not decided: everything else.

    Only the first epoch counts, since norms also fall when training converges. A gradient of exactly zero, or seeds
    that do not differ at all, make the verdict undefined.
    """
    records = [record for record in records if has_flow(record)]
    measured = [  # both at once, since each record is read from disk
        (record.arrays["flow_first_epoch_ratio"], slope_over_depth(_main_path_norms(record, 0))) for record in records
    ]
    ratio = ratio_interval([first_over_last for first_over_last, _ in measured], np.ones(len(records)))
    slope = mean_interval([slope for _, slope in measured])
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
    """The norm of the first weight on the main path over that of the last, in the last epoch.

    Norms are medians over the epoch's steps. Geometric mean over seeds with its 95% interval; NaN if a gradient is
    exactly zero.
    """
    norms = [_main_path_norms(record, -1) for record in records if has_flow(record)]
    return ratio_interval([of_seed[0] for of_seed in norms], [of_seed[-1] for of_seed in norms])


def _main_path_norms(record: RunRecord, epoch: int) -> np.ndarray:
    """The norms (L,) of the main path's weights in epoch `epoch`, counted from 0: medians over the epoch's steps."""
    return record.arrays["flow_epoch_norms"][epoch, on_main_path(record.arrays["flow_weight_names"])]
