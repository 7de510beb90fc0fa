"""Checkpoints: no damaged, foreign or half-written one is trusted."""

import errno
import json
import os
import pickle
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from checkout_folder import CHECKOUT

from utils.files import remove_leftovers, sha256
from utils.training import checkpoint
from utils.training.checkpoint import Checkpoints

IDENTITY = {"config_hash": "abc", "threads": 1}


@pytest.fixture(autouse=True)
def each_epoch(monkeypatch):
    monkeypatch.setattr(checkpoint, "LEAST_SECONDS", 0.0)


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


# Killing

KILLED_WHILE_SAVING = """
import os, signal, sys
from pathlib import Path
import torch
from utils.training.checkpoint import Checkpoints
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
