"""The order of sources, the cache and its faults, and several processes at once."""

import errno
import multiprocessing
import os
import pickle
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from checkout_folder import CHECKOUT
from data_files import assert_same, npz, random_arrays, tiny_mnist

from utils.command.arguments import default_data_dir
from utils.data import sources as download_module
from utils.data.sources import SOURCES, Source, load_arrays, read_cache
from utils.data.specs import STAND_INS, DataError, check_arrays


@pytest.fixture
def counted(monkeypatch):
    """MNIST from one source, which counts how often it is asked: (spec, its arrays, list of the folders asked)."""
    spec, arrays = tiny_mnist()
    asked = []

    def load(data_dir: Path) -> dict[str, np.ndarray]:
        asked.append(data_dir)
        return {name: array.copy() for name, array in arrays.items()}

    monkeypatch.setitem(SOURCES, "mnist", [Source("a fake source", load)])
    return spec, arrays, asked


def test_any_fault_of_one_source_leads_to_the_next(counted, tmp_path, monkeypatch, capsys):
    """An unexpected error, and arrays with wrong checksums."""
    spec, arrays, asked = counted

    def broken(data_dir):
        raise RuntimeError("out of luck")

    wrong = partial(dict, random_arrays(7, 3, (4, 5), seed=1))
    sources = [Source("one", broken), Source("two", lambda data_dir: wrong()), *SOURCES["mnist"]]
    monkeypatch.setitem(SOURCES, "mnist", sources)
    assert_same(load_arrays(spec, tmp_path), arrays)
    told = capsys.readouterr().err
    assert "mnist, one: RuntimeError: out of luck" in told
    assert "mnist, two: mnist: train_images has the SHA-256" in told
    assert len(asked) == 1


def test_without_download_only_what_is_here_counts(counted, tmp_path):
    spec, arrays, asked = counted
    with pytest.raises(DataError, match="a fake source: downloading is switched off"):
        load_arrays(spec, tmp_path, download=False)
    assert asked == []
    load_arrays(spec, tmp_path)
    assert_same(load_arrays(spec, tmp_path, download=False), arrays)
    assert asked == [tmp_path]


def test_embedded_data_touch_no_folder(tmp_path):
    for spec in STAND_INS.values():
        check_arrays(spec, load_arrays(spec, tmp_path / "none", download=False))
    assert not (tmp_path / "none").exists()


# --- the cache

FAULTS = {
    "one byte short": lambda good: good[:-1],
    "half": lambda good: good[: len(good) // 2],
    "empty": lambda good: b"",
    "a page": lambda good: b"<!DOCTYPE html><title>Log in</title>",
    "a bit flipped": lambda good: good[:300] + bytes([good[300] ^ 4]) + good[301:],
    "a pickle": lambda good: pickle.dumps({"train_images": 1}),
    "an array by itself": lambda good: b"\x93NUMPY" + good,
    "an array missing": lambda good: npz(train_images=np.zeros((7, 4, 5), np.uint8)),
    "objects": lambda good: npz(**tiny_mnist()[1] | {"train_labels": np.array([{}] * 7)}),
    "other images": lambda good: npz(**random_arrays(7, 3, (4, 5), seed=1)),
    "huge": lambda good: good.replace(b"'shape': (7, 4, 5), }   ", b"'shape': (7,1152921504606846976,), }"[:24]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_cache_is_named_and_fetched_again_once(counted, tmp_path, capsys, fault):
    """A byte short, a bit flipped, empty, a web page, a pickle, an array missing, other images, an exabyte claimed."""
    spec, arrays, asked = counted
    cache = tmp_path / "mnist.npz"
    bad = FAULTS[fault](npz(**arrays))
    assert bad != npz(**arrays)
    cache.write_bytes(bad)
    with pytest.raises(DataError, match="mnist.npz is damaged or unreadable"):
        load_arrays(spec, tmp_path, download=False)
    assert capsys.readouterr().err.count(f"warning: {cache} is damaged or unreadable (") == 1
    assert cache.read_bytes() == bad and asked == []
    assert_same(load_arrays(spec, tmp_path), arrays)
    assert capsys.readouterr().err.count(str(cache)) == 1
    assert_same(load_arrays(spec, tmp_path), arrays)
    assert len(asked) == 1 and capsys.readouterr().err == ""
    assert sorted(os.listdir(tmp_path)) == [".mnist.lock", "mnist.npz"]


def test_no_single_flipped_bit_gets_through(tmp_path):
    """200 random single-bit flips."""
    spec, arrays = tiny_mnist()
    good, path = npz(**arrays), tmp_path / "mnist.npz"
    rng = np.random.default_rng(0)
    refused = 0
    for position, bit in zip(rng.integers(0, len(good), 200), rng.integers(0, 8, 200), strict=True):
        path.write_bytes(good[:position] + bytes([good[position] ^ 1 << bit]) + good[position + 1 :])
        try:
            assert_same(read_cache(spec, path), arrays)  # such as a bit of a date
        except DataError:
            refused += 1
    assert refused > 100


def test_a_compressed_cache_is_read_too(counted, tmp_path):
    spec, arrays, asked = counted
    np.savez_compressed(tmp_path / "mnist.npz", **arrays)
    assert_same(load_arrays(spec, tmp_path), arrays)
    assert asked == []


def test_a_data_folder_that_is_a_file_is_refused(counted, tmp_path):
    """Its bytes stay."""
    spec, _, asked = counted
    (tmp_path / "data").write_bytes(b"precious")
    with pytest.raises(DataError, match="data folder .*/data is a file: name a folder by --data-dir or CNN"):
        load_arrays(spec, tmp_path / "data")
    assert asked == [] and (tmp_path / "data").read_bytes() == b"precious"


def test_a_full_disk_costs_the_cache_and_not_the_run(counted, tmp_path, monkeypatch, capsys):
    """ENOSPC at fsync."""
    spec, arrays, asked = counted

    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert_same(load_arrays(spec, tmp_path), arrays)
    assert "mnist.npz could not be written ([Errno 28] No space left on device)" in capsys.readouterr().err
    assert os.listdir(tmp_path) == [".mnist.lock"]


def test_the_default_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("CNN_COMPARE_DATA", str(tmp_path))
    assert default_data_dir() == tmp_path
    for unset in (lambda: monkeypatch.delenv("CNN_COMPARE_DATA"), lambda: monkeypatch.setenv("CNN_COMPARE_DATA", "")):
        unset()
        assert default_data_dir() == CHECKOUT / "data"


# --- several processes

FORK = multiprocessing.get_context("fork")


def run_processes(*targets):
    processes = [FORK.Process(target=target) for target in targets]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * len(processes)


@pytest.mark.parametrize("before", [None, b"garbled"])
def test_eight_processes_make_one_download(tmp_path, monkeypatch, capfd, before):
    """Started behind a barrier, on an empty cache and on a garbled one."""
    spec, arrays = tiny_mnist()
    calls, barrier, data_dir = tmp_path / "calls", FORK.Barrier(8), tmp_path / "data"
    data_dir.mkdir()
    if before is not None:
        (data_dir / "mnist.npz").write_bytes(before)

    def load(folder):
        with calls.open("a") as file:
            file.write("x")
        time.sleep(0.3)
        return arrays

    def child():
        barrier.wait(20)
        assert_same(load_arrays(spec, data_dir), arrays)

    monkeypatch.setitem(SOURCES, "mnist", [Source("slow", load)])
    run_processes(*[child] * 8)
    assert calls.read_text() == "x"
    assert f"waiting for another process that holds {data_dir}/.mnist.lock" in capfd.readouterr().err


def test_a_lock_left_by_a_killed_process_is_taken_over(counted, tmp_path):
    """SIGKILL in a child."""
    spec, arrays, _ = counted

    def child():
        download_module._locked(tmp_path / ".mnist.lock")
        os.kill(os.getpid(), 9)

    process = FORK.Process(target=child)
    process.start()
    process.join(20)
    assert process.exitcode == -9 and (tmp_path / ".mnist.lock").exists()
    assert_same(load_arrays(spec, tmp_path), arrays)


@pytest.fixture
def read_only():
    """A folder that only its owner could change, where a child without root's rights can reach it."""
    folder = Path(tempfile.mkdtemp(prefix="read-only-"))
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def without_root(action):
    def child():
        if os.geteuid() == 0:
            os.setuid(65534)
        action()

    return child


def test_a_read_only_folder_serves_its_cache_silently(counted, read_only, capfd):
    """In a child that isn't root."""
    spec, arrays, _ = counted
    (read_only / "mnist.npz").write_bytes(npz(**arrays))
    read_only.chmod(0o555)
    run_processes(without_root(lambda: assert_same(load_arrays(spec, read_only, download=False), arrays)))
    assert capfd.readouterr().err == ""
    assert os.listdir(read_only) == ["mnist.npz"]


def test_a_read_only_folder_without_a_cache_costs_the_cache_and_not_the_run(counted, read_only, capfd):
    """In a child that isn't root."""
    spec, arrays, _ = counted
    read_only.chmod(0o555)
    run_processes(without_root(lambda: assert_same(load_arrays(spec, read_only), arrays)))
    told = capfd.readouterr().err
    assert f"{read_only} can't be locked" in told and "mnist.npz could not be written" in told
    assert os.listdir(read_only) == []
