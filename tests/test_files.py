"""Files are whole or absent on any file system: without locks or permissions, or one that refuses for a moment."""

import errno
import os
import stat

import filelock
import pytest

from utils import files
from utils.files import locked, remove_leftovers, visible, write_together


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOLCK, "No locks available"),
        OSError(errno.EOPNOTSUPP, "Operation not supported"),
        OSError(errno.ENOSYS, "Function not implemented"),
        NotImplementedError("FileSystem does not appear to support flock"),
    ],
    ids=["ENOLCK", "EOPNOTSUPP", "ENOSYS", "NotImplementedError"],
)
def test_without_locks_a_warning_and_on(tmp_path, monkeypatch, capsys, error):
    def refuse(self, *_, **__):
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    done = []
    with locked(tmp_path / "new" / ".lock"):
        done.append("work")
    assert done == ["work"]
    told = f"warning: {tmp_path / 'new'} has no file locks ({error}); start only one run at a time there\n"
    assert capsys.readouterr().err == told


def test_another_fault_of_a_lock_is_an_error(tmp_path, monkeypatch):
    def refuse(self, *_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with pytest.raises(OSError, match="Read-only"), locked(tmp_path / ".lock"):
        pytest.fail("it went on")


def test_a_lock_is_held_and_released(tmp_path):
    path = tmp_path / ".lock"
    with locked(path), pytest.raises(filelock.Timeout), locked(path, timeout=0):
        pytest.fail("two at once")
    with pytest.raises(KeyError), locked(path, timeout=0):
        raise KeyError  # an error within the block is not mistaken for one of the lock
    with locked(path, timeout=0):
        pass


def test_a_file_system_without_permissions_costs_nothing(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as patched:
        patched.setattr(os, "chmod", refuse)
        write_together({tmp_path / "a": b"one"})
    write_together({tmp_path / "b": b"two"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"one", "b": b"two"}
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o644


@pytest.fixture
def refusals(monkeypatch):
    """`refusals(error, times)`: so often a rename is refused; returns the pauses that were made."""

    def refuse(error, times):
        pauses, replace, left = [], os.replace, [error] * times

        def rename(source, target):
            if left:
                raise left.pop()
            replace(source, target)

        monkeypatch.setattr(os, "replace", rename)
        monkeypatch.setattr(files.time, "sleep", pauses.append)
        return pauses

    return refuse


@pytest.mark.parametrize(
    "error", [PermissionError(errno.EACCES, "in use"), OSError(errno.EBUSY, "busy"), OSError(errno.ESTALE, "stale")]
)
def test_a_rename_that_is_refused_for_a_moment_is_tried_again(tmp_path, refusals, error):
    (tmp_path / "a").write_bytes(b"old")
    pauses = refusals(error, 2)
    write_together({tmp_path / "a": b"new", tmp_path / "b": b"two"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"new", "b": b"two"}
    assert len(pauses) == 2 and sum(pauses) < 1


def test_a_rename_that_stays_refused_leaves_the_old_file(tmp_path, refusals):
    (tmp_path / "a").write_bytes(b"old")
    pauses = refusals(PermissionError(errno.EACCES, "in use"), 99)
    with pytest.raises(PermissionError):
        write_together({tmp_path / "a": b"new"})
    assert len(pauses) == 3 and sum(pauses) <= 1.1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"old"}
    assert refusals(OSError(errno.ENOSPC, "full"), 1) == []
    with pytest.raises(OSError, match="full"):
        write_together({tmp_path / "a": b"new"})
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_hidden_files_are_nobodys(tmp_path):
    for name in ("b.json", "a.json", "._a.json", ".#b.json", ".c.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".ipynb_checkpoints" / "a-checkpoint.json").write_text("{}")
    assert [path.name for path in visible(tmp_path, "*.json")] == ["a.json", "b.json"]
    assert [path.name for path in visible(tmp_path, "*")] == ["a.json", "b.json"]
    assert visible(tmp_path / "none", "*.json") == []


def test_leftovers_are_deleted_and_nothing_else(tmp_path):
    for name in (".a.json.x1y2.partial", ".b.json.x1y2.partial", "a.partial", ".hidden"):
        (tmp_path / name).write_text("")
    remove_leftovers(tmp_path, "a.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.json.x1y2.partial", ".hidden", "a.partial"]
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "a.partial"]
