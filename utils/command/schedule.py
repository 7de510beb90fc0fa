"""The cells of a command, their precision, their threads and their expected time."""

import json
from collections.abc import Sequence
from dataclasses import replace

import torch

from utils.command.plan import PLOTS, Plan
from utils.data.images import Splits, batch_sizes
from utils.files import file_name, write_atomically
from utils.records.kinds import marked_kind
from utils.records.record import to_json
from utils.streams import warn
from utils.timing.choices import choose_precision, seconds_by_threads
from utils.timing.models import seconds_per_step
from utils.training.cell import CellJob
from utils.training.device import Execution
from utils.training.machine import describe_environment, source_hash

EVALUATION_SHARE = 1.1  # the time of a whole run over the time of its training steps: about 10% is evaluation
WORTH_THREADS = 1.3  # more threads than one must be so much faster: beside other work they are many times slower
TINY_RUN = 100_000  # examples over all epochs: less training than that is done before threads are measured


def chosen_execution(plan: Plan, data: Splits) -> tuple[Execution, str]:
    """The plan's execution with the precision and the threads that suit this machine, and a line on what was measured.

    Raises OSError.
    """
    execution, lines = plan.execution, []
    if plan.chooses_precision:
        precision, why = remembered_precision(plan, data)
        execution = replace(execution, precision=precision)
        lines.append(why)
    config = plan.experiments[0].config
    if execution.threads > 1 and plan.chooses_threads and execution.device.type == "cpu":
        tiny = len(data.train) * config.epochs < TINY_RUN
        threads, why = (1, "") if tiny else choose_threads(plan, data, execution)
        execution = replace(execution, threads=threads)
        lines.append(why)
    return execution, "\n".join(filter(None, lines))


def remembered_precision(plan: Plan, data: Splits) -> tuple[str, str]:
    """The faster precision for the task on this machine, measured once and remembered in the runs folder, and why.

    It is remembered since runs of different precision are never pooled: a measurement that comes out differently
    tomorrow would split the evidence. All models of the task are measured, even if only some run now.
    """
    path = plan.runs / f"precision-{plan.spec.name}.json"
    environment = describe_environment(plan.execution)
    machine = {name: environment[name] for name in ("device", "device_name", "torch")}
    try:
        known = dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        known = {}
    if known.get("precision") in ("fp32", "bf16") and machine.items() <= known.items():
        return known["precision"], f"Precision {known['precision']}, as measured before ({path.name})."
    kind, _ = marked_kind(PLOTS / plan.task.name / "records")
    precision, why = choose_precision(plan.task.experiments, data, plan.execution, shown=kind)
    if plan.quick or plan.added:  # other recipes or models than the task's would decide for these
        return precision, why
    try:
        write_atomically(path, to_json({**machine, "precision": precision}))
    except OSError as error:
        warn(f"warning: {path} could not be written ({error}); the next run measures again")
    return precision, why


def choose_threads(plan: Plan, data: Splits, execution: Execution) -> tuple[int, str]:
    """One thread for each cell, or its share of the cores where these are clearly faster now; and why."""
    share = execution.threads
    try:
        one, several = seconds_by_threads(plan.experiments, data, execution, (1, share))
    except Exception as error:  # the cell itself will fail with it and say so
        return 1, f"One thread for each run: {share} could not be measured ({error})."
    threads = share if one > WORTH_THREADS * several else 1
    return threads, (
        f"Threads for each run: {threads} (a training step takes {1000 * one:.1f} ms with 1 and "
        f"{1000 * several:.1f} ms with {share}; more than 1 only if {WORTH_THREADS:g} times as fast)."
    )


def make_jobs(plan: Plan, execution: Execution, data_sha256: str) -> list[CellJob]:
    """One job for each cell. All models of a seed come before those of the next seed."""
    environment = describe_environment(execution)
    sources = {experiment.name: source_hash(experiment) for experiment in plan.experiments}
    folder = plan.runs / execution.kind
    return [
        CellJob(
            task=plan.task.name,
            spec=plan.spec,
            experiment=experiment,
            seed=seed,
            config_hash=plan.hashes[experiment.name],
            data_sha256=data_sha256,
            data_dir=plan.data_dir,
            download=plan.download,
            environment={**environment, "source_hash": sources[experiment.name]},
            execution=execution,
            folder=folder / file_name(experiment.name) / plan.hashes[experiment.name] / f"seed{seed}",
        )
        for seed in plan.seeds
        for experiment in plan.experiments
    ]


def estimate(jobs: Sequence[CellJob], data: Splits, execution: Execution) -> dict[str, float]:
    """{stem: rough seconds of training that remain} for each job, from a few timed steps of each model."""
    experiments = {job.experiment.name: job.experiment for job in jobs}
    seconds = {}
    torch.set_num_threads(execution.threads)
    for name, experiment in experiments.items():
        steps = len(batch_sizes(len(data.train), experiment.config.batch_size)) * experiment.config.epochs
        try:
            step = seconds_per_step(experiment, data, execution)
        except Exception:  # whatever it is, the cell itself will fail with it and record it
            step = 0.0
        seconds[name] = EVALUATION_SHARE * step * steps
    return {
        job.stem: seconds[job.experiment.name] * (1 - job.checkpoints.epoch() / job.experiment.config.epochs)
        for job in jobs
    }
