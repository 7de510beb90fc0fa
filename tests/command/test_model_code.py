"""A change of a model's code that changes neither options nor shapes: old results are never shown as its own."""

import dataclasses
import importlib
import sys

import pytest
from place import RECIPE, SMALL

from utils.experiment import Experiment, Task
from utils.records.record import read_record, write_record

NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, image_shape, num_classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, num_classes))

    def forward(self, images):
        return self.layers(images)
"""


@pytest.fixture
def edited(tmp_path, monkeypatch):
    """A function that writes the module of the net and returns a task of it and of a model of ours."""
    name = f"net_of_{tmp_path.name}"
    folder = tmp_path / "code"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))

    def edit(text: str) -> Task:
        (folder / f"{name}.py").write_text(text)
        sys.modules.pop(name, None)
        importlib.invalidate_caches()
        net = importlib.import_module(name).Net
        return Task("tiny", "digits", [Experiment("Net", net, RECIPE), Experiment("B", SMALL, RECIPE)])

    yield edit
    sys.modules.pop(name, None)


def test_results_of_the_code_before_an_edit_are_named_and_never_pooled(place, edited):
    before = edited(NET)
    assert place.run("--num-seeds", "2", task=before) == 0
    after = edited(NET.replace("nn.ReLU()", "nn.Tanh()"))
    assert place.run("--replot", task=after) == 0
    assert place.drawn[-1] == {"B": [0, 1]} and "trained with other code of the model" in place.page()
    assert place.run("--models", "Net", "--seeds", "5", task=after) == 0
    assert place.trained == ["Net-seed5"] and place.drawn[-1] == {"Net": [5], "B": [0, 1]}
    assert "training step, ms" not in place.page()  # of the timing pass of the code before
    assert place.run("--replot", task=edited(NET)) == 0
    assert place.drawn[-1] == {"Net": [0, 1], "B": [0, 1]}


def test_a_class_or_a_comment_that_is_added_beside_a_model_changes_nothing(place, edited):
    assert place.run(task=edited(NET)) == 0
    assert place.run(task=edited(NET + "\n\n# another\nclass New(Net):\n    pass\n")) == 0
    assert place.trained == [] and place.drawn[-1] == {"Net": [0], "B": [0]}


def test_committed_records_of_other_code_are_not_taken_for_added_models(place, edited):
    """They stand in for training only if they are of this code; one that names no code counts."""
    task = edited(NET)
    assert place.run(task=task) == 0
    (path,) = place.records.glob("Net-seed0.json")
    record = read_record(path)
    for code, trained in (("0" * 12, ["Net-seed0"]), (None, [])):
        environment = {key: value for key, value in record.environment.items() if key != "model_hash"}
        if code:
            environment["model_hash"] = code
        write_record(place.records, dataclasses.replace(record, environment=environment))
        added = f"{sys.modules[task.experiments[0].model.__module__].__file__}:Net"
        place.run("--add", added, "--runs-dir", str(place.folder / f"runs-{code}"), task=task)
        assert [stem for stem in place.trained if stem == "Net-seed0"] == trained
