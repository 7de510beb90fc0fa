"""Dealing cells to processes: side by side on the cores of a CPU, or one after another in this process."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait

from utils.records.folder import publish
from utils.records.record import RunRecord
from utils.training.cell import CellJob, failed_record, run_cell
from utils.training.machine import source_hash

OnEpoch = Callable[[CellJob, dict], None]


def run_in_turn(jobs: Sequence[CellJob], on_epoch: OnEpoch) -> Iterator[RunRecord]:
    """Train the cells one after another in this process; yields each one's record as it ends."""
    for job in jobs:
        yield run_cell(job, lambda entry, job=job: on_epoch(job, entry))


def run_side_by_side(jobs: Sequence[CellJob], processes: int, on_epoch: OnEpoch) -> Iterator[RunRecord]:
    """Train the cells in processes of their own, at most `processes` at once, in the order given.

    Yields each cell's record as it ends. A process that dies fails its own cell only. No process outlives the
    generator, also when it is closed early.
    """
    context = multiprocessing.get_context("spawn")
    waiting = deque(jobs)
    running: dict[Connection, tuple[CellJob, multiprocessing.Process]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                job = waiting.popleft()
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_run_in_process, args=(job, sender), name=job.stem, daemon=True)
                _start(process)
                sender.close()  # the child's end: when the child dies, the pipe ends
                running[receiver] = job, process
            for receiver in wait(list(running)):
                job, process = running[receiver]
                try:
                    message = receiver.recv()
                except (EOFError, OSError):  # the latter when it died in the middle of a message
                    process.join()
                    message = failed_record(job, f"its process died (exit code {process.exitcode})")
                    with suppress(OSError):
                        publish(job.folder, message)
                if isinstance(message, RunRecord):
                    del running[receiver]
                    process.join()
                    yield message
                else:
                    on_epoch(job, message)
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.join()


def _start(process: multiprocessing.Process) -> None:
    """Start it deaf to Ctrl-C, which reaches every process of a terminal: the parent decides what it means."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited
    process.start()
    signal.signal(signal.SIGINT, before)


def _run_in_process(job: CellJob, sender: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    job.execution.prepare_process()
    if source_hash(job.experiment) != job.environment["source_hash"]:
        sender.send(failed_record(job, "the code that trains it was changed while the run went on; start it again"))
    else:
        sender.send(run_cell(job, sender.send))


def _end_with_parent() -> None:
    """A killed parent holds no lock any more: its cells must not go on writing."""
    multiprocessing.parent_process().join()
    os._exit(1)
