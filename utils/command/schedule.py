"""The cells of a command, their precision, their threads and their expected time."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod

import torch

from utils.command.plan import PLOTS, Plan
from utils.data.images import Splits, batch_sizes
from utils.experiment import Experiment
from utils.files import file_name, write_atomically
from utils.records.kinds import shown_kind
from utils.records.record import to_json
from utils.streams import warn
from utils.timing.choices import choose_precision, seconds_by_threads
from utils.timing.models import seconds_of_a_pass, seconds_per_image, seconds_per_step
from utils.training.cell import CellJob
from utils.training.device import Execution, physical_cores
from utils.training.machine import describe_environment
from utils.training.sources import source_hash

START_SECONDS = 3.0  # of a process that trains cells
SECONDS_A_BYTE = 1e-8  # to load the images and check them
SECONDS_A_PICTURE = 0.3
PICTURES, PICTURES_A_MODEL = 7, 5
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
    path = plan.runs / f"precision-{file_name(plan.spec.name)}.json"
    environment = describe_environment(plan.execution)
    machine = {name: environment[name] for name in ("device", "device_name", "torch")}
    try:
        known = dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        known = {}
    if known.get("precision") in ("fp32", "bf16") and machine.items() <= known.items():
        return known["precision"], f"Precision {known['precision']}, as measured before ({path.name})."
    kind = shown_kind(PLOTS / plan.task.name / "records")
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
            environment={
                **environment,
                "source_hash": sources[experiment.name],
                "model_hash": plan.declared.code[experiment.name],
            },
            execution=execution,
            folder=plan.cells(execution.kind, experiment.name) / f"seed{seed}",
        )
        for seed in plan.seeds
        for experiment in plan.experiments
    ]


@dataclass(frozen=True)
class Forecast:
    """Rough seconds: `cells` is {stem: those that remain of the cell}, `drawing` and `timing` come after the last."""

    cells: dict[str, float]
    drawing: float
    timing: float

    def in_order(self, jobs: Iterable[CellJob]) -> list[CellJob]:
        """The jobs in the order of `cells`."""
        place = {stem: i for i, stem in enumerate(self.cells)}
        return sorted(jobs, key=lambda job: place[job.stem])

    def in_all(self, processes: int) -> float:
        """Seconds until everything is done, with so many cells at once, in the order of `cells`."""
        # Each goes to the process that is free first, as `run_side_by_side` will do it.
        busy_until = [0.0] * processes
        for seconds in self.cells.values():
            first = busy_until.index(min(busy_until))
            busy_until[first] += seconds + (START_SECONDS if busy_until[first] == 0 else 0)
        return max(busy_until) + self.drawing + self.timing


def forecast(plan: Plan, jobs: Sequence[CellJob], data: Splits, execution: Execution) -> Forecast:
    """How long it will take to train the `jobs`, the longest first, and to draw and time what the plan asks for.

    It is made from a few timed steps and evaluations of each model. A cell loads the data, trains, evaluates after
    every epoch, and predicts the test set with four sets of weights.
    """
    experiments = {job.experiment.name: job.experiment for job in jobs}
    torch.set_num_threads(execution.threads)
    costs = {name: costs_of(experiment, data, execution) for name, experiment in experiments.items()}
    loading = SECONDS_A_BYTE * prod(plan.spec.arrays["train_images"].shape)
    cells = {}
    for job in jobs:
        config, (step, image) = job.experiment.config, costs[job.experiment.name]
        steps = len(batch_sizes(len(data.train), config.batch_size))
        epoch = steps * step + (len(data.fit) + len(data.val)) * image
        left = config.epochs - job.checkpoints.epoch()
        # At the end statistics are re-estimated twice, and the test set is predicted for each of four readings.
        end = (2 * len(data.fit) + 4 * len(data.test) + len(data.val)) * image
        cells[job.stem] = loading + left * epoch + end
    # The longest first: started last, it would run alone at the end while the other cores wait.
    cells = dict(sorted(cells.items(), key=lambda item: -item[1]))
    timing, timed = 0.0, [costs[e.name] for e in plan.compared if e.name in costs]
    if timed:  # those that have finished take as long, on average
        batch_size = plan.experiments[0].config.batch_size
        timing = seconds_of_a_pass(timed, batch_size, execution.threads, physical_cores(), plan.smoke)
        timing *= len(plan.compared) / len(timed)
    pictures = 0 if plan.task.protocol == "original" else PICTURES + PICTURES_A_MODEL * len(plan.experiments)
    return Forecast(cells, SECONDS_A_PICTURE * pictures, timing)


def costs_of(experiment: Experiment, data: Splits, execution: Execution) -> tuple[float, float]:
    """Seconds of a training step, and of the evaluation of one image."""
    try:
        return seconds_per_step(experiment, data, execution), seconds_per_image(experiment, data, execution)
    except Exception:  # whatever it is, the cell itself will fail with it and record it
        return 1e-9, 1e-9
