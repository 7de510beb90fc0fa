"""Files that are either whole or absent."""

import errno
import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

PARTIAL = ".partial"  # ends the names of files that are being written


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part. Raises OSError."""
    write_together({path: content})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files of one folder (made if missing), all of them or none; they take their names in the order given.

    The bytes go to temporary files in the same folder and are flushed to the disk; only then each takes its name in
    one step. Raises OSError, with all files as they were and no temporary one left. A process killed between two
    names, or a disk that fails there, leaves the earlier files new and the later ones old: let the last one vouch for
    the others.
    """
    folder = next(iter(contents)).parent
    folder.mkdir(parents=True, exist_ok=True)
    temporaries: list[str] = []
    try:
        for path, content in contents.items():
            handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{path.name[:58]}.", suffix=PARTIAL)
            temporaries.append(temporary)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)  # mkstemp gives 0600, but what we write is meant to be read
        for temporary, path in zip(temporaries, contents, strict=True):
            os.replace(temporary, path)
    except BaseException:
        for temporary in temporaries:
            Path(temporary).unlink(missing_ok=True)
        raise
    if os.name == "posix":
        _flush_names(folder)


def _flush_names(folder: Path) -> None:
    """Have the names of the files in `folder`, too, survive a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that has no such thing
            raise
    finally:
        os.close(handle)


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Delete what a killed process was writing in `folder`, for files whose names begin like the pattern `name`.

    Only where no other process writes such files.
    """
    for path in folder.glob(f".{name}*{PARTIAL}"):
        path.unlink(missing_ok=True)


def sha256(content: bytes) -> str:
    """Hexadecimal SHA-256 of `content`."""
    return hashlib.sha256(content).hexdigest()
