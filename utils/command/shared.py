"""`--shared`: any number of processes, on any machines that see the same runs folder, train the cells of one command.

Each claims one cell after another. The first fixes precision and threads for all. Whoever finds nothing left draws.
"""

import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from utils.checkout import shown
from utils.command.added import remember
from utils.command.claims import Claim, ClaimLost, Claims
from utils.command.devices import cores_for
from utils.command.locks import sole_writer
from utils.command.outcome import Outcome, collect
from utils.command.outputs import plan_in_words, say
from utils.command.plan import Plan
from utils.command.preflight import check_models, check_records, check_room, ready, reusable
from utils.command.processes import run_side_by_side, why_not_apart
from utils.command.progress import Progress
from utils.command.ranks import CantFollow
from utils.command.schedule import chosen_execution, forecast, make_jobs
from utils.command.steps import finish, loaded
from utils.data.images import Splits
from utils.files import file_name, remove_leftovers, sha256, write_atomically
from utils.records.record import RecordError, RunRecord, read_record, to_json
from utils.training.cell import CellJob
from utils.training.device import Execution, check_precision
from utils.words import plural

WATCH_SECONDS = 10.0  # between two looks at the claims of others
JOB_NAMES = ("SLURM_ARRAY_JOB_ID", "SLURM_JOB_ID")


def share(plan: Plan) -> int:
    """Train cells that nobody else trains until all have ended, then draw if nobody else does; returns the exit code.

    Raises CantFollow, and what the steps of an ordinary command raise.
    """
    started = time.monotonic()
    data = loaded(plan)
    execution = agreed(plan, data)
    execution.prepare_process()
    jobs = make_jobs(plan, execution, data.sha256)
    if why := why_not_apart(jobs):
        raise CantFollow(f"{why}, which --shared needs")
    with Claims() as claims:
        cells = Cells(plan, jobs, claims)
        own = train_claimed(cells, data)
        well = all(record.status == "finished" for record in own)
        state = cells.state()
        if not (claim := claim_to_draw(plan, claims, state)):
            say(plan, f"Nothing left; another process draws, or has drawn: {shown(plan.output)}")
            return 0 if well else 1
        try:
            with claim.kept():
                return draw_all(cells, data, state, started)
        except ClaimLost:
            say(plan, "Another process draws, since nothing was heard of this one for long.")
            return 0 if well else 1


def claim_to_draw(plan: Plan, claims: Claims, state: str) -> Claim | None:
    """The claim on drawing what has ended; None if another process seems to live that has it, or all is drawn."""
    first, drawn = None, note(plan, "drawn")
    while known(drawn).get("state") != state:
        if claim := claims.take(plan.runs):
            if known(drawn).get("state") != state:
                return claim
            claim.release()  # it was drawn just before
        seen = claims.newest(plan.runs)
        first = first or seen
        if seen and seen != first:
            return None
        time.sleep(WATCH_SECONDS / 10)
    return None


def agreed(plan: Plan, data: Splits) -> Execution:
    """The plan's device with the precision and threads of the first process. Raises CantFollow and OSError."""
    path = note(plan, "with")
    if not known(path):
        execution, why = chosen_execution(plan, data)
        say(plan, why)
        choice = {"device": execution.device.type, "precision": execution.precision, "threads": execution.threads}
        if create(path, to_json(choice)):
            return execution
    theirs, where = known(path, patience=10), f"{shown(path)}, where the first process of --shared wrote them"
    if not theirs.keys() >= {"device", "precision", "threads"}:
        raise CantFollow(f"{shown(path)} doesn't say what to train with; delete it, or choose another --runs-dir")
    precision, threads, device = theirs["precision"], theirs["threads"], plan.execution.device
    ways_out = "Choose another --runs-dir, or delete that file when no process trains there"
    if device.type != theirs["device"] or (not plan.chooses_precision and precision != plan.execution.precision):
        ours = f"{device.type} and {plan.execution.precision}"
        raise CantFollow(f"{ours} don't fit {theirs['device']} and {precision} of {where}. {ways_out}")
    if device.type == "cpu" and threads > (cores := cores_for(None)):
        raise CantFollow(f"{cores} cores are too few for the {threads} threads of {where}. {ways_out}")
    try:
        check_precision(precision, device)
    except ValueError as error:
        raise CantFollow(f"{error}; {precision} is from {where}. {ways_out}") from error
    say(plan, f"{precision} and {plural(threads, 'thread')} for each run, as in {where}.")
    return replace(plan.execution, precision=precision, threads=threads)


def note(plan: Plan, what: str) -> Path:
    """The file in the task's runs folder that says what all processes train "with", or what was "drawn" last."""
    quick = "-quick" if plan.quick or plan.added else ""  # these decide nothing for the task's own recipes
    return plan.runs / f"shared-{file_name(plan.spec.name)}{quick}-{what}.json"


def known(path: Path, patience: float = 0) -> dict:
    """What a JSON file says; {} if it is missing or no such file, after `patience` seconds: it may be half written."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return dict(json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            if time.monotonic() > deadline:
                return {}
            time.sleep(0.2)


def create(path: Path, content: bytes) -> bool:
    """Write a new file; returns False if there is one. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        return False
    return True


class Cells:
    """The cells of a command that other processes train as well."""

    def __init__(self, plan: Plan, jobs: Sequence[CellJob], claims: Claims):
        self.plan, self.jobs, self.claims = plan, jobs, claims
        found = {job.stem: reusable(job, plan.committed(job.experiment, job.execution.kind)) for job in jobs}
        self.before = {stem: record for stem, record in found.items() if record}  # finished before
        self.ended: dict[str, RunRecord] = dict(self.before)
        self._older = {job.stem: version(job.record_path) for job in jobs}  # failed, or by other code
        tried = known(note(plan, "drawn"))
        if tried.get("state") == self.state() and tried.get("job") == cluster_job() != "":
            self.ended |= {job.stem: record for job in self.left if (record := self._record(job))}

    @property
    def left(self) -> list[CellJob]:
        return [job for job in self.jobs if job.stem not in self.ended]

    def to_train(self, in_order: Sequence[CellJob], progress: Progress) -> Iterator[CellJob | None]:
        """The cells that this process claims, None while others have the rest; ends when all have ended."""
        looked = -math.inf
        while self.left:
            if time.monotonic() - looked > WATCH_SECONDS:
                if job := self._claimed(in_order, progress):
                    yield job
                    continue
                looked = time.monotonic()
            yield None

    def _claimed(self, in_order: Sequence[CellJob], progress: Progress) -> CellJob | None:
        """The first cell that nobody trains, claimed. Notes those that have ended elsewhere."""
        for job in in_order:
            if job.stem in self.ended or self._trained_here(job):
                continue
            claim = None if self._has_ended(job) else self.claims.take(job.folder)
            if self._has_ended(job):  # perhaps just before it was claimed
                self.ended[job.stem] = self._record(job)
                progress.ended_elsewhere(job)
                if claim:
                    claim.release()
            elif claim:
                remove_failed(job)
                return ready(job, resume=True)
        return None

    def end(self, record: RunRecord) -> None:
        """Note the record of a cell that this process has trained."""
        self.ended[record.stem] = record
        folder = next(job.folder for job in self.jobs if job.stem == record.stem)
        self.claims.made.pop(folder).release()  # the cell's process has done so, unless it died

    def _trained_here(self, job: CellJob) -> bool:
        claim = self.claims.made.get(job.folder)
        return claim is not None and claim.is_held()

    def _has_ended(self, job: CellJob) -> bool:
        """Whether the cell has another record than when this process began."""
        return version(job.record_path) not in (None, self._older[job.stem]) and self._record(job) is not None

    def _record(self, job: CellJob) -> RunRecord | None:
        try:
            record = read_record(job.record_path)
        except RecordError:
            return None
        fits = (record.config_hash, record.data_sha256) == (job.config_hash, job.data_sha256)
        return record if fits else None

    def state(self) -> str:
        """A digest of the records of all cells: what has been drawn from it needn't be drawn again."""
        records = [(job.stem, self.ended.get(job.stem) or self._record(job)) for job in self.jobs]
        outcomes = [(stem, str(record and (record.status, record.history))) for stem, record in records]
        return sha256(json.dumps(outcomes).encode())


def version(path: Path) -> tuple[int, int] | None:
    """What differs after a file was replaced; None if it is missing."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def remove_failed(job: CellJob) -> None:
    """Remove the record of an attempt that failed, so that the next one's is a new file even if it is equal."""
    if job.record_path.exists() and job.finished_record() is None:
        job.record_path.unlink(missing_ok=True)


def cluster_job() -> str:
    """What the cluster calls the job that this process belongs to; "" if there is none."""
    return next((os.environ[name] for name in JOB_NAMES if name in os.environ), "")


def train_claimed(cells: Cells, data: Splits) -> list[RunRecord]:
    """Train until all cells have ended; returns the records of those that this process has trained."""
    plan, left, execution = cells.plan, cells.left, cells.jobs[0].execution
    if not left:
        return []
    check_models(left, data)
    check_records(plan.records_folder(execution.kind), left[0].task)
    check_room(plan, left)
    expected = forecast(plan, left, data, execution)
    in_order = expected.in_order(left)  # the longest first
    say(plan, plan_in_words(plan, cells.jobs, in_order, expected))
    own: list[RunRecord] = []
    with Progress(in_order, expected, plan.quiet) as progress:
        claimed, made = cells.to_train(in_order, progress), cells.claims.made
        with closing(run_side_by_side(claimed, plan.places, progress.epoch_done, claims=made)) as trained:
            for record in trained:
                own.append(record)
                cells.end(record)
                progress.cell_done(record.stem)
                progress.say(f"{record.stem} {record.status}")
    return own


def draw_all(cells: Cells, data: Splits, state: str, started: float) -> int:
    """Publish the records of all cells, draw and time; returns the exit code."""
    plan, jobs, execution = cells.plan, cells.jobs, cells.jobs[0].execution
    with sole_writer(plan.output), Progress([], forecast(plan, [], data, execution), plan.quiet) as progress:
        remove_leftovers(plan.output, "*.png")
        for written in (plan.output / "records", plan.records_folder(execution.kind)):
            remove_leftovers(written)
        if plan.added:
            remember(plan.output, plan.added)
        outcome = Outcome(stale=True)
        collect(plan, jobs, [cells.ended[job.stem] for job in jobs], iter(()), progress, outcome)
        outcome.records = [cells.ended[job.stem] for job in jobs if job.stem not in cells.before]
        code = finish(plan, execution, data, outcome, started)
        write_atomically(note(plan, "drawn"), to_json({"state": state, "job": cluster_job()}))
        return code
