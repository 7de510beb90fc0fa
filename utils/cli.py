"""main(): plan, run, time, draw, report."""

import argparse
import json
import shlex
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NoReturn

from utils.arguments import parse
from utils.cells import CellJob
from utils.checkpoint import CheckpointError
from utils.cost import choose_precision, seconds_per_step, timing_pass
from utils.data import Splits, batch_sizes, load_splits
from utils.datasets import DataError
from utils.device import Execution, choose_device, physical_cores
from utils.distributed import run_in_turn, run_side_by_side
from utils.environment import describe_environment, source_hash
from utils.experiment import Task
from utils.files import write_atomically
from utils.locks import FolderInUse, sole_writer
from utils.outputs import closing_lines, draw, minutes, plan_in_words, shown, shown_kind
from utils.plan import Plan, make_plan
from utils.progress import Progress
from utils.results import RecordError, RunRecord, drop_records, publish, read_record, read_timing, to_json, write_timing

EVALUATION_SHARE = 1.1  # a run's time over that of its training steps


def main(task: Task) -> NoReturn:
    """Run a task's command line and exit: 0 done, 1 failed, 2 bad usage, 130 interrupted, 143 terminated."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(run(task))


def run(task: Task, argv: Sequence[str] | None = None) -> int:
    """Everything that a command does; returns the exit code."""
    options = parse(task, argv)
    try:
        plan = make_plan(task, options)
        if options.replot:
            kind = shown_kind(plan, options.kind)
            with sole_writer(plan.output):
                if not draw(plan, kind):
                    raise ValueError(f"{plan.records(kind)}: no record that counts")
            print(closing_lines(plan, []))
            return 0
        processes, execution = choose_execution(plan, options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        with sole_writer(plan.output, options.runs_dir / plan.task.name):
            return train_and_draw(plan, options, processes, execution)
    except (FolderInUse, CheckpointError, RecordError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. What had finished is kept; the same command goes on from there:", file=sys.stderr)
        print(f"  {shlex.join(['python', *sys.argv])}", file=sys.stderr)
        return 130


def train_and_draw(plan: Plan, options: argparse.Namespace, processes: int, execution: Execution) -> int:
    started = time.monotonic()
    execution.prepare_process()
    config = plan.experiments[0].config  # limit and protocol are the same for all
    data = load_splits(plan.spec, options.data_dir, not options.no_download, config.limit, config.protocol)
    data = data.to(execution.device)
    precision = options.precision
    if precision == "auto":
        precision = remembered_precision(plan, options.runs_dir, data, execution)
    execution = replace(execution, precision=precision)
    records: list[RunRecord] = []
    if not options.time_only:
        records = train(plan, options, make_jobs(plan, options, execution), data, processes)
    if time_models(plan, options, data, execution, records):
        draw(plan, execution.kind)
    say(options, f"Took {minutes(time.monotonic() - started)}.")
    print(closing_lines(plan, records))
    return 0 if all(record.status == "finished" for record in records) else 1


def choose_execution(plan: Plan, options: argparse.Namespace) -> tuple[int, Execution]:
    """How many cells run side by side, and with what each; the precision is still open.

    The threads of a cell follow from the whole plan, finished cells included. Raises ValueError for a device or
    precision that isn't there, and for more processes than cores, since threads in excess of cores wait for each other.
    """
    device, cores = choose_device(options.device), physical_cores()
    if options.precision == "bf16" and device.type == "mps":
        raise ValueError("--precision bf16: not available on mps; choose auto or fp32")
    if device.type != "cpu":
        return options.jobs or 1, Execution(device, "fp32", cores)
    if options.jobs and options.jobs > cores:
        raise ValueError(f"--jobs {options.jobs}: there are {cores} cores to use; choose 1 to {cores}")
    processes = options.jobs or min(cores, len(plan.experiments) * len(plan.seeds))
    return processes, Execution(device, "fp32", cores // processes)


def remembered_precision(plan: Plan, runs_dir: Path, data: Splits, execution: Execution) -> str:
    """The precision that suits the task on this machine: probed once, then the same for all runs in `runs_dir`.

    All models of the task are probed, whichever are run now. If one fails, that is for its cell to tell.
    """
    path = runs_dir / plan.task.name / f"precision-{plan.spec.name}.json"
    environment = describe_environment(execution)
    machine = {name: environment[name] for name in ("device", "device_name", "torch")}
    try:
        known = dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        known = {}
    if known.get("precision") in ("fp32", "bf16") and machine.items() <= known.items():
        return known["precision"]
    try:
        precision = choose_precision(plan.task.experiments, data, len(plan.spec.class_names), execution)
    except Exception:
        return "fp32"
    write_atomically(path, to_json({**machine, "precision": precision}))
    return precision


def make_jobs(plan: Plan, options: argparse.Namespace, execution: Execution) -> list[CellJob]:
    """One job for each cell, all models of a seed before the next seed."""
    environment = describe_environment(execution)
    sources = {experiment.name: source_hash(experiment) for experiment in plan.experiments}
    folder = options.runs_dir / plan.task.name / execution.kind
    return [
        CellJob(
            task=plan.task.name,
            spec=plan.spec,
            experiment=experiment,
            seed=seed,
            config_hash=plan.hashes[experiment.name],
            image_shape=plan.spec.image_shape,
            data_dir=options.data_dir,
            download=not options.no_download,
            environment={**environment, "source_hash": sources[experiment.name]},
            execution=execution,
            folder=folder / experiment.name / plan.hashes[experiment.name] / f"seed{seed}",
        )
        for seed in plan.seeds
        for experiment in plan.experiments
    ]


def train(
    plan: Plan, options: argparse.Namespace, jobs: list[CellJob], data: Splits, processes: int
) -> list[RunRecord]:
    """Train what hasn't finished, publish each record as it comes, draw when a model's last one has come.

    Returns the records of the cells trained now.
    """
    execution, folder = jobs[0].execution, plan.records(jobs[0].execution.kind)
    done = [record for job in jobs if options.resume and (record := reusable(job)) is not None]
    waiting = [job for job in jobs if job.stem not in {record.stem for record in done}]
    check_records(folder, jobs)
    for job in waiting:
        prepare_checkpoints(job, options.resume)
    check_disk_space(waiting, options.runs_dir)
    seconds = estimate(waiting, data, execution)
    waiting.sort(key=lambda job: seconds[job.stem], reverse=True)
    say(options, plan_in_words(plan, jobs, waiting, processes, seconds))

    awaited = Counter(job.experiment.name for job in jobs)
    # A quick look overwrites the last one, but never what else lies in a folder that the user named.
    drop = options.fresh or (plan.quick and options.output_dir is None)
    published: list[RunRecord] = []
    with Progress(waiting, options.quiet) as progress:
        if processes == 1:
            trained = run_in_turn(waiting, progress.epoch_done)
        else:
            trained = run_side_by_side(waiting, processes, progress.epoch_done)
        try:
            with closing(trained):
                for record in chain(done, trained):
                    if drop and record.status == "finished" and (len(published) >= len(done) or not waiting):
                        drop_records(folder)
                        for earlier in published:
                            publish(folder, earlier)
                        drop = False
                    try:
                        progress.say(publish(folder, record))
                    except OSError as error:  # a full disk: its cell has failed, the others go on
                        record = replace(record, status="failed", message=str(error))
                        progress.say(f"{record.stem} could not be kept: {error}")
                    published.append(record)
                    awaited[record.model] -= 1
                    if awaited[record.model] == 0:
                        try:
                            draw(plan, execution.kind)
                        except OSError as error:
                            progress.say(f"not drawn: {error}")
        except BaseException:  # also an interruption: what had finished is drawn
            if published:
                draw(plan, execution.kind)
            raise
    return published[len(done) :]


def reusable(job: CellJob) -> RunRecord | None:
    """The record of a cell that has finished before, unless the code that trains it has changed since."""
    record = job.finished_record()
    if record is not None and record.environment["source_hash"] != job.environment["source_hash"]:
        print(f"{job.stem} had finished, but the code that trains it has changed since: it is trained again")
        return None
    return record


def check_records(folder: Path, jobs: Sequence[CellJob]) -> None:
    """Raise RecordError if a run would replace a record of another task or protocol."""
    for job in jobs:
        try:
            record = read_record(folder / f"{job.stem}.json")
        except RecordError:
            continue
        if record.task != job.task:
            raise RecordError(f"{shown(folder)} holds records of {record.task}; choose another --output-dir")


def check_disk_space(jobs: Sequence[CellJob], folder: Path) -> None:
    """Raise OSError unless what `jobs` may need at most is free where `folder` lies or will lie."""
    needed = sum(job.bytes_needed for job in jobs)
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise OSError(
            f"{there}: {free / 2**20:,.0f} MiB are free, and this run may need {needed / 2**20:,.0f}; make room, or "
            "choose another --runs-dir"
        )


def prepare_checkpoints(job: CellJob, resume: bool) -> None:
    """Delete checkpoints that the cell is not to go on from: without `resume`, or of code that has changed since.

    Raises CheckpointError, naming what differs, for one that another machine or other options have made.
    """
    differences = job.checkpoints.differences()
    if not resume:
        job.checkpoints.prune(keep=0)
    elif list(differences) == ["source_hash"]:
        print(f"{job.stem} was interrupted, but the code that trains it has changed since: it starts again")
        job.checkpoints.prune(keep=0)
    elif differences:
        told = ", ".join(f"{name} {theirs}, not {ours}" for name, (theirs, ours) in differences.items())
        raise CheckpointError(
            f"{shown(job.folder)}: the checkpoint of {job.stem} has {told}. Go on as it was begun, start it again with "
            f"--no-resume, or choose another --runs-dir"
        )


def estimate(jobs: Sequence[CellJob], data: Splits, execution: Execution) -> dict[str, float]:
    """Rough seconds of training for each job, by its stem, from a few timed steps of each model."""
    experiments = {job.experiment.name: job.experiment for job in jobs}
    seconds = {}
    for name, experiment in experiments.items():
        steps = len(batch_sizes(len(data.train), experiment.config.batch_size)) * experiment.config.epochs
        try:
            step = seconds_per_step(experiment, data, len(jobs[0].spec.class_names), execution)
        except Exception:  # whatever it is, the cell itself will fail with it and leave a record
            step = 0.0
        seconds[name] = EVALUATION_SHARE * step * steps
    return {job.stem: seconds[job.experiment.name] for job in jobs}


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
