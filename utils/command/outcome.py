"""What a command has made so far: records are published as they come, and drawn now and then."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from utils.command.outputs import draw, results_of
from utils.command.plan import Plan
from utils.command.progress import Progress
from utils.command.session import RankLost
from utils.data.remembered import remember_data
from utils.findings.results import Results
from utils.records.folder import drop_records, latest_data, mark_data, mark_looks, publish
from utils.records.record import RunRecord
from utils.streams import warn
from utils.training.cell import CellJob

SECONDS_BETWEEN_DRAWINGS = 60
SHARE_OF_DRAWING = 0.1  # of the time while training, at most: thousands of records take a minute to draw


@dataclass
class Outcome:
    """The outcome of a command.

    `records` are those of the cells trained now, and of finished ones that could not be published. `results` is what
    the folder of records held when it was last drawn. `well` is whether everything could be drawn and timed, `stale`
    whether there is something new that hasn't been drawn. `drawing_took` are the seconds of the last drawing.
    """

    records: list[RunRecord] = field(default_factory=list)
    results: Results | None = None
    well: bool = True
    stale: bool = False
    drawn_at: float = field(default_factory=time.monotonic)
    drawing_took: float = 0.0

    def draw_if_due(self, plan: Plan, kind: str) -> None:
        """Draw if the last time is long ago, so that it costs no more than a part of a run."""
        self.stale = True
        pause = max(SECONDS_BETWEEN_DRAWINGS, self.drawing_took / SHARE_OF_DRAWING)
        if time.monotonic() - self.drawn_at >= pause:
            self.draw(plan, kind)

    def draw(self, plan: Plan, kind: str) -> None:
        """Draw from the records on disk. An error is only printed, so that the remaining cells are still trained."""
        started = time.monotonic()
        try:
            self.results = results_of(plan, kind)
            draw(plan, kind, self.results)
        except Exception as error:
            warn(f"not drawn: {type(error).__name__}: {error}")
            self.well = False
        self.stale, self.drawn_at = False, time.monotonic()
        self.drawing_took = self.drawn_at - started


def collect(
    plan: Plan,
    jobs: Sequence[CellJob],
    done: Sequence[RunRecord],
    trained: Iterator[RunRecord],
    progress: Progress,
    outcome: Outcome,
) -> None:
    """Publish the records, first those of cells `done` before, then those `trained` now, and draw.

    After an interruption it draws what has been published so far and raises the interruption again; not after a loss
    of other ranks, since this one is to leave soon then.
    """
    kind = jobs[0].execution.kind
    folder = plan.records_folder(kind)
    awaited = Counter(job.experiment.name for job in jobs)  # {model: runs that are still to come}
    published: list[RunRecord] = []

    def keep(record: RunRecord) -> RunRecord:
        """Publish a record; one that can't be, for example on a full disk, is that of a failed cell."""
        try:
            if not plan.spec.pinned and latest_data(folder) != record.data_sha256:
                mark_data(folder, record.data_sha256)
            if plan.contents and record.status == "finished":
                remember_data(plan.runs, plan.spec, plan.contents)
            progress.say(publish(folder, record))
        except OSError as error:
            record = replace(record, status="failed", message=str(error))
            progress.say(f"{record.stem} could not be kept: {error}")
        if record.status == "finished":
            record = replace(record, arrays={})  # on the disk now: thousands would fill the memory
        published.append(record)
        awaited[record.model] -= 1
        return record

    def drop_older(record: RunRecord) -> bool:
        """Older records go only once a new run has finished, so that a command that fails loses no evidence."""
        if record.status == "finished":
            drop_records(folder, keep=published)
            if plan.looks:
                mark_looks(folder)
        return record.status == "finished"

    drops = plan.drops_older_records
    try:
        for record in done:
            record = keep(record)
            if record.status == "failed":
                outcome.records.append(record)
            if drops and len(done) == len(jobs):
                drops = not drop_older(record)
        if 0 in awaited.values():
            outcome.draw_if_due(plan, kind)
        for record in trained:
            progress.cell_done(record.stem)
            record = keep(record)
            outcome.records.append(record)
            if drops:
                drops = not drop_older(record)
            if awaited[record.model] == 0:
                outcome.draw_if_due(plan, kind)
    except RankLost:
        raise
    except BaseException:
        if published:
            outcome.draw(plan, kind)
        raise
