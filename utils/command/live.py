"""report.html while a run goes on: written after each epoch, it loads itself again in an open browser (`--live`)."""

import time
from dataclasses import replace

from utils.command.one_page import NAME
from utils.command.outputs import folder_of_pages, original_of, results_of, write_report
from utils.command.plan import Plan
from utils.command.progress import Progress
from utils.figures.interactive import draw_curves
from utils.files import visible, write_atomically
from utils.findings.results import Results
from utils.records.record import RunRecord
from utils.report.html import LIVE, Live, Setting, report_page
from utils.streams import warn
from utils.training.cell import CellJob, failed_record

SECONDS_BETWEEN = 2  # at least, between two versions
PART_OF_A_RUN = 0.1  # of the time, at most, that goes into them


class LivePage:
    """Writes the page after an epoch, unless that would cost more than a small part of the run. A context manager.

    A fault in writing is told once and never ends the training.
    """

    def __init__(self, plan: Plan, kind: str):
        self.plan, self.kind = plan, kind
        self.path = folder_of_pages(plan, kind) / NAME
        self.running: dict[str, RunRecord] = {}  # {stem: what a cell has done so far}
        self.published: list[str] = []
        self.results: Results | None = None
        self.not_before, self.told = 0.0, False

    def __enter__(self) -> "LivePage":
        return self

    def __exit__(self, *exception) -> None:
        """Where the run has ended before its pages were drawn, leave a page that doesn't load itself again."""
        try:
            if not (self.path.exists() and LIVE in self.path.read_bytes()):
                return
            results = results_of(self.plan, self.kind)
            original = original_of(self.plan)
            if results.runs:
                write_report(self.plan, results, original, self.path.parent)
            else:
                ended = Live("The run has ended before a model was trained", [], 0, 0, "", ended=True)
                write_atomically(self.path, report_page(results, original, {}, {}, Setting(""), ended))
        except Exception as error:
            self._tell(error)

    def epoch_done(self, progress: Progress, job: CellJob, entry: dict) -> None:
        """Note the history entry of one more epoch of `job`, and write the page if it is due."""
        before = self.running.get(job.stem) or failed_record(job, "still running")
        self.running[job.stem] = replace(before, history=[*before.history, entry])
        if time.monotonic() >= self.not_before:
            self.write(progress, "Training")

    def write(self, progress: Progress, title: str) -> None:
        """Write the page with what has been done so far."""
        started = time.monotonic()
        try:
            self._read()
            results = self._with_running()
            live = Live(
                title,
                [self._row(job, progress.epochs_done[job.stem]) for job in progress.jobs],
                sum(progress.epochs_done.values()),
                sum(job.experiment.config.epochs for job in progress.jobs),
                progress.time_left(),
                written=int(time.time()),
                finished=self.results,
            )
            svgs, looks = draw_curves(results)
            write_atomically(self.path, report_page(results, original_of(self.plan), svgs, looks, Setting(""), live))
        except Exception as error:
            self._tell(error)
        ended = time.monotonic()
        self.not_before = ended + max(SECONDS_BETWEEN, (ended - started) / PART_OF_A_RUN)

    def _read(self) -> None:
        """Read the records again, if there are others than before."""
        published = [path.stem for path in visible(self.plan.records_folder(self.kind), "*-seed*.json")]
        if self.results is None or published != self.published:
            self.results, self.published = results_of(self.plan, self.kind), published

    def _with_running(self) -> Results:
        """The finished runs and, of cells that run now, the epochs so far, in the order in which models are shown."""
        runs = self.results.runs
        finished = {record.stem for records in runs.values() for record in records}
        now = [record for stem, record in self.running.items() if stem not in finished]
        names = [experiment.name for experiment in (*self.plan.task.experiments, *self.plan.task.ablation)]
        both = {name: [*runs.get(name, ()), *(record for record in now if record.model == name)] for name in names}
        return replace(self.results, runs={name: records for name, records in both.items() if records})

    def _row(self, job: CellJob, epochs: int) -> list[str]:
        """A run's line in the table of progress."""
        history = self.running[job.stem].history if job.stem in self.running else []
        last = [f"{history[-1]['val_loss']:.4f}", f"{history[-1]['val_accuracy']:.2%}"] if history else ["–", "–"]
        return [f"{job.experiment.name}, seed {job.seed}", f"{epochs} of {job.experiment.config.epochs}", *last]

    def _tell(self, error: Exception) -> None:
        if not self.told:
            warn(f"warning: {self.path} is not kept up to date ({type(error).__name__}: {error})")
        self.told = True
