"""One writer at a time: a folder that a run writes to is locked while it does. Never loads torch."""

import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

NAMING_SECONDS = 0.2  # more than a process takes from locking to saying who it is


class FolderInUse(ValueError):
    """Another run writes to the folder; the message says which one."""


@contextmanager
def sole_writer(*folders: Path) -> Iterator[None]:
    """Hold the locks of `folders`, beside each of them, or raise FolderInUse without waiting for them.

    The operating system gives the lock of a process that died to the next one.
    """
    with ExitStack() as stack:
        for folder in sorted({folder.resolve() for folder in folders}):
            folder.parent.mkdir(parents=True, exist_ok=True)
            holder = folder.with_name(f".{folder.name}.holder.lock")
            try:
                stack.enter_context(FileLock(folder.with_name(f".{folder.name}.lock"), timeout=0))
            except Timeout:
                time.sleep(NAMING_SECONDS)
                who = (holder.read_text(encoding="utf-8") if holder.exists() else "") or "another process"
                message = f"{folder} is being written by {who}; wait for it, or choose another folder"
                raise FolderInUse(message) from None
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            message = f"process {os.getpid()} since {now} ({shlex.join(sys.argv)})"
            with suppress(OSError):  # a full disk: the lock holds all the same
                holder.write_text(message, encoding="utf-8", errors="replace")
        yield
