"""What a result depends on besides its config: machine, versions, and the code that made it."""

import inspect
import platform
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import torch

from utils.device import Execution
from utils.experiment import Experiment
from utils.files import sha256

CHECKOUT = Path(__file__).resolve().parent.parent
# A change in one of these, or beside a model's class, makes finished cells in the runs folder stale.
TRAINING_MODULES = "cells checkpoint data datasets device evaluate experiment flow gradients train".split()


def describe_environment(execution: Execution) -> dict[str, str | int | bool]:
    """Device, its name, precision, threads, versions and the checkout's commit, in plain values."""
    commit, dirty = git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--", "models", "utils", "*.py"))
    return {
        "device": execution.device.type,
        "device_name": _device_name(execution),
        "precision": execution.precision,
        "threads": execution.threads,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "commit": commit,
        "modified": dirty,
    }


def source_hash(experiment: Experiment) -> str:
    """A hash of the sources of the model's package and of the modules that train it."""
    model = experiment.model.func if isinstance(experiment.model, partial) else experiment.model
    sources = sorted(Path(inspect.getfile(model)).parent.glob("*.py"))
    sources += [Path(__file__).parent / f"{module}.py" for module in TRAINING_MODULES]
    return sha256(b"".join(path.read_bytes() for path in sources))[:12]


def _device_name(execution: Execution) -> str:
    """The product's name; and of a CPU that computes bf16 by fp32 kernels, that it does."""
    if execution.device.type == "cuda":
        return torch.cuda.get_device_name(execution.device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name} without bf16 units" if execution.emulates_bf16 else name


def shown(path: Path) -> str:
    """`path` as a person in the checkout would name it."""
    return str(path.relative_to(CHECKOUT) if path.is_relative_to(CHECKOUT) else path)


def git(*arguments: str) -> str:
    """What git answers about the checkout; "" where there is no git or no checkout."""
    try:
        answer = subprocess.run(["git", *arguments], cwd=CHECKOUT, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
