"""Everything that the suite promises on a GPU, tried on the one at hand: a table of pass and fail, and times.

python benchmarks/cuda_check.py [--data-dir DIR] [--epochs-of task_1_1 task_1_2]

Runs `pytest -m cuda`, both tasks' --smoke on one GPU and on all, one cell that runs out of memory beside one that
doesn't, and for each model the seconds of a training epoch in fp32, tf32 and bf16. Exit code 1 if anything failed.
"""

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common  # noqa: F401  (lets this script import the checkout's own)
import numpy as np

from utils.command.arguments import default_data_dir
from utils.data.images import batch_sizes, load_splits
from utils.data.specs import DATASETS
from utils.timing.clock import benchmark
from utils.timing.models import training_steps
from utils.training.device import Execution, check_precision, choose_devices
from utils.training.gradients import UPDATE_RATIO_EVERY

ROOT = Path(__file__).resolve().parent.parent
TASKS = {"task_1_1": "task_1_1_mnist", "task_1_2": "task_1_2_cifar"}
OUT_OF_MEMORY = """
import torch
from functools import partial
from models import FCN
from utils.cli import main
from utils.experiment import Experiment, Task, TrainConfig

class Greedy(FCN):
    def forward(self, images):
        if images.is_cuda:
            torch.empty(2**50, device=images.device, dtype=torch.uint8)
        return super().forward(images)

recipe = TrainConfig(epochs=1, batch_size=64, optimizer="adam", learning_rate=1e-3)
if __name__ == "__main__":
    main(Task("greedy", "mnist", [Experiment("Greedy", Greedy, recipe), Experiment("FCN", FCN, recipe)]))
"""


def command(*words: str) -> tuple[int, str, float]:
    """The exit code, the end of the output and the seconds of a command in the checkout."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    return done.returncode, (done.stdout + done.stderr)[-2000:], time.perf_counter() - started


def seconds_per_epoch(task: str, data_dir: Path) -> list[str]:
    """A line for each model of the task: seconds of an epoch's training steps in each precision, and milliseconds each.

    Ten steps at a time, since every tenth records more.
    """
    declared = importlib.import_module(TASKS[task]).TASK
    device = choose_devices("cuda")[0]
    data = load_splits(DATASETS[declared.dataset], data_dir).to(device)
    lines = []
    for experiment in declared.experiments:
        cells = [f"{experiment.name:<28}"]
        for precision in ("fp32", "tf32", "bf16"):
            try:
                check_precision(precision, device)
            except ValueError:
                cells.append(f"{precision} –")
                continue
            execution = Execution(device, precision, 1)
            execution.prepare_process()
            with training_steps(experiment, data, execution, UPDATE_RATIO_EVERY) as run:
                calls = benchmark({"run": run}, execution.synchronize, rounds=3, seconds=1.5)["run"]
            step = float(np.median(np.concatenate(calls))) / UPDATE_RATIO_EVERY
            steps = len(batch_sizes(len(data.train), experiment.config.batch_size))
            cells.append(f"{precision} {step * steps:6.2f} s ({1000 * step:.2f} ms a step)")
        lines.append("  ".join(cells))
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", type=Path, default=default_data_dir())
    parser.add_argument("--epochs-of", nargs="*", choices=TASKS, default=list(TASKS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "greedy_task.py")
        script.write_text(OUT_OF_MEMORY)
        runs = ("--runs-dir", f"{folder}/runs")
        checks = {"pytest -m cuda": (0, command("-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider"))}
        for task in TASKS.values():
            for device in ("cuda:0", "cuda"):
                outcome = command(f"{task}.py", "--smoke", "--device", device, *runs)
                checks[f"{task} --smoke --device {device}"] = (0, outcome)
        outcome = command(str(script), "--smoke", "--device", "cuda", *runs)
        checks["out of memory ends its own cell"] = (1, outcome)
    failed = False
    for name, (expected, (code, output, seconds)) in checks.items():
        well = code == expected and (expected == 0 or "FCN-seed0" in output and "OutOfMemoryError" in output)
        failed |= not well
        print(f"{'pass' if well else 'FAIL'}  {name}  [{seconds:.0f} s]")
        if not well or "pytest" in name:
            print(output)
    for task in options.epochs_of:
        print("\n".join(seconds_per_epoch(task, options.data_dir)), flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
