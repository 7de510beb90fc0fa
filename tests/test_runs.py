"""Whole runs of the command line on small data: what they train, keep, replace, drop, draw, say and return."""

import dataclasses
import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import npz, random_arrays, spec_of
from records import make_record, make_timing
from safetensors.torch import load_file

from models import FCN
from models.cnn import PlainCNN
from utils import cells, cli, data, datasets, distributed, environment, outputs, plan, train
from utils.arguments import parse
from utils.datasets import DIGITS, MNIST
from utils.device import Execution, physical_cores
from utils.evaluate import loss_and_correct, predict
from utils.experiment import Experiment, Task, TrainConfig
from utils.plan import hashes_of, make_plan
from utils.report import block_of
from utils.results import publish, read_record, read_timing, write_timing

RECIPE = TrainConfig(epochs=2, batch_size=64, optimizer="sgd", learning_rate=0.05)
RUNAWAY = dataclasses.replace(RECIPE, learning_rate=1e30)
SMALL = partial(FCN, hidden=(8,))
CHECKOUT = Path(__file__).resolve().parent.parent


def task_of(dataset="digits", **configs) -> Task:
    return Task("tiny", dataset, [Experiment(name, SMALL, config) for name, config in configs.items()])


TASK = task_of(A=RECIPE, B=RECIPE)
HASHES = hashes_of(TASK.experiments, DIGITS)


def digests(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


class Place:
    """A folder that stands in for the checkout; `trained` and `drawn` list what happened in it, in order."""

    def __init__(self, folder: Path):
        self.folder, self.readme = folder, folder / "README.md"
        self.plots, self.runs = folder / "plots" / "tiny", folder / "runs"
        self.records = self.plots / "records" / "cpu-fp32"
        self.trained: list[str] = []
        self.drawn: list[dict[str, list[int]]] = []
        self.before_cell = lambda job: None

    def run(self, *arguments: str, task: Task = TASK) -> int:
        command = ["--device", "cpu", "--precision", "fp32", "--runs-dir", str(self.runs), *arguments]
        self.trained.clear()
        self.drawn.clear()
        return cli.run(task, command)

    def block(self) -> str:
        return block_of(self.readme.read_text(), "tiny")

    def old_records(self, *stems: str, kind="cpu-fp32", task: Task = TASK) -> dict[str, bytes]:
        """Finished records, by the recipes of `task`, of an earlier run, and its timing pass."""
        hashes = hashes_of(task.experiments, DIGITS)
        for stem in stems:
            model, seed = stem.split("-seed")
            record = make_record(
                model, int(seed), task="tiny", dataset="digits", image_shape=(1, 8, 8), test_total=360,
                config_hash=hashes[model],
            )  # fmt: skip
            publish(self.plots / "records" / kind, record)
        write_timing(self.plots / "records" / kind, make_timing(list(hashes)))
        return digests(self.plots)


@pytest.fixture
def place(tmp_path, monkeypatch) -> Place:
    place = Place(tmp_path)
    place.readme.write_text("before\n<!-- tiny: begin -->\n<!-- tiny: end -->\nafter\n")
    run_cell = cells.run_cell

    def counted(job, data, on_epoch):
        place.before_cell(job)
        place.trained.append(job.stem)
        return run_cell(job, data, on_epoch)

    def draw_task(runs, timing, folder, declared):
        place.drawn.append({model: [record.seed for record in records] for model, records in runs.items()})

    monkeypatch.setitem(datasets.DATASETS, "digits", DIGITS)  # so that a recipe on it is declared, and no quick look
    monkeypatch.setattr(plan, "PLOTS", tmp_path / "plots")
    monkeypatch.setattr(outputs, "README", place.readme)
    monkeypatch.setattr(outputs, "draw_task", draw_task)
    monkeypatch.setattr(distributed, "run_cell", counted)
    monkeypatch.setattr(cli, "physical_cores", lambda: 1)
    monkeypatch.setattr(cli, "seconds_per_step", lambda *_: 0.01)  # equal models are trained in the declared order
    monkeypatch.setattr(cli, "timing_pass", lambda experiments, *_: make_timing([e.name for e in experiments]))
    return place


# What a run leaves


def test_a_run_leaves_records_weights_text_and_pictures(place, capsys):
    assert place.run() == 0
    assert place.trained == ["A-seed0", "B-seed0"]
    assert place.drawn[0] == {"A": [0]} and place.drawn[-1] == {"A": [0], "B": [0]}  # after each model
    assert (place.plots / "RESULTS.md").read_text() and "| A | " in place.block() and "| B | " in place.block()
    assert place.readme.read_text().startswith("before\n") and place.readme.read_text().endswith("after\n")
    assert list(read_timing(place.records, ["A", "B"]).models) == ["A", "B"]
    record = read_record(place.records / "A-seed0.json")
    assert (record.status, record.config_hash, record.recipe_version) == ("finished", HASHES["A"], 1)
    assert record.config == {"epochs": 2, "batch_size": 64, "optimizer": "sgd", "learning_rate": 0.05}
    assert record.model_options == {"class": "FCN", "hidden": [8]}
    assert record.environment.items() >= {
        "device": "cpu", "precision": "fp32", "threads": 1, "torch": torch.__version__,
    }.items()  # fmt: skip
    assert record.environment["device_name"] and "commit" in record.environment
    parts = {f"{part}_{what}" for part in ("train", "fit", "val") for what in ("loss", "accuracy")}
    assert [set(epoch) for epoch in record.history] == [parts | {"train_seconds", "eval_seconds"}] * 2
    assert (record.arrays["test_predictions"] == record.arrays["test_labels"]).sum() == record.test_correct > 100

    told = capsys.readouterr()
    assert told.out.index("2 runs (A-seed0, B-seed0), 0 finished before") < told.out.index("Training will take about")
    assert f"  {'A-seed0':<32} test {record.test_accuracy:.2%}, best-validation weights (epoch " in told.out
    assert "A seed 0 epoch 2/2 train " in told.err and " val " in told.err and "A-seed0 added (finished)" in told.err
    assert {path.name for path in place.folder.iterdir()} >= {"README.md", "plots", "runs"}


def test_the_saved_weights_give_the_recorded_predictions(place, tmp_path):
    assert place.run("--models", "A", "--epochs", "3", "--lr", "2") == 0
    (folder,) = place.runs.glob("tiny/cpu-fp32/A/*/seed0")
    record, test = read_record(folder / "A-seed0.json"), data.load_splits(DIGITS, tmp_path).test
    assert record.best_epoch < 3 and record.best_test_loss != pytest.approx(record.test_loss)  # lr too high
    for weights, correct, loss in (
        ("final", record.test_correct, record.test_loss),
        ("best", record.best_test_correct, record.best_test_loss),
    ):
        model = SMALL((1, 8, 8), 10)
        model.load_state_dict(load_file(folder / f"{weights}.safetensors"))
        logits = predict(model, test, Execution(torch.device("cpu"), "fp32", 1))
        assert loss_and_correct(logits, test.labels) == (pytest.approx(loss), correct)


def test_the_test_set_is_predicted_once_with_each_weights_and_never_while_training(place, monkeypatch):
    sizes = {"training": [], "testing": []}

    def counted(phase):
        def count(model, images, execution):
            sizes[phase].append(len(images))
            return predict(model, images, execution)

        return count

    monkeypatch.setattr(train, "predict", counted("training"))
    monkeypatch.setattr(cells, "predict", counted("testing"))
    assert place.run("--models", "A") == 0
    assert sizes == {"training": [1150, 287] * 2, "testing": [360, 360]}  # fit and val each epoch


def without_times(record):
    epochs = [{name: value for name, value in epoch.items() if "seconds" not in name} for epoch in record.history]
    return dataclasses.replace(record, history=epochs)


def test_the_same_seed_gives_the_same_record_twice(place):
    assert place.run("--models", "A", "--seeds", "0", "1") == 0
    first, other = (read_record(place.records / f"A-seed{seed}.json") for seed in (0, 1))
    assert place.run("--models", "A", "--no-resume") == 0 and place.trained == ["A-seed0"]
    second = read_record(place.records / "A-seed0.json")
    assert without_times(second) == without_times(first)
    for name, array in first.arrays.items():
        np.testing.assert_array_equal(second.arrays[name], array, strict=True)
    assert without_times(other) != without_times(first)


def test_no_step_of_training_waits_for_the_device(place):
    """One transfer of losses an epoch, whatever the number of steps: `.item()` and the like are counted."""

    class Scalars(torch.utils._python_dispatch.TorchDispatchMode):
        calls = 0

        def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
            self.calls += operator is torch.ops.aten._local_scalar_dense.default
            return operator(*args, **(kwargs or {}))

    counts = []
    for batch_size in ("575", "23"):  # 2 and 50 steps an epoch
        with Scalars() as scalars:
            assert place.run("--models", "A", "--batch-size", batch_size) == 0
        counts.append(scalars.calls)
    assert counts[0] == counts[1] > 0


# What it keeps


def test_a_run_replaces_its_own_cell_and_keeps_the_others(place, capsys):
    before = place.old_records("A-seed0", "A-seed1", "B-seed0")
    old = read_record(place.records / "A-seed0.json")
    assert place.run("--models", "A") == 0 and place.trained == ["A-seed0"]
    after, new = digests(place.plots), read_record(place.records / "A-seed0.json")
    changed = {name for name, content in before.items() if after[name] != content}
    assert changed == {"records/cpu-fp32/A-seed0.json", "records/cpu-fp32/A-seed0.npz"}
    told = capsys.readouterr()
    assert f"A-seed0 replaced: test accuracy {old.test_accuracy:.2%} -> {new.test_accuracy:.2%}" in told.err
    assert "No timing pass" in told.out  # nor is the old one dropped
    assert place.drawn[-1] == {"A": [0, 1], "B": [0]} and "2 seeds (0, 1)" in place.block()


def test_another_kind_lies_beside_and_the_latest_is_shown(place, capsys):
    before = place.old_records("A-seed0", "A-seed1", kind="cuda-bf16")
    assert place.run() == 0
    after = digests(place.plots)
    assert {name: after[name] for name in before} == before
    assert place.drawn[-1] == {"A": [0], "B": [0]} and "cpu-fp32" in place.block()
    assert place.run("--replot", "--kind", "cuda-bf16") == 0
    assert place.drawn == [{"A": [0, 1]}] and "2 seeds (0, 1)" in place.block()
    assert place.run("--replot") == 0 and place.drawn == [{"A": [0, 1]}]
    assert place.run("--replot", "--kind", "cpu-bf16") == 2
    assert "choose from cpu-fp32, cuda-bf16" in capsys.readouterr().err


def test_fresh_drops_old_records_once_the_first_new_cell_has_finished(place):
    other = place.old_records("A-seed0", kind="cuda-bf16")
    old = set(place.old_records("A-seed0", "A-seed1", "B-seed0", "B-seed2")) - set(other)
    seen = []
    place.before_cell = lambda job: seen.append(set(digests(place.records)))
    assert place.run("--fresh") == 0
    names = {name.rpartition("/")[2] for name in old}
    assert seen == [names, {"A-seed0.json", "A-seed0.npz"}]
    assert set(digests(place.records)) == {
        "A-seed0.json", "A-seed0.npz", "B-seed0.json", "B-seed0.npz", "timing.json",
    }  # fmt: skip
    assert read_record(place.records / "A-seed0.json").environment["torch"] == torch.__version__
    after = digests(place.plots)
    assert {name: after[name] for name in other} == other


def test_fresh_drops_nothing_for_a_cell_that_diverges(place):
    task = task_of(A=RUNAWAY, B=RECIPE)
    place.old_records("A-seed1", "B-seed0", "B-seed1", task=task)
    before = digests(place.records)
    assert place.run("--fresh", "--models", "A", task=task) == 1
    after = digests(place.records)
    assert {name: after[name] for name in before} == before
    assert place.run("--fresh", "--no-resume", task=task) == 1
    assert read_record(place.records / "B-seed0.json").environment["torch"] == torch.__version__
    assert not (place.records / "B-seed1.json").exists() and not (place.records / "A-seed1.json").exists()


def test_a_diverged_model_is_told_and_the_others_finish(place, capsys):
    assert place.run(task=task_of(A=RUNAWAY, B=RECIPE)) == 1
    record = read_record(place.records / "A-seed0.json")
    assert record.status == "diverged" and record.message == "not finite at step 2" and len(record.history) == 1
    assert record.test_accuracy is None
    assert read_record(place.records / "B-seed0.json").status == "finished"
    assert place.drawn[-1] == {"B": [0]}
    assert "- A-seed0.json: diverged (not finite at step 2)" in place.block()
    assert f"  {'A-seed0':<32} diverged: not finite at step 2" in capsys.readouterr().out
    place.run(task=task_of(A=RUNAWAY, B=RECIPE))
    assert place.trained == ["A-seed0"]  # it hasn't finished


def test_a_model_that_runs_away_in_its_very_last_step_has_diverged(place):
    """Its losses and gradients were finite, but the weights that the last step left are not."""
    assert place.run("--limit", "64", "--epochs", "1", task=task_of(A=RUNAWAY)) == 1
    record = read_record(place.runs / "quick/tiny/records/cpu-fp32/A-seed0.json")
    assert record.status == "diverged" and "step 1" in record.message


def test_an_error_ends_its_own_cell_only(place, monkeypatch):
    fit = cells.fit

    def fails_with_seed_1(model, config, seed, *rest):
        if seed == 1:
            raise RuntimeError("out of memory")
        return fit(model, config, seed, *rest)

    monkeypatch.setattr(cells, "fit", fails_with_seed_1)
    assert place.run("--models", "A", "--seeds", "0", "1", "2") == 1
    assert place.drawn[-1] == {"A": [0, 2]}
    assert "- A-seed1.json: failed (RuntimeError: out of memory)" in place.block()


def test_a_diverged_run_leaves_the_finished_record_in_its_place(place, capsys):
    task = task_of(A=RUNAWAY)
    before = place.old_records("A-seed0", task=task)
    assert place.run(task=task) == 1
    after = digests(place.plots)
    assert {name: after[name] for name in before} == before
    assert "A-seed0 diverged; the older record stays" in capsys.readouterr().err


def test_foreign_and_older_records_are_named_and_left_out(place):
    place.old_records("A-seed0", "B-seed0", "B-seed1")
    (place.records / "A-seed3.json").write_text('{"a": "foreign"}')
    older = place.records / "B-seed1.json"
    older.write_text(older.read_text().replace('"schema_version": 1', '"schema_version": 0'))
    assert place.run("--replot") == 0
    assert place.drawn == [{"A": [0], "B": [0]}]
    left_out = place.block().partition("Left out of these results:")[2]
    assert "A-seed3.json: not a record of this suite" in left_out
    assert "B-seed1.json: schema 0, this version reads 1" in left_out


def test_the_record_of_an_edited_model_is_named_and_left_out(place):
    place.old_records("A-seed0", "B-seed0")
    edited = dataclasses.replace(TASK.experiments[0], model=partial(FCN, hidden=(9,)))
    assert place.run("--replot", task=dataclasses.replace(TASK, experiments=[edited, TASK.experiments[1]])) == 0
    assert place.drawn == [{"B": [0]}] and f"- A-seed0.json: from another recipe ({HASHES['A']}, now " in place.block()


# What is trained again


def test_what_has_finished_is_not_trained_again_unless_asked(place, capsys):
    assert place.run() == 0
    shutil.rmtree(place.plots)  # the runs folder is enough
    capsys.readouterr()
    assert place.run() == 0
    assert place.trained == [] and place.drawn[-1] == {"A": [0], "B": [0]}
    assert "2 finished before" in capsys.readouterr().out
    assert place.run("--num-seeds", "2") == 0 and place.trained == ["A-seed1", "B-seed1"]
    assert place.run("--no-resume") == 0 and place.trained == ["A-seed0", "B-seed0"]


def test_a_damaged_record_in_the_runs_folder_is_trained_again(place):
    assert place.run() == 0
    (path,) = place.runs.glob("tiny/cpu-fp32/B/*/seed0/B-seed0.npz")
    path.write_bytes(path.read_bytes()[:-9])
    assert place.run() == 0 and place.trained == ["B-seed0"]


def test_changed_sources_are_trained_again_and_that_is_said(place, monkeypatch, capsys):
    assert place.run() == 0
    monkeypatch.setattr(cli, "source_hash", lambda experiment: f"changed {experiment.name}")
    capsys.readouterr()
    assert place.run() == 0 and place.trained == ["A-seed0", "B-seed0"]
    told = capsys.readouterr().out
    for model in "AB":
        assert f"{model}-seed0 had finished, but the code that trains it has changed since" in told
    assert place.run() == 0 and place.trained == []


def test_the_hash_of_sources_changes_with_the_model_and_with_what_trains_it(tmp_path, monkeypatch):
    for name in ("models_", "utils_"):
        shutil.copytree(CHECKOUT / name.strip("_"), tmp_path / name)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "utils_" / "environment.py"))
    from models_ import fcn  # the copy

    def source_hash():
        return environment.source_hash(Experiment("any", partial(fcn.FCN), RECIPE))

    hashes = [source_hash()]
    for path in ("models_/fcn.py", "models_/cnn.py", "utils_/train.py", "utils_/data.py", "utils_/gradients.py"):
        (tmp_path / path).write_text((tmp_path / path).read_text() + "# edited\n")
        hashes.append(source_hash())
    (tmp_path / "utils_/report.py").write_text("# edited\n")
    assert len(set(hashes)) == len(hashes) and source_hash() == hashes[-1]


def test_only_a_pass_over_all_models_times_them(place, monkeypatch):
    passes = []

    def timing_pass(experiments, *_):
        passes.append([e.name for e in experiments])
        return make_timing(passes[-1], first_epoch_seconds=len(passes))

    monkeypatch.setattr(cli, "timing_pass", timing_pass)
    assert place.run("--models", "B") == 0 and passes == []
    assert place.run() == 0 and passes == [["A", "B"]]
    assert place.run() == 0 and len(passes) == 1  # nothing was trained
    before = digests(place.records)
    assert place.run("--time-only") == 0 and len(passes) == 2 and place.trained == []
    after = digests(place.records)
    assert {name for name in after if after[name] != before[name]} == {"timing.json"}
    assert place.drawn == [{"A": [0], "B": [0]}]


def test_precision_is_probed_once_for_all_runs_of_a_machine(place, monkeypatch):
    probes = []
    monkeypatch.setattr(cli, "choose_precision", lambda *_: probes.append(1) or "bf16")
    for arguments in (["--models", "A"], ["--models", "B"], ["--models", "A", "--seeds", "1"]):
        assert place.run("--precision", "auto", *arguments) == 0
    assert len(probes) == 1 and len(list((place.plots / "records/cpu-bf16").glob("*.npz"))) == 3
    remembered = place.runs / "tiny/precision.json"
    remembered.write_text(remembered.read_text().replace(torch.__version__, "1.0"))
    assert place.run("--precision", "auto", "--models", "A") == 0 and len(probes) == 2


# Where it goes, and what it says


@pytest.mark.parametrize(
    "quick, arguments",
    [
        (False, ""),
        (False, "--epochs 2 --batch-size 64 --lr 0.05 --momentum 0 --weight-decay 0"),
        (False, "--models B --seeds 3 5 --runs-dir r --data-dir d --jobs 1 --device cpu --precision bf16 --fresh"),
        (False, "--output-dir elsewhere"),
        (True, "--epochs 3"),
        (True, "--batch-size 32"),
        (True, "--lr 0.06"),
        (True, "--momentum 0.9"),
        (True, "--weight-decay 0.1 --models A"),
        (True, "--limit 100"),
        (True, "--epochs 3 --output-dir elsewhere"),
    ],
)
def test_a_quick_look_is_what_changes_a_recipe(place, quick, arguments):
    options = parse(TASK, arguments.split())
    made = make_plan(TASK, options)
    assert made.quick is quick and made.updates_readme is not (quick or "elsewhere" in arguments)
    folder = options.runs_dir / "quick" / "tiny" if quick else place.plots
    assert made.output == (Path("elsewhere") if "elsewhere" in arguments else folder)


def test_another_output_folder_leaves_plots_and_readme_alone(place):
    place.old_records("A-seed0")
    before = digests(place.folder)
    assert place.run("--output-dir", str(place.folder / "out")) == 0
    after = digests(place.folder)
    assert {name: after[name] for name in before} == before
    assert {name for name in set(after) - set(before) if not name.startswith("runs/")} == {
        "out/RESULTS.md", "out/records/shown_kind.txt", "out/records/cpu-fp32/timing.json",
        *(f"out/records/cpu-fp32/{model}-seed0.{suffix}" for model in "AB" for suffix in ("json", "npz")),
    }  # fmt: skip


def test_a_quick_look_is_overwritten_by_the_next(place):
    assert place.run("--epochs", "1", "--seeds", "0", "1", "--models", "A") == 0
    assert place.run("--epochs", "3", "--models", "A") == 0
    quick = place.runs / "quick/tiny/records/cpu-fp32"
    assert sorted(path.name for path in quick.glob("*-seed*")) == ["A-seed0.json", "A-seed0.npz"]
    assert len(read_record(quick / "A-seed0.json").history) == 3
    assert not place.plots.exists() and place.block() == ""


def test_a_missing_marker_is_a_warning(place, capsys):
    place.readme.write_text("a page of my own\n")
    assert place.run("--models", "A") == 0
    assert "warning: README.md has no markers for tiny" in capsys.readouterr().out
    assert place.readme.read_text() == "a page of my own\n" and (place.plots / "RESULTS.md").exists()


def test_quiet_prints_the_closing_lines_only(place, capsys):
    assert place.run("--quiet") == 0
    told = capsys.readouterr()
    assert told.err == "" and [line.split()[0] for line in told.out.splitlines()[:2]] == ["A-seed0", "B-seed0"]
    assert len(told.out.splitlines()) == 4


def test_a_terminal_shows_one_bar_over_all_epochs(place, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    assert place.run() == 0
    bar = sys.stderr.getvalue().rpartition("\r")[2]
    assert "B seed 0 epoch 2/2 train " in bar and " 4/4 " in bar and "A-seed0 added" in sys.stderr.getvalue()


def test_replot_touches_neither_data_nor_training(place, monkeypatch, capsys):
    assert place.run("--replot") == 2 and "no records to draw from; run the task first" in capsys.readouterr().err
    place.old_records("A-seed0", "B-seed0")
    before = digests(place.records)
    monkeypatch.setattr(cli, "load_splits", None)
    monkeypatch.setattr(cli, "train_and_draw", None)
    assert place.run("--replot") == 0
    assert digests(place.records) == before and place.drawn == [{"A": [0], "B": [0]}]
    assert not place.runs.exists()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize("committed", [True, False], ids=["records committed before", "a first run"])
def test_the_last_line_says_how_to_undo_and_that_undoes_it(place, monkeypatch, capsys, committed):
    def git(*arguments):
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.invalid", "-c", "commit.gpgsign=false"]
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=place.folder, check=True, capture_output=True, text=True).stdout

    for module in (environment, outputs):
        monkeypatch.setattr(module, "CHECKOUT", place.folder)
    (place.folder / ".gitignore").write_text("runs/\n.*.lock\n")
    if committed:
        place.old_records("A-seed0", "A-seed1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "all")
    before = digests(place.folder / "plots"), place.readme.read_bytes()
    assert place.run("--models", "A") == 0
    last = [line for line in capsys.readouterr().out.splitlines() if "To undo: " in line][-1]
    assert "README.md" in last and "plots/tiny" in last and git("status", "--porcelain")
    subprocess.run(last.partition("To undo: ")[2], shell=True, cwd=place.folder, check=True)
    assert git("status", "--porcelain") == ""
    assert (digests(place.folder / "plots"), place.readme.read_bytes()) == before


# Bad input: nothing half-written


def test_a_model_that_cannot_take_the_images_is_refused_before_anything_runs(place, capsys):
    deep = partial(PlainCNN, widths=(4,) * 4, hidden=8, dropout=0.0)
    before = digests(place.folder)
    assert place.run(task=Task("tiny", "digits", [Experiment("deep", deep, RECIPE)])) == 2
    assert "at least (C, 16, 16), not (1, 8, 8)" in capsys.readouterr().err
    assert digests(place.folder) == before


def one_rare_class(labels):
    return np.where(np.arange(len(labels)) == 5, 7, np.where(labels == 7, 6, labels)).astype(np.uint8)


BAD_LABELS = {
    "a class with no example": (lambda labels: np.where(labels == 7, 6, labels).astype(np.uint8), "class 7"),
    "a class with one example": (one_rare_class, "class 7"),
    "labels outside the classes": (lambda labels: np.where(labels == 7, 10, labels).astype(np.uint8), "is 10; the 10"),
}


@pytest.mark.parametrize("fault", BAD_LABELS)
def test_labels_that_cannot_be_trained_on_are_named(place, monkeypatch, capsys, fault):
    spoil, message = BAD_LABELS[fault]
    arrays = random_arrays(300, 60, (28, 28))
    arrays["train_labels"] = spoil(arrays["train_labels"])
    monkeypatch.setitem(datasets.DATASETS, "mnist", spec_of(MNIST, arrays))
    folder = place.folder / "data"
    folder.mkdir()
    (folder / "mnist.npz").write_bytes(npz(**arrays))
    before = digests(place.folder)
    assert place.run("--data-dir", str(folder), "--no-download", task=task_of("mnist", A=RECIPE)) in (1, 2)
    assert message in capsys.readouterr().err
    assert place.trained == [] and digests(place.folder) == before


@pytest.mark.parametrize("limit", [100, 101, 109, 110, 300])
def test_any_limit_leaves_a_subset_for_the_fit_loss(place, monkeypatch, limit):
    monkeypatch.setattr(data, "FIT_SUBSET", 100)
    splits, whole = (data.load_splits(DIGITS, place.folder, limit=count) for count in (limit, None))
    assert torch.equal(splits.train.images, whole.train.images[:limit])
    assert (len(splits.train), len(splits.fit), len(splits.val), len(splits.test)) == (limit, 100, 287, 360)


# Interruptions


def test_an_interruption_keeps_and_draws_what_had_finished(place, monkeypatch, capsys):
    fit, calls = cells.fit, Counter()

    def interrupted(model, config, seed, data, execution, on_epoch):
        calls["fit"] += 1

        def press_ctrl_c(entry):
            on_epoch(entry)
            if calls["fit"] == 2:
                raise KeyboardInterrupt

        return fit(model, config, seed, data, execution, press_ctrl_c)

    monkeypatch.setattr(cells, "fit", interrupted)
    monkeypatch.setattr(sys, "argv", ["task of mine.py", "--num-seeds", "2"])
    place.old_records("A-seed2", "B-seed0")
    assert place.run("--models", "A", "--num-seeds", "2", "--fresh") == 130
    assert set(digests(place.records)) == {"A-seed0.json", "A-seed0.npz"}
    assert place.drawn == [{"A": [0]}] and "| A | " in place.block()
    told = capsys.readouterr().err
    assert shlex.join(["python", "task of mine.py", "--num-seeds", "2"]) in told
    assert place.run("--models", "A", "--num-seeds", "2") == 0
    assert place.trained == ["A-seed1"] and place.drawn[-1] == {"A": [0, 1]}  # it goes on from there


SCRIPT = """
from functools import partial
from models import FCN
from utils.cli import main
from utils.experiment import Experiment, TrainConfig
recipe = TrainConfig(epochs=1, batch_size=64, optimizer="sgd", learning_rate=0.05)
if __name__ == "__main__":
    main("tiny", dataset="mnist", experiments=[Experiment(name, partial(FCN), recipe) for name in "AB"])
"""


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix" or physical_cores() < 2, reason="needs signals and two cores")
@pytest.mark.parametrize("sent, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_run_and_all_its_processes(tmp_path, sent, code):
    (tmp_path / "task_tiny.py").write_text(SCRIPT)
    command = [sys.executable, "task_tiny.py", *"--smoke --epochs 100000 --jobs 2 --precision fp32".split()]
    command += ["--device", "cpu", "--runs-dir", "runs", "--output-dir", "out"]
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(CHECKOUT)}, stdout=file, stderr=file,
            start_new_session=True,
        )  # fmt: skip
    try:
        wait_for(lambda: process.poll() is not None or all(f"{m} seed 0 epoch 3/" in log.read_text() for m in "AB"))
        os.killpg(process.pid, sent) if sent == signal.SIGINT else process.send_signal(sent)  # as a terminal does
        assert process.wait(60) == code, log.read_text()
        wait_for(lambda: not is_alive(process.pid), 10)
    finally:
        if is_alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
    assert not (tmp_path / "out").exists() and "Traceback" not in log.read_text()
    assert list((tmp_path / "runs").rglob("*.safetensors")) == []
