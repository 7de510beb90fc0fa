"""The order of sources, the cache and its faults, and several processes at once."""

import dataclasses
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
from utils.data.sources import KERAS_NAMES, SOURCES, Source, load_arrays, read_cache
from utils.data.specs import MNIST, STAND_INS, ArraySpec, DataError, check_arrays
from utils.files import locked


@pytest.fixture
def counted(monkeypatch):
    """MNIST from one source, which counts how often it is asked: (spec, its arrays, list of the folders asked)."""
    spec, arrays = tiny_mnist()
    asked = []

    def load(_, data_dir: Path) -> dict[str, np.ndarray]:
        asked.append(data_dir)
        return {name: array.copy() for name, array in arrays.items()}

    monkeypatch.setitem(SOURCES, "mnist", [Source("a fake source", load)])
    return spec, arrays, asked


def test_any_fault_of_one_source_leads_to_the_next(counted, tmp_path, monkeypatch, capsys):
    """An unexpected error, and arrays with wrong checksums."""
    spec, arrays, asked = counted

    def broken(*_):
        raise RuntimeError("out of luck")

    wrong = partial(dict, random_arrays(7, 3, (4, 5), seed=1))
    sources = [Source("one", broken), Source("two", lambda *_: wrong()), *SOURCES["mnist"]]
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


def keras_npz(arrays: dict[str, np.ndarray]) -> bytes:
    """The archive that Keras keeps as mnist.npz."""
    return npz(**{KERAS_NAMES[name]: array for name, array in arrays.items()})


def test_keras_copy_is_read_as_it_is(counted, tmp_path, capsys):
    spec, arrays, asked = counted
    assert list(KERAS_NAMES.values()) == ["x_train", "y_train", "x_test", "y_test"]
    content = keras_npz(arrays)
    (tmp_path / "mnist.npz").write_bytes(content)
    for download in (False, True):
        assert_same(load_arrays(spec, tmp_path, download), arrays)
    assert asked == [] and capsys.readouterr().err == ""
    assert os.listdir(tmp_path) == ["mnist.npz"] and (tmp_path / "mnist.npz").read_bytes() == content


@pytest.mark.parametrize(
    "content",
    [keras_npz(random_arrays(7, 3, (4, 5), seed=1)), npz(measurements=np.arange(5)), npz(x_train=np.zeros(3))],
    ids=["other images", "somebody's measurements", "a part of Keras's"],
)
def test_a_strangers_file_under_the_caches_name_is_named_and_stays(counted, tmp_path, capsys, content):
    """Keras's keys with other images, arrays of other names, one of Keras's alone."""
    spec, arrays, asked = counted
    cache = tmp_path / "mnist.npz"
    cache.write_bytes(content)
    for _ in range(2):
        assert_same(load_arrays(spec, tmp_path), arrays)
        told = capsys.readouterr().err
        assert (
            f"warning: {cache} is damaged or unreadable (" in told and "; it isn't used, and is left as it is" in told
        )
    assert cache.read_bytes() == content and len(asked) == 2
    with pytest.raises(DataError, match="mnist can't be had"):
        load_arrays(spec, tmp_path, download=False)
    assert cache.read_bytes() == content


# --- a data folder is left as it was


def test_without_download_nothing_is_written(counted, tmp_path):
    """Neither a lock nor a folder nor a cache, whether the data are found or not."""
    spec, arrays, _ = counted
    with pytest.raises(DataError):
        load_arrays(spec, tmp_path / "none" / "data", download=False)
    assert os.listdir(tmp_path) == []
    (tmp_path / "mnist.npz").write_bytes(npz(**arrays))
    load_arrays(spec, tmp_path, download=False)
    assert os.listdir(tmp_path) == ["mnist.npz"]


def test_a_failed_download_leaves_no_folder_behind(counted, tmp_path, monkeypatch):
    """Two folders that weren't there; one that was there stays, with what lay in it."""
    spec, _, _ = counted

    def broken(*_):
        raise RuntimeError("no network")

    monkeypatch.setitem(SOURCES, "mnist", [Source("broken", broken)])
    with pytest.raises(DataError, match="no network"):
        load_arrays(spec, tmp_path / "new" / "data")
    assert os.listdir(tmp_path) == []
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="no network"):
        load_arrays(spec, tmp_path / "old")
    assert "notes.txt" in os.listdir(tmp_path / "old")


# --- a data set of one's own


@pytest.fixture
def own():
    """A data set without any source: (spec without checksums, its arrays)."""
    arrays = random_arrays(7, 3, (4, 5))
    shapes = {name: ArraySpec(array.shape) for name, array in arrays.items()}
    return dataclasses.replace(MNIST, name="own", arrays=shapes), arrays


OWN_FAULTS = {
    "missing": (None, "there is no {path}, which should hold the uint8 arrays train_images, train_labels, "),
    "another shape": (
        lambda a: a | {"test_images": a["test_images"][:, :3]},
        "test_images is uint8 of shape (3, 3, 5)",
    ),
    "another type": (lambda a: a | {"train_images": a["train_images"] / 255}, "train_images is float64 of shape"),
    "other keys": (lambda a: {"images": a["train_images"]}, "no train_images and no train_labels and no test_images"),
    "a label too high": (lambda a: a | {"test_labels": a["test_labels"] * 0 + 10}, "test_labels[0] is 10; the 10 cl"),
}


@pytest.mark.parametrize("fault", OWN_FAULTS)
@pytest.mark.parametrize("download", [True, False])
def test_a_fault_of_ones_own_data_is_one_sentence_without_advice_on_downloads(own, tmp_path, capsys, fault, download):
    """A file missing, an array of another shape or type, other keys, a label that no class has."""
    spec, arrays = own
    change, message = OWN_FAULTS[fault]
    path = tmp_path / "own.npz"
    if change:
        path.write_bytes(npz(**change(arrays)))
    before = os.listdir(tmp_path)
    with pytest.raises(DataError) as caught:
        load_arrays(spec, tmp_path, download)
    told = str(caught.value)
    assert message.format(path=path) in told and "\n" not in told and str(path) in told
    assert not [word for word in ("download", "npm", "network", "torchvision", "Tried") if word in told]
    assert capsys.readouterr().err == "" and os.listdir(tmp_path) == before


def test_ones_own_data_are_read(own, tmp_path):
    spec, arrays = own
    (tmp_path / "own.npz").write_bytes(npz(**arrays))
    assert_same(load_arrays(spec, tmp_path), arrays)
    assert os.listdir(tmp_path) == ["own.npz"]


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

    def load(*_):
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
        with locked(tmp_path / ".mnist.lock"):
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
