"""A folder that stands in for the checkout, for whole runs of the command line on small data."""

import dataclasses
import math
from functools import partial
from pathlib import Path

import pytest
from made_records import make_record, make_timing

from models import FCN
from utils import cli
from utils.command import devices, outcome, outputs, plan, processes, schedule, steps
from utils.command.plan import hashes_of
from utils.data import specs as datasets
from utils.data.sources import load_arrays
from utils.data.specs import DIGITS, data_sha256
from utils.experiment import Contrast, Experiment, Task, TrainConfig
from utils.records.folder import mark_data, publish
from utils.records.timing import write_timing
from utils.report.readme import block_of
from utils.training import cell as cells
from utils.training import device
from utils.training.sources import model_hash

RECIPE = TrainConfig(epochs=2, batch_size=64, optimizer="sgd", learning_rate=0.05)
RUNAWAY = dataclasses.replace(RECIPE, learning_rate=1e30)
SMALL = partial(FCN, hidden=(8,))


def task_of(dataset="digits", **configs) -> Task:
    return Task("tiny", dataset, [Experiment(name, SMALL, config) for name, config in configs.items()])


TASK = task_of(A=RECIPE, B=RECIPE)
DECAYED = dataclasses.replace(RECIPE, weight_decay=0.01)
WITH_ABLATION = Task(
    "tiny",
    "digits",
    [Experiment("A", SMALL, RECIPE), Experiment("B", partial(FCN, hidden=(8,), dropout=0.5), DECAYED)],
    [Contrast("A", "B", differs=("dropout", "weight_decay"))],
    ablation=[
        Experiment("A-Decay", SMALL, DECAYED),
        Experiment("A-Moved", SMALL, dataclasses.replace(RECIPE, augmentation=True)),
    ],
)
DIGITS_SHA256 = data_sha256(DIGITS, load_arrays(DIGITS, Path()))
HASHES = hashes_of(TASK.experiments, DIGITS)


def digests(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def timing_pass(experiments, hashes, code, *_):
    """What the timing pass would record."""
    names = [experiment.name for experiment in experiments]
    of_each = {"config_hashes": {n: hashes[n] for n in names}, "model_hashes": {n: code[n] for n in names}}
    return dataclasses.replace(make_timing(names), **of_each)


class Place:
    """A folder that stands in for the checkout; `trained` and `drawn` list what happened in it, in order."""

    def __init__(self, folder: Path):
        self.folder, self.readme = folder, folder / "README.md"
        self.plots, self.runs = folder / "plots" / "tiny", folder / "runs"
        self.records = self.plots / "records" / "cpu-fp32"
        self.trained: list[str] = []
        self.drawn: list[dict[str, list[int]]] = []
        self.drawn_into: list[Path] = []
        self.before_cell = lambda job: None

    def run(self, *arguments: str, task: Task = TASK) -> int:
        command = ["--device", "cpu", "--precision", "fp32", "--runs-dir", str(self.runs), *arguments]
        self.trained.clear()
        self.drawn.clear()
        self.drawn_into.clear()
        return cli.run(task, command)

    def page(self) -> str:
        """The text of RESULTS.md."""
        return (self.plots / "RESULTS.md").read_text()

    def block(self) -> str:
        """What the README shows of it in short."""
        return block_of(self.readme.read_text(), "tiny")

    def old_records(self, *stems: str, kind="cpu-fp32", task: Task = TASK) -> dict[str, bytes]:
        """Finished records, by the recipes of `task`, of an earlier run, its mark of data and its timing pass."""
        hashes = hashes_of(task.experiments, DIGITS)
        for stem in stems:
            model, seed = stem.split("-seed")
            record = make_record(
                model, int(seed), task="tiny", dataset="digits", image_shape=(1, 8, 8), test_total=360,
                config_hash=hashes[model],
            )  # fmt: skip
            record = dataclasses.replace(record, data_sha256=DIGITS_SHA256)
            publish(self.plots / "records" / kind, record)
        mark_data(self.plots / "records" / kind, DIGITS_SHA256)
        code = {experiment.name: model_hash(experiment) for experiment in task.experiments}
        write_timing(self.plots / "records" / kind, timing_pass(task.experiments, hashes, code))
        return digests(self.plots)


@pytest.fixture
def place(tmp_path, monkeypatch) -> Place:
    place = Place(tmp_path)
    blocks = [f"<!-- {name}: begin -->\n<!-- {name}: end -->" for name in ("tiny", "tiny_numbers")]
    place.readme.write_text("\n".join(["before", *blocks, "after\n"]))
    run_cell = cells.run_cell

    def counted(job, on_epoch):
        place.before_cell(job)
        place.trained.append(job.stem)
        return run_cell(job, on_epoch)

    def draw_task(results, folder):
        place.ablation_drawn = list(results.ablation)
        place.drawn.append({model: [record.seed for record in records] for model, records in results.runs.items()})
        place.drawn_into.append(folder)
        return []

    monkeypatch.setitem(datasets.DATASETS, "digits", DIGITS)  # so that a recipe on it is declared, and no quick look
    monkeypatch.setattr(device, "has_bf16_units", lambda _: True)  # a tiny net trains in bf16 on any CPU
    monkeypatch.setattr(plan, "PLOTS", tmp_path / "plots")
    monkeypatch.setattr(outputs, "README", place.readme)
    monkeypatch.setattr(outputs, "draw_task", draw_task)
    place.draw_task = draw_task
    monkeypatch.setattr(outputs, "write_report", lambda *_: None)  # like pictures, its charts take seconds
    monkeypatch.setattr(processes, "run_cell", counted)
    # In this process, which a test can watch and break: starting another takes seconds.
    monkeypatch.setattr(steps, "why_not_apart", lambda jobs: "")
    monkeypatch.setattr(steps, "run_side_by_side", lambda jobs, _, on_epoch: processes.run_in_turn(jobs, on_epoch))
    monkeypatch.setattr(outcome, "SECONDS_BETWEEN_DRAWINGS", 0)
    monkeypatch.setattr(outcome, "SHARE_OF_DRAWING", math.inf)
    for module in (steps, devices):
        monkeypatch.setattr(module, "physical_cores", lambda: 1)
    for cost in ("seconds_per_step", "seconds_per_image"):  # equal models are trained in the declared order
        monkeypatch.setattr(schedule, cost, lambda *_: 0.01)
    monkeypatch.setattr(steps, "timing_pass", timing_pass)
    return place
