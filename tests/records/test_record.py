"""Records: strict JSON, whole pairs, and no damage that is taken for evidence."""

import errno
import hashlib
import io
import json
import os

import numpy as np
import pytest
from damage import rewrite
from made_records import make_record

from utils.records.record import RecordError, read_record, to_json, write_record


def strict(content: bytes):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(content, parse_constant=refuse)


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
