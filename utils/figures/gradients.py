"""How gradients flow through a network: over training and over depth. Drawn from records. Never loads torch.

The layers are the weights of the main path, without shortcuts, counted from the input. The axes are logarithmic, where
0 has no place: a norm of exactly zero is left out, and with it the mean over seeds.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import offset_copy

from utils.figures.canvas import (
    LineStyle,
    Styles,
    each_seed_in_words,
    empty_panel,
    legend_below,
    new_figure,
    seed_count,
    seeds_shown,
    whole_numbers,
)
from utils.figures.lettering import logarithmic, shortened, shown
from utils.records.flow import QUANTILES, on_main_path
from utils.records.record import RunRecord, Runs
from utils.stats.intervals import FEWEST_SEEDS, mean_interval

MEDIAN = QUANTILES.index(0.5)
DEPTH = "depth (layer from the input)"
ALL_ZERO = "gradients of exactly zero: nothing to draw"
ZERO_COLOR = "#cccccc"
SEEDS_NOTE = "Lines: geometric mean over seeds, small points: {}"
BARS_NOTE = f", bars: 95% t-interval, from {FEWEST_SEEDS} seeds up"
# {epoch: (share of the model's colour, mixed with white; marker; line style)}
EPOCH_LOOKS = {"first epoch": (0.5, "o", ":"), "middle epoch": (0.75, "s", "--"), "last epoch": (1.0, "^", "-")}
LEGEND_COLOR = "#333333"
MODELS_SHOWN = 24  # side by side; a panel of a hundred takes a second
LAYERS_NAMED = 24  # beside the heat map; of a deeper network every second layer is named, or fewer
TITLE_POINTS = 175  # the width of a title above one of three panels, in points
NAME_POINTS = 150  # the width of a layer's name, in points


def gradient_flow(records: Sequence[RunRecord]) -> Figure:
    """The gradient norm of each of a model's layers over training; `records` are its seeds, all with gradient flow."""
    return over_training(records, "flow_norms", "gradient norm")


def update_ratio(records: Sequence[RunRecord]) -> Figure:
    """How far a step moves the weights of each layer, relative to their norm; `records` as in `gradient_flow`."""
    return over_training(records, "flow_update_ratios", "update ratio ‖Δw‖ / ‖w‖")


def over_training(records: Sequence[RunRecord], array: str, quantity: str) -> Figure:
    """On the left a curve for each layer, on the right the same numbers as a heat map."""
    found = over_seeds(records, array, MEDIAN)
    first, means = found.first, found.means
    bins, epochs = len(means), len(first.history)
    note = f". {SEEDS_NOTE.format(each_seed_in_words(found.n))}" if found.n > 1 else ""
    title = f"{first.model} on {first.data_name}: {quantity} by layer, {seed_count([found.n])}"
    figure = new_figure(5.2, f"{title}\nMedians, {bins // epochs} an epoch{note}")
    axes = figure.subplots(1, 2)
    if np.isnan(means).all():
        for ax in axes:
            empty_panel(ax, ALL_ZERO).set_yticks([])
        return figure
    layer_curves(axes[0], means, found.each_seed if found.n > 1 else (), epochs)
    axes[0].set_ylabel(quantity)
    layer_heat_map(axes[1], means, epochs, main_path_names(first), quantity)
    if np.isnan(means).any():
        figure.supxlabel(
            f"Grey on the right, a gap on the left: exactly zero{' in one seed or more' if found.n > 1 else ''}",
            fontsize=9,
        )
    return figure


def of_full_length(records: Sequence[RunRecord]) -> list[RunRecord]:
    """The runs with as many epochs as the longest; others stopped early, and have no value at its end."""
    longest = max(len(record.history) for record in records)
    return [record for record in records if len(record.history) == longest]


def with_same_layers(records: Sequence[RunRecord]) -> Iterator[RunRecord]:
    """Those with the layers of the first, since a layer that some step didn't reach is left out of a record."""
    names = records[0].arrays["flow_weight_names"]
    for record in records:
        if np.array_equal(record.arrays["flow_weight_names"], names):
            yield record


class OverSeeds(NamedTuple):
    """An array (rows, L) of the `n` seeds of a model: the geometric mean, and that of each seed to be shown."""

    first: RunRecord
    n: int
    means: np.ndarray
    each_seed: list[np.ndarray]


def over_seeds(records: Sequence[RunRecord], array: str, quantile: int) -> OverSeeds:
    """The values of an array (rows, L, 3) for the main path's L weights and one quantile, read one seed at a time."""
    records = of_full_length(records)
    n, logs, each_seed, kept = 0, 0, [], set(seeds_shown(len(records)).tolist())
    for record in with_same_layers(records):
        values = main_path(record, record.arrays[array][..., quantile])
        if n in kept:
            each_seed.append(values)
        n, logs = n + 1, logs + np.log(values)
    return OverSeeds(records[0], n, np.exp(logs / n), each_seed)


def main_path(record: RunRecord, values: np.ndarray) -> np.ndarray:
    """`values` (rows, W) of all weights as float64 (rows, L), for the L main-path weights; NaN for zeros."""
    values = values[:, on_main_path(record.arrays["flow_weight_names"])].astype(np.float64)
    return np.where(values > 0, values, np.nan)


def main_path_names(record: RunRecord) -> list[str]:
    """The name of each layer, as in the model's state dict, with its depth."""
    names = record.arrays["flow_weight_names"]
    kept = names[on_main_path(names)]
    return [f"{name}  ({depth})" for depth, name in enumerate(kept, start=1)]


def geometric_mean(each_seed: np.ndarray) -> np.ndarray:
    """The geometric mean over the first axis, the seeds; NaN where one of them is NaN."""
    return np.exp(np.log(each_seed).mean(axis=0))


def layer_curves(ax: Axes, means: np.ndarray, each_seed: Sequence[np.ndarray], epochs: int) -> Axes:
    """`means` (bins, L) over training on a log axis, coloured by depth, with the colour bar below the panel.

    Small points show `each_seed` (bins, L).
    """
    bins, layers = means.shape
    middles = (np.arange(bins) + 0.5) * epochs / bins
    # Without the palest end of the colour map, which is hard to see on white.
    colors = ListedColormap(colormaps["viridis"](np.linspace(0, 0.92, layers)))
    for depth, color in enumerate(colors.colors):
        for of_seed in each_seed:
            ax.plot(middles, of_seed[:, depth], "o", color=color, markersize=1.5, markeredgewidth=0, alpha=0.5)
        ax.plot(middles, means[:, depth], color=color, linewidth=1.4)
    logarithmic(ax)
    label_epochs(ax, epochs)
    by_depth = ScalarMappable(BoundaryNorm(np.arange(layers + 1) + 0.5, layers), colors)
    bar = ax.figure.colorbar(by_depth, ax=ax, location="bottom", label=DEPTH)
    bar.set_ticks(np.unique(np.linspace(1, layers, 9).round()))
    bar.minorticks_off()
    return ax


def layer_heat_map(ax: Axes, means: np.ndarray, epochs: int, names: Sequence[str], quantity: str) -> Axes:
    """`means` (bins, L) as colours on a log scale, the first layer on top, with the colour bar below the panel."""
    bins, layers = means.shape
    spans, rows = np.arange(bins + 1) * epochs / bins, np.arange(layers + 1) + 0.5
    mesh = ax.pcolormesh(spans, rows, np.ma.masked_invalid(means.T), cmap="magma", norm="log")
    ax.set_facecolor(ZERO_COLOR)
    ax.invert_yaxis()
    step = math.ceil(layers / LAYERS_NAMED)
    named = [shortened(name, NAME_POINTS, 8) for name in names[::step]]
    ax.set_yticks(range(1, layers + 1, step), named, fontsize=8)
    ax.tick_params(axis="y", length=0)
    ax.grid(False)
    label_epochs(ax, epochs)
    bar = ax.figure.colorbar(mesh, ax=ax, location="bottom", label=quantity)
    ticks = np.geomspace(
        np.nanmin(means), np.nanmax(means), 5
    )  # powers of ten may be too few to read, or too many to fit
    bar.set_ticks(ticks, labels=[f"{tick:.2g}" for tick in ticks])
    bar.minorticks_off()
    return ax


def label_epochs(ax: Axes, epochs: int) -> None:
    ax.set_xlim(0, epochs)
    ax.set_xlabel("epochs trained")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def gradient_by_depth(runs: Runs, styles: Styles) -> Figure:
    """The models side by side: gradient norm against depth in the first, a middle and the last epoch.

    `runs` may hold only records with gradient flow. Of very many models it shows the first.
    """
    of_all = f", the first {MODELS_SHOWN} of {len(runs)} models" if len(runs) > MODELS_SHOWN else ""
    runs = dict(islice(runs.items(), MODELS_SHOWN))
    rows = math.ceil(len(runs) / 3)
    columns = math.ceil(len(runs) / rows)
    data = next(iter(runs.values()))[0].data_name
    most = max(map(len, runs.values()))
    several = f"\n{SEEDS_NOTE.format(each_seed_in_words(most))}" if most > 1 else ""
    several += BARS_NOTE if most >= FEWEST_SEEDS else ""
    title = f"{data}: gradient norm against depth, median of an epoch's steps{of_all}{several}"
    figure = new_figure(1.6 + 2.6 * rows, title)
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for ax, (model, records) in zip(axes.flat, runs.items(), strict=False):
        first, each_seed = norms_of_shown_epochs(records)
        norms_over_depth(ax, each_seed, shown_epochs(first), styles[model])
        epochs = ", ".join(map(str, shown_epochs(first).values()))
        ax.set_title(f"{shown(model, TITLE_POINTS)}\n{seed_count([len(each_seed)])}, epochs {epochs}")
    for ax in axes.flat[len(runs) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("gradient norm")
    handles = [
        Line2D([], [], color=tinted(LEGEND_COLOR, ink), marker=marker, linestyle=line, label=label)
        for label, (ink, marker, line) in EPOCH_LOOKS.items()
    ]
    legend_below(figure, handles)
    return figure


def shown_epochs(record: RunRecord) -> dict[str, int]:
    """The first, middle and last epoch, counted from 1; a short run may lack some of them."""
    last = len(record.arrays["flow_epoch_norms"])
    middle = {"middle epoch": (last + 1) // 2} if last > 2 else {}
    return {"first epoch": 1, **middle, **({"last epoch": last} if last > 1 else {})}


def norms_of_shown_epochs(records: Sequence[RunRecord]) -> tuple[RunRecord, np.ndarray]:
    """The first record of full length, and the norms of the main path's weights, (n, shown epochs, L)."""
    records = of_full_length(records)
    rows = [epoch - 1 for epoch in shown_epochs(records[0]).values()]
    norms = (main_path(record, record.arrays["flow_epoch_norms"][rows]) for record in with_same_layers(records))
    return records[0], np.array(list(norms))


def norms_over_depth(ax: Axes, each_seed: np.ndarray, epochs: Mapping[str, int], style: LineStyle) -> Axes:
    """One model's norms (n, epochs, L) against depth: for each epoch, the geometric mean over seeds as a line.

    Beside it is a small point for each seed. From 3 seeds on, a bar shows the 95% t-interval of the log norms.
    """
    beside = offset_copy(ax.transData, ax.figure, x=5, units="points")
    depths = np.arange(each_seed.shape[2]) + 1
    ax.set_xlabel(DEPTH)
    if np.isnan(each_seed).all():
        return empty_panel(ax, ALL_ZERO)
    for row, label in enumerate(epochs):
        ink, marker, line = EPOCH_LOOKS[label]
        color, norms = tinted(style.color, ink), each_seed[:, row]
        means = geometric_mean(norms)
        ax.plot(depths, means, marker, linestyle=line, color=color, markersize=4, label=label)
        if len(norms) > 1:
            few = norms[seeds_shown(len(norms))]
            places = np.broadcast_to(depths, few.shape)
            ax.plot(places.T, few.T, "o", color=color, markersize=2, markeredgewidth=0, transform=beside)
            intervals = [mean_interval(np.log(of_seeds)) for of_seeds in norms.T]
            low, high = np.exp([(interval.low, interval.high) for interval in intervals]).T
            ax.errorbar(depths, means, [means - low, high - means], fmt="none", color=color, linewidth=1, capsize=3)
    logarithmic(ax)
    whole_numbers(ax, 1, len(depths))
    return ax


def tinted(color: str, ink: float) -> tuple[float, ...]:
    """`color` mixed with white; `ink` from 0 (white) to 1 (the colour itself)."""
    return tuple(1 - ink * (1 - channel) for channel in to_rgb(color))
