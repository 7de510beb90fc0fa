"""Figures: what their Axes hold, that nothing lies on anything else, and that the same records give the same bytes."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import matplotlib.style
import numpy as np
import pytest
from matplotlib.figure import Figure
from pictures import CIFAR, LONG, assert_legends_spare_data, assert_nothing_overlaps, by_label, make_runs, text_of
from PIL import Image
from made_records import make_record, make_timing
from scipy import stats

from utils.figures import task as figures
from utils.figures.canvas import STYLE, model_styles, signed
from utils.figures.panels import Difference
from utils.findings.runs import accuracies_of
from utils.stats.intervals import Interval, mean_interval


@pytest.fixture(autouse=True)
def figure_style():
    with matplotlib.style.context(["default", STYLE]):
        yield


def drawn(monkeypatch, runs, timing, declared=None, **options) -> dict[str, Figure]:
    """The figures that draw_task makes, by file name, not yet rendered."""
    made = {}
    monkeypatch.setattr(figures, "save", lambda figure, path: made.setdefault(path.name, figure))
    figures.draw_task(runs, timing, Path("unused"), declared or list(runs), **options)
    return made


def planned(runs, *pairs, verdict="not distinguished") -> list[Difference]:
    rows = []
    for a, b in pairs:
        seeds = accuracies_of(runs[b]) - accuracies_of(runs[a])
        rows.append(Difference(f"{b} − {a}", mean_interval(seeds), seeds, verdict))
    return rows


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
    runs, pairs = make_runs(models, seeds, **options), list(zip(models, models[1:], strict=False))
    drawings = {"differences": planned(runs, *pairs), "margin": 0.001, "confused_pair": (models[0], models[-1])}
    made = drawn(monkeypatch, runs, make_timing(models) if timed else None, **drawings)
    assert len(made) == 6 + (len(models) > 1) + 5 * len(models)
    for name, figure in made.items():
        if name.startswith(models[0]) and len(models) > 1:
            continue  # looks like the other models', whose names are longer
        assert_nothing_overlaps(name, figure)
        assert_legends_spare_data(name, figure)


def test_a_long_sentence_on_overfitting_fits(monkeypatch):
    record = make_record(LONG, **CIFAR)
    t = np.arange(15)
    val_loss = np.exp(-t / 2) + 1 + 0.02 * np.clip(t - 8, 0, None) + 0.05 * (-1.0) ** (t // 2)
    record.history[:] = [epoch | {"val_loss": x} for epoch, x in zip(record.history, val_loss.tolist(), strict=True)]
    assert record.onset.rise > 0.01
    lost = make_record(LONG, 1, **CIFAR)
    lost.history[-1] |= {"val_loss": float("nan")}
    figure = drawn(monkeypatch, {LONG: [record, lost]}, None)[f"{LONG}_curves.png"]
    assert len(figure.get_suptitle().splitlines()) == 3
    assert_nothing_overlaps("curves", figure)


def test_eight_long_names_and_a_long_device_name_fit():
    models = [f"{LONG}-{i}" for i in range(8)]
    runs, timing = make_runs(models, 3, **CIFAR), make_timing(models)
    timing.environment["device_name"] = "Some Vendor(R) Processor(TM) with a Long Name, Model 12345 @ 2.60GHz, in a Box"
    styles = model_styles(models)
    for figure in (
        figures.all_models_curves(runs, styles),
        figures.comparison(runs, timing, styles),
        figures.accuracy_vs_cost(runs, timing, styles),
        figures.training_time(runs, timing, styles),
        figures.gradient_by_depth(runs, styles),
        figures.contrasts_figure(planned(runs, *zip(models, models[1:], strict=False)), "Differences", 0.005),
    ):
        assert_nothing_overlaps(figure.get_suptitle(), figure)
        assert_legends_spare_data(figure.get_suptitle(), figure)


def test_models_with_fewer_seeds_say_so_and_have_no_bar():
    models = ["FCN", "CIFARCNN", "CNNWithResidual", "CNNWithResidual-Regularized"]
    alike, styles = make_runs(models, 3, **CIFAR), model_styles(models)
    runs = alike | {model: alike[model][:2] for model in models[2:]}
    figure = figures.comparison(runs, make_timing(models), styles)
    text = text_of(figure)
    assert "95% t-interval from 3 seeds up" in text and f"{np.mean(accuracies_of(runs[models[2]])):.2%}, n = 2" in text
    assert text.count("±") == text.count("%, n = 3") == 2
    assert_nothing_overlaps("comparison", figure)
    text = text_of(figures.comparison(alike, None, styles))
    assert "seeds up" not in text and "n = " not in text and text.count("±") == 4
    rows = planned(runs, models[:2], models[2:])
    for shown, ending in ((rows, "interval from 3 seeds up"), (rows[:1], "interval")):
        (legend,) = figures.contrasts_figure(shown, "Differences", 0.0).legends
        assert legend.get_texts()[0].get_text().endswith(ending)


def test_draw_task_writes_every_figure_and_the_same_bytes_again(tmp_path):
    runs = make_runs(["FCN"], 2)
    options = {"differences": planned(runs, ("FCN", "FCN")), "margin": 0.001, "confused_pair": ("FCN", "FCN")}
    paths = figures.draw_task(runs, make_timing(list(runs)), tmp_path / "first", list(runs), **options)
    kinds = ("curves", "confusion_matrix", "mistakes", "gradient_flow", "update_ratio")
    expected = {f"{model}_{kind}.png" for model in runs for kind in kinds}
    expected |= {"all_models_curves.png", "comparison.png", "accuracy_vs_cost.png", "training_time.png"}
    expected |= {"contrasts.png", "confusion_difference.png", "gradient_by_depth.png"}
    assert {path.name for path in paths} == {path.name for path in (tmp_path / "first").iterdir()} == expected
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "yellow"}):  # a user's own settings
        again = figures.draw_task(runs, make_timing(list(runs)), tmp_path / "second", list(runs), **options)
    for first, second in zip(paths, again, strict=True):
        assert first.read_bytes() == second.read_bytes(), first.name
        with Image.open(first) as picture:
            assert "Software" not in picture.info and picture.width >= 900
    assert figures.draw_task({}, None, tmp_path / "none", ["FCN"]) == []


def test_draws_without_display_torch_or_pyplot(tmp_path):
    """No DISPLAY, and MPLBACKEND=TkAgg."""
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
    assert len(list(tmp_path.glob("*.png"))) == 10


def test_pictures_that_the_records_cannot_carry_are_left_out(monkeypatch):
    runs = make_runs(["FCN", "SimpleCNN"], 1)
    runs["SimpleCNN"] = [dataclasses.replace(make_record("SimpleCNN", 1), arrays=runs["SimpleCNN"][0].arrays)]
    made = drawn(monkeypatch, runs, None, confused_pair=("FCN", "SimpleCNN"))
    assert "confusion_difference.png" not in made and "contrasts.png" not in made  # no seed in common, none planned
    assert "confusion_difference.png" not in drawn(monkeypatch, runs, None, confused_pair=("FCN", "not yet run"))
    for name in [name for name in runs["FCN"][0].arrays if name.startswith("flow_")]:
        del runs["FCN"][0].arrays[name]  # as in records of older versions
    made = drawn(monkeypatch, runs, None)
    assert "FCN_gradient_flow.png" not in made and "FCN_update_ratio.png" not in made and "FCN_curves.png" in made
    assert [ax.get_title().split("\n")[0] for ax in made["gradient_by_depth.png"].axes] == ["SimpleCNN"]


def test_model_curves_hold_the_records_histories():
    records = [make_record("FCN", seed) for seed in range(3)]
    figure = figures.model_curves(records, model_styles(["FCN"])["FCN"])
    names = {"train": "train (training mode)", "fit": "fit (train images, evaluation mode)", "val": "validation"}
    for ax, quantity in zip(figure.axes[:2], ("loss", "accuracy"), strict=True):
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


def test_the_gap_is_validation_minus_fit_loss_against_zero():
    records = [make_record("FCN", seed, overfits_from=7) for seed in range(3)]
    loss, _, gap = figures.model_curves(records, model_styles(["FCN"])["FCN"]).axes
    expected = np.mean([[e["val_loss"] - e["fit_loss"] for e in record.history] for record in records], axis=0)
    np.testing.assert_allclose(by_label(gap)["validation, n = 3"].get_ydata(), expected)
    assert any(np.array_equal(line.get_ydata(), [0, 0]) for line in gap.get_lines())
    (label,) = [name for name in by_label(loss) if "onset" in name]
    onsets = [by_label(ax)[label].get_xdata() for ax in (loss, gap)]
    assert onsets[0] == onsets[1]


def test_a_diverged_seed_leaves_a_gap_in_the_mean():
    records = [make_record("FCN", 0), make_record("FCN", 1, diverges_from=6)]
    figure = figures.model_curves(records, model_styles(["FCN"])["FCN"])
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
        figure = figures.model_curves(records, model_styles(["FCN"])["FCN"])
        lines = {name: set(line.get_xdata()) for name, line in by_label(figure.axes[0]).items() if "onset" in name}
        return figure.get_suptitle().split("\n")[1], lines

    text, lines = title_and_line([*rising, flat])
    assert text == "Overfitting: overfits from epoch 5 (3 of 4 seeds, 4 to 9)"
    assert lines == {"overfitting onset, 3 of 4 seeds": {5}}
    assert title_and_line(rising[2:])[1] == {"overfitting onset": {9}}
    assert title_and_line([flat, flat]) == ("Overfitting: none within 15 epochs in any of 2 seeds", {})
    assert "too few epochs" in title_and_line([make_record(epochs=4)])[0]
    # no line for a minority: it would cross the curves of all
    assert title_and_line([rising[2], flat, flat]) == ("Overfitting: an onset in 1 of 3 seeds (epoch 9)", {})


def test_all_models_share_one_figure_and_keep_their_colours(monkeypatch):
    declared = ["FCN", "CIFARCNN", "CNNWithResidual", LONG]
    styles = model_styles(declared)
    assert len({style.color for style in model_styles([str(i) for i in range(8)]).values()}) == 8
    assert len(set(model_styles([str(i) for i in range(16)]).values())) == 16
    runs = make_runs(declared[1:], 2)  # FCN has no record yet
    timing = make_timing(declared)
    made = drawn(monkeypatch, runs, timing, declared)
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
    figure = figures.comparison(runs, timing, model_styles(models))
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
        for row, model in enumerate(models):  # and below the bar a point for each round
            rounds = scale * np.array(timing.models[model][measure])
            np.testing.assert_allclose(ax.get_lines()[row].get_xdata(), rounds)
            assert row < ax.get_lines()[row].get_ydata()[0] < row + 0.5
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
    for words in ("Test CPU 9000", "2 threads", "bf16", "PyTorch 2.14.1", "7 rounds"):
        assert words in text_of(figure)


def test_one_seed_has_no_interval_and_times_may_be_missing():
    runs = make_runs(["FCN", "SimpleCNN"], 1)
    styles = model_styles(list(runs))
    for figure in (figures.comparison(runs, None, styles), figures.accuracy_vs_cost(runs, None, styles)):
        text = text_of(figure)
        assert text.count(figures.NOT_MEASURED) == 2 and "Times" not in text
        assert "one seed, so no interval" in text and "±" not in text
    accuracy = figures.comparison(runs, None, styles).axes[3]
    assert not any(segment.size for bar in accuracy.collections for segment in bar.get_segments())
    assert row_values(accuracy)[0] == f"{runs['FCN'][0].test_correct / 500:.2%}"


def test_accuracy_against_each_cost():
    models = ["FCN", "SimpleCNN", "CNNWithResidual"]
    runs, timing = make_runs(models, 3), make_timing(models)
    figure = figures.accuracy_vs_cost(runs, timing, model_styles(models))
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
            seeds = [line for line in ax.get_lines() if len(line.get_xdata()) == 3 and line.get_xdata()[0] == x]
            np.testing.assert_allclose(seeds[0].get_ydata(), [r.test_correct / r.test_total for r in records])
    assert "bf16" in text_of(figure)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [f"{model}, n = 3" for model in models]


def test_training_time_of_an_epoch_and_of_a_whole_run():
    models = ["FCN", "SimpleCNN"]
    runs, timing = make_runs(models, 1, epochs=12), make_timing(models, first_epoch_seconds=100)
    figure = figures.training_time(runs, timing, model_styles(models))
    seconds = [np.median(timing.models[model]["train_epoch_seconds"]) for model in models]
    for ax, expected in zip(figure.axes, (seconds, [12 * s / 60 for s in seconds]), strict=True):
        np.testing.assert_allclose([bar.get_width() for bar in ax.patches], expected)
    assert row_values(figure.axes[1]) == [f"{12 * s / 60:.2f} min" for s in seconds]
    quick = figures.training_time(runs, make_timing(models), model_styles(models))
    assert all(value.endswith(" s") for value in row_values(quick.axes[1]))
    assert "12 epochs" in figure.axes[1].get_title() and "7 rounds" in text_of(figure)
    empty = figures.training_time(runs, None, model_styles(models))
    assert text_of(empty).count(figures.NOT_MEASURED) == 2
    assert_nothing_overlaps("not measured", empty)


def test_contrasts_show_interval_seeds_margin_and_verdict_of_each_difference():
    rows = [
        Difference("B − A", Interval(0.0021, 0.001, 0.0032, 3, 0.975), [0.001, 0.002, 0.0033], "better"),
        Difference("C − B", Interval(-0.00001, np.nan, np.nan, 1), [-0.00001], "too few seeds"),
    ]
    figure = figures.contrasts_figure(rows, "Differences", 0.0025)
    (ax,) = figure.axes
    assert row_values(ax) == ["+0.21 (+0.10 to +0.32)\n3 seeds: better", "0.00\n1 seed: too few seeds"]
    bars = [segment for collection in ax.collections for segment in collection.get_segments() if segment.size]
    assert len(bars) == 1  # one seed has no interval
    np.testing.assert_allclose(bars[0], [[0.1, 0], [0.32, 0]])
    points = next(line for line in ax.get_lines() if len(line.get_xdata()) == 3)
    np.testing.assert_allclose(points.get_xdata(), [0.1, 0.2, 0.33])
    assert any(np.array_equal(line.get_xdata(), [0, 0]) for line in ax.get_lines())
    shade = ax.patches[0].get_extents().transformed(ax.transData.inverted())
    np.testing.assert_allclose([shade.x0, shade.x1], [-0.25, 0.25])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["B − A", "C − B"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first on top
    assert "bar: its 97.5% interval" in text_of(figure)
    assert not figures.contrasts_figure(rows, "Differences", 0.0).axes[0].patches


def test_signs_are_shown_but_not_of_zero():
    assert [signed(value, 1) for value in (1.25, -0.3, 0.04, -0.04, 0.0)] == ["+1.2", "−0.3", "0.0", "0.0", "0.0"]
