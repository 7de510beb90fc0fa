"""Figures: what their Axes hold, that nothing lies on anything else, and that the same records give the same bytes."""

import dataclasses
import itertools
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import matplotlib.style
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats
from sklearn.metrics import confusion_matrix

from tests.records import CIFAR_CLASSES, make_record, make_timing
from utils import figures, plots

CIFAR = {"task": "task_1_2", "dataset": "cifar10", "image_shape": (3, 32, 32), "class_names": CIFAR_CLASSES}
LONG = "CNNWithResidual-Regularized"


def make_runs(models, seeds, **options):
    return {
        model: [make_record(model, seed, test_total=500, accuracy=0.9 + 0.012 * i, **options) for seed in range(seeds)]
        for i, model in enumerate(models)
    }


@pytest.fixture(autouse=True)
def figure_style():
    with matplotlib.style.context(["default", figures.STYLE]):
        yield


def drawn(monkeypatch, runs, timing) -> dict[str, Figure]:
    """The figures that draw_task makes, by file name, not yet rendered."""
    made = {}
    monkeypatch.setattr(figures, "save", lambda figure, path: made.setdefault(path.name, figure))
    figures.draw_task(runs, timing, Path("unused"), list(runs))
    return made


def text_of(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def by_label(ax) -> dict:
    return {line.get_label(): line for line in ax.get_lines() if not line.get_label().startswith("_")}


def assert_nothing_overlaps(name: str, figure: Figure) -> None:
    """No panel, with its ticks and titles, and no legend or note lies on another one or leaves the canvas."""
    figure.draw_without_rendering()
    parts = {f"panel {i}": ax.get_tightbbox() for i, ax in enumerate(figure.axes)}
    parts |= {f"legend {i}": legend.get_window_extent() for i, legend in enumerate(figure.legends)}
    parts |= {text.get_text(): text.get_window_extent() for text in figure.texts if text.get_text()}
    canvas = figure.bbox
    for part, box in parts.items():
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= canvas.x1 and box.y1 <= canvas.y1
        assert inside, f"{name}: {part} {box} leaves the canvas {canvas}"
    for (first, box), (second, other) in itertools.combinations(parts.items(), 2):
        overlap = (
            min(box.x1, other.x1) - max(box.x0, other.x0) > 1 and min(box.y1, other.y1) - max(box.y0, other.y0) > 1
        )
        assert not overlap, f"{name}: {first} {box} lies on {second} {other}"


def assert_legends_spare_data(name: str, figure: Figure) -> None:
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    for legend, ax in itertools.product(legends, figure.axes):
        box = legend.get_window_extent()
        for line in ax.get_lines():
            points = line.get_transform().transform(np.column_stack(line.get_data()))
            assert not any(box.contains(x, y) for x, y in points), f"{name}: the legend covers {line.get_label()}"


@pytest.mark.parametrize(
    ("models", "seeds", "timed", "options"),
    [
        (["FCN", "SimpleCNN", "CNNWithResidual"], 1, False, {}),
        (["CIFARCNN", LONG], 6, True, {**CIFAR, "overfits_from": 7}),
        (["FCN"], 3, True, {"epochs": 3}),
    ],
    ids=["one seed, not timed", "six seeds, long names", "one model, few epochs"],
)
def test_nothing_overlaps_or_is_cut_in_any_figure(monkeypatch, models, seeds, timed, options):
    made = drawn(monkeypatch, make_runs(models, seeds, **options), make_timing(models) if timed else None)
    assert len(made) == 3 + 3 * len(models)
    for name, figure in made.items():
        assert_nothing_overlaps(name, figure)
        assert_legends_spare_data(name, figure)


def test_eight_long_names_and_a_long_device_name_fit():
    models = [f"{LONG}-{i}" for i in range(8)]
    runs, timing = make_runs(models, 2, **CIFAR), make_timing(models)
    timing.environment["device_name"] = "Some Vendor(R) Processor(TM) with a Long Name, Model 12345 @ 2.60GHz, in a Box"
    styles = plots.model_styles(models)
    for figure in (
        figures.all_models_curves(runs, styles),
        figures.comparison(runs, timing, styles),
        figures.accuracy_vs_cost(runs, timing, styles),
    ):
        assert_nothing_overlaps(figure.get_suptitle(), figure)
        assert_legends_spare_data(figure.get_suptitle(), figure)


def test_draw_task_writes_every_figure_and_the_same_bytes_again(tmp_path):
    runs = make_runs(["FCN"], 2)
    paths = figures.draw_task(runs, make_timing(list(runs)), tmp_path / "first", list(runs))
    kinds = ("curves", "confusion_matrix", "mistakes")
    expected = {f"{model}_{kind}.png" for model in runs for kind in kinds}
    expected |= {"all_models_curves.png", "comparison.png", "accuracy_vs_cost.png"}
    assert {path.name for path in paths} == {path.name for path in (tmp_path / "first").iterdir()} == expected
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "yellow"}):  # a user's own settings
        again = figures.draw_task(runs, make_timing(list(runs)), tmp_path / "second", list(runs))
    for first, second in zip(paths, again, strict=True):
        assert first.read_bytes() == second.read_bytes(), first.name
        with Image.open(first) as picture:
            assert "Software" not in picture.info and picture.width >= 900
    assert figures.draw_task({}, None, tmp_path / "none", ["FCN"]) == []


def test_draws_without_display_torch_or_pyplot(tmp_path):
    code = """
import sys
from pathlib import Path
from tests.records import make_record
from utils.figures import draw_task
draw_task({"FCN": [make_record(test_total=50)]}, None, Path(sys.argv[1]), ["FCN"])
assert "torch" not in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    environment = {name: value for name, value in os.environ.items() if "DISPLAY" not in name}
    environment["MPLBACKEND"] = "TkAgg"
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=root, env=environment, check=True)
    assert len(list(tmp_path.glob("*.png"))) == 6


def test_model_curves_hold_the_records_histories():
    records = [make_record("FCN", seed) for seed in range(3)]
    figure = figures.model_curves(records, plots.model_styles(["FCN"])["FCN"])
    names = {"train": "train (training mode)", "fit": "fit (train images, evaluation mode)", "val": "validation"}
    for ax, quantity in zip(figure.axes, ("loss", "accuracy"), strict=True):
        lines = by_label(ax)
        for band, (part, label) in zip(ax.collections, names.items(), strict=True):
            values = np.array([[epoch[f"{part}_{quantity}"] for epoch in record.history] for record in records])
            mean = lines[f"{label}, n = 3"]
            np.testing.assert_allclose(mean.get_ydata(), values.mean(axis=0))
            np.testing.assert_array_equal(mean.get_xdata(), range(1, 16))
            corners = {(x, round(y, 9)) for x, y in band.get_paths()[0].vertices}
            edges = {(i + 1, round(y, 9)) for i in range(15) for y in (values[:, i].min(), values[:, i].max())}
            assert edges <= corners
            thin = [line for line in ax.get_lines() if line.get_linewidth() < 1]
            assert all(any(np.array_equal(line.get_ydata(), one) for line in thin) for one in values)
        assert ax.get_xlabel() == "epoch" and ax.get_ylabel() == quantity
    figure.draw_without_rendering()
    ticks = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert all(tick.endswith("%") for tick in ticks)
    low, high = figure.axes[1].get_ylim()
    accuracies = [epoch[f"{part}_accuracy"] for record in records for epoch in record.history for part in names]
    assert high - low < 1.2 * np.ptp(accuracies)  # zoomed to the data
    assert "band: lowest to highest seed" in text_of(figure)


def test_a_diverged_seed_leaves_a_gap_in_the_mean():
    records = [make_record("FCN", 0), make_record("FCN", 1, diverges_from=6)]
    figure = figures.model_curves(records, plots.model_styles(["FCN"])["FCN"])
    figure.draw_without_rendering()
    mean = by_label(figure.axes[0])["validation, n = 2"].get_ydata()
    assert np.isfinite(mean[:5]).all() and np.isnan(mean[5:]).all()


def with_losses(record, val_loss, fit_loss):
    history = [
        {**epoch, "val_loss": val, "fit_loss": fit}
        for epoch, val, fit in zip(record.history, val_loss, fit_loss, strict=True)
    ]
    return dataclasses.replace(record, history=history)


def test_the_onset_is_marked_and_counted():
    t = np.arange(1, 16)
    fit = np.exp(-t / 5)
    rising = [with_losses(make_record(seed=e), 0.5 + np.maximum(0.05 * (t - e), 0.2 * (e - t)), fit) for e in (4, 5, 9)]
    flat = with_losses(make_record(seed=20), 0.5 + np.exp(-t / 3), fit)

    def title_and_line(records):
        ax = figures.model_curves(records, plots.model_styles(["FCN"])["FCN"]).axes[0]
        line = by_label(ax).get("overfitting onset")
        return ax.get_title(loc="left"), line and set(line.get_xdata())

    assert title_and_line([*rising, flat]) == ("overfitting onset: epoch 5 (4 to 9), 3 of 4 seeds", {5})
    assert title_and_line(rising[2:]) == ("overfitting onset: epoch 9", {9})
    assert title_and_line([flat, flat]) == ("overfitting onset: none within 15 epochs", None)
    assert "too few epochs" in title_and_line([make_record(epochs=4)])[0]


def test_all_models_share_one_figure_and_keep_their_colours(monkeypatch):
    declared = ["FCN", "CIFARCNN", "CNNWithResidual", LONG]
    styles = plots.model_styles(declared)
    assert len({style.color for style in plots.model_styles([str(i) for i in range(8)]).values()}) == 8
    assert len(set(plots.model_styles([str(i) for i in range(16)]).values())) == 16
    runs = make_runs(declared[1:], 2)  # FCN has no record yet
    timing = make_timing(declared)
    made = {}
    monkeypatch.setattr(figures, "save", lambda figure, path: made.setdefault(path.name, figure))
    figures.draw_task(runs, timing, Path("unused"), declared)
    for i, (model, records) in enumerate(runs.items()):
        color, label = styles[model].color, f"{model}, n = 2"
        for ax, quantity in zip(made["all_models_curves.png"].axes, ("loss", "accuracy"), strict=True):
            line = by_label(ax)[label]
            expected = np.mean([[epoch[f"val_{quantity}"] for epoch in record.history] for record in records], axis=0)
            np.testing.assert_allclose(line.get_ydata(), expected)
            assert (line.get_color(), line.get_linestyle()) == (color, styles[model].linestyle)
        assert by_label(made[f"{model}_curves.png"].axes[0])["validation, n = 2"].get_color() == color
        assert by_label(made["accuracy_vs_cost.png"].axes[0])[label].get_color() == color
        for ax in made["comparison.png"].axes[:3]:
            assert ax.patches[i].get_facecolor() == matplotlib.colors.to_rgba(color)


def row_values(ax) -> list[str]:
    return [text.get_text() for text in sorted(ax.texts, key=lambda text: text.get_position()[1])]


def test_comparison_shows_parameters_times_and_accuracies_with_intervals():
    models = ["FCN", "SimpleCNN", "CNNWithResidual"]
    runs, timing = make_runs(models, 5), make_timing(models)
    figure = figures.comparison(runs, timing, plots.model_styles(models))
    figure.draw_without_rendering()
    parameters, training, inference, accuracy = figure.axes
    assert [label.get_text() for label in parameters.get_yticklabels()] == models
    assert not training.yaxis.get_tick_params()["labelleft"]  # the names stand once a row
    assert parameters.get_ylim()[0] > parameters.get_ylim()[1]  # the first model on top
    assert row_values(parameters) == ["567,434", "421,642", "160,906"]
    assert [bar.get_width() for bar in parameters.patches] == [567_434, 421_642, 160_906]
    for ax, measure, scale in ((training, "train_epoch_seconds", 1), (inference, "inference_batch_seconds", 1e3)):
        medians = [scale * np.median(timing.models[model][measure]) for model in models]
        np.testing.assert_allclose([bar.get_width() for bar in ax.patches], medians)
        unit = "s" if scale == 1 else "ms"
        assert row_values(ax) == [f"{median:.2f} {unit}" for median in medians] and f"({unit})" in ax.get_title()

    everything = []
    for row, (model, records) in enumerate(runs.items()):
        accuracies = [record.test_correct / record.test_total for record in records]
        points = next(
            line for line in accuracy.get_lines() if len(line.get_xdata()) == 5 and line.get_ydata()[0] // 1 == row
        )
        np.testing.assert_allclose(points.get_xdata(), accuracies)
        low, high = stats.t.interval(0.95, 4, np.mean(accuracies), stats.sem(accuracies))
        segment = accuracy.collections[row].get_segments()[0]
        np.testing.assert_allclose(segment, [[low, row], [high, row]])
        assert row_values(accuracy)[row] == f"{100 * np.mean(accuracies):.2f} ± {50 * (high - low):.2f}%", model
        everything += [*accuracies, low, high]
    left, right = accuracy.get_xlim()
    assert left < min(everything) and min(max(everything), 1) < right <= 1.0005
    assert right - left < 1.3 * np.ptp(everything)
    assert "5 seeds" in accuracy.get_title()
    assert "95% t-interval" in text_of(figure)
    for words in ("Test CPU 9000", "threads: 2", "bf16", "PyTorch 2.14.1", "7 rounds"):
        assert words in text_of(figure)


def test_one_seed_has_no_interval_and_times_may_be_missing():
    runs = make_runs(["FCN", "SimpleCNN"], 1)
    styles = plots.model_styles(list(runs))
    for figure in (figures.comparison(runs, None, styles), figures.accuracy_vs_cost(runs, None, styles)):
        text = text_of(figure)
        assert text.count(plots.NOT_MEASURED) == 2 and "Times" not in text
        assert "one seed, so no interval" in text and "±" not in text
    accuracy = figures.comparison(runs, None, styles).axes[3]
    assert not any(segment.size for bar in accuracy.collections for segment in bar.get_segments())
    assert row_values(accuracy)[0] == f"{runs['FCN'][0].test_correct / 500:.2%}"


def test_accuracy_against_each_cost():
    models = ["FCN", "SimpleCNN", "CNNWithResidual"]
    runs, timing = make_runs(models, 3), make_timing(models)
    figure = figures.accuracy_vs_cost(runs, timing, plots.model_styles(models))
    for model, records in runs.items():
        accuracy = np.mean([record.test_correct / record.test_total for record in records])
        costs = [
            records[0].parameters,
            np.median(timing.models[model]["train_epoch_seconds"]),
            1e3 * np.median(timing.models[model]["inference_batch_seconds"]),
        ]
        for ax, cost in zip(figure.axes, costs, strict=True):
            (x,), (y,) = by_label(ax)[f"{model}, n = 3"].get_data()
            assert (x, y) == pytest.approx((cost, accuracy))
            assert ax.get_xlim()[0] <= 0 < cost < ax.get_xlim()[1]
    assert "bf16" in text_of(figure)


def test_confusion_matrix_has_true_classes_in_rows_and_sums_seeds():
    records = [make_record("CIFARCNN", seed, accuracy=0.8, **CIFAR) for seed in range(3)]
    for record in records:  # a class that no image has and no model predicts must keep its row and column
        for name in ("test_labels", "test_predictions"):
            record.arrays[name][record.arrays[name] == 7] = 6
    labels, predictions = (
        np.concatenate([record.arrays[name] for record in records]) for name in ("test_labels", "test_predictions")
    )
    expected = confusion_matrix(labels, predictions, labels=range(10))
    assert not np.array_equal(expected, expected.T)
    figure = figures.model_confusion_matrix(records)
    figure.draw_without_rendering()
    (ax,) = figure.axes
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("true class", "predicted class")
    assert [label.get_text() for label in ax.get_xticklabels()] == list(CIFAR_CLASSES)
    assert [label.get_text() for label in ax.get_yticklabels()] == list(CIFAR_CLASSES)
    shares = expected / np.maximum(expected.sum(axis=1, keepdims=True), 1)
    np.testing.assert_allclose(ax.images[0].get_array(), shares)
    cells = {text.get_position(): text for text in ax.texts}
    for (row, column), count in np.ndenumerate(expected):
        cell = cells[column, row]
        assert cell.get_text() == (f"{count:,}\n{shares[row, column]:.1%}" if count else "0")
        (left, top), (right, bottom) = ax.transData.transform([(column - 0.5, row - 0.5), (column + 0.5, row + 0.5)])
        box = cell.get_window_extent()
        assert left < box.x0 and box.x1 < right and bottom < box.y0 and box.y1 < top
    assert "summed over 3 seeds" in text_of(figure)


@pytest.mark.parametrize(("options", "arrow"), [({}, " → "), (CIFAR, "\n→ ")], ids=["grey", "colour"])
def test_mistakes_show_the_lowest_seeds_images_with_both_classes(options, arrow):
    records = [make_record("FCN", seed, **options) for seed in (4, 2)]
    lowest = records[1]
    figure = figures.model_mistakes(records)
    assert "seed 2" in figure.get_suptitle() and len(figure.axes) == 16
    for rank, ax in enumerate(figure.axes):
        pixels = np.moveaxis(lowest.arrays["mistake_images"][rank], 0, -1)
        np.testing.assert_array_equal(np.squeeze(ax.images[0].get_array()), np.squeeze(pixels))
        index = lowest.arrays["mistake_indices"][rank]
        true, wrong = (lowest.class_names[lowest.arrays[name][index]] for name in ("test_labels", "test_predictions"))
        assert true != wrong
        assert ax.get_title() == f"{true}{arrow}{wrong}\n{lowest.arrays['mistake_confidences'][rank]:.2%}"
        assert ax.images[0].get_clim() == (0, 255)  # not stretched to each picture's own range


@pytest.mark.parametrize("count", [0, 5])
def test_fewer_mistakes_than_places(count):
    record = make_record("FCN", 0)
    for name in ("mistake_indices", "mistake_images", "mistake_confidences"):
        record.arrays[name] = record.arrays[name][:count]
    figure = figures.model_mistakes([record])
    figure.draw_without_rendering()
    assert sum(len(ax.images) for ax in figure.axes) == count
    assert f"the {count} most confident" in figure.get_suptitle()
