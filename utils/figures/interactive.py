"""The charts of report.html as SVG: those of the pictures, each panel by itself, in groups that its script can switch.

What belongs to model number i of a task has the class `m<i>`. Never loads torch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from utils.figures import panels
from utils.figures.canvas import COLORS, MARKERS, STYLE, LineStyle, Styles, empty_panel, model_styles, whole_numbers
from utils.figures.gradients import (
    ALL_ZERO,
    MEDIAN,
    MODELS_SHOWN,
    layer_heat_map,
    main_path_names,
    over_seeds,
)
from utils.figures.svg import mark, svg_of
from utils.figures.task import DIFFERENCES_SHOWN, costs_of
from utils.findings.depth import has_flow
from utils.findings.results import Results
from utils.findings.verdicts import Verdict
from utils.records.record import RunRecord, Runs
from utils.stats.overfitting import Overfitting

SYMBOLS = dict(zip(MARKERS, "●■▲◆▼✚✖★", strict=True))
SIZE = (5.2, 3.3)  # inches; narrow, so that text can be read on a telephone too
COST_SIZE, ROW_SIZE = (4.3, 3.0), (4.6, 0.45)
PAGE_STYLE = {"axes.facecolor": "none", "figure.facecolor": "none", "path.simplify": False}


class Charts(NamedTuple):
    """The charts of a page: `svgs` by name, and of each model the number of its colour and the sign of its points."""

    svgs: dict[str, str]
    looks: dict[str, tuple[int, str]]


def draw_charts(results: Results) -> Charts:
    """Draw the charts of a task's page. The same records give the same text."""
    with matplotlib.style.context(["default", STYLE, PAGE_STYLE]):
        return Charts(dict(_charts(results)), looks_of(results))


def styles_of(results: Results) -> dict[str, LineStyle]:
    task = results.task
    return model_styles([experiment.name for experiment in (*task.experiments, *task.ablation)])


def looks_of(results: Results) -> dict[str, tuple[int, str]]:
    styles = styles_of(results)
    return {m: (COLORS.index(styles[m].color), SYMBOLS[styles[m].marker]) for m in results.runs}


def _charts(results: Results) -> Iterator[tuple[str, str]]:
    """(name, SVG) of each chart."""
    runs, styles = results.runs, styles_of(results)
    for number, cost in enumerate(costs_of(runs, results.timing) if runs else ()):
        figure = small_figure(COST_SIZE)
        ax = panels.accuracy_against(figure.subplots(), runs, cost.values, styles)
        ax.set(xlabel=cost.title, ylabel="test accuracy", ylim=panels.accuracy_limits(runs))
        ax.xaxis.set_major_formatter(cost.ticks)
        ax.yaxis.set_major_formatter(PercentFormatter(xmax=1))
        yield f"cost-{number}", svg_of(figure, f"cost-{number}", f"Test accuracy of each model against {cost.title}")
    yield from _curves(runs, styles, results.overfitting)
    yield from _verdict_rows(results.accuracy_verdicts[:DIFFERENCES_SHOWN], results.measure)
    for number, (model, records) in enumerate(islice(runs.items(), MODELS_SHOWN)):
        if with_flow := list(filter(has_flow, records)):
            label = f"Gradient norm of each layer of {model} over training"
            yield f"flow-{number}", svg_of(flow_heat_map(with_flow), f"flow-{number}", label)


def small_figure(size: tuple[float, float] = SIZE) -> Figure:
    """A figure without a title, which the page has above it."""
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _curves(runs: Runs, styles: Styles, found: dict[str, Overfitting]) -> Iterator[tuple[str, str]]:
    for quantity in ("loss", "accuracy") if runs else ():
        figure = small_figure()
        all_curves(figure.subplots(), runs, quantity, styles, found)
        epochs = max(len(record.history) for records in runs.values() for record in records)
        label = f"Validation {quantity} of all models over the epochs"
        yield f"curves-{quantity}", svg_of(figure, f"curves-{quantity}", label, epochs)


def all_curves(ax: Axes, runs: Runs, quantity: str, styles: Styles, found: dict[str, Overfitting]) -> Axes:
    """The loss or the accuracy of all models: on validation, each seed too, and, class `fit`, on training images.

    A run that still goes on is a thin line of its own. Shaded, class `onset`, is where validation loss of a model that
    overfits may be lowest.
    """
    for number, (model, records) in enumerate(runs.items()):
        style = styles[model]
        finished = [record for record in records if record.status == "finished"]
        for part, look in (("val", style), ("fit", replace(style, linestyle=":", marker=""))):
            before = set(ax.get_children())
            if finished:
                curves = panels.curves_of(finished, f"{part}_{quantity}")
                panels.curve_over_seeds(ax, curves, look, model, each_seed=part == "val")
            for record in (record for record in records if record.status != "finished"):
                curve = record.curve(f"{part}_{quantity}")
                form = {"color": style.color, "linestyle": look.linestyle, "linewidth": 0.8}
                ax.plot(np.arange(len(curve)) + 1, curve, marker="" if len(curve) > 1 else style.marker, **form)
            mark_new(ax, before, f"m{number}", part)
        if quantity == "loss" and model in found:
            before = set(ax.get_children())
            if found[model].word in ("overfits", "rises"):
                ax.axvline(found[model].lowest, color=style.color, linestyle=style.linestyle, linewidth=1)
            panels.mark_lowest(ax, found[model], style.color, 0.12)
            mark_new(ax, before, f"m{number}", "onset")
    ax.set_xlabel("epoch")
    longest = max(len(record.history) for records in runs.values() for record in records)
    whole_numbers(ax, 1, longest)
    ax.set_xlim(0.5, longest + 0.5)
    return panels.name_quantity(ax, quantity)


def mark_new(ax: Axes, before: set, *classes: str) -> None:
    """Give classes to all that was drawn on the Axes since it had the children `before`."""
    for artist in set(ax.get_children()) - before:
        mark(artist, *classes)


def _verdict_rows(verdicts: Sequence[Verdict], measure: str) -> Iterator[tuple[str, str]]:
    """A forest plot in rows of equal width, between which a page can write, and its axis below the last."""
    if not verdicts:
        return
    intervals = [verdict.comparison.difference for verdict in verdicts]
    values = [
        0,
        *(v for i in intervals for v in (i.low, i.high, i.estimate)),
        *np.concatenate([v.differences for v in verdicts]),
    ]
    low, high = 100 * np.nanmin(values), 100 * np.nanmax(values)
    room = 0.06 * (high - low) or 1
    for number, verdict in enumerate(verdicts):
        ax = row_axes(low - room, high + room, bottom=0)
        panels.difference(panels.zero_and_margin(ax, verdict.margin), verdict, 0)
        ax.set(ylim=(0.6, -0.5), xticks=[])
        label = f"{measure} of {verdict.b} minus {verdict.a}"
        yield f"verdict-{number}", svg_of(ax.figure, f"verdict-{number}", label)
    ax = row_axes(low - room, high + room, bottom=0.98)
    ax.spines["bottom"].set_visible(True)
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.set_xlabel(f"difference of {measure}, points")
    yield "verdict-axis", svg_of(ax.figure, "verdict-axis", f"Scale: difference of {measure} in points")


def row_axes(low: float, high: float, bottom: float) -> Axes:
    """A panel as wide as its figure, without vertical scale, from `bottom`, a share of its height, upwards."""
    figure = Figure(figsize=ROW_SIZE)
    FigureCanvasAgg(figure)
    ax = figure.add_axes((0.01, bottom, 0.98, 1 - bottom))
    ax.set(xlim=(low, high), yticks=[])
    ax.spines[:].set_visible(False)
    ax.grid(False)
    return ax


def flow_heat_map(records: Sequence[RunRecord]) -> Figure:
    """The gradient norms of a model's layers over training; `records` are its seeds, all with gradient flow."""
    first, _, means, _ = over_seeds(records, "flow_norms", MEDIAN)
    figure = small_figure((5.2, 1.8 + 0.17 * min(means.shape[1], 24)))
    ax = figure.subplots()
    if np.isnan(means).all():
        empty_panel(ax, ALL_ZERO).set_yticks([])
    else:
        layer_heat_map(ax, means, len(first.history), main_path_names(first), "gradient norm")
        for mesh in ax.collections:
            mesh.set_rasterized(True)
    return figure
