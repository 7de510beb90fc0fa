"""The steps of a command: load the data, train the cells, time the models, draw."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace

from utils import streams
from utils.checkout import shown
from utils.command.added import enlarged, remember
from utils.command.locks import sole_writer
from utils.command.looks import check_looks, going_on, look_in_words
from utils.command.outcome import Outcome, collect
from utils.command.outputs import closing_lines, draw, in_short_lines, plan_in_words, results_of, say
from utils.command.plan import Plan
from utils.command.preflight import check_everything, check_models, reusable, tell_about_data, with_its_threads
from utils.command.processes import run_in_turn, run_side_by_side, why_not_apart
from utils.command.progress import Progress
from utils.command.ranks import train_by_ranks
from utils.command.schedule import Forecast, chosen_execution, forecast, make_jobs
from utils.command.session import Leader
from utils.data.images import Splits, batch_sizes, load_splits
from utils.files import remove_leftovers
from utils.records.folder import mark_looks
from utils.records.record import RunRecord
from utils.records.timing import read_timing, write_timing
from utils.report.conclusions import conclusions
from utils.report.contents import contents_in_words
from utils.streams import warn
from utils.timing.models import timing_pass
from utils.training.cell import CellJob
from utils.training.device import Execution, physical_cores
from utils.words import bullets, duration


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
    with sole_writer(plan.output, plan.runs):
        execution, measured = chosen_execution(plan, data)
        say(plan, measured)
        if execution != plan.execution:
            execution.prepare_process()
        outcome = Outcome()
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
            outcome.draw(plan, execution.kind)
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
    with Progress(waiting, expected, plan.quiet) as progress, event_files(plan, data) as events:

        def epoch_done(job: CellJob, entry: dict) -> None:
            progress.epoch_done(job, entry)
            if events:
                events.epoch_done(job, entry)

        if leader:
            trained = train_by_ranks(leader, plan, jobs[0].execution, waiting, epoch_done)
        elif why := why_not_apart(waiting):
            warn(f"{why}: runs train one after another in this process")
            trained = run_in_turn(waiting, epoch_done)
        else:
            trained = run_side_by_side(waiting, plan.places, epoch_done)
        with closing(trained):  # ends the processes of the cells at once, also after Ctrl-C
            collect(plan, jobs, done, trained, progress, outcome)


def event_files(plan: Plan, data: Splits) -> AbstractContextManager:
    """What writes event files, or None without --tensorboard. Says how to look at them."""
    if not plan.tensorboard:
        return nullcontext()
    from utils.command.event_files import EventFiles  # only here: TensorBoard is optional, and loads slowly

    say(plan, f"To watch: tensorboard --logdir {shown(plan.runs)}")
    return EventFiles(lambda config: len(batch_sizes(len(data.train), config.batch_size)))


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
    waiting = expected.in_order(waiting)
    say(plan, plan_in_words(plan, jobs, waiting, expected))
    return done, waiting, expected


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
