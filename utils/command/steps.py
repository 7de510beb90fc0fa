"""The steps of a command: load the data, train the cells, time the models, draw."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace

from utils import streams
from utils.command.added import enlarged, remember
from utils.command.live import LivePage
from utils.command.locks import sole_writer
from utils.command.looks import check_looks, going_on, look_in_words
from utils.command.outputs import closing_lines, draw, in_short_lines, plan_in_words, results_of
from utils.command.plan import Plan
from utils.command.preflight import check_everything, check_models, reusable, tell_about_data, with_its_threads
from utils.command.processes import run_in_turn, run_side_by_side, why_not_apart
from utils.command.progress import Progress
from utils.command.ranks import train_by_ranks
from utils.command.schedule import Forecast, chosen_execution, forecast, make_jobs
from utils.command.session import Leader, RankLost
from utils.data.images import Splits, load_splits
from utils.data.remembered import remember_data
from utils.files import remove_leftovers
from utils.findings.results import Results
from utils.records.folder import drop_records, latest_data, mark_data, mark_looks, publish
from utils.records.record import RunRecord
from utils.records.timing import read_timing, write_timing
from utils.report.conclusions import conclusions
from utils.report.contents import contents_in_words
from utils.streams import warn
from utils.timing.models import timing_pass
from utils.training.cell import CellJob
from utils.training.device import Execution, physical_cores
from utils.words import bullets, duration

SECONDS_BETWEEN_DRAWINGS = 60
SHARE_OF_DRAWING = 0.1  # of the time while training, at most: thousands of records take a minute to draw


@dataclass
class Outcome:
    """The outcome of a command.

    `records` are those of the cells trained now, and of finished ones that could not be published. `results` is what
    the folder of records held when it was last drawn. `well` is whether everything could be drawn and timed, `stale`
    whether there is something new that hasn't been drawn. `drawing_took` are the seconds of the last drawing. `live` is
    the page of the run that goes on, if there is one.
    """

    records: list[RunRecord] = field(default_factory=list)
    results: Results | None = None
    live: LivePage | None = None
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


def redraw(plan: Plan) -> int:
    """Draw again from the records, without training; returns the exit code."""
    with sole_writer(plan.output):
        results = results_of(plan, plan.redraws)
        draw(plan, plan.redraws, results)
    if not results.runs:
        return 2
    say(plan, conclusions(results))
    streams.say(closing_lines(plan, plan.redraws, []))
    say(plan, in_short_lines(plan, results))
    return 0


def lead(plan: Plan) -> int:
    """The same as rank 0 of several. Raises what `train_and_draw` raises, RankLost and CantFollow."""
    with Leader(plan.world) as leader:
        # Ranks that are started again go on: --no-resume was for the first time.
        return train_and_draw(replace(plan, resume=plan.resume or leader.restarted), leader)


def train_and_draw(plan: Plan, leader: Leader | None = None) -> int:
    """Load the data, train, time, draw, and print the conclusions; returns the exit code.

    Raises what its steps raise, among others FolderInUse, DataError, CheckpointError, RecordError and OSError.
    """
    started = time.monotonic()
    data = loaded(plan)
    with sole_writer(plan.output, plan.runs), ExitStack() as stack:
        execution, measured = chosen_execution(plan, data)
        say(plan, measured)
        if execution != plan.execution:
            execution.prepare_process()
        outcome = Outcome(live=stack.enter_context(LivePage(plan, execution.kind)) if plan.live else None)
        if plan.looks:
            train_until_decided(plan, execution, data, outcome, leader)
        elif not plan.time_only:
            train(plan, make_jobs(plan, execution, data.sha256), data, outcome, leader)
        if leader:
            leader.dismiss()  # before times are measured
        return finish(plan, execution, data, outcome, started)


def loaded(plan: Plan) -> Splits:
    """The data on the device, with what is to be said of them. Raises DataError and OSError."""
    plan.execution.prepare_process()  # before the first tensor
    config = plan.experiments[0].config  # all experiments have the same limit and protocol
    data = load_splits(plan.spec, plan.data_dir, plan.download, config.limit, config.protocol)
    tell_about_data(plan.spec, data)
    if plan.contents:
        say(plan, f"{plan.spec.name}:\n{bullets(contents_in_words(plan.contents))}")
    try:
        return data.to(plan.execution.device)
    except RuntimeError as error:
        raise OSError(
            f"the images don't fit on {plan.execution.device} ({error}); --device cpu may have room"
        ) from error


def finish(plan: Plan, execution: Execution, data: Splits, outcome: Outcome, started: float) -> int:
    """Time, draw and print the conclusions after everything has been trained; returns the exit code."""
    try:
        if time_models(plan, data, execution, outcome.records):
            outcome.stale = True
    except Exception as error:  # for example out of memory; the runs are already saved
        warn(f"no timing pass: {type(error).__name__}: {error}")
        outcome.well = False
    finally:  # also after Ctrl-C
        if outcome.stale:
            outcome.draw(replace(plan, live=False), execution.kind)
    say(plan, conclusions(outcome.results) if outcome.results else "")
    say(plan, f"Took {duration(time.monotonic() - started)}.")
    streams.say(closing_lines(plan, execution.kind, outcome.records))
    say(plan, in_short_lines(plan, outcome.results))
    return 0 if outcome.well and all(record.status == "finished" for record in outcome.records) else 1


def train_until_decided(
    plan: Plan, execution: Execution, data: Splits, outcome: Outcome, leader: Leader | None
) -> None:
    """Train until the next look, and on with the models whose contrasts it leaves open.

    What is open follows from the records on disk, so that a command that is started again goes on as it would have.
    """
    check_looks(plan, results_of(plan, execution.kind))
    step = plan
    for look, following in zip(plan.looks, (*plan.looks[1:], None), strict=True):
        train(step, make_jobs(step, execution, data.sha256), data, outcome, leader)
        results = results_of(plan, execution.kind)
        experiments = going_on(plan, results, look)
        if not (experiments and following):
            return
        if outcome.stale:
            outcome.draw(plan, execution.kind)
        say(plan, look_in_words(results, look, following, experiments))
        step = replace(
            plan,
            experiments=tuple(experiments),
            seeds=tuple(range(look, following)),
            drops_older_records=False,  # they went at the first look
        )


def train(plan: Plan, jobs: list[CellJob], data: Splits, outcome: Outcome, leader: Leader | None) -> None:
    """Train the cells that have not finished. Publish each record at once; draw when a model is complete, if due.

    With a `leader` all ranks train them. Raises what `prepare` and `train_by_ranks` raise.
    """
    done, waiting, expected = prepare(plan, jobs, data)
    with Progress(waiting, expected, plan.quiet, outcome.live) as progress:
        if leader:
            trained = train_by_ranks(leader, plan, jobs[0].execution, waiting, progress.epoch_done)
        elif why := why_not_apart(waiting):
            warn(f"{why}: runs train one after another in this process")
            trained = run_in_turn(waiting, progress.epoch_done)
        else:
            trained = run_side_by_side(waiting, plan.places, progress.epoch_done)
        with closing(trained):  # ends the processes of the cells at once, also after Ctrl-C
            collect(plan, jobs, done, trained, progress, outcome)


def prepare(plan: Plan, jobs: Sequence[CellJob], data: Splits) -> tuple[list[RunRecord], list[CellJob], Forecast]:
    """The records of the cells that finished before, the cells to train, the longest first, and how long they take.

    Prints the plan. Raises what `check_models` and `check_everything` raise, with nothing changed, and OSError.
    """
    execution = jobs[0].execution
    found = [reusable(job, plan.committed(job.experiment, execution.kind)) for job in jobs if plan.resume]
    done = [record for record in found if record is not None]
    finished = {record.stem for record in done}
    waiting = [job for job in jobs if job.stem not in finished]
    if plan.resume:
        waiting = [with_its_threads(job) for job in waiting]
    folder = plan.records_folder(execution.kind)
    if waiting:
        check_models(waiting, data)
        for name, size in enlarged(plan.experiments, data).items():
            say(plan, f"{name}: images are enlarged to {size} pixels.")
    check_everything(folder, jobs, waiting, plan)
    remove_leftovers(plan.output, "*.png")  # only pictures: the user may keep other files there
    for written in (folder.parent, folder):
        remove_leftovers(written)
    if plan.added:
        remember(plan.output, plan.added)
    if plan.looks and not plan.drops_older_records:
        mark_looks(folder)
    expected = forecast(plan, waiting, data, execution)
    place = {stem: i for i, stem in enumerate(expected.cells)}
    waiting.sort(key=lambda job: place[job.stem])
    say(plan, plan_in_words(plan, jobs, waiting, expected))
    return done, waiting, expected


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


def time_models(plan: Plan, data: Splits, execution: Execution, records: Sequence[RunRecord]) -> bool:
    """Run the timing pass, with all cores and nothing else running; returns whether there was one.

    There is one only if all of the task's models take part, and if some of them were trained now (`records`), none were
    timed before, or --time-only asks for it. Raises OSError.
    """
    folder, names = plan.records_folder(execution.kind), [experiment.name for experiment in plan.compared]
    trained = [record for record in records if record.model in names]
    if not names:
        say(plan, "No timing pass: it needs all models of the task and --protocol holdout.")
        return False
    if any(record.status == "failed" for record in trained):
        say(plan, "No timing pass: a model that failed can't be timed.")
        return False
    hashes = {name: plan.hashes[name] for name in names}
    if not (trained or plan.time_only) and read_timing(folder, hashes, plan.declared.code) is not None:
        return False
    say(plan, "Timing pass ...")
    execution = replace(execution, threads=physical_cores())
    execution.prepare_process()
    write_timing(folder, timing_pass(plan.compared, plan.hashes, plan.declared.code, data, execution, plan.smoke))
    return True


def say(plan: Plan, text: str) -> None:
    if not plan.quiet and text:
        streams.say(text)
