"""A small task for many processes, and how tests start them. Environment variables say what goes wrong in them.

KILLS=A-seed0 kills the rank that trains this cell after its second epoch, once; RAISES=B lets a model fail; SLOWLY=0.5
makes each epoch take so many seconds longer; TAKE_OVER=5 shortens the time without a sign of life.
"""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from checkout_folder import CHECKOUT
from made_records import without_times

from models import FCN
from utils.cli import main
from utils.command import claims, devices, shared
from utils.command.arguments import parse
from utils.command.plan import make_plan
from utils.command.processes import run_in_turn
from utils.command.schedule import make_jobs
from utils.data.sources import load_arrays
from utils.data.specs import DIGITS, data_sha256
from utils.experiment import Experiment, Task, TrainConfig
from utils.records.record import RunRecord, read_record
from utils.training import checkpoint
from utils.training.checkpoint import Checkpoints

RECIPE = TrainConfig(epochs=4, batch_size=64, optimizer="adam", learning_rate=1e-3, augmentation=True)
OPTIONS = "--smoke --epochs 4 --device cpu --precision fp32 --runs-dir runs --output-dir out --data-dir data".split()
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{CHECKOUT}{os.pathsep}{CHECKOUT / 'tests/helpers'}"}


def task() -> Task:
    return Task("tiny", "mnist", [Experiment(name, partial(FCN, hidden=(8,)), RECIPE) for name in "AB"])


def save_and_suffer(self: Checkpoints, epoch: int, *content) -> None:
    if os.environ.get("RAISES") == self.folder.parents[1].name:
        raise RuntimeError("a fault of this model")
    save(self, epoch, *content)
    time.sleep(float(os.environ.get("SLOWLY", "0")))
    cell, killed = f"{self.folder.parents[1].name}-{self.folder.name}", Path("killed")
    if os.environ.get("KILLS") == cell and epoch == 2 and not killed.exists():
        killed.write_text(cell)
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)


def command(*options: str) -> list[str]:
    return [__file__, *OPTIONS, *options]


def start(folder: Path, *words: str, **environment: str) -> subprocess.Popen:
    """Start a command of Python's in `folder`. `none_left` ends it, with all that it starts, if it is still there."""
    folder.mkdir(exist_ok=True, parents=True)
    process = subprocess.Popen(
        [sys.executable, *words], cwd=folder, env={**ENVIRONMENT, **environment}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    started.append(process)
    return process


started: list[subprocess.Popen] = []


def none_left() -> None:
    """End what a test that failed has left."""
    while started:
        process = started.pop()
        if process.poll() is None:
            process.terminate()  # torchrun ends its ranks, a command its cells
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=40)
        with suppress(ProcessLookupError):  # all of its group have ended
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def start_ranks(folder: Path, number: int, *options: str, agent: tuple[str, ...] = ("--standalone",), **environment):
    """torchrun with so many ranks on this machine."""
    words = ["-m", "torch.distributed.run", *agent, "--nproc-per-node", str(number), *command(*options)]
    return start(folder, *words, **environment)


def start_rank(folder: Path, rank: int, size: int, port: int, *options: str, **environment) -> subprocess.Popen:
    """One rank as torchrun would start it, whose store the test itself holds."""
    place = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    torchrun = {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    environment |= torchrun | {name: str(value) for name, value in place.items()}
    return start(folder, *command(*options), OMP_NUM_THREADS="1", **environment)


def trained_alone(folder: Path, seeds: int) -> dict[str, tuple]:
    """What the cells of the task are after one process has trained them one after another."""
    torch.set_num_threads(1)
    options = parse(task(), [*OPTIONS, "--threads", "1", "--num-seeds", str(seeds), "--runs-dir", str(folder / "runs")])
    planned = make_plan(task(), options)
    planned.execution.prepare_process()
    jobs = make_jobs(planned, planned.execution, data_sha256(DIGITS, load_arrays(DIGITS, folder)))
    return {record.stem: essence(record) for record in run_in_turn(jobs, lambda job, entry: None)}


def published(folder: Path) -> dict[str, tuple]:
    """The finished records that the command has published in `folder`."""
    records = map(read_record, folder.glob("out/records/cpu-fp32/*-seed*.json"))
    return {record.stem: essence(record) for record in records if record.status == "finished"}


def essence(record: RunRecord) -> tuple:
    """What must be the same in every run of a cell."""
    arrays = {name: array.tobytes() for name, array in record.arrays.items()}
    return without_times(record.history), record.test_loss, arrays


def ended(process: subprocess.Popen, within: float = 400) -> tuple[int, str, str]:
    """The exit code and what it printed."""
    out, err = process.communicate(timeout=within)
    print(out, err)
    return process.returncode, out, err


def times_trained(told: str) -> dict[str, int]:
    """{cell: how many last epochs of it were shown}."""
    cells = re.findall(r"(\w) seed (\d+) epoch 4/4", told)
    return {f"{model}-seed{seed}": cells.count((model, seed)) for model, seed in cells}


def wait_for(condition, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def no_orphans(folder) -> bool:
    """Whether soon no process works in `folder` any more."""
    deadline = time.monotonic() + 10
    while working := [path for path in Path("/proc").glob("[0-9]*/cwd") if points_to(path, folder)]:
        if time.monotonic() > deadline:
            print(working)
            return False
        time.sleep(0.1)
    return True


def points_to(link: Path, folder: Path) -> bool:
    with suppress(OSError):  # it has ended, or is another user's
        return link.resolve() == folder.resolve()
    return False


save = Checkpoints.save
if __name__ in ("__main__", "__mp_main__"):
    checkpoint.LEAST_SECONDS = 0.0
    Checkpoints.save = save_and_suffer
    devices.physical_cores = lambda: 2
    claims.TAKE_OVER_SECONDS = float(os.environ.get("TAKE_OVER", "600"))
    shared.WATCH_SECONDS = 1.0
if __name__ == "__main__":
    main(task())
