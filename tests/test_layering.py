"""Imports run one way, and the modules marked [no torch] never load it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import fault_table
import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
UTILS = sorted((CHECKOUT / "utils").glob("*.py"))
# Those whose docstring says so; download says when it does.
NO_TORCH = [
    path.stem for path in UTILS if "Never loads torch" in (ast.get_docstring(ast.parse(path.read_text())) or "")
]


def test_the_modules_of_the_design_never_load_torch():
    assert {"experiment", "results", "stats", "plots", "report"} <= set(NO_TORCH)


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
    for path in UTILS:
        assert not imported_packages(path) & {"models", "tests", "task_1_1_mnist", "task_1_2_cifar"}, path


def test_models_import_nothing_of_ours_but_each_other():
    for path in (CHECKOUT / "models").glob("*.py"):
        assert not imported_packages(path) & {"utils", "tests"}, path


def test_no_file_format_that_can_run_code():
    for path in [
        *UTILS,
        *(CHECKOUT / "models").glob("*.py"),
        *CHECKOUT.glob("*.py"),
        *CHECKOUT.glob("benchmarks/*.py"),
    ]:
        for forbidden in ("torch" + ".save", "torch" + ".load", "allow" + "_pickle"):
            assert forbidden not in path.read_text(), (path, forbidden)
        # but for CIFAR-10's checksummed batches, which have an unpickler of their own
        assert path.stem == "formats" or not re.search(r"import pickle|from pickle|pickle\.\w", path.read_text())


def test_the_table_of_faults_is_the_one_that_the_tests_give():
    assert (CHECKOUT / "tests/README.md").read_text(encoding="utf-8") == fault_table.page()
