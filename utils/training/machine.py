"""What a result depends on besides its config: machine, versions, and the code that made it."""

import ast
import inspect
import platform
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
from utils.files import sha256
from utils.training.device import Execution

UTILS = Path(__file__).resolve().parent.parent
# A change in one of these, or in what a model is made of, makes finished cells in the runs folder stale.
TRAINING_SOURCES = ("training/*.py", "data/specs.py", "data/images.py", "records/flow.py", "experiment.py")


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
    """A hash of the code that trains an experiment: the rooms of training and the sources of its model.

    Another model, a sentence or a table can be added or edited without changing it.
    """
    model = experiment.model.func if isinstance(experiment.model, partial) else experiment.model
    sources = [path for pattern in TRAINING_SOURCES for path in sorted(UTILS.glob(pattern))]
    sources += sorted(local_sources(sys.modules[model.__module__]))
    return sha256(b"".join(path.read_bytes() for path in sources))[:12]


def local_sources(module: ModuleType) -> set[Path]:
    """The files of `module` and of what it imports, directly or not, from its own package or else its own folder.

    Installed packages and `utils` are left out. `from package import name` counts the module `package.name` where
    there is one, else the package itself.
    """
    path = Path(inspect.getfile(module)).resolve()
    home = path.parents[max(0, module.__name__.count(".") - (path.name != "__init__.py"))]
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        module = waiting.pop()
        path = Path(getattr(module, "__file__", None) or "").resolve()
        # An environment may lie in the folder of the script that holds the model.
        local = path.is_relative_to(home) and not path.is_relative_to(UTILS) and "site-packages" not in path.parts
        if local and path.suffix == ".py" and path not in found:
            found.add(path)
            waiting += [sys.modules[name] for name in _imported_modules(module, path) if name in sys.modules]
    return found


def _imported_modules(module: ModuleType, path: Path) -> Iterator[str]:
    """The full names of the modules that the import statements of `module`, whose source is `path`, name."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = resolve_name("." * node.level + (node.module or ""), module.__package__)
            names = [f"{package}.{alias.name}" for alias in node.names]
            yield from (name if name in sys.modules else package for name in names)


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
