"""What a command loads: nothing slow to refuse bad usage, nothing to draw with in a cell's process."""

import os
import subprocess
import sys

import pytest
from checkout_folder import CHECKOUT

LIST = 'print("loaded:", *sorted({name.partition(".")[0] for name in sys.modules}))'
SCRIPT = f"""
import runpy, sys
try:
    runpy.run_path("task_1_1_mnist.py", run_name="__main__")
except SystemExit as end:
    print("code:", end.code)
{LIST}
"""


def loaded_by(code: str, *arguments: str) -> tuple[str, set[str]]:
    """What a fresh process prints, errors included, and the packages that it has loaded in the end."""
    command = [sys.executable, "-c", code, *arguments]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True)
    told, _, names = done.stdout.rpartition("loaded: ")
    return told + done.stderr, set(names.split())


@pytest.mark.parametrize(
    "arguments, code, told",
    [
        (["--help"], 0, "usage: "),
        (["--epochs", "0"], 2, "'0' is not a whole number of 1 or more"),
        (["--device", "abacus"], 2, "'abacus' is not one of auto, cpu, cuda, cuda:0, cuda:1, ..., mps"),
        (["--device", "cuda"], 2, "--device cuda: there is none here; choose from auto, cpu"),
    ],
    ids=["help", "a bad option", "an unknown device", "a device that isn't there"],
)
def test_help_and_bad_usage_load_no_slow_package(arguments, code, told):
    text, names = loaded_by(SCRIPT, *arguments)
    assert told in text and f"code: {code}" in text
    assert "numpy" in names or arguments != ["--device", "cuda"]  # so the names are those of packages
    assert names.isdisjoint({"scipy", "sklearn", "matplotlib"})


def test_what_a_spawned_cell_imports_draws_nothing():
    _, names = loaded_by(f"import sys, utils.command.processes\n{LIST}")
    assert "torch" in names and "matplotlib" not in names
