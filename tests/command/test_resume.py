"""Runs that go on from a checkpoint: what is said, and which checkpoints of another run are refused."""

import dataclasses
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from made_records import without_times
from place import DIGITS_SHA256, RECIPE, task_of

from models import FCN, CNNWithResidual
from utils.command.arguments import parse
from utils.command.plan import make_plan
from utils.command.schedule import make_jobs
from utils.experiment import Experiment, Task, TrainConfig
from utils.records.record import read_record
from utils.training import cell as cells
from utils.training import checkpoint
from utils.training import fit as train
from utils.training.fit import fit


@pytest.fixture(autouse=True)
def each_epoch(monkeypatch):
    monkeypatch.setattr(checkpoint, "LEAST_SECONDS", 0.0)


def test_two_generations_while_it_trains_and_one_when_it_is_done(place, monkeypatch):
    seen = []
    fit_of_cells = train.fit

    def keeping_watch(*arguments):
        result = fit_of_cells(*arguments)
        seen.append(sorted(path.name for path in (place.runs / "tiny").rglob("epoch*")))
        return result

    monkeypatch.setattr(cells, "fit", keeping_watch)
    assert place.run("--models", "A", "--epochs", "3") == 0
    assert seen == [["epoch2.json", "epoch2.safetensors", "epoch3.json", "epoch3.safetensors"]]
    assert sorted(path.name for path in (place.runs / "tiny").rglob("epoch*")) == ["epoch3.json", "epoch3.safetensors"]


def test_a_checkpoint_made_otherwise_is_refused_with_the_way_out(place, capsys, monkeypatch):
    """Another CPU, another PyTorch: the differing keys are named, and nothing is trained or written."""
    task = stopped_task(place, monkeypatch)
    path = next(place.runs.rglob("epoch1.json"))
    change_identity(path, torch="1.0", device_name="Old CPU")
    before = path.read_bytes()
    assert place.run("--models", "A", task=task) == 2 and place.trained == []
    told = capsys.readouterr().err
    assert "device_name Old CPU, not " in told and "torch 1.0, not " in told
    assert "--no-resume" in told and "--runs-dir" in told
    assert path.read_bytes() == before
    assert place.run("--models", "A", "--no-resume", task=task) == 0


def test_a_refusal_leaves_every_checkpoint(place, monkeypatch, capsys):
    """Of the cell that is refused and of those before it; also where there is no room to train them again."""
    stopped_task(place, monkeypatch)
    folder = next(place.runs.rglob("epoch1.json")).parent
    other = place.runs / "tiny/cpu-fp32/B" / folder.parent.name / "seed0"
    shutil.copytree(folder, other)
    both = task_of(A=RECIPE, B=RECIPE)
    change_identity(folder / "epoch1.json", source_hash="older")
    change_identity(other / "epoch1.json", torch="other")
    assert place.run(task=both) == 2 and "torch other, not" in capsys.readouterr().err
    assert (folder / "epoch1.json").exists() and (other / "epoch1.json").exists()
    usage = shutil.disk_usage(place.folder)._replace(free=2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert place.run("--no-resume", task=both) == 1
    assert (folder / "epoch1.json").exists() and (other / "epoch1.json").exists()


def test_going_on_is_said_with_its_epoch(place, monkeypatch, capsys):
    task = stopped_task(place, monkeypatch)
    assert place.run("--models", "A", task=task) == 0
    assert "Resuming: A-seed0 after epoch 1\n" in capsys.readouterr().out


def test_stopped_after_the_last_epoch_the_record_is_the_same(place, monkeypatch):
    """While the statistics are re-estimated: nothing is trained again, and the record is that of an unstopped run."""
    net = partial(CNNWithResidual, widths=(8, 12), strides=(1, 2), blocks_per_stage=1)
    task = Task("tiny", "digits", [Experiment("Net", net, dataclasses.replace(RECIPE, epochs=6))])
    assert place.run("--runs-dir", str(place.folder / "whole"), task=task) == 0
    whole = read_record(place.records / "Net-seed0.json")

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(cells, "reestimate_statistics", stop)
        assert place.run(task=task) == 130
    steps = []
    monkeypatch.setattr(train, "train_one_epoch", lambda *_: steps.append(1))
    assert place.run(task=task) == 0 and steps == []
    record = read_record(next(place.runs.rglob("Net-seed0.json")))
    same = dataclasses.replace(record, history=without_times(record.history))
    assert same == dataclasses.replace(whole, history=without_times(whole.history))
    for name, array in whole.arrays.items():
        np.testing.assert_array_equal(record.arrays[name], array, strict=True)
    for name in ("averaged", "final", "best"):
        first, second = (
            next(folder.rglob(f"{name}.safetensors")).read_bytes() for folder in (place.folder / "whole", place.runs)
        )
        assert first == second


@pytest.mark.parametrize("patience", [None, 6], ids=["", "early stopping"])
def test_the_disk_estimate_is_what_a_run_takes(place, patience):
    """Of a net of 1.3 million parameters, Adam: at its end, and while a third checkpoint is written."""
    config = TrainConfig(6, 64, "adam", 1e-3, patience=patience)
    task = Task("tiny", "digits", [Experiment("Wide", partial(FCN, hidden=(1024, 1024, 128)), config)])
    options = parse(task, ["--runs-dir", str(place.runs), "--device", "cpu", "--precision", "fp32", "--threads", "1"])
    plan = make_plan(task, options)
    (job,) = make_jobs(plan, plan.execution, DIGITS_SHA256)
    checkpoints = []

    def sizes():
        return [path.stat().st_size for path in job.folder.glob("*.safetensors")]

    assert cells.run_cell(job, lambda entry: checkpoints.extend(sizes())).status == "finished"
    slack = 2**24  # for what doesn't grow with the net
    checkpoints += sizes()
    assert 0.98 < (job.bytes_left - slack) / sum(sizes()) < 1.1
    assert 0.98 < job.bytes_while_training / (2 * max(checkpoints)) < 1.1


def test_changed_code_starts_again_and_says_so(place, capsys, monkeypatch):
    """Another hash of the sources of the model and of what trains it."""
    task = stopped_task(place, monkeypatch)
    change_identity(next(place.runs.rglob("epoch1.json")), source_hash="older")
    capsys.readouterr()
    assert place.run("--models", "A", task=task) == 0
    assert "A-seed0 was interrupted, but the code that trains it has changed since" in capsys.readouterr().out


def stopped_task(place, monkeypatch) -> Task:
    """A task whose only cell was stopped in its second epoch."""

    def stop(model, config, seed, data, execution, on_epoch, checkpoints):
        fit(model, dataclasses.replace(config, epochs=1), seed, data, execution, on_epoch, checkpoints)
        raise KeyboardInterrupt

    task = task_of(A=RECIPE)
    with monkeypatch.context() as patched:
        patched.setattr(cells, "fit", stop)
        assert place.run("--models", "A", task=task) == 130
    return task


def change_identity(path: Path, **changes):
    state = json.loads(path.read_text())["state"]
    state["identity"] |= changes
    path.write_text(json.dumps({"sha256": checkpoint._digest(state), "state": state}))
