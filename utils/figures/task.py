"""The figures of a task, and `draw_task`, which draws them all. Drawn from records alone. Never loads torch."""

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.style
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, Formatter, PercentFormatter, ScalarFormatter

from utils.figures import panels
from utils.figures.canvas import (
    NOTE_LETTERS,
    SEEDS_SHOWN,
    STYLE,
    TITLE_LETTERS,
    LineStyle,
    Styles,
    each_seed_in_words,
    labelled_lines,
    legend_below,
    model_styles,
    new_figure,
    save,
    seed_count,
    signed,
)
from utils.figures.classes import confusion_difference, model_confusion_matrix, model_mistakes
from utils.figures.gradients import gradient_by_depth, gradient_flow, update_ratio
from utils.figures.lettering import fonts_for
from utils.files import file_name
from utils.findings.depth import has_flow
from utils.findings.overfitting import gap_growth_in_words, overfitting_in_short
from utils.findings.results import Results
from utils.findings.sentences import timed_on
from utils.findings.verdicts import Verdict
from utils.records.record import RunRecord, Runs
from utils.records.timing import TimingRecord
from utils.stats.intervals import FEWEST_SEEDS, mean_interval
from utils.stats.overfitting import Overfitting

EACH_ROUND = " (small points)"
DIFFERENCES_SHOWN = 100  # a picture with a row for each of a hundred models' pairs would exceed what a PNG is drawn in


def draw_task(results: Results, folder: Path) -> list[Path]:
    """Draw every figure of a task into `folder` and return their paths. Raises OSError.

    The same records give the same bytes, so that drawing again leaves committed pictures unchanged.
    """
    task, records = results.task, (record for of_model in results.runs.values() for record in of_model)
    names = {experiment.name for experiment in (*task.experiments, *task.ablation)}
    names.update(name for record in records for name in (record.data_name, *record.class_names))
    # The style is ours, not that of the user's own settings (matplotlibrc).
    with matplotlib.style.context(["default", STYLE]), fonts_for(names):
        return [save(figure, folder / f"{name}.png") for name, figure in figures_of(results)]


def figures_of(results: Results) -> Iterator[tuple[str, Figure]]:
    """Yield every figure of a task with its name, one at a time, so that only one is in memory."""
    task, runs, timing = results.task, results.runs, results.timing
    if not runs:
        return
    styles = model_styles([experiment.name for experiment in (*task.experiments, *task.ablation)])
    flow = {model: with_flow for model, records in runs.items() if (with_flow := list(filter(has_flow, records)))}
    yield "all_models_curves", all_models_curves(runs, styles)
    yield "comparison", comparison(runs, timing, styles)
    yield "accuracy_vs_cost", accuracy_vs_cost(runs, timing, styles)
    if timing is not None:
        yield "training_time", training_time(runs, timing, styles)
    if results.accuracy_verdicts:
        title = f"{data_of(runs)}: planned differences of {results.measure}"
        yield "contrasts", contrasts_figure(results.accuracy_verdicts, title, results.measure)
    if results.confused_pair:
        yield "confusion_difference", confusion_difference(*(runs[model] for model in results.confused_pair))
    if results.ablation:
        yield "regularisation_ablation", regularisation_ablation(results.ablation, styles)
    if flow:
        yield "gradient_by_depth", gradient_by_depth(flow, styles)
    for model, records in runs.items():
        name = file_name(model)
        yield f"{name}_curves", model_curves(records, results.overfitting[model], styles[model])
        yield f"{name}_confusion_matrix", model_confusion_matrix(records)
        yield f"{name}_mistakes", model_mistakes(records)
    for model, records in flow.items():
        name = file_name(model)
        yield f"{name}_gradient_flow", gradient_flow(records)
        yield f"{name}_update_ratio", update_ratio(records)


def model_curves(records: Sequence[RunRecord], found: Overfitting, style: LineStyle) -> Figure:
    """One model's loss, accuracy and generalisation gap over the epochs, and in words whether it overfits."""
    title = f"{records[0].model} on {records[0].data_name}: learning curves, {seed_count([len(records)])}"
    in_short = overfitting_in_short(found)
    in_short = in_short.capitalize() if found.word == "overfits" else f"Overfitting: {in_short}"
    overfitting = textwrap.fill(in_short, TITLE_LETTERS)
    figure = new_figure(4.2 + 0.2 * len(overfitting.splitlines()), f"{title}\n{overfitting}")
    loss_ax, accuracy_ax, gap_ax = figure.subplots(1, 3)
    panels.learning_curves(loss_ax, records, "loss", style)
    panels.learning_curves(accuracy_ax, records, "accuracy", style)
    panels.generalisation_gap(gap_ax, records, style)
    for ax in (loss_ax, gap_ax):
        panels.mark_lowest(ax, found)
    handles = loss_ax.get_legend_handles_labels()[0]
    if len(records) > 1:
        lines = f", lines: {each_seed_in_words(len(records))}" if len(records) > SEEDS_SHOWN else ""
        handles.append(Patch(color="black", alpha=0.15, label=f"band: lowest to highest seed{lines}"))
    growth = gap_growth_in_words(found)
    note = f"gap's growth since the lowest stretch = validation risen + fit fallen: {growth}"
    legend_below(figure, handles, note if found.val_changes else "")
    return figure


def all_models_curves(runs: Runs, styles: Styles) -> Figure:
    """Validation loss and accuracy of all models together."""
    title = "mean over seeds" if has_several_seeds(runs) else "1 seed"
    if has_several_seeds(runs) and len(runs) <= panels.MODELS_WITH_BANDS:
        title += ", band from the lowest to the highest"
    figure = new_figure(4.4, f"{data_of(runs)}: validation curves, {title}")
    for ax, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        panels.all_validation_curves(ax, runs, quantity, styles)
    legend_below(figure, ax.get_lines())
    return figure


def comparison(runs: Runs, timing: TimingRecord | None, styles: Styles) -> Figure:
    """A row for each model in up to four panels: parameters, times if they were measured, and test accuracy."""
    costs = costs_of(runs, timing)
    height = 2.6 + 0.72 * len(runs) if timing else 1.9 + 0.4 * len(runs)
    figure = new_figure(height, f"{data_of(runs)}: cost and test accuracy")
    *axes, accuracy_ax = figure.subplots((len(costs) + 1) // 2, 2, sharey=True).flat
    for ax, cost in zip(axes, costs, strict=True):
        ax.set_title(cost.title)
        panels.cost_bars(ax, cost.values, styles, cost.in_words)
        ax.xaxis.set_major_formatter(cost.ticks)
    accuracy_ax.set_title(f"test accuracy, {seeds_of(runs)}")
    panels.accuracy_points(accuracy_ax, runs, styles)
    figure.supxlabel(notes(runs, timing, EACH_ROUND), fontsize=9)
    return figure


def training_time(runs: Runs, timing: TimingRecord, styles: Styles) -> Figure:
    """The time of an epoch, from the timing pass, and of a whole run: that time multiplied by the number of epochs."""
    figure = new_figure(1.7 + 0.36 * len(runs), f"{data_of(runs)}: training time, evaluation and loading left out")
    axes = figure.subplots(1, 2, sharey=True)
    for ax, cost in zip(axes, times_of_training(runs, timing), strict=True):
        ax.set_title(cost.title)
        panels.cost_bars(ax, cost.values, styles, cost.in_words)
    figure.supxlabel(note_on_times(timing, EACH_ROUND), fontsize=9)
    return figure


def accuracy_vs_cost(runs: Runs, timing: TimingRecord | None, styles: Styles) -> Figure:
    """Test accuracy against each cost that was measured, with one marker for each model."""
    figure = new_figure(4.4, f"{data_of(runs)}: test accuracy against cost, {seeds_of(runs)}")
    costs = costs_of(runs, timing)
    axes = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
    for ax, cost in zip(axes, costs, strict=True):
        ax.set_xlabel(cost.title)
        panels.accuracy_against(ax, runs, cost.values, styles)
        ax.xaxis.set_major_formatter(cost.ticks)
    axes[0].set_ylabel("test accuracy")
    axes[0].set_ylim(panels.accuracy_limits(runs))
    axes[0].yaxis.set_major_formatter(PercentFormatter(xmax=1))
    legend_below(figure, labelled_lines(axes[0]), notes(runs, timing))
    return figure


def regularisation_ablation(runs: Runs, styles: Styles) -> Figure:
    """Each variant's test accuracy, and by how much its loss on validation images exceeds that on training images."""
    title = f"{data_of(runs)}: which regulariser does it? {seeds_of(runs)}"
    figure = new_figure(1.9 + 0.5 * len(runs), title)
    accuracy_ax, gap_ax = figure.subplots(1, 2, sharey=True)
    accuracy_ax.set_title("test accuracy")
    panels.accuracy_points(accuracy_ax, runs, styles)
    gap_ax.set_title("last epoch:\nvalidation − fit loss")
    gaps = {model: panels.last_gaps(records) for model, records in runs.items()}
    intervals = {model: mean_interval(of_seeds) for model, of_seeds in gaps.items()}
    panels.seed_values(gap_ax, gaps, intervals, styles, lambda gap: signed(gap.estimate, 3))
    gap_ax.axvline(0, color="black", linewidth=0.8)
    figure.supxlabel(note_on_seeds("Accuracy and gap", runs), fontsize=9)
    return figure


class Cost(NamedTuple):
    """One cost of all models: `values` has a list for each, of the rounds of the timing pass."""

    title: str
    values: dict[str, list[float]]
    in_words: Callable[[float], str]
    ticks: Formatter


def times_of(runs: Runs, timing: TimingRecord, title: str, measure: str, unit: str, per_second: float) -> Cost:
    """A measure of the timing pass, converted to `unit`; a second has `per_second` of these units."""
    values = {m: [per_second * seconds for seconds in timing.models[m][measure]] for m in runs}
    return Cost(f"{title} ({unit})", values, lambda time: f"{time:,.2f} {unit}", ScalarFormatter())


def costs_of(runs: Runs, timing: TimingRecord | None) -> list[Cost]:
    """The costs: parameters and, if measured, seconds of training per epoch, milliseconds of inference per batch."""
    values = {model: [records[0].parameters] for model, records in runs.items()}
    parameters = Cost("parameters", values, "{:,.0f}".format, EngFormatter(sep=""))
    if timing is None:
        return [parameters]
    batch = f"inference time per batch of {timing.batch_size}"
    return [
        parameters,
        times_of(runs, timing, "training time per epoch", "train_epoch_seconds", "s", 1),
        times_of(runs, timing, batch, "inference_batch_seconds", "ms", 1_000),
    ]


def times_of_training(runs: Runs, timing: TimingRecord) -> list[Cost]:
    """The training time of an epoch in seconds, and of a whole run, in minutes if the slowest takes more than 100 s."""
    epoch = times_of(runs, timing, "per epoch", "train_epoch_seconds", "s", 1)
    epochs = {model: max(len(record.history) for record in records) for model, records in runs.items()}
    title = f"{'–'.join(map(str, sorted(set(epochs.values()))))} epochs at that rate"
    slowest = max(epochs[model] * max(seconds) for model, seconds in epoch.values.items())
    unit, scale = ("min", 60) if slowest > 100 else ("s", 1)
    values = {model: [epochs[model] * s / scale for s in seconds] for model, seconds in epoch.values.items()}
    return [epoch, Cost(f"{title} ({unit})", values, lambda time: f"{time:,.2f} {unit}", ScalarFormatter())]


def notes(runs: Runs, timing: TimingRecord | None, rounds: str = "") -> str:
    """The note below a figure: how to read accuracies and times, and where the times were measured.

    `rounds` says how the single rounds are drawn, or is "".
    """
    accuracies = note_on_seeds("Accuracy", runs)
    return accuracies if timing is None else f"{accuracies}\n{note_on_times(timing, rounds)}"


def note_on_seeds(what: str, runs: Runs) -> str:
    if not has_several_seeds(runs):
        return f"{what}: one seed, so no interval."
    interval = f"mean over seeds with its 95% t-interval{from_how_many(runs.values())}"
    return f"{what}: {interval}, beside it a small point for {each_seed_in_words(max(map(len, runs.values())))}."


def note_on_times(timing: TimingRecord, rounds: str) -> str:
    times = f"Times: median and quartiles of {timing.rounds} rounds{rounds} on {timed_on(timing)}."
    return textwrap.fill(times, NOTE_LETTERS)


def contrasts_figure(verdicts: Sequence[Verdict], title: str, measure: str = "test accuracy") -> Figure:
    """The planned differences as a forest plot, each with its interval, its seeds and its verdict.

    Of very many it shows the first; the others stand in the text.
    """
    if len(verdicts) > DIFFERENCES_SHOWN:
        title += f", the first {DIFFERENCES_SHOWN} of {len(verdicts):,}"
        verdicts = verdicts[:DIFFERENCES_SHOWN]
    rows = max(label.count("\n") + 1 for label in panels.differences(verdicts))
    figure = new_figure(1.7 + max(0.6, 0.2 * rows) * len(verdicts), title)
    ax = figure.subplots()
    panels.forest(ax, verdicts, measure)
    look = {"color": panels.POINT_COLOR, "linestyle": ""}
    handles = [Line2D([], [], marker="D", markersize=6, label="difference", **look)]
    if (most := max(len(verdict.seeds) for verdict in verdicts)) > 1:
        several = from_how_many([verdict.seeds for verdict in verdicts])
        level = verdicts[0].comparison.difference.level
        handles[0].set(label=f"mean over seeds, bar: its {level:.1%} interval{several}")
        handles.append(Line2D([], [], marker="o", markersize=3.5, alpha=0.6, label=each_seed_in_words(most), **look))
    legend_below(figure, [*handles, *ax.get_legend_handles_labels()[0]])
    return figure


def from_how_many(shown: Iterable[Sequence]) -> str:
    """A remark on how many seeds an interval needs, if one of the items of `shown` has fewer; otherwise ""."""
    return f" from {FEWEST_SEEDS} seeds up" if min(map(len, shown)) < FEWEST_SEEDS else ""


def data_of(runs: Runs) -> str:
    return next(iter(runs.values()))[0].data_name


def seeds_of(runs: Runs) -> str:
    return seed_count([len(records) for records in runs.values()])


def has_several_seeds(runs: Runs) -> bool:
    return max(map(len, runs.values())) > 1
