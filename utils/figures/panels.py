"""Parts of figures: each function draws plain data on Axes and returns the Axes; none saves. Never loads torch."""

import textwrap
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter
from matplotlib.transforms import offset_copy

from utils.figures.canvas import LineStyle, Styles, seeds_shown, signed, whole_numbers
from utils.figures.lettering import NAME_POINTS, shortened, shown
from utils.findings.runs import accuracies_of, accuracy_over_seeds
from utils.findings.verdicts import Verdict
from utils.records.record import RunRecord, Runs
from utils.stats.intervals import Interval
from utils.stats.overfitting import Overfitting
from utils.words import percent, plural, with_bounds

TRAIN_STYLE = LineStyle("#999999", "-", "")
FIT_STYLE = LineStyle("#333333", "-", "")
POINT_COLOR = "#0072B2"  # for points that belong to no single model
LEGEND_POINTS = 230  # the width of a model's name in a legend, in points
MODELS_WITH_BANDS = 16  # in one panel: more bands hide each other, and the lines
LABEL_LETTERS = 30  # letters that fit on a line of a row's name


def curves_of(records: Sequence[RunRecord], metric: str) -> np.ndarray:
    """`metric` of each seed over the epochs, shape (n, epochs)."""
    curves = [record.curve(metric) for record in records]
    longest = max(map(len, curves))  # a run that stopped early has a gap at its end
    return np.array([np.pad(curve, (0, longest - len(curve)), constant_values=np.nan) for curve in curves])


def curve_over_seeds(
    ax: Axes, curves: np.ndarray, style: LineStyle, label: str, *, each_seed: bool, band: bool = True
) -> Axes:
    """The mean over seeds of `curves` (n, epochs); if asked, a band from lowest to highest, and thin lines of seeds.

    Where the value of a seed is not finite, the mean and the band have a gap: a mean of the others would be misleading.
    """
    epochs = np.arange(1, curves.shape[1] + 1)
    single = len(epochs) == 1  # a line and a band through one point would show nothing
    if len(curves) > 1 and band:
        ax.fill_between(epochs, curves.min(axis=0), curves.max(axis=0), color=style.color, alpha=0.15, linewidth=0)
        if each_seed:
            look = {"color": style.color, "linewidth": 0.6, "markersize": 2.5, "alpha": 0.5}
            ax.plot(epochs, curves[seeds_shown(len(curves))].T, "o" if single else "", **look)
        elif single:
            ax.vlines(1, curves.min(), curves.max(), color=style.color, alpha=0.4)
    ax.plot(
        epochs,
        curves.mean(axis=0),
        color=style.color,
        linestyle=style.linestyle,
        marker=style.marker or ("o" if single else ""),
        label=f"{label}, n = {len(curves)}",
    )
    ax.set_xlabel("epoch")
    whole_numbers(ax, 1, len(epochs))
    return ax


def learning_curves(ax: Axes, records: Sequence[RunRecord], quantity: str, style: LineStyle) -> Axes:
    """One model's "loss" or "accuracy": during training, on a fixed part of the training images, and on validation."""
    for part, part_style, label in (
        ("train", TRAIN_STYLE, "train (training mode)"),
        ("fit", FIT_STYLE, "fit (train images, evaluation mode)"),
        ("val", style, "validation"),
    ):
        curve_over_seeds(ax, curves_of(records, f"{part}_{quantity}"), part_style, label, each_seed=True)
    return name_quantity(ax, quantity)


def name_quantity(ax: Axes, quantity: str, prefix: str = "") -> Axes:
    """Label the y-axis with a "loss" or "accuracy"; accuracies get ticks in percent."""
    ax.set_ylabel(prefix + quantity)
    if quantity == "accuracy":
        ax.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    return ax


def generalisation_gap(ax: Axes, records: Sequence[RunRecord], style: LineStyle) -> Axes:
    """How much higher the loss is on validation images than on training images, both in evaluation mode."""
    gaps = curves_of(records, "val_loss") - curves_of(records, "fit_loss")
    curve_over_seeds(ax, gaps, style, "validation", each_seed=True)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_ylabel("gap: validation − fit loss")
    return ax


def mark_lowest(ax: Axes, found: Overfitting) -> Axes:
    """Shade the epochs around which validation loss may be lowest, if it rises from there."""
    if found.word in ("overfits", "rises"):
        first, last = (found.kept[0], found.kept[-1]) if found.kept else (found.lowest, found.lowest)
        label = "validation loss lowest around here"
        ax.axvspan(first - 0.5, last + 0.5, color="#f0e442", alpha=0.35, linewidth=0, zorder=0, label=label)
    return ax


def all_validation_curves(ax: Axes, runs: Runs, quantity: str, styles: Styles) -> Axes:
    """Validation "loss" or "accuracy" of all models together."""
    for model, records in runs.items():
        curves, name = curves_of(records, f"val_{quantity}"), shown(model, LEGEND_POINTS)
        curve_over_seeds(ax, curves, styles[model], name, each_seed=False, band=len(runs) <= MODELS_WITH_BANDS)
    return name_quantity(ax, quantity, "validation ")


def name_rows(ax: Axes, models: Sequence[str], values: Sequence[str]) -> Axes:
    """Label a row for each model, the first one on top: its name on the left, its text of `values` on the right."""
    names = list(map(shown, models))
    return label_rows(ax, names, values, **({"fontsize": 8} if any("\n" in name for name in names) else {}))


def label_rows(ax: Axes, labels: Sequence[str], values: Sequence[str], **font) -> Axes:
    """A label on the left of each row, the first one on top, and its text of `values` on the right."""
    ax.set_yticks(range(len(labels)), labels, **font)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    for row, value in enumerate(values):
        ax.text(1.03, row, value, transform=ax.get_yaxis_transform(), va="center_baseline")
    return ax


def cost_bars(ax: Axes, costs: Mapping[str, Sequence[float]], styles: Styles, in_words: Callable[[float], str]) -> Axes:
    """The median of each model's costs as a bar from zero, a line between the quartiles, below it a point for each."""
    for row, (model, values) in enumerate(costs.items()):
        lower, median, upper = np.percentile(values, [25, 50, 75])
        ax.barh(row, median, height=0.5, color=styles[model].color)
        ax.hlines(row, lower, upper, color="black", linewidth=1.5)
        if len(values) > 1:
            small_points(ax, values, row + 0.37, styles[model].color)
    ax.set_xlim(left=0)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    return name_rows(ax, list(costs), [in_words(float(np.median(values))) for values in costs.values()])


def small_points(ax: Axes, values: Sequence[float], height: float, color: str) -> None:
    """A small point for each value, of very many for some, beside the mark that summarises them."""
    values = np.asarray(values)[seeds_shown(len(values))]
    ax.plot(values, np.full(len(values), height), "o", color=color, markersize=3.5, alpha=0.6, markeredgewidth=0)


def accuracy_in_words(interval: Interval) -> str:
    """For example "98.17 ± 0.09%", or "98.17%" without an interval; the bounds themselves if one is 0% or 100%."""
    if np.isnan(interval.low) or interval.low == 0 or interval.high == 1:
        return percent(interval)
    return f"{100 * interval.estimate:.2f} ± {100 * (interval.high - interval.estimate):.2f}%"


def accuracy_limits(runs: Runs) -> tuple[float, float]:
    """The limits of an axis that shows all seeds and intervals, at least 0.4 points wide and hardly beyond 100%."""
    accuracies = [accuracies_of(records) for records in runs.values()]
    intervals = [accuracy_over_seeds(records) for records in runs.values()]
    values = np.concatenate([*accuracies, [bound for i in intervals for bound in (i.low, i.high)]])
    low, high = np.nanmin(values), np.nanmax(values)
    margin = max(0.08 * (high - low), 0.002)
    return low - margin, min(high + margin, 1.0005)


def half_widths(interval: Interval) -> list[list[float]]:
    """The lengths of an error bar to both sides, as matplotlib expects, (2, 1); NaN draws no bar."""
    return [[interval.estimate - interval.low], [interval.high - interval.estimate]]


def accuracy_points(ax: Axes, runs: Runs, styles: Styles) -> Axes:
    """Test accuracy of each seed in a row for each model."""
    accuracies = {model: accuracies_of(records) for model, records in runs.items()}
    alike = len(set(map(len, accuracies.values()))) == 1  # then the title names the number
    intervals = {model: accuracy_over_seeds(records) for model, records in runs.items()}
    seed_values(ax, accuracies, intervals, styles, lambda i: accuracy_in_words(i) + ("" if alike else f", n = {i.n}"))
    ax.set_xlim(accuracy_limits(runs))
    ax.xaxis.set_major_formatter(PercentFormatter(xmax=1))
    return ax


def seed_values(
    ax: Axes,
    values: Mapping[str, np.ndarray],
    intervals: Mapping[str, Interval],
    styles: Styles,
    in_words: Callable[[Interval], str],
) -> Axes:
    """The mean over seeds as the model's marker, its 95% t-interval as a bar, below it a small point for each seed."""
    for row, (model, of_seeds) in enumerate(values.items()):
        style, interval = styles[model], intervals[model]
        if len(of_seeds) > 1:
            small_points(ax, of_seeds, row + 0.3, style.color)
        ax.errorbar(interval.estimate, row, xerr=half_widths(interval), fmt="none", color=style.color, capsize=4)
        ax.plot(interval.estimate, row, style.marker, color=style.color, markersize=5)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    return name_rows(ax, list(values), [in_words(interval) for interval in intervals.values()])


def last_gaps(records: Sequence[RunRecord]) -> np.ndarray:
    """Validation minus fit loss of each seed in its last epoch, shape (n,)."""
    return np.array([(record.curve("val_loss") - record.curve("fit_loss"))[-1] for record in records])


def accuracy_against(
    ax: Axes,
    runs: Runs,
    costs: Mapping[str, Sequence[float]],
    styles: Styles,
) -> Axes:
    """The mean test accuracy with its 95% t-interval against the median and quartiles of each model's costs.

    A little to the right of each interval is a small point for each seed.
    """
    beside = offset_copy(ax.transData, ax.figure, x=5, units="points")
    for model, records in runs.items():
        style, accuracies = styles[model], accuracies_of(records)
        interval = accuracy_over_seeds(records)
        lower, median, upper = np.percentile(costs[model], [25, 50, 75])
        spread = [[median - lower], [upper - median]]
        ax.errorbar(median, interval.estimate, half_widths(interval), spread, fmt="none", color=style.color)
        if len(records) > 1:
            few = accuracies[seeds_shown(len(records))]
            seeds = ax.plot(np.full(len(few), median), few, "o", color=style.color, markersize=3, alpha=0.6)
            seeds[0].set(transform=beside, markeredgewidth=0)
        label = f"{shown(model, LEGEND_POINTS)}, n = {len(records)}"
        # In front of all bars, since models of equal cost lie on top of each other.
        ax.plot(median, interval.estimate, style.marker, color=style.color, markersize=6, label=label, zorder=3)
    highest = max(max(costs[model]) for model in runs)
    ax.set_xlim(-0.05 * highest, 1.1 * highest)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    return ax


def forest(ax: Axes, verdicts: Sequence[Verdict], measure: str) -> Axes:
    """Differences in percentage points beside a line at zero; the margin of equivalence is shaded unless it is 0."""
    margin = verdicts[0].margin
    if margin:
        shade = f"margin of equivalence, ±{100 * margin:.2f} points"
        ax.axvspan(-100 * margin, 100 * margin, color="#e8e8e8", zorder=0, label=shade)
    ax.axvline(0, color="black", linewidth=1)
    for height, verdict in enumerate(verdicts):
        interval = verdict.comparison.difference
        estimate = 100 * interval.estimate
        bars = 100 * np.array(half_widths(interval))
        if len(verdict.seeds) > 1:
            small_points(ax, 100 * verdict.differences, height + 0.25, POINT_COLOR)
        ax.errorbar(estimate, height, xerr=bars, fmt="none", color=POINT_COLOR, capsize=4)
        ax.plot(estimate, height, "D", color=POINT_COLOR, markersize=6)
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.set_xlabel(f"difference of {measure}, points")
    return label_rows(ax, differences(verdicts), [difference_in_words(verdict) for verdict in verdicts])


def differences(verdicts: Sequence[Verdict]) -> list[str]:
    """Which accuracy minus which, for each row, in as many lines as two long names need."""
    short = [(shortened(v.b, 1.6 * NAME_POINTS), shortened(v.a, 1.6 * NAME_POINTS)) for v in verdicts]
    return [textwrap.fill(f"{b} − {a}", LABEL_LETTERS, break_on_hyphens=False) for b, a in short]


def difference_in_words(verdict: Verdict) -> str:
    """Two lines: the difference with its interval, if it has one; the number of seeds and the verdict."""
    difference = with_bounds(verdict.comparison.difference, lambda fraction: signed(100 * fraction, 2))
    word = verdict.in_short
    for name in (verdict.a, verdict.b):
        word = word.replace(name, shortened(name, NAME_POINTS))
    return f"{difference}\n{plural(len(verdict.seeds), 'seed')}: {word}"
