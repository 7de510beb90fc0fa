"""Decoded images in the data folder: memory-mapped .npy files, so that no image is decoded twice. Never loads torch.

A folder for each kind of images, such as `images/32x32x3-crop`, holds a folder for each data set: its arrays, named by
its contents. `index.json` there says which file each row came from. What was decoded before a run had to stop lies
there too, in `unfinished-*`.
"""

import hashlib
import json
import shutil
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from joblib import cpu_count
from tqdm import tqdm

from utils.data.decode import ImageFacts, NotAnImage, Target, decode
from utils.data.layout import PARTS
from utils.data.specs import ArraySpec, DataError, DatasetSpec, check_arrays
from utils.data.split import Example
from utils.files import sha256, visible, write_atomically
from utils.streams import warn

FOLDER = "images"  # in the data folder
UNFINISHED = "unfinished-"
ROWS_AT_ONCE = 1024
FILES_AT_ONCE = 512  # decoded images wait in memory for the one before them
SMALLEST_STD = 1 / 255  # of a channel that is the same in all images

Decoded = tuple[np.ndarray | None, ImageFacts]


@dataclass(frozen=True)
class Row:
    """What an image file became: row `index` of `array`, a memory map of uint8 images."""

    facts: ImageFacts
    array: np.ndarray
    index: int

    @property
    def pixels(self) -> np.ndarray:
        return self.array[self.index]

    @property
    def intact(self) -> bool:
        return sha256(self.pixels.tobytes()) == self.facts.pixels


class RowWriter:
    """Writes a .npy file of uint8 row by row, so that it may be larger than memory. A context manager.

    Not through a memory map: a full disk would kill the process there instead of raising OSError.
    """

    def __init__(self, path: Path, row_shape: tuple[int, ...]):
        self.row_shape, self.rows, self.digest = row_shape, 0, hashlib.sha256()
        self.file = path.open("wb")

    def __enter__(self) -> "RowWriter":
        self._write_header()
        return self

    def write(self, rows: np.ndarray) -> None:
        self.file.write(rows.data)
        self.digest.update(rows.data)
        self.rows += len(rows)

    def __exit__(self, *exception) -> None:
        with self.file:
            self.file.seek(0)
            self._write_header()  # it has room for any number of rows, so its length stays

    def _write_header(self) -> None:
        header = {"descr": "|u1", "fortran_order": False, "shape": (self.rows, *self.row_shape)}
        np.lib.format.write_array_header_1_0(self.file, header)

    @property
    def spec(self) -> ArraySpec:
        return ArraySpec((self.rows, *self.row_shape), self.digest.hexdigest())


def open_set(spec: DatasetSpec, data_dir: Path) -> dict[str, np.ndarray]:
    """The arrays of a data set that `keep_set` has kept, as read-only memory maps. Raises DataError."""
    folder = data_dir / spec.folder
    try:
        return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in spec.arrays}
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{folder} is damaged or gone ({error})") from error


def read_set(spec: DatasetSpec, data_dir: Path) -> dict[str, np.ndarray]:
    """The same arrays, checked. Raises DataError."""
    arrays = open_set(spec, data_dir)
    check_arrays(spec, arrays)
    return arrays


def known_rows(store: Path, target: Target) -> dict[str, Row]:
    """{hash of a file's bytes: what it became} of all files decoded before. What can't be read is left out."""
    found: dict[str, Row] = {}
    for path in visible(store, "*/index.json"):
        try:
            for name, lines in json.loads(path.read_bytes()).items():
                array = np.load(path.with_name(f"{name}.npy"), mmap_mode="r")
                if array.dtype == np.uint8 and array.shape == (len(lines), *target.shape):
                    rows = (Row(ImageFacts(*line), array, index) for index, line in enumerate(lines))
                    found |= {row.facts.file: row for row in rows}
        except (OSError, ValueError, TypeError, AttributeError):
            continue
    return found


def decode_files(
    paths: Sequence[Path], store: Path, target: Target
) -> tuple[dict[Path, ImageFacts], dict[Path, DataError]]:
    """What is known of each file, and what is wrong with those that can't be used. Decodes what wasn't decoded before.

    Keeps what it decodes, even if it is interrupted. Raises OSError if the disk is full or can't be written.
    """
    known, facts, faults = known_rows(store, target), {}, {}
    folder = _new_folder(store)
    new: list[ImageFacts] = []
    try:
        with RowWriter(folder / "images.npy", target.shape) as writer:
            for path, result in zip(paths, decoded(paths, target, known), strict=True):
                if isinstance(result, DataError):
                    faults[path] = result
                    continue
                pixels, facts[path] = result
                if pixels is not None:
                    writer.write(pixels[None])
                    new.append(facts[path])
    finally:
        write_atomically(folder / "index.json", _index({"images": new}))
        if not new:
            shutil.rmtree(folder)
    return facts, faults


def decoded(
    paths: Sequence[Path], target: Target, known: Mapping[str, Row] = MappingProxyType({})
) -> Iterator[Decoded | DataError]:
    """For each path, in their order: its pixels and what is known of it, or the error that says what is wrong with it.

    Of a file that is `known` there are no pixels but None.
    """

    def read(path: Path) -> Decoded | DataError:
        try:
            return _read(path, known, target)
        except DataError as error:
            return error

    # Threads, since Pillow and hashlib work without Python's lock.
    with ThreadPoolExecutor(cpu_count()) as threads, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's: what matters here is an error
        with tqdm(total=len(paths), unit="image", desc="reading images", disable=None) as progress:
            for start in range(0, len(paths), FILES_AT_ONCE):
                for result in threads.map(read, paths[start : start + FILES_AT_ONCE]):
                    progress.update()
                    yield result


def _read(path: Path, known: Mapping[str, Row], target: Target) -> Decoded:
    """The pixels of a file, or None if they are kept already, and what is known of it. Raises DataError."""
    try:
        if not path.is_file():
            raise DataError("a link to nothing" if path.is_symlink() else "not a regular file")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if file.tell() == 0:
                raise NotAnImage("an empty file")
            if digest in known and known[digest].intact:
                return None, known[digest].facts
            file.seek(0)
            return decode(file, digest, target)
    except OSError as error:
        raise DataError(error.strerror or str(error)) from error


def keep_set(
    store: Path, target: Target, name: str, class_names: tuple[str, ...], examples: Sequence[Example]
) -> DatasetSpec:
    """The data set of the `examples` in their order, written into a folder of its own unless it is there.

    Every file of the examples has been decoded. Raises OSError.
    """
    contents = [[example.part, example.file.label, example.facts.pixels] for example in examples]
    folder = store / sha256(json.dumps([class_names, contents]).encode())[:16]
    try:
        spec = _kept_spec(folder, name, class_names)
        read_set(spec, store.parent.parent)
    except (FileNotFoundError, ValueError, TypeError, KeyError) as error:
        if folder.exists():
            warn(f"warning: {folder} is damaged ({error}); it is made again")
        _write_set(folder, target, examples, known_rows(store, target))
        spec = _kept_spec(folder, name, class_names)
    for unfinished in store.glob(f"{UNFINISHED}*"):
        shutil.rmtree(unfinished)
    return spec


def _kept_spec(folder: Path, name: str, class_names: tuple[str, ...]) -> DatasetSpec:
    kept = json.loads((folder / "set.json").read_bytes())
    arrays = {array: ArraySpec(tuple(shape), digest) for array, (shape, digest) in kept["arrays"].items()}
    place = folder.relative_to(folder.parents[2]).as_posix()
    return DatasetSpec(name, class_names, tuple(kept["mean"]), tuple(kept["std"]), arrays, place)


def _write_set(folder: Path, target: Target, examples: Sequence[Example], rows: Mapping[str, Row]) -> None:
    """Write the arrays of each part, `set.json` and `index.json` beside `folder`, then rename them in one step."""
    parts = {part: [example for example in examples if example.part == part] for part in PARTS}
    made = _new_folder(folder.parent)
    arrays: dict[str, ArraySpec] = {}
    counts = np.zeros((target.channels, 256), np.int64)  # of the training pixels' values
    for part, chosen in parts.items():
        with RowWriter(made / f"{part}_images.npy", target.shape) as writer:
            for start in range(0, len(chosen), ROWS_AT_ONCE):
                block = np.stack([rows[e.facts.file].pixels for e in chosen[start : start + ROWS_AT_ONCE]])
                writer.write(block)
                if part == "train":
                    channels = block.reshape(-1, target.channels).T
                    counts += [np.bincount(channel, minlength=256) for channel in channels]
        arrays[f"{part}_images"] = writer.spec
        with RowWriter(made / f"{part}_labels.npy", ()) as writer:
            writer.write(np.array([example.file.label for example in chosen], np.uint8))
        arrays[f"{part}_labels"] = writer.spec
    mean, std = mean_and_std(counts)
    kept = {"mean": mean, "std": std, "arrays": {name: [spec.shape, spec.sha256] for name, spec in arrays.items()}}
    write_atomically(made / "set.json", json.dumps(kept).encode())
    index = {f"{part}_images": [example.facts for example in chosen] for part, chosen in parts.items()}
    write_atomically(made / "index.json", _index(index))
    if folder.exists():
        shutil.rmtree(folder)
    made.rename(folder)


def mean_and_std(counts: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of pixels scaled to [0, 1], from how often each value occurs, (channels, 256).

    From counts they don't depend on the order of the images. Rounded like those of MNIST and CIFAR-10. A channel that
    is the same everywhere gets a small std instead of 0, by which nothing can be divided.
    """
    values, shares = np.arange(256) / 255, counts / counts.sum(1, keepdims=True)
    mean = shares @ values
    std = np.sqrt(np.maximum(shares @ values**2 - mean**2, 0))
    return mean.round(4).tolist(), np.maximum(std, SMALLEST_STD).round(4).tolist()


def _new_folder(store: Path) -> Path:
    folder = store / f"{UNFINISHED}{uuid.uuid4().hex}"
    folder.mkdir()
    return folder


def _index(facts: Mapping[str, Iterable[ImageFacts]]) -> bytes:
    return json.dumps({name: [list(astuple(row)) for row in rows] for name, rows in facts.items()}).encode()
