"""The code that made a result: what trains it, and the model itself. Results of other code are never shown as its own.

Comments, layout and docstrings are no part of it: editing these makes nothing stale.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import partial
from importlib.util import find_spec, resolve_name
from pathlib import Path
from types import ModuleType

from utils.experiment import Experiment
from utils.files import sha256, visible

UTILS = Path(__file__).resolve().parent.parent
# The files that decide the result of training. If one of them changes, or the model's own code, finished cells in the
# runs folder are trained again.
TRAINING_SOURCES = ("training/*.py", "data/specs.py", "data/images.py", "records/flow.py", "experiment.py")


def source_hash(experiment: Experiment) -> str:
    """Twelve hexadecimal digits of the code that trains an experiment: TRAINING_SOURCES and the model's own code.

    Code of other models, sentences and tables is not part of it.
    """
    sources = [path for pattern in TRAINING_SOURCES for path in visible(UTILS, pattern)]
    return _digest([(path.name, _code(ast.parse(path.read_bytes()))) for path in sources] + [model_hash(experiment)])


def model_hash(experiment: Experiment) -> str:
    """Twelve hexadecimal digits of a model's own code.

    That is the definition of its class or function, and the definitions in its own project that this one names,
    directly or indirectly. Other definitions in the same files are not part of it: a model that is added to a file
    leaves the records of the others as they are. Where definitions lie doesn't count either.
    """
    model = experiment.model.func if isinstance(experiment.model, partial) else experiment.model
    home = {path: _bindings(path) for path in local_sources(sys.modules[model.__module__])}
    found: dict[tuple[str, str], str] = {}
    waiting = [(model.__module__, model.__qualname__.partition(".")[0])]
    while waiting:
        module, name = place = waiting.pop()
        if place in found:
            continue
        path = _located(module)
        found[place] = ""
        bound = home.get(path, {})
        for statement in bound.get(name) or bound.get("*", []):  # from module import *
            named = list(_named(statement, module, path))
            waiting += named
            # An import from the project itself only says where a definition lies.
            if not (isinstance(statement, (ast.Import, ast.ImportFrom)) and _located(named[0][0]) in home):
                found[place] += _code(statement)
    return _digest(sorted((name, code) for (_, name), code in found.items() if code))


def sources_digest(module: ModuleType) -> str:
    """Twelve hexadecimal digits of the code of `module` and of the local modules that it imports."""
    return _digest([(path.name, _code(ast.parse(path.read_bytes()))) for path in sorted(local_sources(module))])


def local_sources(module: ModuleType) -> set[Path]:
    """The source files of `module` and of all modules that it imports, directly or indirectly, from its own project.

    Its own project is the folder of its top-level package, or the folder of the module if it has no package. Installed
    packages and `utils` are left out.
    """
    path = _located(module.__name__)
    # One folder up for each package around the module: models/cnn.py as models.cnn lies in models/.
    home = path.parents[max(0, module.__name__.count(".") - (path.name != "__init__.py"))]
    found: set[Path] = set()
    waiting = [module.__name__]
    while waiting:
        name = waiting.pop()
        path = _located(name)
        # A virtual environment may lie in the same folder; its packages are not the model's code.
        foreign = path is None or path.is_relative_to(UTILS) or "site-packages" in path.parts
        if path not in found and (not found or not foreign and path.is_relative_to(home)):
            found.add(path)
            waiting += [module for module, _ in _imports(ast.parse(path.read_bytes()), name, path)]
    return found


def _bindings(path: Path) -> Mapping[str, list[ast.AST]]:
    """{name: the top-level statements that define or import it} of a source file; "" stands for the whole file."""
    tree = ast.parse(path.read_bytes())
    found: dict[str, list[ast.AST]] = {"": [tree]}
    for statement in tree.body:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            for alias in statement.names:
                name = (alias.asname or alias.name).partition(".")[0]
                fields = dict(ast.iter_fields(statement)) | {"names": [alias]}
                found.setdefault(name, []).append(type(statement)(**fields))
        elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.setdefault(statement.name, []).append(statement)
        else:  # an assignment, or a definition within `if` or `try`
            for node in ast.walk(statement):
                stored = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
                if name := node.id if stored else getattr(node, "name", None):
                    found.setdefault(name, []).append(statement)
    return found


def _named(statement: ast.AST, module: str, path: Path) -> Iterator[tuple[str, str]]:
    """What a statement of `module` names: (module, name), with the name "" for a module as a whole."""
    yield from _imports(statement, module, path)
    yield from ((module, node.id) for node in ast.walk(statement) if isinstance(node, ast.Name))


def _imports(tree: ast.AST, module: str, path: Path) -> Iterator[tuple[str, str]]:
    """What the import statements in `tree` name, as in `_named`. The tree is from `module`, whose file is `path`.

    `from package import name` counts as the module `package.name` if there is one.
    """
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield (inner, "") if _located(inner) else (source, "" if alias.name == "*" else alias.name)


def _located(module: str) -> Path | None:
    """The source file of a module, loaded or not; None if there is none."""
    if module in sys.modules:
        file = getattr(sys.modules[module], "__file__", None)
    else:
        try:
            spec = find_spec(module)
        except (ImportError, ValueError):  # its parent is no package
            spec = None
        file = spec and spec.origin
    return Path(file).resolve() if file and file.endswith(".py") else None


class _Plain(ast.NodeTransformer):
    """Removes docstrings, and writes f-strings as lists of their parts: Python versions print those differently."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            if ast.get_docstring(node, clean=False) is not None:
                del node.body[0]
        if isinstance(node, ast.JoinedStr):
            return ast.List([part.value if isinstance(part, ast.FormattedValue) else part for part in node.values])
        return node


def _code(tree: ast.AST) -> str:
    """A syntax tree as text, without comments, layout and docstrings."""
    return ast.unparse(_Plain().visit(deepcopy(tree)))


def _digest(content) -> str:
    return sha256(repr(content).encode())[:12]
