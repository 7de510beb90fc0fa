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
    """Copies of the sources in a folder of their own, whose models are `models_`, and `edit(path)` for those."""
    for name in ("models_", "utils_"):
        shutil.copytree(CHECKOUT / name.strip("_"), tmp_path / name)
    (tmp_path / "models_/own.py").write_text("from models_ import parts\nclass Own(parts.Part): pass\n")
    (tmp_path / "models_/parts.py").write_text("class Part: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(machine, "UTILS", tmp_path / "utils_")

    def edit(path):
        (tmp_path / path).write_text((tmp_path / path).read_text() + "# edited\n")

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
