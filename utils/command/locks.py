"""One writer at a time: a command locks the folders that it writes to. Never loads torch."""

import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import Timeout

from utils.files import locked

NAMING_SECONDS = 0.2  # a process needs less than this from taking the lock to writing its name


class FolderInUse(ValueError):
    """Another process is writing to the folder; the message says which one."""


@contextmanager
def sole_writer(*folders: Path) -> Iterator[None]:
    """Hold the locks of `folders` while the block runs. If another process holds one, raise FolderInUse at once.

    The lock files lie in the folders, since the one above may be read-only. When a process dies, the operating system
    releases its locks, so that no lock has to be deleted by hand. Folders that are new and still empty in the end, as
    after a model that was refused, are removed.
    """
    new = [path for folder in folders for path in (folder, *folder.parents) if not path.exists()]
    with ExitStack() as stack:
        stack.callback(_remove_empty, new)  # first in, last out: the locks are released before
        # A set, since locking the same folder twice would fail. A fixed order, so that of two commands one wins.
        for folder in sorted({folder.resolve() for folder in folders}):
            holder = folder / ".holder.lock"
            try:
                stack.enter_context(locked(folder / ".writer.lock", timeout=0))
            except Timeout:
                time.sleep(NAMING_SECONDS)
                who = (holder.read_text(encoding="utf-8") if holder.exists() else "") or "another process"
                message = f"{folder} is being written by {who}; wait for it, or choose another folder"
                raise FolderInUse(message) from None
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            message = f"process {os.getpid()} since {now} ({shlex.join(sys.argv)})"
            with suppress(OSError):  # on a full disk; the lock works without the name
                holder.write_text(message, encoding="utf-8", errors="replace")
        yield


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove the folders, a folder before the one that it lies in, if they hold no more than locks."""
    for folder in folders:
        with suppress(OSError):  # not empty, or in use after all
            if {path.name for path in folder.iterdir()} <= {".writer.lock", ".holder.lock"}:
                for lock in folder.iterdir():
                    lock.unlink()
                folder.rmdir()
