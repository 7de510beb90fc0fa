"""Running cells: each in a process of its own, side by side; or one after another in this process."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import MappingProxyType

import torch

from utils.command.claims import Claim, ClaimLost
from utils.records.folder import publish
from utils.records.record import RunRecord
from utils.training.cell import CellJob, failed_record, run_cell
from utils.training.device import DeviceLost, Execution, trouble
from utils.training.sources import source_hash

ENDING_SECONDS = 10
TERMINATING_SECONDS = 2
LOOK_SECONDS = 0.5  # between two looks for cells that others gave up, and for records of cells that ended elsewhere
OnEpoch = Callable[[CellJob, dict], None]


def run_in_turn(jobs: Sequence[CellJob], on_epoch: OnEpoch) -> Iterator[RunRecord]:
    """Train the cells one after another in this process; yields the record of each cell when it ends.

    Raises DeviceLost when a cell has left the device in a state in which nothing more can be computed.
    """
    for job in jobs:
        torch.set_num_threads(job.execution.threads)  # a resumed cell keeps those of its checkpoint
        # job=job binds this cell now; otherwise the lambda would see whatever `job` is when it is called.
        record = run_cell(job, lambda entry, job=job: on_epoch(job, entry))
        yield record
        if record.status == "failed" and (why := trouble(job.execution.device)):
            raise DeviceLost(f"{job.execution.device} can't compute any more ({why})")


def why_not_apart(jobs: Sequence[CellJob]) -> str:
    """Why the cells can't run in processes of their own; "" if they can."""
    for job in jobs:
        try:
            ForkingPickler.dumps(job)
        except Exception as error:
            return f"{job.experiment.name} can't be sent to another process ({type(error).__name__}: {error})"
    if not hasattr(sys.modules["__main__"], "__file__"):
        return "there is no script that another process could load"  # a notebook, or python -c
    return ""


@dataclass
class Worker:
    """A process that trains one cell after another on a device; `job` is the one that it trains now."""

    process: multiprocessing.Process
    connection: Connection
    execution: Execution
    job: CellJob | None = None
    claim: Claim | None = None

    def end(self) -> None:
        self.connection.close()  # the process reads the end of its jobs
        self.process.join(ENDING_SECONDS)
        if self.process.is_alive():  # something in it hangs at its end
            self.process.kill()
            self.process.join()


def run_side_by_side(
    cells: Iterable[CellJob | None],
    devices: Sequence[torch.device],
    on_epoch: OnEpoch,
    elsewhere: Callable[[], Iterable[RunRecord]] = tuple,
    claims: Mapping[Path, Claim] = MappingProxyType({}),
    look_seconds: float = LOOK_SECONDS,
) -> Iterator[RunRecord]:
    """Train the cells in other processes, in the order given, one at a time on each of `devices`.

    A device that is named several times gets as many cells at once. When one is free, `cells` is asked for the next;
    None means that there is none now, but perhaps later. Yields the record of each cell when it ends, and what
    `elsewhere()` returns: the records of cells that ended in other commands meanwhile. Both are asked again whenever a
    cell here has something to tell, else every `look_seconds`. A process trains several cells, since starting one takes
    seconds, but none after a failure. If it dies, only its own cell fails. A cell whose folder is among `claims` ends
    without a record if another process takes it over. When the generator ends or is closed early, it terminates all
    processes that still run.
    """
    following, free = iter(cells), deque(devices)
    idle: list[Worker] = []
    busy: dict[Connection, Worker] = {}
    more = True
    try:
        while more or busy:
            while more and (free or not devices):
                try:
                    job = next(following)
                except StopIteration:
                    more = False
                    break
                if job is None:
                    break
                job = job.on(free.popleft())
                worker = next((one for one in idle if one.execution == job.execution), None)
                if worker is None:
                    worker = _start(job.execution)
                else:
                    idle.remove(worker)
                worker.job, worker.claim = job, claims.get(job.folder)
                with suppress(OSError):  # it has died meanwhile, which recv() tells
                    worker.connection.send((job, worker.claim))
                busy[worker.connection] = worker
            for connection in wait(list(busy), look_seconds if more or busy else 0):
                worker = busy[connection]
                try:
                    received = connection.recv()
                except (EOFError, OSError):  # OSError if the process died in the middle of a message
                    worker.process.join()
                    if worker.process.exitcode == -signal.SIGTERM:
                        # torchrun and SLURM terminate all processes at once: then this one too, which raises here.
                        time.sleep(TERMINATING_SECONDS)
                    received = failed_record(worker.job, f"its process died (exit code {worker.process.exitcode})")
                    with suppress(OSError):
                        if worker.claim is None or worker.claim.is_held():
                            publish(worker.job.folder, received)
                if isinstance(received, dict):
                    on_epoch(worker.job, received)
                    continue
                free.append(busy.pop(connection).execution.device)
                if received and received.status == "failed":  # whatever it was may have left something behind
                    worker.end()
                else:
                    idle.append(worker)
                if received:
                    yield received
            yield from elsewhere()
    finally:
        # First terminate all, then wait, so that they end at the same time.
        for worker in (*busy.values(), *idle):
            worker.process.terminate()
        for worker in (*busy.values(), *idle):
            worker.end()


def _start(execution: Execution) -> Worker:
    """Start a process that ignores Ctrl-C, which a terminal sends to every process. Only the parent reacts to it."""
    # "spawn" starts a fresh interpreter. A forked copy would inherit PyTorch's thread pools and locks in mid-use, and
    # CUDA doesn't work in one.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_train_cells, args=(execution, theirs), daemon=True)
    with _child_environment(execution.threads):
        if threading.current_thread() is threading.main_thread():  # which alone may set signals
            before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited, so there is no gap at its start
            try:
                process.start()
            finally:
                signal.signal(signal.SIGINT, before)
        else:
            process.start()
    theirs.close()  # the child holds the only copy now, so recv() raises EOFError when the child dies
    return Worker(process, ours, execution)


@contextmanager
def _child_environment(threads: int) -> Iterator[None]:
    """Set what must stand before a child loads PyTorch, and only for the child.

    The first OpenMP settings of a process hold for good: its number of threads, and OMP_PROC_BIND, which would pin all
    threads of all children to the same core.
    """
    before = dict(os.environ)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    for name in ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY"):
        os.environ.pop(name, None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _train_cells(execution: Execution, connection: Connection) -> None:
    """Train the jobs that come; send each epoch's history entry to the parent, and the record at the end of each.

    None instead of a record if another process has taken the cell over.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    execution.prepare_process()
    with suppress(EOFError):  # no more jobs
        while True:
            job, claim = connection.recv()
            # This process has imported the code as it was when it started, which may differ from what is on disk now.
            if source_hash(job.experiment) != job.environment["source_hash"]:
                why = "the code that trains it was changed while the run went on; start it again"
                connection.send(failed_record(job, why))
            else:
                try:
                    with claim.kept() if claim else nullcontext():
                        record = run_cell(job, connection.send)
                except (ClaimLost, FileNotFoundError):  # taken over, perhaps before it began here
                    record = None
                except OSError as error:
                    record = failed_record(job, f"its claim can't be opened: {error}")
                connection.send(record)


def _end_with_parent() -> None:
    """Exit when the parent is gone. A killed parent holds no locks, so its cells must stop writing."""
    multiprocessing.parent_process().join()
    os._exit(1)  # at once: sys.exit in a thread would end only the thread
