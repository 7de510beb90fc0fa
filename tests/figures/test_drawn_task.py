"""All figures of a task: nothing lies on anything else, and the same records give the same bytes."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import matplotlib.style
import numpy as np
import pytest
from checkout_folder import CHECKOUT
from made_ablation import ABLATION_NAMES, ablation_runs
from made_records import make_record, make_timing
from matplotlib.figure import Figure
from pictures import (
    CIFAR,
    LONG,
    assert_legends_spare_data,
    assert_nothing_overlaps,
    by_label,
    make_runs,
    planned,
    task_of,
    text_of,
)
from PIL import Image

from utils.figures import task as figures
from utils.figures.canvas import MARKERS, model_styles
from utils.findings.results import Results


def drawn(monkeypatch, results: Results) -> dict[str, Figure]:
    """The figures that draw_task makes, by file name, not yet rendered."""
    made = {}
    monkeypatch.setattr(figures, "save", lambda figure, path: made.setdefault(path.name, figure))
    figures.draw_task(results, Path("unused"))
    return made


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
    task = task_of(models, *pairs, variants=(models[0], models[-1]), margin=0.001)
    made = drawn(monkeypatch, Results(task, runs, timing=make_timing(models) if timed else None))
    assert len(made) == 6 + timed + 5 * len(models)
    for name, figure in made.items():
        if name.startswith(models[0]) and len(models) > 1:
            continue  # looks like the other models', whose names are longer
        assert_nothing_overlaps(name, figure)
        assert_legends_spare_data(name, figure)


def test_a_long_sentence_on_overfitting_fits(monkeypatch):
    records = [make_record(LONG, seed, **CIFAR, overfits_from=7) for seed in range(3)]
    for record in records:  # the loss rises, and the fit loss with it
        record.history[:] = [epoch | {"fit_loss": 1 + epoch["val_loss"]} for epoch in record.history]
    figure = drawn(monkeypatch, Results(task_of([LONG]), {LONG: records}))[f"{LONG}_curves.png"]
    assert "though the fit loss isn't shown to fall" in " ".join(figure.get_suptitle().splitlines())
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
        figures.contrasts_figure(planned(runs, *zip(models, models[1:], strict=False), margin=0.005), "Differences"),
    ):
        assert_nothing_overlaps(figure.get_suptitle(), figure)
        assert_legends_spare_data(figure.get_suptitle(), figure)


def test_draw_task_writes_every_figure_and_the_same_bytes_again(tmp_path):
    runs = make_runs(["FCN"], 2)
    results = Results(task_of(["FCN"], variants=("FCN", "FCN"), margin=0.001), runs, timing=make_timing(list(runs)))
    paths = figures.draw_task(results, tmp_path / "first")
    kinds = ("curves", "confusion_matrix", "mistakes", "gradient_flow", "update_ratio")
    expected = {f"{model}_{kind}.png" for model in runs for kind in kinds}
    expected |= {"all_models_curves.png", "comparison.png", "accuracy_vs_cost.png", "training_time.png"}
    expected |= {"contrasts.png", "confusion_difference.png", "gradient_by_depth.png"}
    assert {path.name for path in paths} == {path.name for path in (tmp_path / "first").iterdir()} == expected
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "yellow"}):  # a user's own settings
        again = figures.draw_task(results, tmp_path / "second")
    for first, second in zip(paths, again, strict=True):
        assert first.read_bytes() == second.read_bytes(), first.name
        with Image.open(first) as picture:
            assert "Software" not in picture.info and picture.width >= 900
    assert figures.draw_task(Results(results.task, {}), tmp_path / "none") == []


def test_draws_without_display_torch_or_pyplot(tmp_path):
    """No DISPLAY, and MPLBACKEND=TkAgg."""
    code = """
import sys
from pathlib import Path
from made_records import make_record
from utils.experiment import Experiment, Task, TrainConfig
from utils.figures.task import draw_task
from utils.findings.results import Results
task = Task("task_1_1", "mnist", [Experiment("FCN", dict, TrainConfig(15, 64, "adam", 1e-3))])
draw_task(Results(task, {"FCN": [make_record(test_total=50)]}), Path(sys.argv[1]))
assert "torch" not in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    environment = {name: value for name, value in os.environ.items() if "DISPLAY" not in name}
    environment["MPLBACKEND"] = "TkAgg"
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (CHECKOUT, CHECKOUT / "tests/helpers")))
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=tmp_path, env=environment, check=True)
    assert len(list(tmp_path.glob("*.png"))) == 8 + 1


def test_pictures_that_the_records_cannot_carry_are_left_out(monkeypatch):
    runs = make_runs(["FCN", "SimpleCNN"], 1)
    runs["SimpleCNN"] = [dataclasses.replace(make_record("SimpleCNN", 1), arrays=runs["SimpleCNN"][0].arrays)]
    task = task_of(list(runs), variants=("FCN", "SimpleCNN"))
    made = drawn(monkeypatch, Results(task, runs))
    assert "confusion_difference.png" not in made and "contrasts.png" not in made  # no seed in common
    not_run = task_of([*runs, "not yet run"], variants=("FCN", "not yet run"))
    assert "confusion_difference.png" not in drawn(monkeypatch, Results(not_run, runs))
    assert "contrasts.png" not in drawn(monkeypatch, Results(task_of(list(runs)), runs))  # none planned
    for name in [name for name in runs["FCN"][0].arrays if name.startswith("flow_")]:
        del runs["FCN"][0].arrays[name]  # as in records of older versions
    made = drawn(monkeypatch, Results(task, runs))
    assert "FCN_gradient_flow.png" not in made and "FCN_update_ratio.png" not in made and "FCN_curves.png" in made
    assert [ax.get_title().split("\n")[0] for ax in made["gradient_by_depth.png"].axes] == ["SimpleCNN"]


def test_all_models_share_one_figure_and_keep_their_colours(monkeypatch):
    declared = ["FCN", "CIFARCNN", "CNNWithResidual", LONG]
    styles = model_styles(declared)
    assert len({style.color for style in model_styles([str(i) for i in range(8)]).values()}) == 8
    assert len(set(model_styles([str(i) for i in range(16)]).values())) == 16
    runs = make_runs(declared[1:], 2)  # FCN has no record yet
    timing = make_timing(declared)
    made = drawn(monkeypatch, Results(task_of(declared), runs, timing=timing))
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


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_picture_of_the_ablation_shows_accuracy_and_gap(seeds):
    runs = ablation_runs(seeds)
    figure = figures.regularisation_ablation(runs, model_styles([*ABLATION_NAMES]))
    assert_nothing_overlaps("ablation", figure)
    accuracy_ax, gap_ax = figure.axes
    gaps = [[r.history[-1]["val_loss"] - r.history[-1]["fit_loss"] for r in records] for records in runs.values()]
    for row, (records, gap) in enumerate(zip(runs.values(), gaps, strict=True)):
        for ax, values in ((accuracy_ax, [r.test_correct / r.test_total for r in records]), (gap_ax, gap)):
            lines = [line for line in ax.get_lines() if line.get_ydata()[0] == row]
            (marker,) = [line for line in lines if line.get_marker() in MARKERS and len(line.get_xdata()) == 1]
            assert marker.get_xdata()[0] == pytest.approx(np.mean(values))
    assert "which regulariser" in text_of(figure) and not by_label(gap_ax)
    assert ("Accuracy and gap: mean over seeds" in text_of(figure)) == (seeds > 1)
