"""The arrays of records: on disk until they are asked for, so that thousands of records fit into memory.

Never loads torch.
"""

import io
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from utils.files import sha256

FILES_KEPT = 32  # in memory, those used last: enough for a few models with a few seeds each


class RecordError(ValueError):
    """A file is not a record of this suite, or is damaged or incomplete; the message names the file and the fault."""


def open_arrays(stem: str, content: bytes, expected: str) -> np.lib.npyio.NpzFile:
    """The arrays of the record `stem` in the bytes of its .npz, each of them unpacked when it is asked for.

    Raises RecordError if the SHA-256 isn't the one `expected`, and for damaged bytes whatever NumPy raises.
    """
    if sha256(content) != expected:
        raise RecordError(f"{stem}.json: its arrays ({stem}.npz) don't have the SHA-256 that it names")
    return np.load(io.BytesIO(content))


@lru_cache(FILES_KEPT)
def _opened(path: Path, expected: str) -> tuple[np.lib.npyio.NpzFile, dict[str, np.ndarray]]:
    """The file, and the arrays that have been unpacked so far."""
    return open_arrays(path.stem, path.read_bytes(), expected), {}


class StoredArrays(Mapping[str, np.ndarray]):
    """The arrays `names` of the .npz file `path`, {name: array}, read when one is asked for.

    Whenever the file is read, its SHA-256 is compared. So one that was replaced meanwhile raises RecordError, and never
    gives the arrays of another run. The arrays can't be written to.
    """

    def __init__(self, path: Path, sha256: str, names: tuple[str, ...]):
        self.path, self.sha256, self.names = path, sha256, names

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.names:
            raise KeyError(name)
        try:
            archive, unpacked = _opened(self.path, self.sha256)
        except OSError as error:
            raise RecordError(f"{self.path.name} can't be read any more ({error})") from error
        if name not in unpacked:
            unpacked[name] = archive[name]
            unpacked[name].flags.writeable = False
        return unpacked[name]

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)
