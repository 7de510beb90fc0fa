"""`--protocol original`: whole runs on small data."""

from place import RECIPE, SMALL, WITH_ABLATION, digests

from utils.experiment import Experiment, Task
from utils.files import visible
from utils.records.record import read_record


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
    text = (folder / "RESULTS.md").read_text()
    assert "test set was the validation set" in text and f"| A | {record.test_accuracy:.2%} |" in text
    told = capsys.readouterr().out
    assert "No timing pass" in told and "best-validation weights" not in told.partition("No timing pass")[2]
    assert place.run("--protocol", "original", "--epochs", "1", task=WITH_ABLATION) == 0  # a quick look
    assert (place.runs / "quick/original_protocol/tiny/epochs=1/RESULTS.md").exists()
