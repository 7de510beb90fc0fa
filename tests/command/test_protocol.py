"""`--protocol original`: whole runs on small data."""

import pytest
from place import RECIPE, SMALL, WITH_ABLATION, digests

from utils.experiment import Experiment, Task
from utils.files import visible
from utils.records.record import read_record
from utils.report.original import read_original
from utils.report.readme import block_of


def test_records_of_another_protocol_are_never_replaced(place, capsys):
    assert place.run("--output-dir", str(place.folder / "mine"), task=WITH_ABLATION) == 0
    before = digests(place.folder / "mine")
    assert place.run("--protocol", "original", "--output-dir", str(place.folder / "mine"), task=WITH_ABLATION) == 2
    assert "holds records of tiny; choose another --output-dir" in capsys.readouterr().err
    other = Task("other", "digits", [Experiment("C", SMALL, RECIPE)])  # none of its records has such a name
    assert place.run("--fresh", "--output-dir", str(place.folder / "mine"), task=other) == 2
    assert digests(place.folder / "mine") == before and place.trained == []


def test_the_original_protocol_trains_on_everything_and_validates_on_the_test_set(place, capsys):
    assert place.run(task=WITH_ABLATION) == 0
    before, ours = digests(place.folder / "plots" / "tiny"), place.block()
    page = place.folder / "docs/original-report.md"
    page.parent.mkdir()
    page.write_text("<!-- original_protocol/tiny: begin -->\n<!-- original_protocol/tiny: end -->\n")
    assert place.run("--protocol", "original", task=WITH_ABLATION) == 0
    assert place.trained == ["A-seed0", "B-seed0"] and place.drawn == []
    assert digests(place.folder / "plots" / "tiny") == before and place.block() == ours
    folder = place.folder / "plots/original_protocol/tiny"
    assert sorted(path.name for path in visible(folder, "*")) == ["RESULTS.md", "records"]
    record = read_record(folder / "records/cpu-fp32/A-seed0.json")
    assert record.config["protocol"] == "original" and record.task == "original_protocol/tiny"
    assert record.history[-1]["val_accuracy"] == record.test_accuracy
    assert record.has_average and record.val_total == record.test_total
    assert record.averaged_val_correct == record.averaged_test_correct
    assert read_record(place.records / "A-seed0.json").config_hash != record.config_hash
    block = block_of(page.read_text(), "original_protocol/tiny")
    assert "test set was the validation set" in block and "| A | – | " in block
    told = capsys.readouterr().out
    assert "No timing pass" in told and "best-validation weights" not in told.partition("No timing pass")[2]
    assert place.run("--protocol", "original", "--epochs", "1", task=WITH_ABLATION) == 0  # a quick look
    assert (place.runs / "quick/original_protocol/tiny/epochs=1/RESULTS.md").exists()


@pytest.mark.parametrize("task", ["task_1_1", "task_1_2"])
def test_the_original_accuracies_are_those_that_the_report_gives(task):
    runs = read_original(task).runs
    last = {name: run["val_accuracy"][-1] for name, run in runs.items()}
    assert (
        last
        == {
            "task_1_1": {"FCN": 98.16, "SimpleCNN": 99.12, "CNNWithResidual": 99.48},
            "task_1_2": {"CIFARCNN": 76.25, "CNNWithResidual": 82.53, "CNNWithResidual-Regularized": 80.02},
        }[task]
    )
