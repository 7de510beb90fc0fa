"""Checkpoints: going on changes no bit, and no damaged, foreign or half-written one is trusted."""

import dataclasses
import errno
import itertools
import json
import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from place import RECIPE, task_of
from records import without_times

from models import FCN, CNNWithResidual, SimpleCNN
from utils.data.images import Splits
from utils.experiment import Experiment, Task, TrainConfig
from utils.files import remove_leftovers, sha256
from utils.training import cell as cells
from utils.training import checkpoint
from utils.training import fit as train
from utils.training.checkpoint import Checkpoints
from utils.training.device import Execution
from utils.training.fit import fit, make_optimizer, restored
from utils.training.model import build_model

CHECKOUT = Path(__file__).resolve().parent.parent
EXECUTION = Execution(torch.device("cpu"), "fp32", 1)
IDENTITY = {"config_hash": "abc", "threads": 1}
NETS = {
    "FCN": partial(FCN, hidden=(16, 8)),
    "SimpleCNN": SimpleCNN,
    "residual": partial(CNNWithResidual, widths=(16, 32), strides=(1, 2), blocks_per_stage=1),
}
RECIPES = {
    "sgd": TrainConfig(4, 64, "sgd", 0.05, momentum=0.9, augmentation=True),
    "adam": TrainConfig(4, 64, "adam", 3e-3),
}


@pytest.fixture(autouse=True)
def each_epoch(monkeypatch):
    monkeypatch.setattr(checkpoint, "LEAST_SECONDS", 0.0)


@pytest.fixture
def few(data) -> Splits:
    return dataclasses.replace(data, train=data.train.take(np.arange(200)))


def train_in(folder: Path, few: Splits, net="FCN", recipe="adam", stop_after=None):
    """(model, what `fit` returned) with checkpoints in `folder`; interrupted in the epoch after `stop_after`."""
    model = EXECUTION.place(build_model(Experiment("net", NETS[net], RECIPES[recipe]), few.image_shape, 10, seed=3))
    epochs = 0

    def press_ctrl_c(entry):
        nonlocal epochs
        epochs += 1
        if stop_after is not None and epochs > stop_after:
            raise KeyboardInterrupt

    return model, fit(model, RECIPES[recipe], 3, few, EXECUTION, press_ctrl_c, Checkpoints(folder, IDENTITY))


def interrupt(folder: Path, few: Splits, after: int, **options):
    with pytest.raises(KeyboardInterrupt):
        train_in(folder, few, stop_after=after, **options)


def last_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Weights, best weights, optimiser and gradient flow at the end."""
    tensors, state = Checkpoints(folder, IDENTITY).load()
    assert len(state["history"]) == 4
    return tensors


def assert_same_end(first: tuple, second: tuple, first_folder: Path, second_folder: Path):
    (net, result), (other, again) = first, second
    assert without_times(again.history) == without_times(result.history) and again.best_epoch == result.best_epoch
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True))
    expected, found = last_tensors(first_folder), last_tensors(second_folder)
    assert expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)
    for name, steps in result.gradient_flow.items():
        np.testing.assert_array_equal(again.gradient_flow[name], steps, strict=True)


# Going on


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("net", NETS)
def test_going_on_after_an_interruption_changes_no_bit(tmp_path, few, net, recipe):
    """Two interruptions; fused SGD with momentum and random crops, fused Adam; every tensor and number."""
    whole = train_in(tmp_path / "whole", few, net, recipe)
    for after in (1, 3):  # epochs that are kept: it is interrupted in the second and in the last
        interrupt(tmp_path / "parts", few, after, net=net, recipe=recipe)
    parts = train_in(tmp_path / "parts", few, net, recipe)
    assert_same_end(whole, parts, tmp_path / "whole", tmp_path / "parts")


def test_without_new_random_numbers_in_each_epoch_going_on_would_differ(tmp_path, few, monkeypatch):
    """The negative control of the tests above and below: dropout is seeded once at the start of a process only."""
    seeded = []
    manual_seed = torch.manual_seed

    def once(seed):
        if len(seeded) < 2:  # initialisation and the first epoch
            seeded.append(seed)
            manual_seed(seed)

    monkeypatch.setattr(train.torch, "manual_seed", once)
    _, whole = train_in(tmp_path / "whole", few)
    seeded.clear()
    interrupt(tmp_path / "parts", few, after=2)
    seeded.clear()
    _, parts = train_in(tmp_path / "parts", few)
    assert without_times(parts.history[:2]) == without_times(whole.history[:2])
    assert without_times(parts.history) != without_times(whole.history)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_tensor_of_the_optimiser_takes_its_parameters_strides(tmp_path, few, recipe):
    """After going on with a channels-last net, fused SGD and fused Adam."""
    interrupt(tmp_path, few, after=2, net="residual", recipe=recipe)
    experiment = Experiment("net", NETS["residual"], RECIPES[recipe])
    model = EXECUTION.place(build_model(experiment, few.image_shape, 10, seed=9))
    optimizer = make_optimizer(model, RECIPES[recipe])
    assert len(restored(Checkpoints(tmp_path, IDENTITY), model, optimizer).history) == 2
    strides = {
        (tensor.stride(), parameter.stride())
        for parameter in model.parameters()
        for tensor in optimizer.state[parameter].values()
        if tensor.shape == parameter.shape
    }
    assert all(its == parameters for its, parameters in strides)
    assert any(parameters[-1] != 1 for _, parameters in strides if len(parameters) == 4)  # channels_last among them


def test_two_generations_while_it_trains_and_one_when_it_is_done(place, monkeypatch):
    seen = []
    fit_of_cells = train.fit

    def keeping_watch(*arguments):
        result = fit_of_cells(*arguments)
        seen.append(sorted(path.name for path in place.runs.rglob("epoch*")))
        return result

    monkeypatch.setattr(cells, "fit", keeping_watch)
    assert place.run("--models", "A", "--epochs", "3") == 0
    assert seen == [["epoch2.json", "epoch2.safetensors", "epoch3.json", "epoch3.safetensors"]]
    assert sorted(path.name for path in place.runs.rglob("epoch*")) == ["epoch3.json", "epoch3.safetensors"]


def test_at_most_one_in_ten_seconds_and_always_the_last(tmp_path, few, monkeypatch):
    monkeypatch.setattr(checkpoint, "LEAST_SECONDS", 10.0)
    start, calls = checkpoint.time.monotonic(), itertools.count(1)
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: start + 4 * next(calls))
    saved = []
    save = Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", lambda self, epoch, *rest: (saved.append(epoch), save(self, epoch, *rest)))
    train_in(tmp_path, few)
    assert saved == [3, 4]  # 4, 8 and 12 s after the start


# Another run's checkpoint


def test_a_checkpoint_made_otherwise_is_refused_with_the_way_out(place, capsys, monkeypatch):
    """Other threads, another CPU, another PyTorch: the differing keys are named, and nothing is trained or written."""
    task = stopped_task(place, monkeypatch)
    path = next(place.runs.rglob("epoch1.json"))
    change_identity(path, threads=7, torch="1.0", device_name="Old CPU")
    before = path.read_bytes()
    assert place.run("--models", "A", task=task) == 2 and place.trained == []
    told = capsys.readouterr().err
    assert "device_name Old CPU, not " in told and "threads 7, not 1, torch 1.0, not " in told
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
    change_identity(other / "epoch1.json", data="other")
    assert place.run(task=both) == 2 and "data other, not" in capsys.readouterr().err
    assert (folder / "epoch1.json").exists() and (other / "epoch1.json").exists()
    usage = shutil.disk_usage(place.folder)._replace(free=2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert place.run("--no-resume", task=both) == 1
    assert (folder / "epoch1.json").exists() and (other / "epoch1.json").exists()


def test_going_on_is_said_with_its_epoch(place, monkeypatch, capsys):
    task = stopped_task(place, monkeypatch)
    assert place.run("--models", "A", task=task) == 0
    assert "Resuming: A-seed0 after epoch 1\n" in capsys.readouterr().out


def test_changed_code_starts_again_and_says_so(place, capsys, monkeypatch):
    """Another hash of the sources of models/ and of the training modules."""
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


# Damage


@pytest.fixture
def two_generations(tmp_path) -> Path:
    checkpoints = Checkpoints(tmp_path, IDENTITY)
    for epoch in (1, 2):
        tensors = {"model.weight": torch.arange(12.0).view(3, 4) * epoch, "flow.norms": torch.ones(2, epoch)}
        checkpoints.save(
            epoch, tensors, {"history": [{"val_loss": 1 / k} for k in range(1, epoch + 1)], "best_epoch": 1}
        )
    return tmp_path


def epoch_found(folder: Path) -> int:
    """That of the generation that is loaded; 0 for none. What is loaded is what was saved."""
    loaded = Checkpoints(folder, IDENTITY).load()
    if loaded is None:
        return 0
    tensors, state = loaded
    epoch = len(state["history"])
    assert torch.equal(tensors["model.weight"], torch.arange(12.0).view(3, 4) * epoch)
    assert state["history"][-1] == {"val_loss": 1 / epoch}
    return epoch


def flips(content: bytes, count: int):
    random = np.random.default_rng(5)
    for position in random.choice(8 * len(content), count, replace=False):
        changed = bytearray(content)
        changed[position // 8] ^= 1 << position % 8
        yield bytes(changed)


def truncations(content: bytes, count: int):
    for length in np.linspace(0, len(content) - 1, count).astype(int):
        yield content[:length]


@pytest.mark.parametrize("damage, count", [(truncations, 20), (flips, 200)], ids=["truncated", "a flipped bit"])
@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_damage_leads_back_to_the_generation_before(two_generations, capsys, suffix, damage, count):
    """Either file of the newest generation: truncated at 20 lengths, 200 random single-bit flips."""
    whole = {path: path.read_bytes() for path in two_generations.glob("epoch2.*")}
    path = two_generations / f"epoch2.{suffix}"
    assert epoch_found(two_generations) == 2
    for damaged in damage(whole[path], count):
        for each, content in (whole | {path: damaged}).items():
            each.write_bytes(content)
        assert epoch_found(two_generations) == 1
        assert "epoch2.json: a damaged checkpoint is left out" in capsys.readouterr().err
        assert not path.exists()  # else it would pass for newer than those to come
    (two_generations / "epoch1.safetensors").write_bytes(b"")
    assert epoch_found(two_generations) == 0  # from the beginning, and said
    assert capsys.readouterr().err.count("left out") == 1


def test_a_checkpoint_that_cannot_be_read_now_stays(two_generations, monkeypatch):
    """EIO when the newest generation's tensors are read, once."""
    read_bytes, before = Path.read_bytes, sorted(two_generations.iterdir())

    def fails(path):
        if path.name == "epoch2.safetensors":
            raise OSError(errno.EIO, "Input/output error")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", fails)
    with pytest.raises(OSError, match="Input/output error"):
        epoch_found(two_generations)
    monkeypatch.undo()
    assert sorted(two_generations.iterdir()) == before and epoch_found(two_generations) == 2


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def forge(folder: Path, content: bytes):
    """Tensors of a stranger, with a JSON that names their true SHA-256."""
    (folder / "epoch2.safetensors").write_bytes(content)
    path = folder / "epoch2.json"
    state = json.loads((folder / "epoch1.json").read_text())["state"] | {"tensors_sha256": sha256(content)}
    path.write_text(json.dumps({"sha256": checkpoint._digest(state), "state": state}))


def test_a_pickle_with_the_right_name_and_checksum_runs_no_code(two_generations, tmp_path, capsys):
    """A stranger's file that makes a folder when unpickled."""
    canary = tmp_path / "canary"
    forge(two_generations, pickle.dumps(Canary(canary)))
    assert epoch_found(two_generations) == 1 and not canary.exists()
    assert "left out" in capsys.readouterr().err


def test_a_declared_size_of_an_exabyte_is_refused(two_generations, capsys):
    """In the header's offsets, and as the header's own length."""
    header = json.dumps({"model.weight": {"dtype": "F32", "shape": [2**58], "data_offsets": [0, 2**60]}}).encode()
    for content in (struct.pack("<Q", len(header)) + header, struct.pack("<Q", 2**60)):
        forge(two_generations, content)
        assert epoch_found(two_generations) == 1


def test_one_from_another_model_is_an_error_that_says_why(tmp_path, few):
    """A right checksum, but tensors of other names and shapes."""
    interrupt(tmp_path, few, after=2, net="FCN")
    with pytest.raises(RuntimeError, match=r"(?s)loading state_dict for SimpleCNN.*Missing key"):
        train_in(tmp_path, few, net="SimpleCNN")


# Killing

KILLED_WHILE_SAVING = """
import os, signal, sys
from pathlib import Path
import torch
from utils.checkpoint import Checkpoints
folder, name, call = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
checkpoints = Checkpoints(folder, {"config_hash": "abc", "threads": 1})
original, calls = getattr(os, name), 0
def killed(*arguments):
    global calls
    calls += 1
    if calls == call:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments)
setattr(os, name, killed)
history = [{"val_loss": 1 / k} for k in (1, 2, 3)]
tensors = {"model.weight": torch.arange(12.0).view(3, 4) * 3, "flow.norms": torch.ones(2, 3)}
checkpoints.save(3, tensors, {"history": history, "best_epoch": 1})
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "call"), [("fsync", 1), ("fsync", 2), ("fsync", 3), ("replace", 1), ("replace", 2), ("unlink", 1)]
)
def test_killed_while_saving_the_generation_before_is_whole(two_generations, name, call):
    """SIGKILL in a child at each fsync, rename and deletion of a save."""
    command = [sys.executable, "-c", KILLED_WHILE_SAVING, str(two_generations), name, str(call)]
    ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(CHECKOUT)}).returncode
    assert ended == -signal.SIGKILL
    # The third flush is of the folder: by then both files have their names.
    assert epoch_found(two_generations) == (3 if (name, call) in (("unlink", 1), ("fsync", 3)) else 2)
    remove_leftovers(two_generations)
    Checkpoints(two_generations, IDENTITY).prune(2)
    assert len(list(two_generations.iterdir())) == 4
