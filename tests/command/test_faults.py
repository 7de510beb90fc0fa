"""Bad input and interruptions: what is named, what is kept, and that nothing is half-written."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from checkout_folder import CHECKOUT
from data_files import npz, random_arrays, spec_of
from place import RECIPE, digests, task_of
from scripts import SCRIPT

from models.cnn import PlainCNN
from utils.data import images as data
from utils.data import specs as datasets
from utils.data.specs import DIGITS, MNIST
from utils.experiment import Experiment, Task
from utils.training import cell as cells
from utils.training.device import physical_cores

# Bad input: nothing half-written


def test_a_model_that_cannot_take_the_images_is_refused_before_anything_runs(place, capsys):
    """Four poolings on images of 8x8 pixels; the message has both shapes."""
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
    """A class with no example, with one, a label outside the classes."""
    spoil, message = BAD_LABELS[fault]
    arrays = random_arrays(300, 60, (28, 28))
    arrays["train_labels"] = spoil(arrays["train_labels"])
    monkeypatch.setitem(datasets.DATASETS, "mnist", spec_of(MNIST, arrays))
    folder = place.folder / "data"
    folder.mkdir()
    (folder / "mnist.npz").write_bytes(npz(**arrays))
    before = digests(place.folder)
    assert place.run("--data-dir", str(folder), "--no-download", task=task_of("mnist", A=RECIPE)) == 1
    assert message in capsys.readouterr().err
    assert place.trained == [] and digests(place.folder) == before


def rows(images) -> set[bytes]:
    return {image.tobytes() for image in images.images.numpy()}


@pytest.mark.parametrize("limit", [100, 101, 109, 110, 300])
def test_any_limit_leaves_a_subset_for_the_fit_loss(place, monkeypatch, limit):
    monkeypatch.setattr(data, "FIT_SUBSET", 100)
    splits, whole = (data.load_splits(DIGITS, place.folder, limit=count) for count in (limit, None))
    # As large a part of those held out for validation; the test set stays whole.
    sizes = (len(splits.train), len(splits.fit), len(splits.val), len(splits.test))
    assert sizes == (limit, 100, round(287 * limit / 1150), 360)
    assert rows(splits.train) <= rows(whole.train) and rows(splits.val) <= rows(whole.val)
    assert rows(splits.fit) <= rows(splits.train) and torch.equal(splits.test.images, whole.test.images)


# Interruptions


def test_an_interruption_before_anything_finished_draws_nothing(place, monkeypatch):
    """Ctrl-C in the first cell."""

    def interrupted(*_):
        raise KeyboardInterrupt

    place.old_records("A-seed0")
    before = digests(place.folder)
    monkeypatch.setattr(cells, "fit", interrupted)
    assert place.run() == 130 and place.drawn == []
    assert digests(place.folder) == before


def test_an_interruption_keeps_and_draws_what_had_finished(place, monkeypatch, capsys):
    """Ctrl-C in the second cell; the same command goes on from there."""
    fit, calls = cells.fit, Counter()

    def interrupted(model, config, seed, data, execution, on_epoch, checkpoints):
        calls["fit"] += 1

        def press_ctrl_c(entry):
            on_epoch(entry)
            if calls["fit"] == 2:
                raise KeyboardInterrupt

        return fit(model, config, seed, data, execution, press_ctrl_c, checkpoints)

    monkeypatch.setattr(cells, "fit", interrupted)
    monkeypatch.setattr(sys, "argv", ["task of mine.py", "--num-seeds", "2"])
    place.old_records("A-seed2", "B-seed0")
    assert place.run("--models", "A", "--num-seeds", "2", "--fresh") == 130
    assert set(digests(place.records)) == {"A-seed0.json", "A-seed0.npz", "data_sha256.txt"}
    assert place.drawn == [{"A": [0]}] and "| A | " in place.page()
    told = capsys.readouterr().err
    assert shlex.join(["python", "task of mine.py", "--num-seeds", "2"]) in told
    assert place.run("--models", "A", "--num-seeds", "2") == 0
    assert place.trained == ["A-seed1"] and place.drawn[-1] == {"A": [0, 1]}  # it goes on from there


def test_starting_again_when_interrupted_goes_on_with_that(place):
    """Ctrl-C in the second cell of a run with --no-resume; both had finished before it."""

    def press_ctrl_c(job):
        if job.stem == "B-seed0":
            raise KeyboardInterrupt

    assert place.run() == 0
    place.before_cell = press_ctrl_c
    assert place.run("--no-resume") == 130
    place.before_cell = lambda job: None
    assert place.run() == 0 and place.trained == ["B-seed0"]


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
@pytest.mark.parametrize("sent, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_signal_ends_the_run_and_all_its_processes(tmp_path, sent, code):
    """SIGTERM, SIGINT and SIGKILL while two processes train; their checkpoints stay."""
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
    left = [path.name for path in (tmp_path / "out").rglob("*") if path.suffix != ".lock"]  # of a killed run, its locks
    assert left == [] and "Traceback" not in log.read_text()
    assert ("To resume:\n  python task_tiny.py --smoke" in log.read_text()) == (sent != signal.SIGKILL)
    for model in "AB":
        assert list((tmp_path / "runs").rglob(f"{model}/*/seed0/epoch*.json"))
        assert not list((tmp_path / "runs").rglob(f"{model}/*/seed0/final.safetensors"))
