"""What a command means before anything runs: experiments and seeds, what counts as evidence, and where it goes."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from utils.checkout import CHECKOUT
from utils.command.arguments import chosen_experiments, overridden
from utils.contrasts import audit
from utils.data.specs import DATASETS, STAND_INS, DatasetSpec
from utils.experiment import Experiment, Task, config_hash, under_original_protocol
from utils.training.model import parameter_shapes

PLOTS = CHECKOUT / "plots"


@dataclass(frozen=True)
class Plan:
    """`declared` maps the models whose records count in `output` to their config hashes; `quick` marks a quick look."""

    task: Task
    spec: DatasetSpec
    experiments: tuple[Experiment, ...]
    seeds: tuple[int, ...]
    hashes: dict[str, str]
    declared: dict[str, str]
    quick: bool
    output: Path
    updates_readme: bool

    @property
    def compared(self) -> list[Experiment]:
        """All the task's own experiments, to be timed together; none if some are left out, or by another protocol."""
        names = [experiment.name for experiment in self.task.experiments]
        found = [experiment for experiment in self.experiments if experiment.name in names]
        return found if len(found) == len(names) and self.task.protocol == "holdout" else []

    def records(self, kind: str) -> Path:
        return self.output / "records" / kind


def make_plan(task: Task, options: argparse.Namespace) -> Plan:
    """Raises ValueError if a model can't take the data set's images, or contrasted recipes differ undeclared."""
    audit(task)
    if options.protocol == "original":
        task = under_original_protocol(task)
    if options.smoke and task.dataset not in STAND_INS:
        raise ValueError(f"--smoke: no embedded data stand in for {task.dataset}, only for {', '.join(STAND_INS)}")
    spec = STAND_INS[task.dataset] if options.smoke else DATASETS[task.dataset]
    recipes = hashes_of([*task.experiments, *task.ablation], DATASETS[task.dataset])
    task = overridden(task, options)
    experiments = chosen_experiments(task, options)
    hashes = hashes_of(experiments, spec)
    quick = any(recipes[name] != chosen for name, chosen in hashes.items())
    if quick and options.output_dir and options.output_dir.absolute().is_relative_to(PLOTS):
        raise ValueError(f"--output-dir {options.output_dir}: a quick look keeps out of {PLOTS}; choose another folder")
    folder = options.runs_dir / "quick" / task.name if quick else PLOTS / task.name
    return Plan(
        task=task,
        spec=spec,
        experiments=tuple(experiments),
        seeds=tuple(options.seeds),
        hashes=hashes,
        declared=hashes if quick else recipes,
        quick=quick,
        output=options.output_dir or folder,
        updates_readme=not quick and options.output_dir is None,
    )


def hashes_of(experiments: Sequence[Experiment], spec: DatasetSpec) -> dict[str, str]:
    """The config hash of each experiment on the data set."""
    hashes = {}
    for experiment in experiments:
        shapes = parameter_shapes(experiment, spec.image_shape, len(spec.class_names))
        hashes[experiment.name] = config_hash(experiment, spec.name, shapes)
    return hashes
