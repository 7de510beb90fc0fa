"""report.html of made-up runs, and test images whose pixels tell their number."""

import dataclasses
from html.parser import HTMLParser

import numpy as np
from made_records import CIFAR_CLASSES, make_record, make_timing

from models import FCN
from utils.experiment import Contrast, Experiment, Task, TrainConfig
from utils.figures.interactive import draw_charts
from utils.findings.results import Results
from utils.report.html import Setting, report_page

RECIPE = TrainConfig(epochs=15, batch_size=64, optimizer="adam", learning_rate=1e-3)
THREE = ("FCN", "SimpleCNN", "CNNWithResidual")
ATTACKS = (
    "<script>hacked = 1</script>",
    '"><img src=x onerror="hacked = 2">',
    "</script>",
    "a & b",
    "$x$",
    "{{ 7*7 }}",
)
TAG = "<marquee>&amp;"


def results_of(models=THREE, seeds=3, timed=True, step=0.01, **options) -> Results:
    """Runs of `models`, each more accurate than the one before, and the contrasts of neighbours."""
    options = {"test_total": 300, "class_names": CIFAR_CLASSES, "image_shape": (3, 32, 32)} | options
    runs = {
        model: [make_record(model, seed, accuracy=0.8 + step * (i % 12), **options) for seed in range(seeds)]
        for i, model in enumerate(models)
    }
    experiments = [Experiment(model, FCN, RECIPE) for model in models]
    contrasts = [Contrast(a, b) for a, b in zip(models, models[1:], strict=False)]
    task = Task("task_1_1", "mnist", experiments, contrasts, equivalence_margin=0.001)
    return Results(task, runs, timing=make_timing(list(models)) if timed else None)


def many_classes() -> Results:
    """Twelve models on images of 120 classes."""
    names = tuple(f"breed number {i}" for i in range(120))
    return results_of([f"Net{i}" for i in range(12)], 1, test_total=2_400, class_names=names, epochs=3)


def attacked() -> Results:
    """Results in which all that a user names is an attack on the page."""
    models = (ATTACKS[0], TAG, "</style><script>hacked = 3</script>")
    return dataclasses.replace(results_of(models, class_names=ATTACKS), left_out=[f"{ATTACKS[1]}: diverged"])


def numbered_images(count, side=32, colours=True) -> np.ndarray:
    """(count, side, side[, 3]) uint8: the first pixels hold the image's number, the rest is noise of its own."""
    random = np.random.default_rng(5)
    images = random.integers(0, 256, (count, side, side, *([3] if colours else [])), np.uint8)
    images.reshape(count, -1)[:, 0], images.reshape(count, -1)[:, 1] = np.divmod(np.arange(count), 256)
    return images


def page_of(results, images=None, charts=None) -> bytes:
    svgs, looks = charts or draw_charts(results)
    return report_page(results, svgs, looks, Setting("python task.py --num-seeds 3", ["checked"], images))


class Page(HTMLParser):
    """The elements of a page: (tag, attributes), and the text within scripts and elsewhere."""

    def __init__(self, content: bytes):
        super().__init__()
        self.elements, self.scripts, self.styles, self.words, self.within = [], [], [], [], []
        self.feed(content.decode())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.within.append(tag)

    def handle_endtag(self, tag):
        if tag in self.within:
            while self.within.pop() != tag:
                pass

    def handle_data(self, data):
        inside = self.within[-1] if self.within else ""
        {"script": self.scripts, "style": self.styles}.get(inside, self.words).append(data)

    def having(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join("".join(self.words).split())
