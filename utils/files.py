"""Writing files so that each is either complete or absent, never half written."""

import errno
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from utils.streams import warn

REPLACE_PAUSES = (0.05, 0.2, 0.8)  # seconds
WITHOUT_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)
PARTIAL = ".partial"  # the suffix of files that are still being written
SLUG_LETTERS = 40
LONGEST_NAME = 100  # most file systems take 255 bytes, of which endings need some
TAKEN = ("all_models",)  # its learning curves would overwrite those of all models together


_looks: list[Callable[[], None]] = []


@contextmanager
def looking_before_writes(look: Callable[[], None]) -> Iterator[None]:
    """Call `look` before each file that this process writes takes its name; what it raises stops the write."""
    _looks.append(look)
    try:
        yield
    finally:
        _looks.remove(look)


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
            with suppress(OSError):  # vfat, CIFS and mounted buckets have no such thing
                os.chmod(temporary, 0o644)  # mkstemp lets only the owner read; others should be able to read our files
        for look in _looks:
            look()
        for temporary, path in zip(temporaries, contents, strict=True):
            _replace(temporary, path)
    except BaseException:  # also Ctrl-C
        for temporary in temporaries:
            Path(temporary).unlink(missing_ok=True)
        raise
    if os.name == "posix":
        _flush_names(folder)


def _replace(temporary: str, path: Path) -> None:
    """Rename, with a few tries: virus scanners, indexers and network file systems refuse it for a moment."""
    for seconds in REPLACE_PAUSES:
        try:
            return os.replace(temporary, path)
        except OSError as error:
            if not isinstance(error, PermissionError) and error.errno not in (errno.EBUSY, errno.ESTALE):
                raise
            time.sleep(seconds)
    os.replace(temporary, path)


def visible(folder: Path, pattern: str) -> list[Path]:
    """The paths in `folder` that match a glob pattern, sorted, without hidden ones.

    A Mac leaves `._name` beside each file on a foreign disk, an editor `.#name`, a notebook server
    `.ipynb_checkpoints`: none of them is ours.
    """
    return [path for path in sorted(folder.glob(pattern)) if not path.name.startswith(".")]


@contextmanager
def locked(path: Path, timeout: float = -1) -> Iterator[None]:
    """Hold the lock file `path`, made with its folder if missing; wait `timeout` seconds for it, or without end if -1.

    Raises filelock.Timeout. Where the file system has no locks, warns and goes on without: one careful user is the
    common case there, and files are still written atomically.
    """
    from filelock import FileLock

    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=timeout)
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in WITHOUT_LOCKS:
            raise
        warn(f"warning: {path.parent} has no file locks ({error}); start only one run at a time there")
    try:
        yield
    finally:
        lock.release()


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


def file_name(name: str) -> str:
    """What a model's files are called: its name if every file system takes that, else a slug and 8 digits of its hash.

    ASCII letters, digits, ".", "_" and "-" stay, but not a dot in front. For example "FCN", "CNN-w-o-dropout-98b0a1f9".
    """
    plain = re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name)
    if plain and len(name) <= LONGEST_NAME and name.lower() not in TAKEN:
        return name
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:SLUG_LETTERS].strip("-.")
    return f"{slug or 'model'}-{sha256(name.encode())[:8]}"
