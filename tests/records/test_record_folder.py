"""Folders of records: every file that isn't evidence is named, and what is published says what it changed."""

import dataclasses
import hashlib
import io
import json
import os
import zipfile

import numpy as np
import pytest
from damage import cut, rewrite
from made_records import make_record, make_timing

from utils.experiment import Declared
from utils.records.folder import (
    drop_records,
    judged_by_looks,
    latest_data,
    mark_data,
    mark_looks,
    publish,
    read_runs,
    reproduction,
)
from utils.records.record import RecordError, read_record, write_record
from utils.records.timing import write_timing

DECLARED = Declared({"FCN": "0123456789ab", "CNN": "0123456789ab"})


def swap_arrays(folder):
    """The arrays of another seed's record, whole in themselves."""
    (folder / "FCN-seed1.npz").write_bytes((folder / "FCN-seed0.npz").read_bytes())


def put_null(folder):
    history = json.loads((folder / "FCN-seed1.json").read_text())["history"]
    history[3]["val_loss"] = None
    rewrite(folder / "FCN-seed1.json", history=history)


def too_many_right(folder):
    """In one class; the sum fits."""
    right = [101, 79, *[90] * 8]
    rewrite(folder / "FCN-seed1.json", averaged_val_correct_by_class=right)


def huge_arrays(folder):
    """Arrays that claim 2^60 bytes, with their true SHA-256."""
    header, buffer = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (2**60,)})
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("test_labels.npy", header.getvalue())
    (folder / "FCN-seed1.npz").write_bytes(buffer.getvalue())
    rewrite(folder / "FCN-seed1.json", arrays_sha256=hashlib.sha256(buffer.getvalue()).hexdigest())


def rename(folder):
    for suffix in (".json", ".npz"):
        (folder / f"FCN-seed1{suffix}").rename(folder / f"FCN-seed7{suffix}")


def put(content: bytes):
    return lambda folder: (folder / "FCN-seed1.json").write_bytes(content)


def change(**changes):
    return lambda folder: rewrite(folder / "FCN-seed1.json", **changes)


FAULTS = {
    "truncated JSON": (cut("FCN-seed1.json"), "not a whole record"),
    "truncated arrays": (cut("FCN-seed1.npz"), "SHA-256"),
    "another record's arrays": (swap_arrays, "SHA-256"),
    "no arrays": (lambda folder: (folder / "FCN-seed1.npz").unlink(), "not a whole record"),
    "foreign JSON": (put(b'{"model": "FCN", "seed": 1}'), "not a record of this suite"),
    "a list": (put(b"[1, 2]"), "not a record of this suite"),
    "empty": (put(b""), "not a whole record"),
    "no text": (put(bytes(range(128, 256))), "not a whole record"),
    "older schema": (change(schema_version=0), "schema 0, this version reads 1"),
    "a field too many": (change(colour="red"), "not a whole record"),
    "no image shape": (change(image_shape=None), "not a whole record"),
    "another count": (change(test_correct=1), "of its test_predictions are correct, but it says (1, "),
    "no accuracy": (change(best_test_accuracy=None), "of its best_test_predictions are correct, but it says"),
    "another averaged count": (change(averaged_test_correct=1), "of its averaged_test_predictions are correct, but it"),
    "no reestimated count": (change(reestimated_test_correct=None), "of its reestimated_test_predictions are correct"),
    "validation counts by class": (change(averaged_val_correct=901), "averaged_val_correct is 901, but by class it is"),
    "sizes by class": (change(train_total=1), "train_total is 1, but by class it is [900, 900"),
    "sizes of too few classes": (change(val_total_by_class=[1000]), "val_total is 1000, but by class it is [1000]"),
    "more right than there are": (too_many_right, "more validation images of a class are right than there are"),
    "final epochs": (change(final_epochs=16), "16 final epochs of 15"),
    "a loss of null": (put_null, "a loss or an accuracy that isn't finite"),
    "an exabyte": (huge_arrays, "not a whole record"),
    "unknown status": (change(status="perfect"), "don't fit its name"),
    "renamed": (rename, "don't fit its name"),
    "another task": (change(task="task_9"), "a record of task_9, not of task_1_1"),
    "another recipe": (change(config_hash="ffffffffffff"), "another recipe (ffffffffffff, now 0123456789ab)"),
    "a status that there isn't": (change(status="interrupted"), "its model, seed or status don't fit its name"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_evidence_is_named_and_the_rest_stays(tmp_path, fault):
    """Truncated, empty, foreign, renamed, of another schema, task or recipe, others' arrays, a wrong count."""
    for seed in (0, 1):
        write_record(tmp_path, make_record("FCN", seed))
    write_record(tmp_path, make_record("CNN"))
    spoil, message = FAULTS[fault]
    spoil(tmp_path)
    runs, _, left_out = read_runs(tmp_path, "task_1_1", DECLARED)
    assert {model: [record.seed for record in records] for model, records in runs.items()} == {"FCN": [0], "CNN": [0]}
    (reason,) = left_out
    assert message in reason and ("FCN-seed7.json" if fault == "renamed" else "FCN-seed1.json") in reason


def test_a_diverged_record_is_named_with_its_message_beside_finished_ones(tmp_path):
    write_record(tmp_path, make_record("FCN"))
    write_record(tmp_path, make_record("FCN", 1, diverges_from=4))
    write_record(tmp_path, make_record("CNN", diverges_from=2))
    runs, _, left_out = read_runs(tmp_path, "task_1_1", DECLARED)
    assert list(runs) == ["FCN"] and [record.seed for record in runs["FCN"]] == [0]
    assert left_out == [
        "CNN-seed0.json: diverged (loss not finite at step 200)",
        "FCN-seed1.json: diverged (loss not finite at step 400)",
    ]


def test_runs_come_in_declared_order_and_seeds_in_numerical(tmp_path):
    for model, seed in (("CNN", 10), ("FCN", 0), ("CNN", 2), ("VGG", 0)):
        write_record(tmp_path, make_record(model, seed))
    write_timing(tmp_path, make_timing(["FCN"]))
    runs, _, left_out = read_runs(tmp_path, "task_1_1", Declared({"VGH": "0", **DECLARED.hashes}))
    assert [(m, [r.seed for r in records]) for m, records in runs.items()] == [("FCN", [0]), ("CNN", [2, 10])]
    assert len(left_out) == 1 and "VGG-seed0.json: task_1_1 declares no model VGG" in left_out[0]
    assert read_runs(tmp_path / "none", "task_1_1", DECLARED) == ({}, {}, [])


def test_publishing_says_what_it_changed(tmp_path):
    first, second = make_record(accuracy=0.9), make_record(accuracy=0.98)
    diverged = make_record(diverges_from=2)
    assert publish(tmp_path, diverged) == "FCN-seed0 added (diverged)"
    assert publish(tmp_path, first) == "FCN-seed0 added (finished)"
    change = f"{first.test_correct / 2000:.2%} -> {second.test_correct / 2000:.2%}"
    assert publish(tmp_path, second).startswith(f"FCN-seed0 replaced: test accuracy {change}, not reproduced (")
    assert publish(tmp_path, diverged) == "FCN-seed0 diverged; the older record stays"
    cut("FCN-seed0.json")(tmp_path)
    publish(tmp_path, first)
    assert read_record(tmp_path / "FCN-seed0.json") == first


def repeated(record, *, loss=0.0, changed_predictions=0):
    """The same run once more, with other times, its last validation loss and some predictions changed."""
    history = [dict(epoch, train_seconds=9.9) for epoch in record.history]
    history[-1]["val_loss"] += loss
    predictions = record.arrays["test_predictions"].copy()
    predictions[:changed_predictions] = (predictions[:changed_predictions] + 1) % 10
    arrays = record.arrays | {"test_predictions": predictions}
    return dataclasses.replace(record, history=history, arrays=arrays)


def test_a_replaced_record_says_how_far_it_was_reproduced(tmp_path):
    record = make_record()
    assert reproduction(record, repeated(record)) == "history and predictions reproduced exactly"
    told = reproduction(record, repeated(record, loss=4e-4, changed_predictions=3))
    assert told == ("closely reproduced (history differs by up to 0.0004, the predictions of 3 test images differ)")
    assert reproduction(record, repeated(record, changed_predictions=1)).startswith("closely reproduced (")
    assert reproduction(record, repeated(record, loss=0.1)).startswith("not reproduced (history differs by up to 0.1,")
    assert "other numbers of epochs" in reproduction(record, make_record(epochs=3))
    assert "other numbers of epochs" in reproduction(record, make_record(test_total=100))
    assert reproduction(record, dataclasses.replace(record, config_hash="other")) == "by another recipe"
    publish(tmp_path, record)
    assert publish(tmp_path, repeated(record)).endswith(", history and predictions reproduced exactly")


@pytest.mark.parametrize(
    "now, told",
    [
        ({"threads": 1}, "; the cause: threads from 2 to 1, so that sums are rounded in another order)"),
        ({"threads": 1, "torch": "3.0"}, "; changed: threads from 2 to 1, PyTorch from 2.14.1 to 3.0)"),
        ({"device_name": "Other"}, "; changed: processor from Test CPU 9000 to Other)"),
        ({"source_hash": "abc"}, "test images differ)"),  # the older record doesn't name its code
        ({}, "test images differ)"),
    ],
)
@pytest.mark.parametrize("loss", [1e-4, 0.1])
def test_what_was_not_reproduced_exactly_names_what_has_changed(now, told, loss):
    record = make_record()
    new = repeated(record, loss=loss)
    assert reproduction(record, dataclasses.replace(new, environment=record.environment | now)).endswith(told)
    exact = dataclasses.replace(record, environment=record.environment | now)
    assert reproduction(record, exact) == "history and predictions reproduced exactly"


def test_an_equal_record_is_not_written_again(tmp_path):
    record = make_record()
    publish(tmp_path, record)
    before = (tmp_path / "FCN-seed0.json").stat().st_mtime_ns
    assert publish(tmp_path, make_record()) == "FCN-seed0 is there already"
    assert (tmp_path / "FCN-seed0.json").stat().st_mtime_ns == before


def test_dropping_takes_records_and_times_and_nothing_else(tmp_path):
    for model, seed in (("FCN", 0), ("FCN", 1), ("FCN", 11), ("CNN", 1)):
        write_record(tmp_path, make_record(model, seed))
    write_timing(tmp_path, make_timing(["FCN"]))
    (tmp_path / "notes.txt").write_text("mine")
    drop_records(tmp_path, keep=[make_record("FCN", 1), make_record("CNN", 0)])
    assert sorted(os.listdir(tmp_path)) == ["FCN-seed1.json", "FCN-seed1.npz", "notes.txt"]


def test_records_of_other_data_are_named_and_left_out(tmp_path):
    """A data set of one's own that was changed: by the marker in the folder."""
    for seed, sha256 in enumerate(("aaaa" * 16, "bbbb" * 16, "")):
        write_record(tmp_path, dataclasses.replace(make_record("FCN", seed), data_sha256=sha256))
    assert latest_data(tmp_path) == "" and len(read_runs(tmp_path, "task_1_1", DECLARED).runs["FCN"]) == 3
    mark_data(tmp_path, "bbbb" * 16)
    runs, _, left_out = read_runs(tmp_path, "task_1_1", DECLARED)
    assert latest_data(tmp_path) == "bbbb" * 16 and [record.seed for record in runs["FCN"]] == [1]
    assert left_out == [
        "FCN-seed0.json: trained on other data (SHA-256 aaaaaaaaaaaa, in the latest run bbbbbbbbbbbb)",
        "FCN-seed2.json: trained on other data (SHA-256 unknown, in the latest run bbbbbbbbbbbb)",
    ]


def test_records_of_other_data_than_the_pinned_are_left_out_without_a_marker(tmp_path):
    """Somebody edited a data set's specification. A record that names no data is of a time before that could be."""
    for seed, sha256 in enumerate(("aaaa" * 16, "bbbb" * 16, "")):
        write_record(tmp_path, dataclasses.replace(make_record("FCN", seed), data_sha256=sha256))
    runs, _, (reason,) = read_runs(tmp_path, "task_1_1", DECLARED._replace(data="bbbb" * 16))
    assert [record.seed for record in runs["FCN"]] == [1, 2] and reason.startswith("FCN-seed0.json: trained on other")


def test_records_of_other_code_of_the_model_are_named_and_left_out(tmp_path):
    for seed, code in enumerate(({"model_hash": "aaaa"}, {"model_hash": "bbbb"}, {})):
        record = make_record("FCN", seed)
        write_record(tmp_path, dataclasses.replace(record, environment=record.environment | code))
    runs, _, left_out = read_runs(tmp_path, "task_1_1", DECLARED._replace(code={"FCN": "bbbb", "CNN": "aaaa"}))
    assert [record.seed for record in runs["FCN"]] == [1, 2]
    assert left_out == ["FCN-seed0.json: trained with other code of the model (aaaa, now bbbb)"]


def test_files_that_a_mac_or_an_editor_left_are_nobodys(tmp_path):
    """`._FCN-seed0.json` and `.#FCN-seed0.json`."""
    write_record(tmp_path, make_record("FCN"))
    for name in ("._FCN-seed0.json", ".#FCN-seed0.json"):
        (tmp_path / name).write_bytes(b"\x00\x05\x16\x07")
    assert read_runs(tmp_path, "task_1_1", DECLARED).left_out == []


def test_the_mark_of_looks_is_no_record_and_goes_with_the_records(tmp_path):
    publish(tmp_path, make_record("FCN"))
    assert not judged_by_looks(tmp_path)
    mark_looks(tmp_path)
    assert judged_by_looks(tmp_path) and json.loads((tmp_path / "looks.json").read_text()) == {"looks": [3, 6, 12]}
    found = read_runs(tmp_path, "task_1_1", DECLARED)
    assert list(found.runs) == ["FCN"] and found.left_out == []
    publish(tmp_path, make_record("FCN", 1))
    assert judged_by_looks(tmp_path)
    drop_records(tmp_path, keep=[])
    assert not judged_by_looks(tmp_path)


@pytest.mark.parametrize(
    "content, message",
    [('{"looks": [3, 6', "not a list of looks"), ("[3, 6, 12]", "not a list"), ("{}", "not a list"),
     ('{"looks": [3, 10]}', r"looks at \[3, 10\] seeds, this version makes them at \[3, 6, 12\]")],
)  # fmt: skip
def test_a_damaged_or_other_mark_of_looks_is_an_error_and_never_a_fixed_number(tmp_path, content, message):
    """Truncated, foreign, without looks, with other looks."""
    (tmp_path / "looks.json").write_text(content)
    with pytest.raises(RecordError, match=message):
        judged_by_looks(tmp_path)
