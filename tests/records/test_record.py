"""Records: strict JSON, whole pairs, every file that isn't evidence named; and the hash that tells recipes apart."""

import dataclasses
import errno
import hashlib
import io
import json
import os
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from made_records import make_record, make_timing

from models import FCN
from utils import experiment as experiment_module
from utils.experiment import Experiment, TrainConfig, config_hash
from utils.records.folder import drop_records, publish, read_runs, reproduction
from utils.records.record import RecordError, read_record, to_json, write_record
from utils.records.timing import read_timing, write_timing

DECLARED = {"FCN": "0123456789ab", "CNN": "0123456789ab"}


def strict(content: bytes):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(content, parse_constant=refuse)


def rewrite(path: Path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_number_that_is_not_finite_becomes_null(tmp_path):
    """NaN and infinities, nested; read back by a strict JSON parser."""
    values = strict(write_record(tmp_path, make_record(epochs=5, diverges_from=3)).read_bytes())
    assert [epoch["val_loss"] is None for epoch in values["history"]] == [False, False, True, True, True]
    assert strict(to_json({"a": [float("inf"), (1, float("-inf"))], "b": {"c": float("nan"), "d": 0.5}})) == {
        "a": [None, [1, None]],
        "b": {"c": None, "d": 0.5},
    }


def test_a_record_comes_back_as_it_was(tmp_path):
    record = make_record(seed=12, task="task_1_2", dataset="cifar10", image_shape=(3, 32, 32))
    back = read_record(write_record(tmp_path, record))
    assert back == record
    assert set(back.arrays) == set(record.arrays)
    for name, array in record.arrays.items():
        np.testing.assert_array_equal(back.arrays[name], array, strict=True)


def test_a_diverged_record_comes_back_with_nan_in_its_curves(tmp_path):
    record = make_record(epochs=5, diverges_from=3)
    back = read_record(write_record(tmp_path, record))
    np.testing.assert_array_equal(back.curve("val_loss"), record.curve("val_loss"))
    np.testing.assert_array_equal(back.curve("val_accuracy"), record.curve("val_accuracy"))
    assert np.isnan(back.curve("fit_loss")).tolist() == [False, False, True, True, True]
    assert (back.status, back.test_accuracy, back.best_epoch, back.arrays) == ("diverged", None, None, {})


def swap_arrays(folder):
    """The arrays of another seed's record, whole in themselves."""
    (folder / "FCN-seed1.npz").write_bytes((folder / "FCN-seed0.npz").read_bytes())


def put_null(folder):
    history = json.loads((folder / "FCN-seed1.json").read_text())["history"]
    history[3]["val_loss"] = None
    rewrite(folder / "FCN-seed1.json", history=history)


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


def cut(name):
    return lambda folder: os.truncate(folder / name, os.path.getsize(folder / name) * 2 // 3)


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
    "a loss of null": (put_null, "a loss or an accuracy that isn't finite"),
    "an exabyte": (huge_arrays, "not a whole record"),
    "unknown status": (change(status="perfect"), "don't fit its name"),
    "renamed": (rename, "don't fit its name"),
    "another task": (change(task="task_9"), "a record of task_9, not of task_1_1"),
    "another recipe": (change(config_hash="ffffffffffff"), "another recipe (ffffffffffff, now 0123456789ab)"),
    "interrupted": (change(status="interrupted", message="at epoch 3"), "interrupted (at epoch 3)"),
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
    runs, _, left_out = read_runs(tmp_path, "task_1_1", {"VGH": "0", **DECLARED})
    assert [(m, [r.seed for r in records]) for m, records in runs.items()] == [("FCN", [0]), ("CNN", [2, 10])]
    assert len(left_out) == 1 and "VGG-seed0.json: task_1_1 declares no model VGG" in left_out[0]
    assert read_runs(tmp_path / "none", "task_1_1", DECLARED) == ({}, {}, [])


class Planted:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_no_code_in_a_record_is_run(tmp_path):
    """A pickle in the arrays, with the SHA-256 that the JSON names."""
    path = write_record(tmp_path, make_record())
    buffer = io.BytesIO()
    np.savez(buffer, test_labels=np.array([Planted(str(tmp_path / "planted"))], dtype=object))
    path.with_suffix(".npz").write_bytes(buffer.getvalue())
    rewrite(path, arrays_sha256=hashlib.sha256(buffer.getvalue()).hexdigest())
    with pytest.raises(RecordError, match="FCN-seed0.json: not a whole record"):
        read_record(path)
    assert not (tmp_path / "planted").exists()


def fail_at_write(monkeypatch, number):
    """The disk is full at the `number`th file or folder that is flushed, counted from 1."""
    files, fsync = [], os.fsync

    def full(handle):
        files.append(handle)
        if len(files) == number:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)


@pytest.mark.parametrize("number", [1, 2])
def test_a_full_disk_leaves_the_older_pair_whole_and_no_temporary_file(tmp_path, monkeypatch, number):
    """ENOSPC at the first and at the second file's fsync."""
    old, new = make_record(accuracy=0.9), make_record(accuracy=0.98)
    write_record(tmp_path, old)
    fail_at_write(monkeypatch, number)
    with pytest.raises(OSError, match="No space"):
        write_record(tmp_path, new)
    assert read_record(tmp_path / "FCN-seed0.json") == old
    assert sorted(os.listdir(tmp_path)) == ["FCN-seed0.json", "FCN-seed0.npz"]
    fail_at_write(monkeypatch, number)
    with pytest.raises(OSError, match="No space"):
        write_record(tmp_path / "new", new)
    assert os.listdir(tmp_path / "new") == []


def test_killed_between_its_two_files_a_pair_is_named_and_not_read(tmp_path, monkeypatch):
    """An interruption between the two renames."""
    write_record(tmp_path, make_record(accuracy=0.9))
    replace, names = os.replace, []

    def killed(source, target):
        names.append(target.name)
        if len(names) == 2:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_record(tmp_path, make_record(accuracy=0.98))
    assert names == ["FCN-seed0.npz", "FCN-seed0.json"]
    with pytest.raises(RecordError, match="SHA-256"):  # never old numbers beside new predictions
        read_record(tmp_path / "FCN-seed0.json")


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


def test_an_equal_record_is_not_written_again(tmp_path):
    record = make_record()
    publish(tmp_path, record)
    before = (tmp_path / "FCN-seed0.json").stat().st_mtime_ns
    assert publish(tmp_path, make_record()) == "FCN-seed0 is there already"
    assert (tmp_path / "FCN-seed0.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "change",
    [
        {"environment": {}},
        {"history": []},
        {"history": [{"val_loss": 1.0}]},
        {"test_total": 7},
        {"environment": None},
        {"seed": "0", "class_names": 3},
    ],
    ids=str,
)
def test_a_record_without_what_reports_need_is_named(tmp_path, change):
    """Missing or mistyped environment, history, number of test images."""
    path = write_record(tmp_path, make_record())
    values = json.loads(path.read_text()) | change
    path.write_text(json.dumps(values))
    with pytest.raises(RecordError, match="FCN-seed0.json"):
        read_record(path)


def test_json_nested_without_end_is_named(tmp_path):
    """100,000 opening brackets."""
    path = write_record(tmp_path, make_record())
    path.write_text("[" * 100_000)
    with pytest.raises(RecordError, match="RecursionError"):
        read_record(path)


def test_dropping_takes_records_and_times_and_nothing_else(tmp_path):
    for model, seed in (("FCN", 0), ("FCN", 1), ("FCN", 11), ("CNN", 1)):
        write_record(tmp_path, make_record(model, seed))
    write_timing(tmp_path, make_timing(["FCN"]))
    (tmp_path / "notes.txt").write_text("mine")
    drop_records(tmp_path, keep=[make_record("FCN", 1), make_record("CNN", 0)])
    assert sorted(os.listdir(tmp_path)) == ["FCN-seed1.json", "FCN-seed1.npz", "notes.txt"]


def test_a_timing_pass_comes_back_if_it_has_all_models(tmp_path):
    assert read_timing(tmp_path, ["FCN"]) is None
    timing = make_timing(["FCN", "CNN"])
    write_timing(tmp_path, timing)
    assert read_timing(tmp_path, ["CNN", "FCN"]) == read_timing(tmp_path, ["CNN"]) == timing
    assert read_timing(tmp_path, ["FCN", "CNN", "VGG"]) is None


@pytest.mark.parametrize(
    "spoil",
    [
        cut("timing.json"),
        lambda folder: rewrite(folder / "timing.json", schema_version=0),
        lambda folder: rewrite(folder / "timing.json", colour="red"),
        lambda folder: (folder / "timing.json").write_text("[]"),
        lambda folder: rewrite(folder / "timing.json", models=None),
        lambda folder: (folder / "timing.json").write_text("[" * 100_000),
    ],
    ids=["truncated", "older schema", "a field too many", "foreign", "no models", "nested"],
)
def test_a_timing_pass_that_is_not_whole_is_none(tmp_path, spoil):
    """Truncated, of an older schema, with a field too many, foreign, without models, nested without end."""
    write_timing(tmp_path, make_timing(["FCN"]))
    spoil(tmp_path)
    assert read_timing(tmp_path, ["FCN"]) is None


# What tells recipes apart

RECIPE = TrainConfig(epochs=15, batch_size=64, optimizer="adam", learning_rate=1e-3)
SHAPES = {"1.weight": (512, 784), "1.bias": (512,)}


def hash_of(model=FCN, name="FCN", dataset="mnist", shapes=SHAPES, **config):
    return config_hash(Experiment(name, model, dataclasses.replace(RECIPE, **config)), dataset, shapes)


def test_the_hash_tells_apart_everything_that_decides_what_a_run_means(monkeypatch):
    hashes = [
        hash_of(),
        hash_of(dataset="cifar10"),
        hash_of(partial(FCN, dropout=0.5)),
        hash_of(partial(FCN, dropout=0.1)),
        hash_of(shapes={**SHAPES, "1.bias": (513,)}),
        hash_of(shapes={"0.weight": (512, 784), "1.bias": (512,)}),
        *(hash_of(**{field: value}) for field, value in {
            "epochs": 16, "batch_size": 32, "optimizer": "sgd", "learning_rate": 2e-3, "momentum": 0.9,
            "weight_decay": 0.01, "limit": 100,
        }.items()),
    ]  # fmt: skip
    monkeypatch.setattr(experiment_module, "RECIPE_VERSION", 99)
    hashes.append(hash_of())
    assert len(set(hashes)) == len(hashes) == 14


def test_the_hash_ignores_what_is_at_its_default_and_how_an_experiment_is_called():
    assert hash_of(partial(FCN)) == hash_of(partial(FCN, dropout=0.25)) == hash_of()
    assert hash_of(momentum=0.0, weight_decay=0.0, limit=None, name="another") == hash_of()


def test_a_field_added_later_orphans_no_record():
    @dataclasses.dataclass(frozen=True)
    class LaterConfig(TrainConfig):
        label_smoothing: float = 0.0

    later = LaterConfig(**dataclasses.asdict(RECIPE))
    assert config_hash(Experiment("FCN", FCN, later), "mnist", SHAPES) == hash_of()
    changed = dataclasses.replace(later, label_smoothing=0.1)
    assert config_hash(Experiment("FCN", FCN, changed), "mnist", SHAPES) != hash_of()
