"""Running cells: side by side in processes on the cores of a CPU, or one after another in this process."""

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
    """Train the cells one after another in this process; yields the record of each cell when it ends."""
    for job in jobs:
        # job=job binds this cell now; otherwise the lambda would see whatever `job` is when it is called.
        yield run_cell(job, lambda entry, job=job: on_epoch(job, entry))


def run_side_by_side(jobs: Sequence[CellJob], processes: int, on_epoch: OnEpoch) -> Iterator[RunRecord]:
    """Train each cell in a process of its own, at most `processes` at once, started in the given order.

    Yields the record of each cell when it ends. If a process dies, only its own cell fails. When the generator ends or
    is closed early, it terminates all processes that still run.
    """
    # "spawn" starts a fresh interpreter. A forked copy would inherit PyTorch's thread pools and locks in mid-use.
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
                sender.close()  # the child holds the only copy now, so recv() raises EOFError when the child dies
                running[receiver] = job, process
            for receiver in wait(list(running)):
                job, process = running[receiver]
                try:
                    message = receiver.recv()
                except (EOFError, OSError):  # OSError if the child died in the middle of a message
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
        # First terminate all, then wait, so that they end at the same time.
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.join()


def _start(process: multiprocessing.Process) -> None:
    """Start `process` ignoring Ctrl-C, which a terminal sends to every process. Only the parent reacts to it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child inherits it, so there is no gap at its start
    process.start()
    signal.signal(signal.SIGINT, before)


def _run_in_process(job: CellJob, sender: Connection) -> None:
    """Train `job` in this child process; send each epoch's history entry to the parent, and the record at the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    job.execution.prepare_process()
    # This process has imported the code as it is on disk now, which may differ from what the parent started with.
    if source_hash(job.experiment) != job.environment["source_hash"]:
        sender.send(failed_record(job, "the code that trains it was changed while the run went on; start it again"))
    else:
        sender.send(run_cell(job, sender.send))


def _end_with_parent() -> None:
    """Exit when the parent is gone. A killed parent holds no locks, so its cells must stop writing."""
    multiprocessing.parent_process().join()
    os._exit(1)  # at once: sys.exit in a thread would end only the thread
