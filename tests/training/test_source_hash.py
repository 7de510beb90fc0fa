"""What a result depends on besides its config: the hash of the sources that made it."""

import ast
import importlib
import shutil
import sys
from functools import partial

import pytest
from checkout_folder import CHECKOUT
from place import RECIPE

from utils.experiment import Experiment
from utils.training import sources
from utils.training.sources import model_hash, sources_digest


def source_hash(model) -> str:
    return sources.source_hash(Experiment("any", partial(model), RECIPE))


@pytest.fixture
def copies(tmp_path, monkeypatch):
    """Copies of the sources in a folder of their own, whose models are `models_`, and `edit(path, text)` for those."""
    for name in ("models_", "utils_"):
        shutil.copytree(CHECKOUT / name.strip("_"), tmp_path / name)
    (tmp_path / "models_/own.py").write_text("from models_ import parts\nclass Own(parts.Part): pass\n")
    (tmp_path / "models_/parts.py").write_text("class Part: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sources, "UTILS", tmp_path / "utils_")

    def edit(path, text=None):
        path = tmp_path / path
        path.write_text(path.read_text() + "edited = 1\n" if text is None else text)

    yield edit
    for name in [name for name in sys.modules if name.partition(".")[0] == "models_"]:
        del sys.modules[name]


TRAINS = [f"utils_/training/{path.name}" for path in sorted((CHECKOUT / "utils/training").glob("*.py"))]
TRAINS += ["utils_/data/specs.py", "utils_/data/images.py", "utils_/records/flow.py", "utils_/experiment.py"]
TRAINS += ["models_/parts.py"]  # which own.py imports as a whole
ROOMS = ("findings", "report", "figures", "stats", "command", "timing")
OTHERS = [
    f"utils_/{path.relative_to(CHECKOUT / 'utils')}"
    for room in ROOMS
    for path in (CHECKOUT / "utils" / room).glob("*.py")
]
OTHERS += ["utils_/contrasts.py", "utils_/words.py", "utils_/data/download.py", "utils_/data/sources.py"]
OTHERS += ["utils_/records/record.py", "models_/fcn.py", "models_/cnn.py"]


def test_the_hash_of_sources_changes_with_the_model_and_with_what_trains_it(copies):
    from models_ import own  # the copy

    hashes = [source_hash(own.Own)]
    for path in TRAINS:
        copies(path)
        hashes.append(source_hash(own.Own))
        assert len(set(hashes)) == len(hashes), path


def test_the_hash_of_sources_stays_when_anything_else_is_edited(copies):
    """Sentences, tables, claims, contrasts, pictures, and the files of other models."""
    from models_ import own

    before = source_hash(own.Own)
    for path in OTHERS:
        copies(path)
        assert source_hash(own.Own) == before, path


PARTS = """
from torch.nn.functional import relu as activation

WIDTH = 8
if WIDTH:
    def widened(x): return x * WIDTH

class Base: pass
class Part(Base):
    def forward(self, x): return activation(widened(x))
class Other: pass
"""
OWN = "from . import parts\nfrom .parts import Part\nclass Own(Part): pass\nclass Alone: pass\n"


def test_a_model_is_what_its_definition_names_and_nothing_else(copies):
    """The whole chain counts: base classes, helpers, constants, what foreign names mean. Its neighbours don't."""
    from models_ import own

    def hashes(text, path="models_/parts.py"):
        copies(path, text)
        return tuple(model_hash(Experiment("any", model, RECIPE)) for model in (own.Own, own.Alone))

    copies("models_/own.py", OWN)
    importlib.reload(own.parts)
    importlib.reload(own)
    before = hashes(PARTS)
    for a, b in [("8", "9"), ("* WIDTH", "+ WIDTH"), ("Base: pass", "Base: x = 1"), ("relu", "gelu"), ("if", "if not")]:
        changed = hashes(PARTS.replace(a, b, 1))
        assert changed[0] != before[0] and changed[1] == before[1], a
    copies("models_/own.py", OWN.replace("import Part", "import *"))  # then it may mean anything in there
    assert hashes(PARTS.replace("Other: pass", "Other: x = 1"))[0] != hashes(PARTS)[0] != before[0]
    copies("models_/own.py", OWN)
    for same in (PARTS + "class New(Base): pass\n", PARTS.replace("Other: pass", "Other: x = 1"), "# why\n" + PARTS):
        assert hashes(same) == before, same


def test_a_definition_that_moves_within_the_project_stays_the_same_model(copies):
    from models_ import own

    before = model_hash(Experiment("any", own.Own, RECIPE))
    copies("models_/own.py", "from models_.parts import Part\nclass Own(parts.Part): pass\n")
    assert model_hash(Experiment("any", own.Own, RECIPE)) != before  # another definition
    before = model_hash(Experiment("any", own.Own, RECIPE))
    copies("models_/blocks.py", "class Part: pass\n")
    copies("models_/own.py", "from models_.blocks import Part\nclass Own(parts.Part): pass\n")
    assert model_hash(Experiment("any", own.Own, RECIPE)) == before


def test_an_import_within_a_function_counts_before_it_has_run(copies):
    """A cell's process may have run it when it compares its code with that of the command."""
    from models_ import own

    copies("models_/late.py", "WIDTH = 1\n")
    copies("models_/own.py", "class Own:\n    def __init__(self):\n        from models_.late import WIDTH\n")
    before = source_hash(own.Own), sources_digest(own)
    importlib.import_module("models_.late")
    assert (source_hash(own.Own), sources_digest(own)) == before
    copies("models_/late.py", "WIDTH = 2\n")
    after = source_hash(own.Own), sources_digest(own)
    assert after[0] != before[0] and after[1] != before[1]


def test_python_versions_agree_on_f_strings():
    """Their syntax trees differ between versions in how they print, so they are written as lists of their parts."""
    code = sources._code(ast.parse("""f"a{b!r:>{c}}d" """))
    assert code == "['a', b, 'd']"


def test_the_hash_of_sources_ignores_comments_layout_and_docstrings(copies):
    from models_ import own

    path, source = "models_/parts.py", "class Part:\n    def forward(self, x):\n        return x + 1\n"
    copies(path, source)
    before = source_hash(own.Own)
    same = [
        "# a comment\nclass Part:\n\n    def forward(self, x):  # another\n        return (x + 1)\n",
        '"""A module."""\nclass Part:\n    """A class."""\n    def forward(self, x):\n        """A method."""\n'
        "        return x + 1\n",
    ]
    for text in same:
        copies(path, text)
        assert source_hash(own.Own) == before, text
    others = [
        source.replace("+ 1", "+ 2"),
        source.replace("return x + 1", "x + 1"),
        source.replace("return", "'a string that is no docstring' if x else 1; return"),
        source.replace("def", "async def"),
        "'a docstring'\n'and a string after it'\n" + source,
    ]
    hashes = {before}
    for text in others:
        copies(path, text)
        hashes.add(source_hash(own.Own))
    assert len(hashes) == 1 + len(others)
