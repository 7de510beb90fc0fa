"""main(): plan, run, time, draw, report."""

import argparse
import json
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from utils.arguments import parse
from utils.cells import CellJob
from utils.cost import choose_precision, seconds_per_step, timing_pass, training_seconds
from utils.data import Splits, load_splits
from utils.datasets import DataError
from utils.device import Execution, choose_device, physical_cores
from utils.distributed import run_in_turn, run_side_by_side
from utils.environment import CHECKOUT, describe_environment, git, source_hash
from utils.experiment import Experiment, Task
from utils.figures import draw_task
from utils.files import write_atomically
from utils.plan import Plan, make_plan
from utils.progress import Progress
from utils.report import results_text, table, update_block
from utils.results import RunRecord, publish, read_runs, read_timing, to_json, write_timing

README = CHECKOUT / "README.md"
ORIGINAL_REPORT = CHECKOUT / "docs" / "original_report.json"


def main(task: str, *, dataset: str, experiments: Sequence[Experiment], argv: Sequence[str] | None = None) -> NoReturn:
    """Run a task's command line and exit: 0 done, 1 failed, 2 bad usage, 130 interrupted, 143 terminated."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(run(Task(task, dataset, tuple(experiments)), argv))


def run(task: Task, argv: Sequence[str] | None = None) -> int:
    """Everything that a command does; returns the exit code."""
    options = parse(task, argv)
    try:
        plan = make_plan(task, options)
        if options.replot:
            draw(plan, options.kind or shown_kind(plan))
            return closing_lines(plan)
        processes, execution = choose_execution(plan, options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        return train_and_draw(plan, options, processes, execution)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. What had finished is kept; the same command goes on from there:", file=sys.stderr)
        print(f"  {shlex.join(['python', *sys.argv])}", file=sys.stderr)
        return 130


def train_and_draw(plan: Plan, options: argparse.Namespace, processes: int, execution: Execution) -> int:
    started = time.monotonic()
    execution.prepare_process()
    data = load_splits(plan.spec, options.data_dir, not options.no_download, options.limit)
    precision = options.precision
    if precision == "auto":
        precision = remembered_precision(plan, options.runs_dir, data, execution)
    execution = replace(execution, precision=precision)
    records: list[RunRecord] = []
    kind = f"{execution.device.type}-{execution.precision}"
    if not options.time_only:
        jobs = make_jobs(plan, options, execution)
        try:
            records = train(plan, options, jobs, data, processes, execution)
        finally:  # also when interrupted: what had finished is drawn
            draw(plan, kind)
    time_models(plan, kind, data, execution, needed=bool(records) or options.time_only)
    draw(plan, kind)
    return closing_lines(plan, records, time.monotonic() - started)


def choose_execution(plan: Plan, options: argparse.Namespace) -> tuple[int, Execution]:
    """How many cells run side by side, and with what each; its precision is still open.

    The threads of a cell follow from the whole plan, finished cells included. Raises ValueError for a device that
    isn't there, and for more processes than cores, since threads in excess of cores wait for each other.
    """
    device, cores = choose_device(options.device), physical_cores()
    if device.type != "cpu":
        return options.jobs or 1, Execution(device, "fp32", cores)
    if options.jobs and options.jobs > cores:
        raise ValueError(f"--jobs {options.jobs}: this process may use {cores} cores; choose 1 to {cores}")
    processes = options.jobs or min(cores, len(plan.cells))
    return processes, Execution(device, "fp32", cores // processes)


def remembered_precision(plan: Plan, runs_dir: Path, data: Splits, execution: Execution) -> str:
    """The precision that suits the task on this machine: probed once, then the same for all runs in `runs_dir`."""
    path = runs_dir / plan.task.name / "precision.json"
    environment = describe_environment(execution)
    machine = {name: environment[name] for name in ("device", "device_name", "torch")}
    try:
        known = json.loads(path.read_bytes())
    except (OSError, ValueError):
        known = {}
    if {**known, **machine} == known:
        return known["precision"]
    precision = choose_precision(plan.experiments, data.to(execution.device), len(plan.spec.class_names), execution)
    write_atomically(path, to_json({**machine, "precision": precision}))
    return precision


def make_jobs(plan: Plan, options: argparse.Namespace, execution: Execution) -> list[CellJob]:
    environment = describe_environment(execution)
    folder = options.runs_dir / plan.task.name / f"{execution.device.type}-{execution.precision}"
    return [
        CellJob(
            task=plan.task.name,
            spec=plan.spec,
            experiment=cell.experiment,
            seed=cell.seed,
            config_hash=plan.hashes[cell.experiment.name],
            image_shape=plan.spec.image_shape,
            data_dir=options.data_dir,
            environment={**environment, "source_hash": source_hash(cell.experiment)},
            execution=execution,
            folder=folder / cell.experiment.name / plan.hashes[cell.experiment.name] / f"seed{cell.seed}",
        )
        for cell in plan.cells
    ]


def train(
    plan: Plan,
    options: argparse.Namespace,
    jobs: list[CellJob],
    data: Splits,
    processes: int,
    execution: Execution,
) -> list[RunRecord]:
    """Train what isn't finished, publish each record as it comes and draw each model when its last one has.

    Returns the records of the cells that were trained now.
    """
    data, folder = data.to(execution.device), plan.records(jobs[0].execution_kind)
    done = {job.stem: record for job in jobs if options.resume and (record := reusable(job, options.quiet))}
    waiting = [job for job in jobs if job.stem not in done]
    steps = seconds_per_step(
        [e for e in plan.experiments if any(job.experiment == e for job in waiting)],
        data,
        len(plan.spec.class_names),
        execution,
    )
    seconds = {
        job.stem: training_seconds(steps[job.experiment.name], len(data.train), job.experiment.config)
        for job in waiting
    }
    waiting.sort(key=lambda job: seconds[job.stem], reverse=True)
    if not options.quiet:
        print(plan_in_words(plan, jobs, waiting, processes, makespan(seconds.values(), processes)))

    publisher = Publisher(plan, folder, fresh=options.fresh or plan.quick)
