"""What the ranks of torchrun tell each other, through the key-value store that it keeps for them.

Rank 0 leads: it opens a session, posts lists of cells and collects what the others send. They join as members with a
number of their own (rank 0 has 0), since a rank that was started again is another one than before. Whoever is free
takes the next cell. There is no collective operation, nobody waits for a rank that is gone, and nothing is unpickled.
"""

import ctypes
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import islice

import torch.distributed as dist  # by name only where it is used: some builds of PyTorch have none of it

from utils.command.pulse import Beats, Pulse
from utils.command.world import World
from utils.files import sha256
from utils.streams import warn
from utils.training.cell import CellJob

BEAT_SECONDS = 1.0
LOST_SECONDS = 15.0  # a leader without a beat for so long is gone
GIVEN_UP_SECONDS = 60.0  # a member without a beat for so long is gone, and its cells go to others
STARTING_SECONDS = 300.0  # by then all ranks have loaded Python and PyTorch
GATHERING_SECONDS = 10.0  # at most, until all have looked for checkpoints of theirs
LEAVING_SECONDS = 30.0
RANKS_A_SECOND = 250  # that look at the store, which answers about ten thousand requests a second
CHUNK = 2**20  # bytes; the store takes values of up to 8 MiB


class RankLost(RuntimeError):
    """A rank that is needed, or the store, is gone; the message says which."""


class GivenUp(RankLost):
    """Rank 0 has given this rank up and does without it."""


@contextmanager
def reaching_the_store() -> Iterator[None]:
    """Raise RankLost where the store can't be reached."""
    try:
        yield
    except dist.DistError as error:
        why = str(error).split("\n")[0]
        raise RankLost(f"the store of torchrun, through which ranks talk, can't be reached ({why})") from None


def connect() -> "dist.Store":
    """The store that torchrun hosts, or rank 0 where torchrun is told not to."""
    from torch.distributed.rendezvous import rendezvous

    # Of a store that is gone, PyTorch prints a page of addresses; RankLost is one sentence. The variable
    # TORCH_CPP_LOG_LEVEL sets the same, but only before PyTorch is loaded.
    with suppress(OSError, ValueError):  # a system or a PyTorch without it
        ctypes.c_int.in_dll(ctypes.CDLL("libc10.so"), "FLAGS_caffe2_log_level").value = 2
    store, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=STARTING_SECONDS)))
    store.set_timeout(timedelta(seconds=LOST_SECONDS))
    return dist.PrefixStore("cells", store)


def pause(seconds: float, ranks: int) -> float:
    """Seconds between two looks or signs of life of a rank: more of so many that the store would do nothing else."""
    return max(seconds, ranks / RANKS_A_SECOND)


def beating(store: "dist.Store", key: str, seconds: float) -> Beats:
    """Signs of life at `key`, which also end this process where the store has stopped to answer.

    A machine that has lost its power or its network refuses nothing. A request to it waits without end, that of the
    main thread too, and nothing reaches that thread meanwhile, no signal either.
    """

    def beat() -> None:
        watch = threading.Timer(LOST_SECONDS, leave_at_once)
        watch.daemon = True
        watch.start()
        try:
            store.add(key, 1)
        finally:
            watch.cancel()

    return Beats(beat, seconds, dist.DistError)


def leave_at_once() -> None:
    warn("error: the store of torchrun, through which ranks talk, doesn't answer. Checkpoints are kept")
    os._exit(1)  # the processes of cells see it; whatever else could be done here may wait for the store


class Deal:
    """A list of cells of which each goes to one rank: keys of `store`, which are the same for all ranks."""

    def __init__(self, store: "dist.Store", member: int, jobs: Sequence[CellJob], ranks: int):
        self.store, self.member, self.jobs, self.ranks = store, member, jobs, ranks
        self._tries = 0

    def cells(self, places: int) -> Iterator[CellJob | None]:
        """The cells for this rank, which trains `places` at once; None while there is none; ends when all have ended.

        First those that it has checkpoints of, no more than it has places: ranks of one machine see the same ones.
        """
        first = self.take_first(resumes, places)
        self.store.add("looked", 1)
        yield from first
        started = time.monotonic()
        while self.store.add("looked", 0) < self.ranks and time.monotonic() - started < GATHERING_SECONDS:
            yield None
        while not self.store.check(["ended"]):
            i = self._next() if places else None
            yield None if i is None else self.jobs[i]

    def take_first(self, wanted: Callable[[CellJob], object], most: int | None = None) -> list[CellJob]:
        """Take cells that are `wanted`, out of their order, up to `most`."""
        free = (job for i, job in enumerate(self.jobs) if wanted(job) and self._take(i))
        return list(islice(free, most))

    def _next(self) -> int | None:
        while self.store.add("dealt", 0) < len(self.jobs):
            if (i := self.store.add("dealt", 1) - 1) < len(self.jobs) and self._take(i):
                return i
        return next((i for i in self.given_up() if self._take(i)), None)

    def _take(self, i: int) -> bool:
        """Take cell `i` unless a rank has it or has had it, be it this one."""
        self._tries += 1
        ours = f"{self.member}.{self._tries}"
        return self.store.compare_set(f"holder/{i}", "", ours) == ours.encode()

    def end(self) -> None:
        """Say that all cells have ended."""
        self.store.set("ended", "")

    def given_up(self) -> list[int]:
        """Cells whose rank is gone, perhaps taken by others since."""
        return json.loads(self.store.get("given_up")) if self.store.check(["given_up"]) else []

    def give_up(self, left: Sequence[int], gone: set[int]) -> None:
        """Put those cells of `left` back that members of `gone` hold.

        Also those that are dealt but not held: their rank has died in between, or will find them taken.
        """
        dealt = self.store.add("dealt", 0)
        if dealt < len(self.jobs) and not gone:
            return
        held = {i: self.store.get(f"holder/{i}") for i in left if self.store.check([f"holder/{i}"])}
        lost = [i for i, holder in held.items() if int(holder.partition(b".")[0]) in gone]
        for i in lost:
            self.store.delete_key(f"holder/{i}")
        if back := {*lost, *(i for i in left if i < dealt and i not in held)}:
            self.store.set("given_up", json.dumps(sorted({*self.given_up(), *back})))


def resumes(job: CellJob) -> bool:
    """Whether there is a checkpoint here that the cell can go on from."""
    return job.checkpoints.epoch() > 0 and not job.checkpoints.differences()


class Leader:
    """Rank 0's side of a session. A context manager; raises RankLost if the store is gone."""

    def __init__(self, world: World):
        self.world = world
        with reaching_the_store():
            store = connect()
            self.restarted = store.add("sessions", 1) > 1
            name = uuid.uuid4().hex
            self.store = dist.PrefixStore(name, store)
            self._beats = beating(self.store, "beat/0", BEAT_SECONDS)
            store.set("session", name)  # of an earlier session it took the place; there nothing beats
        self._pulses: dict[int, Pulse] = {}
        self._heard: dict[int, int] = {}
        self.gone: set[int] = set()
        self._lists, self._over = 0, False

    def __enter__(self) -> "Leader":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        how = "ended by an error" if kind and issubclass(kind, Exception) else "interrupted"
        try:
            self.dismiss(f"rank 0 was {how}" if kind else "")
        except RankLost:
            if kind is None:
                raise

    def dismiss(self, why: str = "") -> None:
        """Let all others go, "" if all is done, and wait until they have gone."""
        if self._over:
            return
        self._over = True
        try:
            with reaching_the_store():
                self.store.set("over", why)
                deadline = time.monotonic() + LEAVING_SECONDS
                while not why and time.monotonic() < deadline and self.store.add("left", 0) < len(self._present()):
                    time.sleep(0.1)
        finally:
            self._beats.stop()  # what follows needs no store

    def post(self, orders: dict, jobs: Sequence[CellJob]) -> Deal:
        """Post a list of cells, with `orders` in plain values: all that the others have to know of it."""
        store = dist.PrefixStore(f"list/{self._lists}", self.store)
        store.set("orders", json.dumps(orders))
        self._lists += 1
        return Deal(store, 0, jobs, self.world.size)

    def letters(self) -> Iterator[tuple[dict, bytes | None]]:
        """What the members have sent since the last call: plain values, and bytes, None if these were damaged."""
        for member in range(1, self.store.add("members", 0) + 1):
            for number in range(self._heard.get(member, 0), self.store.add(f"sent/{member}", 0)):
                key = f"letter/{member}/{number}"
                keys = [key]
                letter = json.loads(self.store.get(key))
                keys += [f"{key}/{part}" for part in range(letter["parts"])]
                content = b"".join(self.store.get(part) for part in keys[1:])
                for part in keys:
                    self.store.delete_key(part)
                self._heard[member] = number + 1
                yield letter["header"], content if sha256(content) == letter["sha256"] else None

    def newly_gone(self) -> list[str]:
        """The names of members that have not been heard of for long and were not told before."""
        names = []
        for member in self._present():
            pulse = self._pulses.setdefault(member, Pulse())
            if pulse.silent_for(self.store.add(f"beat/{member}", 0)) > GIVEN_UP_SECONDS:
                self.gone.add(member)
                self.store.set(f"given_up/{member}", "")
                names.append(self.store.get(f"name/{member}").decode())
        return names

    def _present(self) -> list[int]:
        return [m for m in range(1, self.store.add("members", 0) + 1) if m not in self.gone]


class Member:
    """The side of any other rank. A context manager; raises RankLost if rank 0 or the store is gone."""

    def __init__(self, world: World):
        self.world, self._pulse = world, Pulse()
        with reaching_the_store():
            self.store = self._join()
            self.number = self.store.add("members", 1)
            self.store.set(f"name/{self.number}", world.name)
            self._beats = beating(self.store, f"beat/{self.number}", pause(BEAT_SECONDS, world.size))

    def _join(self) -> "dist.Store":
        """The session that rank 0 leads now, or has led to its end.

        One of before the ranks were started again may still be posted.
        """
        store, deadline = connect(), time.monotonic() + STARTING_SECONDS
        seen: dict[bytes, int] = {}  # {session: its beat when it was first looked at}
        while time.monotonic() < deadline:
            if store.check(["session"]):
                name = store.get("session")
                session = dist.PrefixStore(name.decode(), store)
                beat = session.add("beat/0", 0)
                if beat > seen.setdefault(name, beat) or (session.check(["over"]) and not session.get("over")):
                    return session
            time.sleep(pause(BEAT_SECONDS / 5, self.world.size))
        raise RankLost(f"rank 0 didn't begin within {STARTING_SECONDS:.0f} seconds")

    def __enter__(self) -> "Member":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        self._beats.stop()
        if kind is None:
            with reaching_the_store():
                self.store.add("left", 1)

    def check(self) -> tuple[()]:
        """Raise RankLost if rank 0 has gone, has ended early, or has given this rank up. Returns no records."""
        with reaching_the_store():
            if self.store.check(["over"]):
                if why := self.store.get("over").decode():
                    raise RankLost(why)
                return ()
            silent = self._pulse.silent_for(self.store.add("beat/0", 0))
            if silent > LOST_SECONDS:
                raise RankLost(f"rank 0 is gone, nothing was heard of it for {silent:.0f} seconds")
            if self.store.check([f"given_up/{self.number}"]):
                raise GivenUp("rank 0 heard nothing of this rank for long and does without it")
        return ()

    def orders(self, number: int) -> tuple[dict, "dist.Store"] | None:
        """The orders of the next list of cells, and the store of its deal; None when there are no more."""
        store = dist.PrefixStore(f"list/{number}", self.store)
        while True:
            self.check()
            with reaching_the_store():
                if store.check(["orders"]):
                    return json.loads(store.get("orders")), store
                if self.store.check(["over"]):
                    return None
            time.sleep(pause(BEAT_SECONDS / 5, self.world.size))

    def send(self, header: dict, content: bytes = b"") -> None:
        """Send plain values and bytes to rank 0, with a checksum."""
        with reaching_the_store():
            number = self.store.add(f"sent/{self.number}", 0)
            key = f"letter/{self.number}/{number}"
            parts = range(0, len(content), CHUNK)
            for part, start in enumerate(parts):
                self.store.set(f"{key}/{part}", content[start : start + CHUNK])
            letter = {"header": header, "parts": len(parts), "sha256": sha256(content)}
            self.store.set(key, json.dumps(letter))
            self.store.add(f"sent/{self.number}", 1)  # last: it says that the rest is there
