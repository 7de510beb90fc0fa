"""What a result depends on besides its recipe and its code: the machine and the versions."""

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from utils.checkout import git
from utils.training.device import Execution


def describe_environment(execution: Execution) -> dict[str, str | int | bool]:
    """Device, its name, precision, threads, versions and the checkout's commit, as plain values for JSON.

    "modified" says whether the code differs from that commit.
    """
    commit, dirty = git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--", "models", "utils", "*.py"))
    return {
        "device": execution.device.type,
        "device_name": device_name(execution),
        "precision": execution.precision,
        "threads": execution.threads,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "commit": commit,
        "modified": dirty,
    }


def _apple_chip() -> str:
    """Such as "Apple M2 Pro", the processor and the GPU of a Mac; "" elsewhere."""
    if sys.platform != "darwin":
        return ""
    command = ["sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def device_name(execution: Execution) -> str:
    """The product name of the GPU or CPU."""
    if execution.device.type == "cuda":
        return torch.cuda.get_device_name(execution.device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return _apple_chip() or platform.processor() or platform.machine()
