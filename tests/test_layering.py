"""Imports run one way, from room to room; what needs no torch never loads it; and no file format can run code."""

import ast
import re
import subprocess
import sys
from importlib.util import resolve_name
from pathlib import Path

import pytest
from checkout_folder import CHECKOUT

# Each room with those that it stands on; it may import all that lies behind them as well.
ROOMS = {
    "cli": {"command"},
    "command": {"timing", "report", "figures", "training"},
    "timing": {"training"},
    "training": {"data", "records"},
    "report": {"findings"},
    "figures": {"findings"},
    "findings": {"records"},
    "records": {"stats"},
    "stats": set(),
    "data": set(),
}
# Modules at the top of utils with what they stand on; every room above that may import them.
SINGLE_MODULES = {
    "streams": set(),
    "files": {"streams"},
    "checkout": set(),
    "contents": set(),
    "experiment": set(),
    "contrasts": {"experiment", "files"},
    "words": {"stats"},
}
ARROWS = ROOMS | SINGLE_MODULES
LOADS_TORCH = {"cli", "command", "timing", "training", "data.images"}
TASKS = {path.stem for path in CHECKOUT.glob("*.py")}
UTILS = sorted((CHECKOUT / "utils").rglob("*.py"))
MODELS = sorted((CHECKOUT / "models").rglob("*.py"))
TESTS = sorted((CHECKOUT / "tests").rglob("*.py"))


def behind(name: str) -> set[str]:
    """All that `name` stands on, directly or not."""
    return ARROWS[name].union(*(behind(floor) for floor in ARROWS[name]))


def allowed(name: str) -> set[str]:
    """What `name` may import: itself, all behind it, and, if it is a room, the single modules whose floor is there."""
    found = {name} | behind(name)
    if name in ROOMS:
        found |= {module for module in SINGLE_MODULES if behind(module) & ROOMS.keys() <= found - {name}}
    return found


def module_of(path: Path) -> str:
    """`utils.records.flow` for utils/records/flow.py, and `utils.records` for its `__init__.py`."""
    return ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__")


def part_of(module: str) -> str:
    """The room or single module of utils that a module belongs to; "" for utils itself."""
    return module.split(".")[1] if "." in module else ""


def imports_of(source: str, package: str = "") -> set[str]:
    """The full name of everything that any import statement in `source` names, within functions too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), package)
            found |= {f"{origin}.{alias.name}" for alias in node.names}
    return found


def imports_in(path: Path) -> set[str]:
    module = module_of(path)
    return imports_of(path.read_text(), module if path.name == "__init__.py" else module.rpartition(".")[0])


def packages_in(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports_in(path)}


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import utils.report", "utils.report"),
        ("import utils.report.page as page", "utils.report.page"),
        ("from utils import words, report", "utils.report"),
        ("from utils.report import page", "utils.report.page"),
        ("from utils.report.page import results_text", "utils.report.page.results_text"),
        ("from ..report import page", "utils.report.page"),
        ("def f():\n    from utils import report", "utils.report"),
    ],
)
def test_every_form_of_import_is_seen(source, name):
    assert name in imports_of(source, "utils.figures")


def test_the_table_names_every_room_and_every_module_at_the_top():
    folders = {path.name for path in (CHECKOUT / "utils").iterdir() if path.is_dir() and [*path.rglob("*.py")]}
    files = {path.stem for path in (CHECKOUT / "utils").glob("*.py")} - {"__init__"}
    assert folders | files == ARROWS.keys() and folders == ROOMS.keys() - {"cli"}


def test_imports_within_utils_follow_the_arrows():
    against = []
    for path in UTILS:
        part = part_of(module_of(path))
        within = {name for name in imports_in(path) if name.split(".")[0] == "utils"}
        may = allowed(part) if part else set()  # utils itself imports nothing
        against += [f"{module_of(path)} imports {name}" for name in sorted(within) if part_of(name) not in may]
    assert against == []


def test_report_and_figures_never_meet():
    assert "report" not in allowed("figures") and "figures" not in allowed("report")


def without_torch(part: str) -> list[str]:
    """The modules of a room, or the single module, that must not load torch."""
    modules = [module_of(path) for path in UTILS if part_of(module_of(path)) == part]
    return [module for module in modules if module.removeprefix("utils.") not in LOADS_TORCH]


NO_TORCH = sorted(ARROWS.keys() - LOADS_TORCH)


@pytest.mark.parametrize("part", NO_TORCH)
def test_never_loads_torch(part):
    code = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    assert "torch" not in sys.modules, name
"""
    assert without_torch(part)
    assert subprocess.run([sys.executable, "-c", code, *without_torch(part)], cwd=CHECKOUT).returncode == 0


def test_torch_is_imported_nowhere_else():
    """But for torchvision's readers, which utils.data.download imports when it needs them."""
    modules = {module for part in NO_TORCH for module in without_torch(part)} - {"utils.data.download"}
    for path in UTILS:
        assert module_of(path) not in modules or not packages_in(path) & {"torch", "torchvision"}, path


def test_each_package_says_what_it_holds_and_does_nothing():
    """Three to eight lines of docstring in `__init__.py`, and no statement."""
    faults = []
    for path in (path for path in UTILS if path.name == "__init__.py"):
        tree = ast.parse(path.read_text())
        lines = len((ast.get_docstring(tree) or "").splitlines())
        if len(tree.body) != 1 or not 3 <= lines <= 8:
            faults.append(f"{module_of(path)}: {lines} lines of docstring, {len(tree.body)} statements in all")
    assert faults == []


def test_utils_import_no_model_and_no_task():
    assert len(TASKS) == 2
    for path in UTILS:
        assert not packages_in(path) & {"models", "tests", *TASKS}, path


def test_models_import_nothing_of_ours_but_each_other():
    for path in MODELS:
        assert not packages_in(path) & {"utils", "tests", *TASKS}, path


def test_no_file_format_that_can_run_code():
    for path in [*UTILS, *MODELS, *CHECKOUT.glob("*.py"), *(CHECKOUT / "benchmarks").rglob("*.py")]:
        for forbidden in ("torch" + ".save", "torch" + ".load", "allow" + "_pickle"):
            assert forbidden not in path.read_text(), (path, forbidden)
        assert not re.search(r"import pickle|from pickle|pickle\.\w", path.read_text()), path


def test_no_test_imports_another_and_no_two_of_their_files_have_one_name():
    names = [path.stem for path in TESTS if path.name != "conftest.py"]
    assert len({*names, *ARROWS}) == len(names) + len(ARROWS)
    for path in TESTS:
        assert not [name for name in packages_in(path) if name.startswith("test_")], path


PACKAGES = {"PIL": "pillow", "sklearn": "scikit-learn", "markupsafe": "jinja2"}  # import name: what is installed
OPTIONAL = {"onnx", "onnxruntime", "timm"}  # asked for by name where they are missing


def test_every_package_that_is_imported_is_declared():
    lines = (CHECKOUT / "requirements.txt").read_text().splitlines()
    declared = {match[0].lower() for line in lines if (match := re.match(r"[A-Za-z][\w.-]*", line))}
    ours = {"utils", "models", *TASKS}
    for path in [*UTILS, *MODELS, *CHECKOUT.glob("*.py")]:
        foreign = packages_in(path) - set(sys.stdlib_module_names) - ours - OPTIONAL
        assert {PACKAGES.get(name, name) for name in foreign} <= declared, path
