"""Writing files so that each is either complete or absent, never half written."""

import errno
import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

PARTIAL = ".partial"  # the suffix of files that are still being written


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never half of it. Raises OSError."""
    write_together({path: content})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write several files into one folder, all of them or none. The folder is created if it is missing.

    First, all bytes go to temporary files in the same folder and are flushed to the disk. Then the files are renamed,
    in the order given; each rename is atomic. If writing fails, this raises OSError, leaves the old files as they were
    and deletes the temporary ones.

    Several renames together are not atomic. If the process is killed between two of them, the earlier files are new
    and the later ones old. So put last a file that proves the others, for example one with their checksums.
    """
    folder = next(iter(contents)).parent
    folder.mkdir(parents=True, exist_ok=True)
    temporaries: list[str] = []
    try:
        for path, content in contents.items():
            # In the same folder, since a rename is atomic only within one file system. Names are limited to 255 bytes.
            handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{path.name[:58]}.", suffix=PARTIAL)
            temporaries.append(temporary)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # before the rename: else a power failure could leave an empty file
            os.chmod(temporary, 0o644)  # mkstemp lets only the owner read; others should be able to read our files
        for temporary, path in zip(temporaries, contents, strict=True):
            os.replace(temporary, path)
    except BaseException:  # also Ctrl-C
        for temporary in temporaries:
            Path(temporary).unlink(missing_ok=True)
        raise
    if os.name == "posix":
        _flush_names(folder)


def _flush_names(folder: Path) -> None:
    """Flush the folder itself to the disk, so that the new names survive a power failure too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system without this operation
            raise
    finally:
        os.close(handle)


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Delete the temporary files that a killed process left in `folder`.

    `name` is a glob pattern: only files whose final names begin with it. Call this only where no other process can be
    writing such files.
    """
    for path in folder.glob(f".{name}*{PARTIAL}"):
        path.unlink(missing_ok=True)


def sha256(content: bytes) -> str:
    """Hexadecimal SHA-256 of `content`."""
    return hashlib.sha256(content).hexdigest()
