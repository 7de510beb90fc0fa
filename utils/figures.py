"""Whole figures of a task, and `draw_task`, which lists them all. Drawn from records alone; never loads torch."""

import io
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.style
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, Formatter, PercentFormatter, ScalarFormatter

from utils import plots
from utils.files import write_atomically
from utils.plots import LineStyle
from utils.results import RunRecord, Runs, TimingRecord

Styles = Mapping[str, LineStyle]

MISTAKES_A_ROW = 8
NOTE_LETTERS = 100  # a line of 9-point text
WIDTH = 9.0  # inches: 10-point text reads at the 900 pixels of a README
STYLE = {
    "figure.dpi": 150,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e0e0e0",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.8,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.handlelength": 3.0,  # shows the line style beside the marker
    "figure.constrained_layout.w_pad": 0.1,  # inches; the other two are parts of a panel
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.wspace": 0.04,
    "figure.constrained_layout.hspace": 0.04,
}


def draw_task(runs: Runs, timing: TimingRecord | None, folder: Path, declared: Sequence[str]) -> list[Path]:
    """Draw every figure of a task into `folder` and return their paths; raises OSError.

    `runs` maps each model to its finished records, in the order of display; `declared` names all models of the task,
    since a model's position there decides its colour. The same records give the same bytes.
    """
    if not runs:
        return []
    styles = plots.model_styles(declared)
    with matplotlib.style.context(["default", STYLE]):  # whatever the user's own matplotlibrc says
        written = [
            save(all_models_curves(runs, styles), folder / "all_models_curves.png"),
            save(comparison(runs, timing, styles), folder / "comparison.png"),
            save(accuracy_vs_cost(runs, timing, styles), folder / "accuracy_vs_cost.png"),
        ]
        for model, records in runs.items():
            written += [
                save(model_curves(records, styles[model]), folder / f"{model}_curves.png"),
                save(model_confusion_matrix(records), folder / f"{model}_confusion_matrix.png"),
                save(model_mistakes(records), folder / f"{model}_mistakes.png"),
            ]
    return written


def new_figure(height: float, title: str) -> Figure:
    """A figure of README width that needs no display and touches no global state of pyplot."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12)
    return figure


def save(figure: Figure, path: Path) -> Path:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})  # no version: it would change the bytes
    write_atomically(path, buffer.getvalue())
    return path


def legend_below(figure: Figure, handles: Sequence[Artist], note: str = "") -> None:
    """One legend for all panels, below them, in as few rows as the width allows, `note` above it."""
    for rows in range(1, len(handles) + 1):
        columns = math.ceil(len(handles) / rows)
        legend = figure.legend(handles=handles, title=note, title_fontsize=9, ncols=columns, loc="outside lower center")
        if rows == len(handles) or legend.get_window_extent().width < figure.bbox.width:
            break
        legend.remove()
    legend.get_title().set_multialignment("center")


def model_curves(records: Sequence[RunRecord], style: LineStyle) -> Figure:
    """One model's loss and accuracy over the epochs, with the overfitting onset where there is one."""
    seeds = plots.seed_count([len(records)])
    figure = new_figure(4.4, f"{records[0].model} on {records[0].data_name}: learning curves, {seeds}")
    loss_ax, accuracy_ax = figure.subplots(1, 2)
    plots.learning_curves(loss_ax, records, "loss", style)
    plots.mark_onset(loss_ax, records)
    plots.learning_curves(accuracy_ax, records, "accuracy", style)
    handles = [handle for handle in loss_ax.get_lines() if not handle.get_label().startswith("_")]
    if len(records) > 1:
        handles.append(Patch(color="black", alpha=0.15, label="band: lowest to highest seed"))
    legend_below(figure, handles)
    return figure


def all_models_curves(runs: Runs, styles: Styles) -> Figure:
    """Validation loss and accuracy of all models together."""
    title = "mean over seeds, band from the lowest to the highest" if has_several_seeds(runs) else "1 seed"
    figure = new_figure(4.4, f"{data_of(runs)}: validation curves, {title}")
    for ax, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        plots.all_validation_curves(ax, runs, quantity, styles)
    legend_below(figure, ax.get_lines())
    return figure


def comparison(runs: Runs, timing: TimingRecord | None, styles: Styles) -> Figure:
    """Parameters, training time, inference time and test accuracy: four panels, in each a row for every model."""
    figure = new_figure(2.6 + 0.72 * len(runs), f"{data_of(runs)}: cost and test accuracy")
    axes = figure.subplots(2, 2, sharey=True)
    for ax, cost in zip(axes.flat, costs_of(runs, timing), strict=False):  # the fourth panel is no cost
        ax.set_title(cost.title)
        if cost.values is None:
            plots.not_measured(ax)
        else:
            plots.cost_bars(ax, cost.values, styles, cost.in_words)
            ax.xaxis.set_major_formatter(cost.ticks)
    axes[1, 1].set_title(f"test accuracy, {seeds_of(runs)}" + (" (small points)" if has_several_seeds(runs) else ""))
    plots.accuracy_points(axes[1, 1], runs, styles)
    figure.supxlabel(notes(runs, timing), fontsize=9)
    return figure


def accuracy_vs_cost(runs: Runs, timing: TimingRecord | None, styles: Styles) -> Figure:
    """Test accuracy against each cost, one marker a model."""
    figure = new_figure(4.4, f"{data_of(runs)}: test accuracy against cost, {seeds_of(runs)}")
    axes = figure.subplots(1, 3, sharey=True)
    for ax, cost in zip(axes, costs_of(runs, timing), strict=True):
        ax.set_xlabel(cost.title)
        if cost.values is None:
            plots.not_measured(ax)
        else:
            plots.accuracy_against(ax, runs, cost.values, styles)
            ax.xaxis.set_major_formatter(cost.ticks)
    axes[0].set_ylabel("test accuracy")
    axes[0].set_ylim(plots.accuracy_limits(runs))
    axes[0].yaxis.set_major_formatter(PercentFormatter(xmax=1))
    legend_below(figure, axes[0].get_lines(), notes(runs, timing))
    return figure


class Cost(NamedTuple):
    """One cost of all models: several values each (rounds of the timing pass), or None where it wasn't measured."""

    title: str
    values: dict[str, list[float]] | None
    in_words: Callable[[float], str]
    ticks: Formatter


def costs_of(runs: Runs, timing: TimingRecord | None) -> list[Cost]:
    """Parameters, seconds of training an epoch and milliseconds of inference a batch."""

    def times(title: str, measure: str, unit: str, per_second: float) -> Cost:
        measured = timing and {m: [per_second * seconds for seconds in timing.models[m][measure]] for m in runs}
        return Cost(f"{title} ({unit})", measured, lambda time: f"{time:,.2f} {unit}", ScalarFormatter())

    parameters = {model: [records[0].parameters] for model, records in runs.items()}
    batch = f"batch of {timing.batch_size}" if timing else "batch"
    return [
        Cost("parameters", parameters, "{:,.0f}".format, EngFormatter(sep="")),
        times("training time per epoch", "train_epoch_seconds", "s", 1),
        times(f"inference time per {batch}", "inference_batch_seconds", "ms", 1_000),
    ]


def notes(runs: Runs, timing: TimingRecord | None) -> str:
    """How to read accuracies and times, and what the times were measured on, for a figure's foot."""
    interval = "mean over seeds with its 95% t-interval" if has_several_seeds(runs) else "one seed, so no interval"
    lines = [f"Accuracy: {interval}."]
    if timing is not None:
        on = timing.environment
        machine = (
            f"{on['device_name']} ({on['device']}, threads: {on['threads']}), {on['precision']}, PyTorch {on['torch']}"
        )
        lines += textwrap.wrap(f"Times: median and quartiles of {timing.rounds} rounds on {machine}.", NOTE_LETTERS)
    return "\n".join(lines)


def model_confusion_matrix(records: Sequence[RunRecord]) -> Figure:
    """The confusion matrix of one model's test predictions, summed over its seeds."""
    first, n = records[0], len(records)
    summed = f"summed over {n} seeds" if n > 1 else "1 seed"
    title = f"{first.model} on {first.data_name}: test images by class, {summed}\nCounts and percent of each row"
    figure = new_figure(8.2, title)
    plots.confusion(figure.subplots(), records)
    return figure


def model_mistakes(records: Sequence[RunRecord]) -> Figure:
    """The most confident wrong test images of one model's lowest seed."""
    record = min(records, key=lambda record: record.seed)
    count = len(record.arrays["mistake_indices"])
    title = f"{record.model} on {record.data_name}: the {count} most confident test mistakes, seed {record.seed}"
    title += "\nTrue class → predicted class, and the probability it gave"
    rows = max(1, math.ceil(count / MISTAKES_A_ROW))
    figure = new_figure(0.8 + (1.5 if plots.has_long_names(record) else 1.3) * rows, title)
    axes = figure.subplots(rows, MISTAKES_A_ROW, squeeze=False)
    for index, ax in enumerate(axes.flat):
        if index < count:
            plots.mistake(ax, record, index)
        else:
            ax.set_axis_off()
    return figure


def data_of(runs: Runs) -> str:
    return next(iter(runs.values()))[0].data_name


def seeds_of(runs: Runs) -> str:
    return plots.seed_count([len(records) for records in runs.values()])


def has_several_seeds(runs: Runs) -> bool:
    return max(map(len, runs.values())) > 1
