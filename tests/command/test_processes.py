"""Cells side by side: the same results as one after another, and a process that dies takes no other along."""

import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from checkout_folder import CHECKOUT

from models import FCN
from utils.command.processes import run_in_turn, run_side_by_side
from utils.data.sources import load_arrays
from utils.data.specs import DIGITS, data_sha256
from utils.experiment import Experiment, TrainConfig
from utils.records.record import read_record
from utils.training.cell import CellJob
from utils.training.device import Execution
from utils.training.machine import describe_environment
from utils.training.sources import source_hash

CPUS = [torch.device("cpu")] * 2  # two at once
EXECUTION = Execution(CPUS[0], "fp32", 1)
CONFIG = TrainConfig(epochs=2, batch_size=64, optimizer="adam", learning_rate=1e-3)


def fatal(image_shape, num_classes):
    os._exit(9)


class Watching(FCN):
    """Fails where matplotlib has been loaded, at its first step or later."""

    def __init__(self, image_shape, num_classes):
        super().__init__(image_shape, num_classes, hidden=(8,))

    def forward(self, images):
        assert "matplotlib" not in sys.modules, "matplotlib is loaded"
        return super().forward(images)


@pytest.fixture(scope="module")
def spawned(tmp_path_factory):
    """The records of two cells of one process, which takes seconds to start: the second has older sources."""
    folder = tmp_path_factory.mktemp("spawned")
    changed = make_job(folder, "B", partial(FCN, hidden=(8,)))
    changed = replace(changed, environment=changed.environment | {"source_hash": "older"})
    return list(run_side_by_side([make_job(folder, "A", Watching), changed], CPUS[:1], lambda job, entry: None))


def test_a_spawned_cell_never_loads_matplotlib(spawned):
    assert (spawned[0].model, spawned[0].status, spawned[0].message) == ("A", "finished", "")


def test_code_that_changes_while_a_run_goes_on_fails_the_cells_to_come(spawned):
    record = spawned[1]
    assert (record.model, record.status) == ("B", "failed")
    assert "code that trains it was changed while the run went on" in record.message


UNGUARDED = """
from functools import partial
from models import FCN
from utils.cli import main
from utils.experiment import Experiment, Task, TrainConfig
recipe = TrainConfig(epochs=1, batch_size=64, optimizer="sgd", learning_rate=0.05)
main(Task("tiny", "mnist", [Experiment("A", partial(FCN), recipe)]))
"""


@pytest.mark.slow
def test_a_script_without_its_guard_is_told_what_it_lacks(tmp_path):
    """main() is not under `if __name__ == "__main__":`; the process of the cell says so and ends."""
    (tmp_path / "task_tiny.py").write_text(UNGUARDED)
    command = [sys.executable, "task_tiny.py", *"--smoke --precision fp32 --device cpu --jobs 1".split()]
    done = subprocess.run(
        [*command, "--runs-dir", "runs", "--output-dir", "out"], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)}, timeout=200,
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert 'task_tiny.py must call main() under `if __name__ == "__main__":`' in done.stderr
    assert "failed: its process died (exit code 2)" in done.stdout


def make_job(folder: Path, name: str, model) -> CellJob:
    return CellJob(
        task="task",
        spec=DIGITS,
        experiment=Experiment(name, model, CONFIG),
        seed=0,
        config_hash="0" * 12,
        data_sha256=data_sha256(DIGITS, load_arrays(DIGITS, folder)),
        data_dir=folder / "data",
        download=False,
        environment=describe_environment(EXECUTION) | {"source_hash": source_hash(Experiment(name, model, CONFIG))},
        execution=EXECUTION,
        folder=folder / name,
    )


@pytest.mark.slow
def test_side_by_side_equals_in_turn_and_a_dead_process_fails_its_own_cell(tmp_path):
    torch.set_num_threads(1)
    models = {"A": partial(FCN, hidden=(8,)), "dies": fatal, "B": partial(FCN, hidden=(16,))}
    epochs = []
    together = run_side_by_side(
        [make_job(tmp_path / "together", *item) for item in models.items()],
        CPUS,
        lambda job, entry: epochs.append(job.stem),
    )
    records = {record.model: record for record in together}
    assert {name: record.status for name, record in records.items()} == {
        "A": "finished",
        "dies": "failed",
        "B": "finished",
    }
    assert "exit code 9" in records["dies"].message
    assert read_record(tmp_path / "together/dies/dies-seed0.json").status == "failed"
    assert sorted(epochs) == ["A-seed0"] * 2 + ["B-seed0"] * 2

    jobs = [make_job(tmp_path / "in_turn", name, models[name]) for name in ("A", "B")]
    for alone in run_in_turn(jobs, lambda job, entry: None):
        assert alone.test_loss == records[alone.model].test_loss
        weights = [tmp_path / folder / alone.model / "final.safetensors" for folder in ("in_turn", "together")]
        assert weights[0].read_bytes() == weights[1].read_bytes()
