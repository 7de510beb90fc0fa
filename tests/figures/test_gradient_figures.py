"""Figures of gradients: what their Axes hold, with zeros, several seeds and models of unlike depth."""

import numpy as np
import pytest
from made_records import flow_arrays, make_record
from matplotlib.colors import to_rgb
from pictures import LONG, assert_nothing_overlaps, text_of
from scipy import stats

from utils.figures.canvas import model_styles
from utils.figures.gradients import ALL_ZERO, gradient_by_depth, gradient_flow, update_ratio

RESIDUAL_LAYERS = 18  # of the main path; three more are shortcuts


def seeds_of(model: str, count: int, **options) -> list:
    return [make_record(model, seed, test_total=50, **options) for seed in range(count)]


def main_path_of(record, array: str) -> np.ndarray:
    """Independent of the code under test: shortcuts told by their name."""
    kept = [i for i, name in enumerate(record.arrays["flow_weight_names"]) if "shortcut" not in name]
    return record.arrays[array][:, kept]


@pytest.mark.parametrize(
    ("draw", "array"), [(gradient_flow, "flow_norms"), (update_ratio, "flow_update_ratios")], ids=["norm", "ratio"]
)
def test_each_layer_of_the_main_path_is_a_line_and_a_row(draw, array):
    records = seeds_of("CNNWithResidual", 3)
    figure = draw(records)
    curves, heat_map = figure.axes[:2]
    medians = np.array([main_path_of(record, array)[..., 1] for record in records])
    expected = stats.gmean(medians.astype(float), axis=0)  # (bins, L)
    lines = [line for line in curves.get_lines() if line.get_linestyle() == "-"]
    assert len(lines) == RESIDUAL_LAYERS and curves.get_yscale() == "log"
    for line, layer in zip(lines, expected.T, strict=True):
        np.testing.assert_allclose(line.get_ydata(), layer)
        np.testing.assert_allclose(line.get_xdata(), np.arange(0.125, 15, 0.25))  # four bins an epoch, their middles
    lightness = [sum(to_rgb(line.get_color())) for line in lines]
    assert np.all(np.diff(lightness) > 0)  # one sequential map
    points = [line.get_ydata() for line in curves.get_lines() if line.get_linestyle() == "None"]
    for layer in range(RESIDUAL_LAYERS):
        for seed in range(3):
            assert any(np.allclose(values, medians[seed, :, layer]) for values in points)
    (mesh,) = heat_map.collections
    np.testing.assert_allclose(mesh.get_array(), expected.T)
    assert heat_map.get_ylim() == (RESIDUAL_LAYERS + 0.5, 0.5)  # the input's layer on top
    labels = [label.get_text() for label in heat_map.get_yticklabels()]
    assert labels[0] == "stem.0.weight  (1)" and labels[-1] == "classifier.2.weight  (18)"
    assert "3 seeds" in figure.get_suptitle() and "geometric mean over seeds" in figure.get_suptitle()
    assert "depth" in text_of(figure) and "exactly zero" not in text_of(figure)


@pytest.mark.parametrize(("model", "seeds", "epochs"), [(LONG, 6, 15), ("FCN", 1, 1), ("SimpleCNN", 3, 100)])
def test_nothing_overlaps(model, seeds, epochs):
    records = seeds_of(model, seeds, epochs=epochs)
    assert_nothing_overlaps(f"{model} norms", gradient_flow(records))
    assert_nothing_overlaps(f"{model} ratios", update_ratio(records))


def test_norms_of_one_value_or_of_many_decades_are_drawn():
    for low in (1.0, 1e-12):
        (record,) = seeds_of("CNNWithResidual", 1)
        names = record.arrays["flow_weight_names"]
        record.arrays["flow_norms"][:] = np.geomspace(low, 1, len(names))[:, None]
        assert_nothing_overlaps(f"from {low}", gradient_flow([record]))


def test_exact_zeros_are_masked():
    records = seeds_of("FCN", 2)
    records[1].arrays["flow_norms"][8:12, 2] = 0
    figure = gradient_flow(records)
    lines = [line for line in figure.axes[0].get_lines() if line.get_linestyle() == "-"]
    assert np.flatnonzero(np.isnan(lines[2].get_ydata())).tolist() == [8, 9, 10, 11]
    assert np.isfinite([lines[i].get_ydata() for i in (0, 1, 3)]).all()
    mask = np.ma.getmaskarray(figure.axes[1].collections[0].get_array())
    assert mask[2, 8:12].all() and mask.sum() == 4
    assert "exactly zero" in text_of(figure)
    assert_nothing_overlaps("with zeros", figure)
    lowest = min(
        record.arrays["flow_norms"][..., 1][record.arrays["flow_norms"][..., 1] > 0].min() for record in records
    )
    assert figure.axes[0].get_ylim()[0] > lowest / 3  # no epsilon stretches the axis


def test_a_layer_or_a_model_without_any_gradient_is_drawn_without_a_warning(recwarn):
    records = seeds_of("FCN", 2)
    for record in records:
        record.arrays["flow_norms"][:, 0] = 0
    assert_nothing_overlaps("one silent layer", gradient_flow(records))
    for record in records:
        record.arrays.update(flow_arrays("FCN", record.seed, 15, scale=0.0))
    half_dead = [records[0], *seeds_of("FCN", 1)]  # no mean anywhere
    assert_nothing_overlaps("half dead", gradient_flow(half_dead))
    runs = {"FCN": records, "SimpleCNN": seeds_of("SimpleCNN", 2)}
    for figure in (gradient_flow(records), update_ratio(records), gradient_by_depth(runs, model_styles(list(runs)))):
        assert ALL_ZERO in text_of(figure)
        assert_nothing_overlaps(figure.get_suptitle(), figure)
    gradient_by_depth({"FCN": records}, model_styles(["FCN"])).draw_without_rendering()
    assert not recwarn.list


def test_gradient_by_depth_shows_three_epochs_of_each_model():
    runs = {"FCN": seeds_of("FCN", 3), LONG: seeds_of(LONG, 2)}
    styles = model_styles(list(runs))
    figure = gradient_by_depth(runs, styles)
    for ax, (model, records) in zip(figure.axes, runs.items(), strict=True):
        norms = np.array([main_path_of(record, "flow_epoch_norms") for record in records], dtype=float)
        depths = np.arange(1, norms.shape[2] + 1)
        lines = {line.get_label(): line for line in ax.get_lines() if line.get_label().endswith("epoch")}
        points = [line for line in ax.get_lines() if line.get_linestyle() == "None"]
        for label, epoch in (("first epoch", 0), ("middle epoch", 7), ("last epoch", 14)):
            np.testing.assert_allclose(lines[label].get_ydata(), stats.gmean(norms[:, epoch]))
            np.testing.assert_array_equal(lines[label].get_xdata(), depths)
            for seed in norms[:, epoch]:
                assert any(np.allclose(line.get_ydata(), seed) for line in points)
        drawn = [np.array(collection.get_segments()) for collection in ax.collections]
        assert len(drawn) == 3
        if len(records) < 3:  # two seeds would have bars over everything
            assert not any(segments.size for segments in drawn)
            continue
        for segments, epoch in zip(drawn, (0, 7, 14), strict=True):
            logs = np.log(norms[:, epoch])
            low, high = np.exp(stats.t.interval(0.95, len(logs) - 1, logs.mean(axis=0), stats.sem(logs, axis=0)))
            np.testing.assert_allclose(segments, np.stack([np.c_[depths, low], np.c_[depths, high]], 1))
        assert to_rgb(lines["last epoch"].get_color()) == pytest.approx(to_rgb(styles[model].color))
        assert ax.get_title() == f"{model}\n{len(records)} seeds, epochs 1, 8, 15" and ax.get_yscale() == "log"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["first epoch", "middle epoch", "last epoch"]


@pytest.mark.parametrize(("epochs", "shown"), [(1, "1"), (2, "1, 2"), (3, "1, 2, 3")])
def test_short_runs_show_the_epochs_they_have(epochs, shown):
    figure = gradient_by_depth({"FCN": seeds_of("FCN", 1, epochs=epochs)}, model_styles(["FCN"]))
    assert figure.axes[0].get_title() == f"FCN\n1 seed, epochs {shown}"
    assert "seeds" not in figure.get_suptitle()
    assert_nothing_overlaps("one model", figure)
