"""What a result depends on besides its recipe: the machine, the versions, and the code that made it."""

import ast
import inspect
import platform
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from utils.checkout import git
from utils.experiment import Experiment
from utils.files import sha256, visible
from utils.training.device import Execution

UTILS = Path(__file__).resolve().parent.parent
# The files that decide the result of training. If one of them changes, or a source file of the model, finished cells
# in the runs folder are trained again.
TRAINING_SOURCES = ("training/*.py", "data/specs.py", "data/images.py", "records/flow.py", "experiment.py")


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


def source_hash(experiment: Experiment) -> str:
    """Twelve hexadecimal digits of the code that trains an experiment: TRAINING_SOURCES and the model's own sources.

    Code of other models, sentences and tables is not part of it, nor are comments and docstrings, so editing these
    makes no finished cell stale.
    """
    model = experiment.model.func if isinstance(experiment.model, partial) else experiment.model
    sources = [path for pattern in TRAINING_SOURCES for path in visible(UTILS, pattern)]
    sources += sorted(local_sources(sys.modules[model.__module__]))
    return sha256(repr([(path.name, _code(path)) for path in sources]).encode())[:12]


def sources_digest(module: ModuleType) -> str:
    """Twelve hexadecimal digits of the code of `module` and of the local modules that it imports, without comments."""
    return sha256(repr([(path.name, _code(path)) for path in sorted(local_sources(module))]).encode())[:12]


def _code(path: Path) -> str:
    """The syntax tree of a source file as text, without what changes no result: comments, layout and docstrings."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            if ast.get_docstring(node, clean=False) is not None:
                del node.body[0]
    return ast.dump(tree)


def local_sources(module: ModuleType) -> set[Path]:
    """The source files of `module` and of all modules that it imports, directly or indirectly, from its own project.

    Its own project is the folder of its top-level package, or the folder of the module if it has no package. Installed
    packages and `utils` are left out. `from package import name` counts as the module `package.name` if there is one,
    and else as the package.
    """
    path = Path(inspect.getfile(module)).resolve()
    # One folder up for each package around the module: models/cnn.py as models.cnn lies in models/.
    home = path.parents[max(0, module.__name__.count(".") - (path.name != "__init__.py"))]
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        module = waiting.pop()
        path = Path(getattr(module, "__file__", None) or "").resolve()
        # A virtual environment may lie in the same folder; its packages are not the model's code.
        foreign = path.is_relative_to(UTILS) or "site-packages" in path.parts
        if (not found or path.is_relative_to(home) and not foreign) and path.suffix == ".py" and path not in found:
            found.add(path)
            waiting += [sys.modules[name] for name in _imported_modules(module, path) if name in sys.modules]
    return found


def _imported_modules(module: ModuleType, path: Path) -> Iterator[str]:
    """The full names of the modules in the import statements of `module`, whose source file is `path`."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = resolve_name("." * node.level + (node.module or ""), module.__package__)
            names = [f"{package}.{alias.name}" for alias in node.names]
            yield from (name if name in sys.modules else package for name in names)


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
    """The product name of the GPU or CPU; for a CPU that computes bf16 with fp32 kernels, it also says so."""
    if execution.device.type == "cuda":
        return torch.cuda.get_device_name(execution.device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = _apple_chip() or platform.processor() or platform.machine()
    return f"{name} without bf16 units" if execution.emulates_bf16 else name
