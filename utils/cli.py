"""main(): plan, run, time, draw, report."""

import argparse
import shlex
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from itertools import chain
from typing import NoReturn

from utils.command.arguments import parse
from utils.command.locks import FolderInUse, sole_writer
from utils.command.outputs import closing_lines, conclusions_of, draw, minutes, plan_in_words, shown_kind, warn
from utils.command.plan import Plan, make_plan
from utils.command.preflight import check_everything, reusable
from utils.command.processes import run_in_turn, run_side_by_side
from utils.command.progress import Progress
from utils.command.schedule import choose_execution, estimate, make_jobs, remembered_precision
from utils.data.images import Splits, load_splits
from utils.data.specs import DataError
from utils.experiment import Task
from utils.files import remove_leftovers
from utils.records.folder import drop_records, publish
from utils.records.record import RecordError, RunRecord
from utils.records.timing import read_timing, write_timing
from utils.timing.models import timing_pass
from utils.training.cell import CellJob
from utils.training.checkpoint import CheckpointError
from utils.training.device import Execution, physical_cores
from utils.words import plural


def main(task: Task) -> NoReturn:
    """Run a task's command line and exit: 0 done, 1 failed, 2 bad usage, 130 interrupted, 143 terminated."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(run(task))


def run(task: Task, argv: Sequence[str] | None = None) -> int:
    """Everything that a command does; returns the exit code."""
    options = parse(task, argv)
    try:
        plan = make_plan(task, options)
        kind = shown_kind(plan, options.kind) if options.replot else ""
        processes, execution = choose_execution(plan, options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        if options.replot:
            return redraw(plan, options, kind)
        with sole_writer(plan.output, options.runs_dir / plan.task.name):
            return train_and_draw(plan, options, processes, execution)
    except (FolderInUse, CheckpointError, RecordError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, SystemExit) as end:  # the latter by SIGTERM
        command = shlex.join(["python", *(word for word in sys.argv if word != "--no-resume")])
        print(f"\nInterrupted. What had finished is kept; this goes on from there:\n  {command}", file=sys.stderr)
        return 130 if isinstance(end, KeyboardInterrupt) else end.code


def redraw(plan: Plan, options: argparse.Namespace, kind: str) -> int:
    with sole_writer(plan.output):
        if not draw(plan, kind):
            return 2
    say(options, conclusions_of(plan, kind))
    print(closing_lines(plan, []))
    return 0


def train_and_draw(plan: Plan, options: argparse.Namespace, processes: int, execution: Execution) -> int:
    started = time.monotonic()
    execution.prepare_process()
    config = plan.experiments[0].config  # limit and protocol are the same for all
    data = load_splits(plan.spec, options.data_dir, not options.no_download, config.limit, config.protocol)
    data = data.to(execution.device)
    if options.precision == "auto":
        execution = replace(execution, precision=remembered_precision(plan, options.runs_dir, data, execution))
    tell_shared_images(plan, data)
    records, well = [], True
    if not options.time_only:
        records, well = train(plan, options, make_jobs(plan, options, execution), data, processes)
    try:
        if time_models(plan, options, data, execution, records):
            well &= draw_or_tell(plan, execution.kind)
    except Exception as error:  # out of memory, say: the runs have been kept
        print(f"no timing pass: {type(error).__name__}: {error}", file=sys.stderr)
        well = False
    say(options, conclusions_of(plan, execution.kind))
    say(options, f"Took {minutes(time.monotonic() - started)}.")
    print(closing_lines(plan, records))
    return 0 if well and all(record.status == "finished" for record in records) else 1


def tell_shared_images(plan: Plan, data: Splits) -> None:
    """Say how many test images are training images as well, which would flatter every accuracy.

    Only of data without checksums: those of MNIST and CIFAR-10 are known to share none.
    """
    if all(array.sha256 for array in plan.spec.arrays.values()):
        return
    train, test = ({image.tobytes() for image in part.images.cpu().numpy()} for part in (data.train, data.test))
    if shared := len(train & test):
        print(f"warning: {plan.spec.name}: {plural(shared, 'test image')} among the training images", file=sys.stderr)


def train(
    plan: Plan, options: argparse.Namespace, jobs: list[CellJob], data: Splits, processes: int
) -> tuple[list[RunRecord], bool]:
    """Train what hasn't finished, publish each record as it comes, draw when a model's last one has come.

    Returns the records of the cells trained now, and of those that couldn't be published, and whether all was drawn.
    """
    execution, folder = jobs[0].execution, plan.records(jobs[0].execution.kind)
    done = [record for job in jobs if options.resume and (record := reusable(job)) is not None]
    waiting = [job for job in jobs if job.stem not in {record.stem for record in done}]
    check_everything(folder, jobs, waiting, options.resume)
    remove_leftovers(plan.output, "*.png")  # that folder may hold what isn't ours
    for written in (folder.parent, folder):
        remove_leftovers(written)
    seconds = estimate(waiting, data, execution)
    waiting.sort(key=lambda job: seconds[job.stem], reverse=True)
    say(options, plan_in_words(plan, jobs, waiting, processes, seconds))

    awaited = Counter(job.experiment.name for job in jobs)
    # A quick look overwrites the last one, but never what else lies in a folder that the user named.
    drop = options.fresh or (plan.quick and options.output_dir is None)
    published: list[RunRecord] = []
    drawn = True
    with Progress(waiting, options.quiet) as progress:
        if processes == 1:
            trained = run_in_turn(waiting, progress.epoch_done)
        else:
            trained = run_side_by_side(waiting, processes, progress.epoch_done)
        try:
            with closing(trained):
                for record in chain(done, trained):
                    try:
                        progress.say(publish(folder, record))
                    except OSError as error:  # a full disk: its cell has failed, the others go on
                        record = replace(record, status="failed", message=str(error))
                        progress.say(f"{record.stem} could not be kept: {error}")
                    published.append(record)
                    if drop and record.status == "finished" and (len(published) > len(done) or not waiting):
                        drop_records(folder, keep=published)
                        drop = False
                    awaited[record.model] -= 1
                    if awaited[record.model] == 0:
                        drawn &= draw_or_tell(plan, execution.kind)
        except BaseException:  # also an interruption: what had finished is drawn
            if published:
                draw_or_tell(plan, execution.kind)
            raise
    trained_now = published[len(done) :]
    return [record for record in published[: len(done)] if record.status == "failed"] + trained_now, drawn


def draw_or_tell(plan: Plan, kind: str) -> bool:
    """Draw; if that fails, say so, since the cells still to come must not be lost for it."""
    try:
        draw(plan, kind)
    except Exception as error:
        warn(f"not drawn: {type(error).__name__}: {error}")
        return False
    return True


def time_models(
    plan: Plan, options: argparse.Namespace, data: Splits, execution: Execution, records: Sequence[RunRecord]
) -> bool:
    """The timing pass, with all cores and nothing else running; whether there was one.

    Only a pass over all models replaces the last, and only if something was trained now (`records`) or never timed.
    """
    folder, names = plan.records(execution.kind), [experiment.name for experiment in plan.compared]
    trained = [record for record in records if record.model in names]
    if not names:
        say(options, "No timing pass: it compares all models of the task by its own protocol.")
        return False
    if any(record.status == "failed" for record in trained):
        say(options, "No timing pass: a model that failed can't be timed.")
        return False
    if not (trained or options.time_only) and read_timing(folder, names) is not None:
        return False
    say(options, "Timing pass ...")
    execution = replace(execution, threads=physical_cores())
    execution.prepare_process()
    write_timing(folder, timing_pass(plan.compared, data, len(plan.spec.class_names), execution, options.smoke))
    return True


def say(options: argparse.Namespace, text: str) -> None:
    if not options.quiet:
        print(text, flush=True)
