"""What a result depends on besides its config: the hash of the sources that made it."""

import shutil
import sys
from functools import partial

import pytest
from checkout_folder import CHECKOUT
from place import RECIPE

from utils.experiment import Experiment
from utils.training import machine


def source_hash(model) -> str:
    return machine.source_hash(Experiment("any", partial(model), RECIPE))


@pytest.fixture
def copies(tmp_path, monkeypatch):
    """Copies of the sources in a folder of their own, whose models are `models_`, and `edit(path, text)` for those."""
    for name in ("models_", "utils_"):
        shutil.copytree(CHECKOUT / name.strip("_"), tmp_path / name)
    (tmp_path / "models_/own.py").write_text("from models_ import parts\nclass Own(parts.Part): pass\n")
    (tmp_path / "models_/parts.py").write_text("class Part: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(machine, "UTILS", tmp_path / "utils_")

    def edit(path, text=None):
        path = tmp_path / path
        path.write_text(path.read_text() + "edited = 1\n" if text is None else text)

    yield edit
    for name in [name for name in sys.modules if name.partition(".")[0] == "models_"]:
        del sys.modules[name]


TRAINS = [f"utils_/training/{path.name}" for path in sorted((CHECKOUT / "utils/training").glob("*.py"))]
TRAINS += ["utils_/data/specs.py", "utils_/data/images.py", "utils_/records/flow.py", "utils_/experiment.py"]
TRAINS += ["models_/own.py", "models_/parts.py"]
ROOMS = ("findings", "report", "figures", "stats", "command", "timing")
OTHERS = [
    f"utils_/{path.relative_to(CHECKOUT / 'utils')}"
    for room in ROOMS
    for path in (CHECKOUT / "utils" / room).glob("*.py")
]
OTHERS += ["utils_/contrasts.py", "utils_/words.py", "utils_/data/fetch.py", "utils_/data/sources.py"]
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


def test_each_model_has_the_hash_of_its_own_sources(copies):
    from models_ import cnn, fcn

    hashes = source_hash(fcn.FCN), source_hash(cnn.SimpleCNN)
    copies("models_/cnn.py")
    assert source_hash(fcn.FCN) == hashes[0] and source_hash(cnn.SimpleCNN) != hashes[1]
    copies("models_/fcn.py")
    assert source_hash(fcn.FCN) != hashes[0]


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


def test_code_that_moves_to_another_file_is_other_code(copies):
    """Joined without their names, the sources of both would be the same."""
    from models_ import own

    header = "from models_ import parts\nclass Own(parts.Part): pass\n"
    copies("models_/own.py", header + "b = 1\n")
    copies("models_/parts.py", "class Part: pass\n")
    before = source_hash(own.Own)
    copies("models_/own.py", header)
    copies("models_/parts.py", "b = 1\nclass Part: pass\n")
    assert source_hash(own.Own) != before
