"""A run killed at any moment and started again, until it ends, leaves what an uninterrupted one leaves.

PYTHONPATH=.:tests/helpers python tests/command/test_kill.py 200

That is by hand; it prints how many runs it took and whether all bits agree.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from checkout_folder import CHECKOUT
from made_records import without_times

from utils.records.record import read_record

# Every epoch is kept, so that most of the time goes into training and saving, and not into starting.
SCRIPT = """
from functools import partial
from models import SimpleCNN
from utils.training import checkpoint
from utils.cli import main
from utils.experiment import Experiment, Task, TrainConfig
checkpoint.LEAST_SECONDS = 0.0
recipe = TrainConfig(epochs=12, batch_size=64, optimizer="adam", learning_rate=1e-3, augmentation=True)
if __name__ == "__main__":
    main(Task("tiny", "mnist", [Experiment("Net", partial(SimpleCNN), recipe)]))
"""
# The negative control: dropout is seeded at the start of a process, and not in each epoch.
SEEDED_ONCE = """
import torch
from utils.training.seeds import stream_seed
manual_seed, dropout_seeds, calls = torch.manual_seed, {stream_seed(0, "dropout", k) for k in range(1, 13)}, []
def once(seed):
    calls.extend({seed} & dropout_seeds)
    if len(calls) < 2:
        manual_seed(seed)
torch.manual_seed = once
"""
OPTIONS = "--smoke --epochs 12 --jobs 1 --precision fp32 --device cpu --quiet --runs-dir runs --output-dir out".split()


def start(folder: Path, script: str = SCRIPT) -> subprocess.Popen:
    (folder / "task_tiny.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "task_tiny.py", *OPTIONS], cwd=folder, env=environment, **quiet)


def cell_of(folder: Path) -> Path | None:
    return next(folder.glob("runs/tiny/*/Net/*/seed0"), None)


def kill_until_done(folder: Path, kills: int, seed: int, script: str = SCRIPT) -> int:
    """Kill at seeded random moments, `kills` times at most, every other time no sooner than a new checkpoint.

    Returns how often it was killed.
    """
    random = np.random.default_rng(seed)
    for starts in range(1, kills + 2):
        process = start(folder, script)
        if starts <= kills:
            if starts % 2:
                wait_for_training(folder, process)
            time.sleep(random.uniform(0, 0.7 if starts % 2 else 4))
            process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            return starts - 1
        assert process.returncode == -signal.SIGKILL  # and nothing else: a crash would be no kill
    raise AssertionError("the run that nobody killed hasn't ended")


def wait_for_training(folder: Path, process: subprocess.Popen) -> None:
    """Until a checkpoint is new since now, or the process has ended."""
    before = newest(folder)
    while process.poll() is None and newest(folder) == before:
        time.sleep(0.01)


def newest(folder: Path) -> float:
    cell = cell_of(folder)
    paths = cell.glob("epoch*.json") if cell else ()
    return max((path.stat().st_mtime for path in paths if path.exists()), default=0.0)


def ends(folder: Path) -> dict[str, bytes | list]:
    """What the cell left: weights, optimiser, the record without times, predictions, gradient flow."""
    cell = cell_of(folder)
    record = read_record(cell / "Net-seed0.json")
    assert record.status == "finished"
    left = {path.name: path.read_bytes() for path in cell.glob("*.safetensors")}
    left |= {name: array.tobytes() for name, array in record.arrays.items()}
    left["history"] = without_times(record.history)
    apart = ("history", "arrays", "environment")
    left |= {f"record {name}": value for name, value in vars(record).items() if name not in apart}
    with np.load(cell / "gradient_flow.npz") as flow:
        left |= {f"whole {name}": flow[name].tobytes() for name in flow.files}
    return left


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_at_twenty_moments_and_started_again_every_bit_is_the_same(tmp_path):
    """SIGKILL at seeded random moments of a small run with dropout, Adam and random crops."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    assert start(whole).wait() == 0
    kills, seed = 0, 0
    while kills < 20:
        shutil.rmtree(killed)
        killed.mkdir()
        kills += kill_until_done(killed, 20 - kills, seed)
        seed += 1
        assert ends(killed) == ends(whole)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_without_new_random_numbers_in_each_epoch_a_killed_run_ends_otherwise(tmp_path):
    """The negative control of the test above: dropout is seeded once at the start of each process."""
    for folder in (whole := tmp_path / "whole", again := tmp_path / "again", killed := tmp_path / "killed"):
        folder.mkdir()
    for folder in (whole, again):
        assert start(folder, SEEDED_ONCE + SCRIPT).wait() == 0
    assert kill_until_done(killed, 1, 0, SEEDED_ONCE + SCRIPT) == 1
    assert ends(again) == ends(whole) and ends(killed) != ends(whole)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "whole"
        whole.mkdir()
        start(whole).wait()
        kills, rounds = 0, 0
        while kills < int(sys.argv[1]):
            killed = Path(name) / f"killed{rounds}"
            killed.mkdir()
            kills += kill_until_done(killed, int(sys.argv[1]) - kills, seed=rounds)
            rounds += 1
            assert ends(killed) == ends(whole), f"round {rounds} differs: {killed}"
        print(f"{kills} kills in {rounds} runs: all equal to the uninterrupted run, bit for bit")
