"""`--add`: models from a file or a library beside the task's own, in a folder of their own."""

import json
import shutil
import sys

import pytest
from made_records import older
from place import digests

from utils.experiment import Declared
from utils.findings.results import read_results
from utils.records.record import read_record, write_record

NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, image_shape, num_classes, width=8):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, num_classes))

    def forward(self, images):
        return self.layers(images)

def wide(image_shape, num_classes):
    return Net(image_shape, num_classes, width=32)

class A(Net):
    pass

class Short(Net):
    def forward(self, images):
        return super().forward(images)[:, :3]

def fails(image_shape, num_classes):
    raise RuntimeError("no such thing")
"""


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """A file of models, under a module name that no other test uses."""
    name = f"nets_of_{tmp_path.name}"
    path = tmp_path / "elsewhere" / f"{name}.py"
    path.parent.mkdir()
    path.write_text(NET)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield path
    sys.modules.pop(name, None)


def records_in(folder):
    return sorted(path.stem for path in (folder / "records/cpu-fp32").glob("*-seed*.json"))


def test_added_models_are_compared_in_a_folder_of_their_own(place, nets, capsys):
    plots = place.old_records("A-seed0", "B-seed0")
    readme = place.readme.read_bytes()
    assert place.run("--add", f"{nets}:Net", f"{nets}:wide") == 0
    assert sorted(place.trained) == ["Net-seed0", "wide-seed0"]  # A and B come from the committed records
    added = place.runs / "added" / "tiny"
    assert records_in(added) == ["A-seed0", "B-seed0", "Net-seed0", "wide-seed0"]
    assert digests(place.plots) == plots and place.readme.read_bytes() == readme
    text = (added / "RESULTS.md").read_text()
    assert "B and Net" in text and "B and wide" in text and "2 planned contrasts" in text
    assert "A and B:" not in text and "original report" not in text


def test_committed_runs_without_averaged_weights_are_trained_again(place, nets, capsys):
    """Of an older version; a committed run that has them goes before one of the runs folder that lacks them."""
    assert place.run() == 0
    records = {path.stem: read_record(path) for path in place.records.glob("*-seed0.json")}
    write_record(place.records, older(records["A-seed0"]))
    shutil.rmtree(place.runs / "tiny/cpu-fp32/A")
    (local,) = place.runs.glob("tiny/cpu-fp32/B/*/seed0")
    write_record(local, older(records["B-seed0"]))
    capsys.readouterr()
    assert place.run("--add", f"{nets}:Net") == 0 and sorted(place.trained) == ["A-seed0", "Net-seed0"]
    assert "A-seed0 had finished, but an older version kept no averaged weights" in capsys.readouterr().out


def test_they_add_up_and_share_one_family(place, nets):
    assert place.run("--add", f"{nets}:Net") == 0
    assert place.run("--add", f"{nets}:wide", "--against", "A") == 0
    assert place.trained == ["wide-seed0"]
    added = place.runs / "added" / "tiny"
    assert json.loads((added / "added.json").read_text()) == {f"{nets}:Net": "B", f"{nets}:wide": "A"}
    text = (added / "RESULTS.md").read_text()
    assert "B and Net" in text and "A and wide" in text and "2 planned contrasts" in text


def test_an_edited_file_is_another_model_which_is_trained_again(place, nets):
    assert place.run("--add", f"{nets}:Net") == 0
    nets.write_text(NET.replace("nn.ReLU()", "nn.Tanh()"))
    sys.modules.pop(nets.stem)
    assert place.run("--add", f"{nets}:Net", "--replot") == 0
    text = (place.runs / "added" / "tiny" / "RESULTS.md").read_text()
    assert "Net-seed0.json: from another recipe" in text and "B and Net" not in text
    assert place.run("--add", f"{nets}:wide") == 0
    assert sorted(place.trained) == ["Net-seed0", "wide-seed0"]


def test_a_name_that_is_taken_gets_the_files(place, nets):
    assert place.run("--add", f"{nets}:A") == 0
    assert f"A ({nets.stem})" in (place.runs / "added" / "tiny" / "RESULTS.md").read_text().replace("\\", "")


@pytest.mark.parametrize(
    "spec, message",
    [
        ("{0}:Nett", "has no Nett; it has Net, wide, A, Short, fails"),
        ("{0}:fails", "fails can't be built for images (1, 8, 8) in 10 classes: RuntimeError: no such thing"),
        ("{0}:Short", "Short can't be trained: for images (64, 1, 8, 8) it returns (64, 3), not logits (64, 10)"),
        ("nowhere.py:Net", "there is no file"),
        ("torchvision:resnet19", "there is no resnet19; near it: resnet18"),
        ("resnet18", "write FILE.py:NAME, torchvision:NAME or timm:NAME"),
    ],
)
def test_what_cannot_be_added_is_named_before_anything_is_trained(place, nets, capsys, spec, message):
    assert place.run("--add", spec.format(nets)) == 2
    assert message in capsys.readouterr().err and place.trained == []


def test_a_quick_look_has_a_folder_of_its_own(place, nets):
    assert place.run("--add", f"{nets}:Net", "--epochs", "1") == 0
    (folder,) = (place.runs / "quick" / "added" / "tiny").iterdir()
    assert records_in(folder) == ["A-seed0", "B-seed0", "Net-seed0"]
    assert folder.name.startswith("epochs=1--A,B,Net-") and not (place.runs / "added").exists()
    for other in ([f"{nets}:Net", "--against", "A"], [f"{nets}:wide"]):
        assert place.run("--add", *other, "--epochs", "1") == 0 and records_in(folder)[:2] == ["A-seed0", "B-seed0"]
    assert len(list(folder.parent.iterdir())) == 3


def test_a_run_of_fewer_of_the_tasks_models_keeps_what_was_compared(place, nets, capsys):
    assert place.run("--add", f"{nets}:Net") == 0  # against B
    assert place.run("--models", "A", "--add", f"{nets}:wide", "--seeds", "1") == 0
    assert sorted(place.trained) == ["A-seed1", "Net-seed1", "wide-seed1"]
    text = (place.runs / "added" / "tiny" / "RESULTS.md").read_text()
    assert "B and Net" in text and "A and wide" in text and "declares no model" not in text
    assert set(place.drawn[-1]) == {"A", "B", "Net", "wide"}


def test_a_librarys_net_is_fitted_to_channels_and_classes_and_enlarges_small_images():
    import torch

    from utils.command.libraries import enlargement, torchvision_classifier

    net = torchvision_classifier((1, 28, 28), 7, architecture="mobilenet_v3_small").eval()
    assert net(torch.zeros(2, 1, 28, 28)).shape == (2, 7) and enlargement(net) == ""
    with torch.device("meta"):
        large = torchvision_classifier((3, 32, 32), 5, architecture="alexnet").eval()
    assert enlargement(large) == "64 x 64" and large(torch.zeros(2, 3, 32, 32, device="meta")).shape == (2, 5)


def test_results_are_read_by_what_is_declared(place, nets):
    assert place.run("--add", f"{nets}:Net") == 0
    folder = place.runs / "added" / "tiny" / "records" / "cpu-fp32"
    from place import HASHES, TASK

    results = read_results(folder, TASK, Declared(HASHES))
    assert [line for line in results.left_out if "Net-seed0.json" in line]
