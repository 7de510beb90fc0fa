"""Who trains a cell, where any number of processes share a runs folder: the one with the newest claim.

Claims are files `claim-0.json`, `claim-1.json`, ... in the cell's folder. Creating one fails if it is there already,
also on network file systems without locks. A process that trains rewrites its claim now and then. Whoever sees the
newest one unchanged for TAKE_OVER_SECONDS, by its own clock, may make the next; only one process can. Never
loads torch.
"""

import json
import os
import socket
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from utils.command.pulse import Beats, Pulse
from utils.files import looking_before_writes, visible

TAKE_OVER_SECONDS = 600.0
BEATS = 40  # in that time: file systems may show a change late


class ClaimLost(BaseException):
    """Another process has taken the cell over. No Exception: a cell would record that as a fault of its own."""


@dataclass(frozen=True)
class Claim:
    """The claim `number` on what lies in `folder`; `token` is this process's own."""

    folder: Path
    number: int
    token: str

    @property
    def path(self) -> Path:
        return self.folder / f"claim-{self.number}.json"

    def text(self, beats: int) -> bytes:
        return json.dumps(
            {"token": self.token, "host": socket.gethostname(), "process": os.getpid(), "beats": beats}
        ).encode()

    def is_held(self) -> bool:
        """Whether this is still the newest claim."""
        try:
            return self.token.encode() in self.path.read_bytes() and claims_in(self.folder)[-1:] == [self.path]
        except OSError:
            return False

    def look(self) -> None:
        """Raise ClaimLost if this is not the newest claim any more."""
        if not self.is_held():
            raise ClaimLost(f"{self.folder} was taken over by another process")

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Show signs of life, and look at the claim before each write of this process; release it at the end."""
        beats = 0
        try:
            # Always through the same open file: if it is deleted and its name used again, that is another's.
            with self.path.open("r+b", buffering=0) as file:

                def beat() -> None:
                    nonlocal beats
                    beats += 1
                    with suppress(OSError):  # a disk that is full, a server that is busy: the next may come through
                        file.seek(0)
                        file.write(self.text(beats))
                        os.fsync(file.fileno())

                self.look()
                beating = Beats(beat, TAKE_OVER_SECONDS / BEATS)
                try:
                    with looking_before_writes(self.look):
                        yield
                finally:
                    beating.stop()
        finally:
            self.release()

    def release(self) -> None:
        """Remove this claim and those before it, if it is still the newest."""
        if self.is_held():
            for path in claims_in(self.folder):
                if number_of(path) <= self.number:  # a newer one may have been made just now
                    path.unlink(missing_ok=True)


def claims_in(folder: Path) -> list[Path]:
    """The claims in a folder, the oldest first."""
    return sorted(visible(folder, "claim-*.json"), key=number_of)


def number_of(path: Path) -> int:
    return int(path.stem.removeprefix("claim-"))


class Claims:
    """The claims that this process has made, and what it saw of those of others. A context manager that releases."""

    def __init__(self):
        self.made: dict[Path, Claim] = {}
        self._pulses: dict[Path, Pulse] = defaultdict(Pulse)

    def __enter__(self) -> "Claims":
        return self

    def __exit__(self, *_) -> None:
        for claim in self.made.values():
            with suppress(OSError):
                claim.release()

    def take(self, folder: Path) -> Claim | None:
        """Claim what lies in `folder`, made if missing; None if another process has claimed it and seems to live."""
        if not (seen := self.newest(folder)):
            return self._make(folder, 0)
        if self._pulses[folder].silent_for(seen) > TAKE_OVER_SECONDS:
            return self._make(folder, seen[0] + 1)
        return None

    def newest(self, folder: Path) -> tuple[int, bytes] | None:
        """The number and the content of the newest claim on what lies in `folder`; None if there is none."""
        with suppress(FileNotFoundError):  # released just now
            for path in reversed(claims_in(folder)):
                return number_of(path), path.read_bytes()
        return None

    def _make(self, folder: Path, number: int) -> Claim | None:
        claim = Claim(folder, number, uuid.uuid4().hex)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(claim.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return None
        with os.fdopen(handle, "wb") as file:
            file.write(claim.text(0))
        self.made[folder] = claim
        return claim
