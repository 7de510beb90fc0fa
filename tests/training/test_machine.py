"""What a result depends on besides its config: the hash of the sources that made it."""

import shutil
from functools import partial

from checkout_folder import CHECKOUT
from place import RECIPE

from utils.experiment import Experiment
from utils.training import machine


def test_the_hash_of_sources_changes_with_the_model_and_with_what_trains_it(tmp_path, monkeypatch):
    for name in ("models_", "utils_"):
        shutil.copytree(CHECKOUT / name.strip("_"), tmp_path / name)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(machine, "UTILS", tmp_path / "utils_")
    from models_ import cnn, fcn  # the copies

    def source_hash(model=fcn.FCN):
        return machine.source_hash(Experiment("any", partial(model), RECIPE))

    def edit(path):
        (tmp_path / path).write_text((tmp_path / path).read_text() + "# edited\n")

    hashes = [source_hash()]
    training = ("utils_/training/fit.py", "utils_/data/images.py", "utils_/training/gradients.py")
    for path in ("models_/fcn.py", *training):
        edit(path)
        hashes.append(source_hash())
    (tmp_path / "utils_/report/page.py").write_text("# edited\n")
    assert len(set(hashes)) == len(hashes) and source_hash() == hashes[-1]
    of_another_model = source_hash(cnn.SimpleCNN)
    edit("models_/cnn.py")
    assert source_hash(cnn.SimpleCNN) != of_another_model and source_hash() == hashes[-1]
