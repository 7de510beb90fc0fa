"""Imports run one way, and the modules marked [no torch] never load it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
NO_TORCH = [
    "experiment",
    "results",
    "stats",
    "plots",
    "figures",
    "report",
    "files",
    "flow",
    "datasets",
    "embedded",
    "comparisons",
    "verdicts",
    "timing",
]


@pytest.mark.parametrize("module", NO_TORCH)
def test_never_loads_torch(module):
    code = f"import utils.{module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT).returncode == 0


def imported_packages(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


def test_utils_import_no_model_and_no_task():
    for path in (CHECKOUT / "utils").glob("*.py"):
        assert not imported_packages(path) & {"models", "tests", "task_1_1_mnist"}, path


def test_models_import_nothing_of_ours_but_each_other():
    for path in (CHECKOUT / "models").glob("*.py"):
        assert not imported_packages(path) & {"utils", "tests"}, path


def test_no_file_format_that_can_run_code():
    for path in [*(CHECKOUT / "utils").glob("*.py"), *(CHECKOUT / "models").glob("*.py")]:
        for forbidden in ("torch" + ".save", "torch" + ".load", "allow" + "_pickle"):
            assert forbidden not in path.read_text(), (path, forbidden)
