"""Figure parts: each function draws plain records on Axes and returns them; none saves. Never loads torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.ticker import MaxNLocator, PercentFormatter
from sklearn.metrics import confusion_matrix

from utils.results import RunRecord
from utils.stats import Interval, mean_interval, overfitting_onset

# Okabe and Ito's colours ("Color Universal Design", 2008) without black and yellow, and two darker ones; simulated
# for protanopia, deuteranopia and tritanopia, no two of the first four come nearer than 17 (CIE76).
COLORS = ("#0072B2", "#D55E00", "#009E73", "#7A1F5C", "#56B4E9", "#E69F00", "#CC79A7", "#8C8C3A")
LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = "os^DvPX*"
NOT_MEASURED = "not measured yet"


@dataclass(frozen=True)
class LineStyle:
    """How one curve or model looks, alike in every figure."""

    color: str
    linestyle: str | tuple
    marker: str


TRAIN_STYLE = LineStyle("#999999", "-", "")
FIT_STYLE = LineStyle("#333333", "-", "")


def model_styles(declared: Sequence[str]) -> dict[str, LineStyle]:
    """A style for each model by its position in the declared order: it keeps it while other models have no record."""
    return {
        model: LineStyle(
            COLORS[i % len(COLORS)],
            LINE_STYLES[i % len(LINE_STYLES)],
            MARKERS[i % len(MARKERS)],
        )
        for i, model in enumerate(declared)
    }


def seed_count(counts: Sequence[int]) -> str:
    """The numbers of seeds of several models in words: "1 seed", "6 seeds", "1 to 6 seeds"."""
    low, high = min(counts), max(counts)
    return f"{low} to {high} seeds" if low < high else f"{low} seed{'s' if low > 1 else ''}"


def final_accuracies(records: Sequence[RunRecord]) -> np.ndarray:
    """Test accuracy of each seed with its final weights, shape (n,), from the integer counts."""
    return np.array([record.test_correct / record.test_total for record in records])


def curve_over_seeds(
    ax: Axes, records: Sequence[RunRecord], metric: str, style: LineStyle, label: str, *, each_seed: bool
) -> Axes:
    """Mean of `metric` over seeds by epoch, a band from the lowest to the highest seed and, if asked, each seed thinly.

    From an epoch at which a seed's value isn't finite the mean and the band have a gap: they would be of other seeds.
    """
    curves = np.array([record.curve(metric) for record in records])  # (n, epochs)
    epochs = np.arange(1, curves.shape[1] + 1)
    if len(curves) > 1:
        ax.fill_between(epochs, curves.min(axis=0), curves.max(axis=0), color=style.color, alpha=0.15, linewidth=0)
        if each_seed:
            ax.plot(epochs, curves.T, color=style.color, linewidth=0.6, alpha=0.5)
    ax.plot(
        epochs,
        curves.mean(axis=0),
        color=style.color,
        linestyle=style.linestyle,
        marker=style.marker,
        label=f"{label}, n = {len(curves)}",
    )
    ax.set_xlabel("epoch")
    ax.set_ylabel(metric.split("_")[-1])
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if metric.endswith("accuracy"):
        ax.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    return ax


def learning_curves(ax: Axes, records: Sequence[RunRecord], quantity: str, style: LineStyle) -> Axes:
    """One model's "loss" or "accuracy": on training images while training, on a fixed part of them, on validation."""
    curve_over_seeds(ax, records, f"train_{quantity}", TRAIN_STYLE, "train (training mode)", each_seed=True)
    curve_over_seeds(ax, records, f"fit_{quantity}", FIT_STYLE, "fit (train images, evaluation mode)", each_seed=True)
    return curve_over_seeds(ax, records, f"val_{quantity}", style, "validation", each_seed=True)


def mark_onset(ax: Axes, records: Sequence[RunRecord]) -> Axes:
    """A title that tells the overfitting onset in words; where seeds have one, a line at their median."""
    onsets = [overfitting_onset(record.curve("val_loss"), record.curve("fit_loss")) for record in records]
    epochs = [onset.epoch for onset in onsets if onset.epoch is not None]
    words = onsets[0].reason
    if epochs:
        median, low, high = np.median(epochs), min(epochs), max(epochs)
        ax.axvline(median, color="black", linewidth=1.2, linestyle=(0, (1, 1.5)), label="overfitting onset")
        words = f"epoch {median:g}" + (f" ({low} to {high})" if low < high else "")
        words += f", {len(epochs)} of {seed_count([len(records)])}" if len(records) > 1 else ""
    ax.set_title(f"overfitting onset: {words}", loc="left", fontsize=9)
    return ax


def all_validation_curves(
    ax: Axes, runs: Mapping[str, Sequence[RunRecord]], quantity: str, styles: Mapping[str, LineStyle]
) -> Axes:
    """Validation "loss" or "accuracy" of all models together."""
    for model, records in runs.items():
        curve_over_seeds(ax, records, f"val_{quantity}", styles[model], model, each_seed=False)
    ax.set_ylabel(f"validation {quantity}")
    return ax


def name_rows(ax: Axes, models: Sequence[str], values: Sequence[str]) -> Axes:
    """Rows for models, the first one on top: names on the left, `values` in words right of the panel."""
    ax.set_yticks(range(len(models)), models)
    ax.set_ylim(len(models) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    for row, value in enumerate(values):
        ax.text(1.03, row, value, transform=ax.get_yaxis_transform(), va="center_baseline")
    return ax


def cost_bars(
    ax: Axes,
    costs: Mapping[str, Sequence[float]],
    styles: Mapping[str, LineStyle],
    in_words: Callable[[float], str],
) -> Axes:
    """The median of each model's costs as a bar from zero, with a line from quartile to quartile."""
    for row, (model, values) in enumerate(costs.items()):
        lower, median, upper = np.percentile(values, [25, 50, 75])
        ax.barh(row, median, height=0.6, color=styles[model].color)
        ax.hlines(row, lower, upper, color="black", linewidth=1.5)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    return name_rows(ax, list(costs), [in_words(float(np.median(values))) for values in costs.values()])


def not_measured(ax: Axes) -> Axes:
    """An empty panel that says why."""
    ax.text(0.5, 0.5, NOT_MEASURED, transform=ax.transAxes, ha="center", va="center", color="#666666")
    ax.tick_params(length=0, labelbottom=False)
    ax.grid(False)
    return ax


def accuracy_in_words(interval: Interval) -> str:
    if np.isnan(interval.low):
        return f"{interval.estimate:.2%}"
    return f"{100 * interval.estimate:.2f} ± {100 * (interval.high - interval.estimate):.2f}%"


def accuracy_limits(runs: Mapping[str, Sequence[RunRecord]]) -> tuple[float, float]:
    """An axis zoomed to all seeds and intervals, at least 0.4 points wide and never far beyond 100%."""
    accuracies = [final_accuracies(records) for records in runs.values()]
    intervals = [mean_interval(values) for values in accuracies]
    values = np.concatenate([*accuracies, [bound for i in intervals for bound in (i.low, i.high)]])
    low, high = np.nanmin(values), min(np.nanmax(values), 1.0)
    margin = max(0.08 * (high - low), 0.002)
    return low - margin, min(high + margin, 1.0005)


def half_widths(interval: Interval) -> list[list[float]]:
    """What errorbar wants; NaN, which it leaves out, where there is no interval."""
    return [[interval.estimate - interval.low], [interval.high - interval.estimate]]


def accuracy_points(ax: Axes, runs: Mapping[str, Sequence[RunRecord]], styles: Mapping[str, LineStyle]) -> Axes:
    """Test accuracy: the mean as the model's marker, its 95% t-interval as a bar, and below a small point a seed."""
    intervals = {model: mean_interval(final_accuracies(records)) for model, records in runs.items()}
    for row, (model, records) in enumerate(runs.items()):
        style, interval = styles[model], intervals[model]
        if len(records) > 1:
            below = np.full(len(records), row + 0.3)
            ax.plot(final_accuracies(records), below, "o", color=style.color, markersize=3.5, alpha=0.6)
        ax.errorbar(interval.estimate, row, xerr=half_widths(interval), fmt="none", color=style.color, capsize=4)
        ax.plot(interval.estimate, row, style.marker, color=style.color, markersize=5)
    ax.set_xlim(accuracy_limits(runs))
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.xaxis.set_major_formatter(PercentFormatter(xmax=1))
    return name_rows(ax, list(runs), [accuracy_in_words(interval) for interval in intervals.values()])


def accuracy_against(
    ax: Axes,
    runs: Mapping[str, Sequence[RunRecord]],
    costs: Mapping[str, Sequence[float]],
    styles: Mapping[str, LineStyle],
) -> Axes:
    """Mean test accuracy with its 95% t-interval against the median and quartiles of each model's costs."""
    for model, records in runs.items():
        style, interval = styles[model], mean_interval(final_accuracies(records))
        lower, median, upper = np.percentile(costs[model], [25, 50, 75])
        spread = [[median - lower], [upper - median]]
        ax.errorbar(median, interval.estimate, half_widths(interval), spread, fmt="none", color=style.color)
        label = f"{model}, n = {len(records)}"
        # Above the bars of all models, since those of equal cost lie on one another.
        ax.plot(median, interval.estimate, style.marker, color=style.color, markersize=6, label=label, zorder=3)
    highest = max(max(costs[model]) for model in runs)
    ax.set_xlim(-0.05 * highest, 1.1 * highest)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    return ax


def has_long_names(record: RunRecord) -> bool:
    """Whether two class names take more than one line above a small picture."""
    return max(map(len, record.class_names)) > 4


def confusion(ax: Axes, records: Sequence[RunRecord]) -> Axes:
    """Counts summed over seeds, rows true and columns predicted classes; colour and percent are shares of the row.

    The colour follows the cube root of the share, since the errors of a good model would all look white otherwise.
    """
    names = records[0].class_names
    counts = sum(
        confusion_matrix(record.arrays["test_labels"], record.arrays["test_predictions"], labels=np.arange(len(names)))
        for record in records
    )
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax.imshow(shares, cmap="Blues", norm=PowerNorm(1 / 3, vmin=0, vmax=1))
    for (row, column), count in np.ndenumerate(counts):
        text = f"{count:,}\n{shares[row, column]:.1%}" if count else "0"
        color = "white" if shares[row, column] > 0.2 else "black" if count else "#aaaaaa"
        # Inside the axes anyway, and the layout would measure every one of them.
        ax.text(column, row, text, ha="center", va="center", color=color, fontsize=9).set_in_layout(False)
    if has_long_names(records[0]):
        ax.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
    else:
        ax.set_xticks(range(len(names)), names)
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.grid(False)
    ax.set(xlabel="predicted class", ylabel="true class")
    return ax


def mistake(ax: Axes, record: RunRecord, index: int) -> Axes:
    """The wrong test image of rank `index`, with its true class, the predicted one and that one's probability."""
    arrays = record.arrays
    image = arrays["mistake_images"][index].transpose(1, 2, 0)  # (C, H, W) -> (H, W, C)
    ax.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    where = arrays["mistake_indices"][index]
    true = record.class_names[arrays["test_labels"][where]]
    predicted = record.class_names[arrays["test_predictions"][where]]
    arrow = "\n→ " if has_long_names(record) else " → "
    ax.set_title(f"{true}{arrow}{predicted}\n{arrays['mistake_confidences'][index]:.2%}")
    ax.set_axis_off()
    return ax
