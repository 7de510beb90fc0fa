"""Gradient flow after training, thinned for the records. Never loads torch."""

from collections.abc import Sequence

import numpy as np

BINS = 60  # about this many over a whole run: enough for a curve, small enough to commit
QUANTILES = (0.1, 0.5, 0.9)
SHORTCUT = "shortcut"  # modules of this name are not on the main path


def on_main_path(weight_names: Sequence[str]) -> np.ndarray:
    """Which weights lie on the main path from input to logits, (W,) bool: all but those of shortcuts."""
    return np.array([SHORTCUT not in name.split(".") for name in weight_names], dtype=bool)


def thin(norms: np.ndarray, update_ratios: np.ndarray, weight_names: Sequence[str], epochs: int) -> dict:
    """The arrays that a record keeps of the gradient flow of a whole run of `epochs` epochs.

    `norms` (steps, W) and `update_ratios` (fewer rows, W) come from GradientFlow; each epoch has equally many rows.
    Returns:

    - flow_weight_names (W,);
    - flow_norms and flow_update_ratios (bins, W, 3): the quantiles 0.1, 0.5 and 0.9 over the rows of each bin. Bins
      split every epoch evenly;
    - flow_epoch_norms (epochs, W): the median norm of each epoch;
    - flow_first_epoch_ratio (): the norm of the first weight on the main path over that of the last, median over the
      steps of the first epoch.

    Weights that not every step reached (NaN) are left out. If none is left on the main path, no array is returned.
    """
    bins_an_epoch = max(1, BINS // epochs)
    weight_names = np.array(weight_names, dtype=str)
    reached = ~np.isnan(norms).any(axis=0)
    norms, update_ratios, weight_names = norms[:, reached], update_ratios[:, reached], weight_names[reached]
    main = np.flatnonzero(on_main_path(weight_names))
    if not len(main):
        return {}
    first_epoch = norms[: len(norms) // epochs, main].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):  # a last norm of 0 gives inf or NaN: undefined
        ratios = first_epoch[:, 0] / first_epoch[:, -1]
    return {
        "flow_weight_names": weight_names,
        "flow_norms": _quantiles(norms, epochs, bins_an_epoch),
        "flow_update_ratios": _quantiles(update_ratios, epochs, bins_an_epoch),
        # (steps, W) -> (epochs, steps an epoch, W)
        "flow_epoch_norms": np.median(norms.reshape(epochs, -1, norms.shape[1]), axis=1),
        "flow_first_epoch_ratio": np.median(ratios),
    }


def _quantiles(values: np.ndarray, epochs: int, bins_an_epoch: int) -> np.ndarray:
    """Quantiles over the rows of each bin, (epochs * bins_an_epoch or fewer, W, 3) float32.

    `values` has the shape (rows, W). There are fewer bins if an epoch has fewer rows than bins: no bin is empty.
    """
    bins = []
    for epoch in np.split(values, epochs):
        bins += np.array_split(epoch, min(bins_an_epoch, len(epoch)))
    # np.quantile puts the quantiles first, (3, W); .T gives (W, 3).
    return np.stack([np.quantile(rows, QUANTILES, axis=0).T for rows in bins]).astype(np.float32)
