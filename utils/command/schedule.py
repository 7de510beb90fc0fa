"""What is trained, and with what: the cells of a command, their processes, precision and expected time."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from utils.command.plan import Plan
from utils.data.images import Splits, batch_sizes
from utils.files import write_atomically
from utils.records.record import to_json
from utils.timing.models import choose_precision, seconds_per_step
from utils.training.cell import CellJob
from utils.training.device import Execution, choose_device, physical_cores
from utils.training.machine import describe_environment, source_hash

EVALUATION_SHARE = 1.1  # a run's time over that of its training steps


def choose_execution(plan: Plan, options: argparse.Namespace) -> tuple[int, Execution]:
    """How many cells run side by side, and with what each; `auto` precision is fp32 until the models are probed.

    The threads of a cell follow from the whole plan, finished cells included. Raises ValueError for a device or
    precision that isn't there, and for more processes than cores, since threads in excess of cores wait for each other.
    """
    device, cores = choose_device(options.device), physical_cores()
    if options.precision == "bf16" and device.type == "mps":
        raise ValueError("--precision bf16: not available on mps; choose auto or fp32")
    precision = "fp32" if options.precision == "auto" else options.precision
    if device.type != "cpu":
        return options.jobs or 1, Execution(device, precision, cores)
    if options.jobs and options.jobs > cores:
        raise ValueError(f"--jobs {options.jobs}: there are {cores} cores to use; choose 1 to {cores}")
    processes = options.jobs or min(cores, len(plan.experiments) * len(plan.seeds))
    return processes, Execution(device, precision, cores // processes)


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
    return {
        job.stem: seconds[job.experiment.name] * (1 - job.checkpoints.epoch() / job.experiment.config.epochs)
        for job in jobs
    }
