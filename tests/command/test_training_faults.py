"""Faults of training, injected into whole runs: recorded with their cell, the other cells go on, the exit code is 1."""

import dataclasses
import errno
import os
import shutil
import sys
import time
from collections import namedtuple
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
import torch
from place import RECIPE, RUNAWAY, TASK, digests, task_of
from torch import nn

from models import FCN
from utils import files
from utils.command import outcome, outputs, steps
from utils.data import images as data
from utils.experiment import Experiment, Task
from utils.records import folder as record_folder
from utils.records.record import read_record
from utils.training import cell as cells
from utils.training import fit as train

NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


def assert_a_alone_failed(place, capsys, code: int, message: str, status="failed"):
    """Its record, the table and the exit code say so; B has finished."""
    assert code == 1 and place.trained == ["A-seed0", "B-seed0"]
    record = read_record(place.records / "A-seed0.json")
    assert record.status == status and message in record.message
    assert read_record(place.records / "B-seed0.json").status == "finished"
    table = capsys.readouterr().out
    assert f"  {'A-seed0':<32} {status}: " in table and message in table and f"  {'B-seed0':<32} test: " in table
    assert place.drawn[-1] == {"B": [0]} and "A-seed0.json: " in place.page()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:116] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["MemoryError", "CUDA", "CPU allocator"],
)
def test_out_of_memory_ends_its_own_cell(place, monkeypatch, capsys, error):
    """Raised in the first of two cells, as Python, CUDA and the CPU's allocator word it."""
    step = train.train_one_epoch

    def out_of_memory(*arguments):
        if place.trained[-1] == "A-seed0":
            raise error
        return step(*arguments)

    monkeypatch.setattr(train, "train_one_epoch", out_of_memory)
    code = place.run()
    assert_a_alone_failed(place, capsys, code, f"{type(error).__name__}: {error}"[:60])


@pytest.mark.parametrize("name", ["final.safetensors", "epoch1.json", "A-seed0.npz"])
def test_a_disk_that_is_full_for_one_cell_ends_that_cell(place, monkeypatch, capsys, name):
    """ENOSPC while its weights, its gradient flow or its record are written."""
    write_together = files.write_together

    def full(contents):
        if any(path.name == name and "/A/" in str(path) for path in contents):
            raise NO_SPACE
        write_together(contents)

    for module in ("utils.files", "utils.records.record", "utils.training.checkpoint"):
        monkeypatch.setattr(f"{module}.write_together", full)
    monkeypatch.setattr("utils.training.checkpoint.LEAST_SECONDS", 0.0)
    code = place.run()
    assert_a_alone_failed(place, capsys, code, "No space left on device")


def leave_no_room_for_a(monkeypatch, *modules):
    """ENOSPC whenever one of `modules` publishes a record of model A."""
    publish = record_folder.publish

    def full(folder, record):
        if record.model == "A":
            raise NO_SPACE
        return publish(folder, record)

    for module in modules:
        monkeypatch.setattr(module, "publish", full)


def test_records_that_cannot_be_published_fail_and_the_others_go_on(place, monkeypatch, capsys):
    """ENOSPC while one record is written to the output folder."""
    leave_no_room_for_a(monkeypatch, outcome)
    assert place.run() == 1 and place.trained == ["A-seed0", "B-seed0"]
    told = capsys.readouterr()
    assert "A-seed0 could not be kept" in told.err and f"  {'A-seed0':<32} failed: " in told.out


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_log_that_cannot_be_written_ends_no_cell(place, monkeypatch):
    """Standard error is /dev/full; the first model diverges, so that there is nothing to draw, which would be told."""
    task = task_of(A=RUNAWAY, B=RECIPE, C=RECIPE)
    full = open("/dev/full", "w", buffering=1)
    try:
        monkeypatch.setattr(sys, "stderr", full)
        assert place.run(task=task) == 1 and place.trained == ["A-seed0", "B-seed0", "C-seed0"]
    finally:
        with suppress(OSError):
            full.close()
    assert [read_record(place.records / f"{m}-seed0.json").status for m in "ABC"] == ["diverged", *["finished"] * 2]


def test_fresh_drops_nothing_for_a_record_that_cannot_be_published(place, monkeypatch):
    """ENOSPC while the first new record is written to the folder of the old ones."""
    place.old_records("A-seed0", "B-seed1")
    before, publish = digests(place.records), outcome.publish

    def full(folder, record):
        if record.model == "A":
            assert digests(folder) == before
            raise NO_SPACE
        return publish(folder, record)

    monkeypatch.setattr(outcome, "publish", full)
    assert place.run("--fresh", "--models", "A") == 1
    after = digests(place.records)
    assert {name: after[name] for name in before} == before


def test_fresh_keeps_what_finished_beside_a_record_that_cannot_be_published(place, monkeypatch, capsys):
    """ENOSPC for the first of three new records, also when the older ones have made room."""
    place.old_records("A-seed0", "B-seed1", task=task_of(A=RECIPE, B=RECIPE, C=RECIPE))
    leave_no_room_for_a(monkeypatch, outcome, record_folder)
    assert place.run("--fresh", task=task_of(A=RECIPE, B=RECIPE, C=RECIPE)) == 1
    records = sorted(path.name for path in place.records.glob("*-seed*.json"))
    assert records == ["B-seed0.json", "C-seed0.json"]
    told = capsys.readouterr().out
    assert f"  {'A-seed0':<32} failed: " in told and all(
        f"  {stem:<32} test: " in told for stem in ("B-seed0", "C-seed0")
    )


def test_too_little_room_for_the_plan_is_told_before_training(place, monkeypatch, capsys):
    """A disk that reports 16 MiB free."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**40, 2**40 - 2**24, 2**24))
    before = digests(place.folder)
    assert place.run() == 1 and place.trained == []
    told = capsys.readouterr().err
    assert "16 MiB are free, and this run may need 3" in told and "choose another --runs-dir" in told
    assert digests(place.folder) == before


@pytest.mark.parametrize("error", [NO_SPACE, ValueError("a bad number")], ids=["a full disk", "any other fault"])
def test_a_picture_that_cannot_be_drawn_costs_no_cell(place, monkeypatch, capsys, error):
    """ENOSPC, or any other error, each time pictures are drawn."""

    def fails(*_, **__):
        raise error

    monkeypatch.setattr(outputs, "draw_task", fails)
    assert place.run("--num-seeds", "2") == 1 and len(place.trained) == 4
    assert f"not drawn: {type(error).__name__}: {error}" in capsys.readouterr().err
    assert len(list(place.records.glob("*-seed*.json"))) == 4


def test_a_timing_pass_out_of_memory_leaves_the_runs(place, monkeypatch, capsys):
    """MemoryError."""

    def fails(*_):
        raise MemoryError

    monkeypatch.setattr(steps, "timing_pass", fails)
    assert place.run() == 1
    told = capsys.readouterr()
    assert "no timing pass: MemoryError" in told.err and f"  {'B-seed0':<32} test: " in told.out


def test_a_finished_cell_that_cannot_be_published_again_has_failed(place, monkeypatch, capsys):
    """The output folder is gone, and ENOSPC while it is made again."""
    assert place.run() == 0
    shutil.rmtree(place.plots)

    def full(folder, record):
        raise NO_SPACE

    monkeypatch.setattr(outcome, "publish", full)
    assert place.run() == 1 and place.trained == []
    assert f"  {'A-seed0':<32} failed: " in capsys.readouterr().out


def test_test_images_among_the_training_images_are_counted(place, monkeypatch, capsys):
    """Two training images put into the test set, one of them twice."""
    load_splits = data.load_splits

    def with_shared(*arguments):
        splits = load_splits(*arguments)
        images = splits.test.images.clone()
        images[[3, 8, 9]] = splits.train.images[[0, 1, 1]]
        return dataclasses.replace(splits, test=dataclasses.replace(splits.test, images=images))

    monkeypatch.setattr(steps, "load_splits", with_shared)
    assert place.run("--models", "A") == 0
    assert "warning: digits: 2 test images among the training images" in capsys.readouterr().err


class Poisoned(nn.Module):
    """An FCN in which something becomes NaN at the training step `at`, counted from 1."""

    def __init__(self, image_shape, num_classes, what, at):
        super().__init__()
        self.net, self.what, self.at, self.steps = FCN(image_shape, num_classes, hidden=(8,)), what, at, 0
        self.net[-1].weight.register_hook(self.spoil_gradient)

    def forward(self, images):
        self.steps += self.training
        if self.training and self.steps == self.at:
            if self.what == "input":
                images = images.clone()
                images[0, 0, 0, 0] = torch.nan
            if self.what == "weight":
                with torch.no_grad():
                    self.net[1].weight[0, 0] = torch.nan
        return self.net(images)

    def spoil_gradient(self, gradient):
        if self.what == "gradient" and self.steps == self.at:
            gradient = gradient.clone()
            gradient[0, 0] = torch.nan
        return gradient


@pytest.mark.parametrize("what", ["input", "weight", "gradient"])
def test_not_a_number_is_recorded_with_its_step(place, capsys, what):
    """In an input, a weight or a gradient of step 20."""
    poisoned = partial(Poisoned, what=what, at=20)  # in the second epoch of 18 steps
    task = Task("tiny", "digits", [Experiment("A", poisoned, RECIPE), *task_of(B=RECIPE).experiments])
    code = place.run(task=task)
    assert_a_alone_failed(place, capsys, code, "not finite at step 20", status="diverged")


def test_a_test_set_of_one_example_is_enough(place, monkeypatch):
    """Two whole runs on it."""
    load_splits = data.load_splits

    def one_test_image(*arguments):
        splits = load_splits(*arguments)
        return dataclasses.replace(splits, test=splits.test.take(np.array([5])))

    for module in (cells, steps):
        monkeypatch.setattr(module, "load_splits", one_test_image)
    assert place.run() == 0
    record = read_record(place.records / "A-seed0.json")
    assert record.test_total == 1 and record.test_correct in (0, 1) and len(record.arrays["test_predictions"]) == 1


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_set_changes_neither_times_nor_results(place, monkeypatch, hours):
    """By an hour, back and forward, while a cell trains."""
    assert place.run("--models", "A") == 0
    record = read_record(place.records / "A-seed0.json")
    clock, calls = time.time, []

    def set_clock():
        calls.append(None)
        return clock() + 3600 * hours * (len(calls) > 1)

    monkeypatch.setattr(time, "time", set_clock)
    assert place.run("--models", "A", "--no-resume") == 0
    again = read_record(place.records / "A-seed0.json")
    assert again.test_loss == record.test_loss
    assert all(0 < epoch["train_seconds"] < 60 and 0 < epoch["eval_seconds"] < 60 for epoch in again.history)


def test_the_same_task_without_faults_finishes(place):  # what the others here deviate from
    assert place.run(task=TASK) == 0 and place.drawn[-1] == {"A": [0], "B": [0]}
