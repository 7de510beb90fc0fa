"""Figures of curves, costs and contrasts: what their Axes hold."""

import dataclasses

import numpy as np
import pytest
from made_records import make_record, make_timing, with_losses
from pictures import CIFAR, assert_nothing_overlaps, by_label, drawn_curves, make_runs, planned, text_of
from scipy import stats

from utils.figures import task as figures
from utils.figures.canvas import model_styles
from utils.findings.overfitting import overfitting_of
from utils.findings.runs import accuracies_of
from utils.findings.verdicts import Verdict
from utils.stats.intervals import Interval
from utils.stats.paired import Comparison


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
        (legend,) = figures.contrasts_figure(shown, "Differences").legends
        assert legend.get_texts()[0].get_text().endswith(ending)


def test_model_curves_hold_the_records_histories():
    records = [make_record("FCN", seed) for seed in range(3)]
    figure = drawn_curves(records)
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
    figure = drawn_curves(records)
    _, _, gap = figure.axes
    expected = np.mean([[e["val_loss"] - e["fit_loss"] for e in record.history] for record in records], axis=0)
    np.testing.assert_allclose(by_label(gap)["validation, n = 3"].get_ydata(), expected)
    assert any(np.array_equal(line.get_ydata(), [0, 0]) for line in gap.get_lines())
    found = overfitting_of(records)
    growth, risen, fallen = (np.mean(values) for values in (
        np.subtract(found.val_changes, found.fit_changes), found.val_changes, found.fit_changes))  # fmt: skip
    note = figure.legends[0].get_title().get_text()
    assert growth > 0 > fallen and note.startswith("gap's growth since the lowest stretch = ")
    assert f" {growth:.4f} (" in note and note.endswith(f") = {risen:.4f} + {-fallen:.4f}")


def test_a_diverged_seed_leaves_a_gap_in_the_mean():
    records = [make_record("FCN", 0), make_record("FCN", 1, diverges_from=6)]
    figure = drawn_curves(records)
    figure.draw_without_rendering()
    mean = by_label(figure.axes[0])["validation, n = 2"].get_ydata()
    assert np.isfinite(mean[:5]).all() and np.isnan(mean[5:]).all()


def test_the_lowest_stretch_is_shaded_where_validation_loss_rises():
    t, random = np.arange(1, 16), np.random.default_rng(0)

    def title_and_shades(turn, seeds=3, noise=0.01):
        logs = 0.05 * abs(t - turn) + noise * random.normal(size=(seeds, 15))
        fit_loss = np.exp(-t / 5 + 0.01 * random.normal(size=(seeds, 15)))
        records = [
            with_losses(make_record(seed=seed), val_loss=val, fit_loss=fit)
            for seed, (val, fit) in enumerate(zip(np.exp(logs), fit_loss, strict=True))
        ]
        found, figure = overfitting_of(records), drawn_curves(records)
        shades = [[patch.get_extents().transformed(ax.transData.inverted()).intervalx.tolist() for patch in ax.patches]
                  for ax in figure.axes]  # fmt: skip
        title = " ".join(figure.get_suptitle().split("\n")[1:])
        return found, title, shades, [text.get_text() for text in figure.legends[0].get_texts()]

    found, title, (loss, accuracy, gap), legend = title_and_shades(8)
    low, high = (100 * bound for bound in (found.rise.low, found.rise.high))
    assert title == (
        f"Overfits: validation loss is lowest around epoch 8 ({found.kept[0]} to {found.kept[-1]} possible) and ends "
        f"{found.rise.estimate:.1%} higher ({low:.1f} to {high:.1f}%), while the fit loss falls"
    )
    np.testing.assert_allclose([loss[0], gap[0]], [[found.kept[0] - 0.5, found.kept[-1] + 0.5]] * 2)
    assert accuracy == [] and "validation loss lowest around here" in legend
    for turn, seeds, noise, told in (
        (15, 3, 0.01, "Overfitting: none within 15 epochs: "),
        (8, 3, 0.3, "Overfitting: not decided: "),
        (8, 1, 0.001, "Overfitting: validation loss was lowest around epoch 8 and ended "),
    ):
        _, title, shades, legend = title_and_shades(turn, seeds, noise)
        assert title.startswith(told) and shades == [[], [], []] and "validation loss lowest around here" not in legend
    assert "too few epochs" in drawn_curves([make_record(epochs=4)]).get_suptitle()


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
        assert "time" not in text.lower() and all(ax.has_data() for ax in figure.axes)
        assert "one seed, so no interval" in text and "±" not in text
    accuracy = figures.comparison(runs, None, styles).axes[1]
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


def made_verdict(word: str, a: str, b: str, interval: Interval, differences: list[float]) -> Verdict:
    return Verdict(
        word=word,
        a=a,
        b=b,
        seeds=tuple(range(len(differences))),
        differences=np.array(differences),
        comparison=Comparison(difference=interval, equivalence=interval, sd=0.001, p=0.01),
        p=0.02,
        m=2,
        margin=0.0025,
        within=False,
    )


def test_contrasts_show_interval_seeds_margin_and_verdict_of_each_difference():
    better = made_verdict("better", "A", "B", Interval(0.0021, 0.001, 0.0032, 3, 0.975), [0.001, 0.002, 0.0033])
    few = made_verdict("too few seeds", "B", "C", Interval(-0.00001, np.nan, np.nan, 1), [-0.00001])
    figure = figures.contrasts_figure([better, few], "Differences")
    (ax,) = figure.axes
    assert row_values(ax) == ["+0.21 (+0.10 to +0.32)\n3 seeds: B better", "0.00\n1 seed: too few seeds"]
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
    without_margin = [dataclasses.replace(verdict, margin=0.0) for verdict in (better, few)]
    assert not figures.contrasts_figure(without_margin, "Differences").axes[0].patches
