"""The cells of a command, their precision and their expected time."""

import json
from collections.abc import Sequence

from utils.command.plan import Plan
from utils.data.images import Splits, batch_sizes
from utils.files import write_atomically
from utils.records.record import to_json
from utils.timing.models import choose_precision, seconds_per_step
from utils.training.cell import CellJob
from utils.training.device import Execution
from utils.training.machine import describe_environment, source_hash

EVALUATION_SHARE = 1.1  # the time of a whole run over the time of its training steps: about 10% is evaluation


def remembered_precision(plan: Plan, data: Splits) -> str:
    """The faster precision for the task on this machine, measured once and remembered in the runs folder.

    It is remembered since runs of different precision are never pooled: a measurement that comes out differently
    tomorrow would split the evidence. All models of the task are measured, even if only some run now. If one of them
    fails, the result is fp32, not remembered; the cell of that model will report the error. Raises OSError.
    """
    path = plan.runs / f"precision-{plan.spec.name}.json"
    environment = describe_environment(plan.execution)
    machine = {name: environment[name] for name in ("device", "device_name", "torch")}
    try:
        known = dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        known = {}
    if known.get("precision") in ("fp32", "bf16") and machine.items() <= known.items():
        return known["precision"]
    try:
        precision = choose_precision(plan.task.experiments, data, plan.execution)
    except Exception:
        return "fp32"
    write_atomically(path, to_json({**machine, "precision": precision}))
    return precision


def make_jobs(plan: Plan, execution: Execution) -> list[CellJob]:
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
            data_dir=plan.data_dir,
            download=plan.download,
            environment={**environment, "source_hash": sources[experiment.name]},
            execution=execution,
            folder=folder / experiment.name / plan.hashes[experiment.name] / f"seed{seed}",
        )
        for seed in plan.seeds
        for experiment in plan.experiments
    ]


def estimate(jobs: Sequence[CellJob], data: Splits, execution: Execution) -> dict[str, float]:
    """{stem: rough seconds of training that remain} for each job, from a few timed steps of each model."""
    experiments = {job.experiment.name: job.experiment for job in jobs}
    seconds = {}
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
