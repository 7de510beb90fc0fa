"""Very many seeds or models: pictures show some of them one by one, say so, and summarise all."""

import dataclasses

import numpy as np
import pytest
from made_records import make_record
from matplotlib.collections import FillBetweenPolyCollection
from pictures import assert_nothing_overlaps, drawn_curves, make_runs, planned, text_of
from scipy import stats

from utils.figures import gradients, panels
from utils.figures import task as figures
from utils.figures.canvas import model_styles, seeds_shown

MANY, SHOWN = 60, 50


@pytest.fixture(scope="module")
def records():
    """Runs of one model; the last but one has the highest losses."""
    made = [make_record("FCN", seed, test_total=50) for seed in range(MANY)]
    highest = [{**epoch, "val_loss": 2 * epoch["val_loss"]} for epoch in made[-2].history]
    return [*made[:-2], dataclasses.replace(made[-2], history=highest), made[-1]]


def thin_lines(ax) -> list:
    return [line for line in ax.get_lines() if line.get_linewidth() == 0.6]


def test_those_shown_lie_in_equal_distances_from_the_first_to_the_last():
    assert seeds_shown(1).tolist() == [0] and seeds_shown(SHOWN).tolist() == list(range(SHOWN))
    shown = seeds_shown(2500)
    assert len(set(shown.tolist())) == SHOWN and (shown[0], shown[-1]) == (0, 2499)
    assert set(np.diff(shown)) == {51}


def test_curves_have_lines_for_some_and_a_band_over_all(records):
    figure = drawn_curves(records)
    loss_ax = figure.axes[0]
    assert len(thin_lines(loss_ax)) == 3 * SHOWN
    assert "band: lowest to highest seed, lines: each of 50 seeds" in text_of(figure) and "n = 60" in text_of(figure)
    highest = max(record.curve("val_loss")[-1] for record in records)
    bands = [part for part in loss_ax.collections if isinstance(part, FillBetweenPolyCollection)]
    assert max(band.get_paths()[0].vertices[:, 1].max() for band in bands) >= highest
    assert_nothing_overlaps("curves of many seeds", figure)
    few = drawn_curves(records[:SHOWN])
    assert len(thin_lines(few.axes[0])) == 3 * SHOWN and "lines: each" not in text_of(few)


def test_gradients_are_means_over_all_with_points_of_some(records):
    figure = gradients.gradient_flow(records)
    medians = np.array([record.arrays["flow_norms"][..., 1] for record in records], dtype=float)
    lines = [line for line in figure.axes[0].get_lines() if line.get_linestyle() == "-"]
    np.testing.assert_allclose([line.get_ydata() for line in lines], stats.gmean(medians, axis=0).T)
    assert len(figure.axes[0].get_lines()) == 4 * (1 + SHOWN) and "small points: each of 50 seeds" in text_of(figure)
    depth = gradients.gradient_by_depth({"FCN": records}, model_styles(["FCN"]))
    assert "60 seeds" in text_of(depth) and "small points: each of 50 seeds" in text_of(depth)


def test_rows_have_points_for_some(records):
    runs = {"FCN": records}
    figure = figures.comparison(runs, None, model_styles(["FCN"]))
    assert SHOWN in [len(line.get_xdata()) for line in figure.axes[1].get_lines()]
    assert "beside it a small point for each of 50 seeds." in text_of(figure)


def test_what_is_left_out_of_very_many_models_is_said(monkeypatch):
    """With smaller limits than ours, since panels take their time."""
    for module, name in ((gradients, "MODELS_SHOWN"), (figures, "DIFFERENCES_SHOWN"), (panels, "MODELS_WITH_BANDS")):
        assert getattr(module, name) > 12
        monkeypatch.setattr(module, name, 4)
    models = [f"model {i}" for i in range(6)]
    runs, styles = make_runs(models, 3, epochs=5), model_styles(models)
    curves = figures.all_models_curves(runs, styles)
    assert not curves.axes[0].collections and "band" not in curves.get_suptitle()
    assert len(curves.legends[0].get_texts()) == 6
    depth = gradients.gradient_by_depth(runs, styles)
    assert [ax.get_title().split("\n")[0] for ax in depth.axes if ax.get_visible()] == models[:4]
    assert "the first 4 of 6 models" in depth.get_suptitle()
    verdicts = planned(runs, *((models[0], model) for model in models[1:]))
    forest = figures.contrasts_figure(verdicts, "CIFAR-10: planned differences")
    assert len(forest.axes[0].get_yticks()) == 4 and "the first 4 of 5" in forest.get_suptitle()
    for name, figure in (("curves", curves), ("depth", depth), ("contrasts", forest)):
        assert_nothing_overlaps(name, figure)
