"""What tests of figures share: runs and differences to draw, and that nothing lies on anything else."""

import itertools

import matplotlib
import matplotlib.style
import matplotlib.text
from made_records import CIFAR_CLASSES, make_record
from matplotlib.figure import Figure

from models import FCN
from utils.experiment import Contrast, Experiment, Task, TrainConfig
from utils.figures.panels import FIT_STYLE
from utils.figures.task import model_curves
from utils.findings.overfitting import overfitting_of
from utils.findings.verdicts import Verdict, accuracy_verdicts

CIFAR = {"task": "task_1_2", "dataset": "cifar10", "image_shape": (3, 32, 32), "class_names": CIFAR_CLASSES}
LONG = "CNNWithResidual-Regularized"
RECIPE = TrainConfig(epochs=15, batch_size=64, optimizer="adam", learning_rate=1e-3)


def make_runs(models, seeds, **options):
    return {
        model: [
            make_record(model, seed, test_total=500, accuracy=0.9 + 0.012 * (i % 8), **options) for seed in range(seeds)
        ]
        for i, model in enumerate(models)
    }


def drawn_curves(records, style=FIT_STYLE) -> Figure:
    """A model's learning curves, with the verdict on its overfitting."""
    return model_curves(records, overfitting_of(records), style)


def text_of(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def by_label(ax) -> dict:
    return {line.get_label(): line for line in ax.get_lines() if not line.get_label().startswith("_")}


def assert_nothing_overlaps(name: str, figure: Figure) -> None:
    """No panel, with its ticks and titles, and no legend or note lies on another one or leaves the canvas.

    Nor do the tick labels of one axis lie on one another.
    """
    figure.draw_without_rendering()
    parts = {f"panel {i}": ax.get_tightbbox() for i, ax in enumerate(figure.axes) if ax.get_visible()}
    parts |= {f"legend {i}": legend.get_window_extent() for i, legend in enumerate(figure.legends)}
    parts |= {text.get_text(): text.get_window_extent() for text in figure.texts if text.get_text()}
    canvas = figure.bbox
    for part, box in parts.items():
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= canvas.x1 and box.y1 <= canvas.y1
        assert inside, f"{name}: {part} {box} leaves the canvas {canvas}"
    assert_apart(name, parts)
    for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
        labels = [
            label for label in axis.get_ticklabels(which="both") if label.get_text() and label.get_rotation() in (0, 90)
        ]
        assert_apart(name, {label.get_text(): label.get_window_extent() for label in labels if label.get_visible()})


def assert_apart(name: str, parts: dict) -> None:
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
            points = line.get_transform().transform(line.get_xydata())
            assert not any(box.contains(x, y) for x, y in points), f"{name}: the legend covers {line.get_label()}"


def planned(runs, *pairs, margin=0.0) -> list[Verdict]:
    return accuracy_verdicts(runs, [Contrast(a, b) for a, b in pairs], margin)


def task_of(models, *pairs, variants=None, margin=0.0) -> Task:
    """A task of these models that plans to compare `pairs`, and as well `variants`, whose confusions are compared."""
    contrasts = [Contrast(a, b) for a, b in pairs]
    contrasts += [Contrast(*variants, differs=("dropout",))] if variants else []
    experiments = [Experiment(model, FCN, RECIPE) for model in models]
    return Task("task_1_1", "mnist", experiments, contrasts, equivalence_margin=margin)
