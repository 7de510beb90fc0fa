"""What a command means: which experiments and seeds run, which records count, and where the results go."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from utils.checkout import CHECKOUT
from utils.command.arguments import chosen_experiments, overridden
from utils.contrasts import audit
from utils.data.specs import DATASETS, STAND_INS, DatasetSpec
from utils.experiment import Experiment, Task, config_hash, under_original_protocol
from utils.training.device import Execution, choose_device, physical_cores
from utils.training.model import parameter_shapes

PLOTS = CHECKOUT / "plots"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All decisions that follow from the options. Code after `make_plan` does not see the options themselves.

    `hashes` is {experiment to run: its config hash}; `declared` is the same for all models whose records count in
    `output`. `quick` marks a quick look: a run that differs from the task's recipes, whose results stay apart.
    `redraws` is the kind of records to draw again if nothing is to be trained, otherwise "". If `chooses_precision` is
    true, the precision of `execution` is fp32 only until the models have been probed.
    """

    task: Task
    spec: DatasetSpec
    experiments: tuple[Experiment, ...]
    seeds: tuple[int, ...]
    hashes: dict[str, str]
    declared: dict[str, str]
    quick: bool
    output: Path
    updates_readme: bool
    runs_dir: Path
    data_dir: Path
    download: bool
    processes: int
    execution: Execution
    chooses_precision: bool
    redraws: str
    resume: bool
    drops_older_records: bool
    time_only: bool
    smoke: bool
    quiet: bool

    @property
    def compared(self) -> list[Experiment]:
        """The experiments of the timing pass: all of the task's own, or none.

        Times are only compared within one pass. So it is none if some of the models do not run, or by the original
        protocol, which times nothing.
        """
        names = [experiment.name for experiment in self.task.experiments]
        found = [experiment for experiment in self.experiments if experiment.name in names]
        return found if len(found) == len(names) and self.task.protocol == "holdout" else []

    @property
    def runs(self) -> Path:
        """The folder in which the task's cells keep checkpoints, weights and records."""
        return self.runs_dir / self.task.name

    def records_folder(self, kind: str) -> Path:
        """The folder of the published records of `kind`, from which pictures and text are made."""
        return self.output / "records" / kind


def make_plan(task: Task, options: argparse.Namespace) -> Plan:
    """The plan that the options give for the task.

    Raises ValueError if a model can't take the data set's images, if two contrasted experiments differ in something
    undeclared, if the device, the precision or the number of processes isn't available, if a quick look would write
    into plots/, or if there are no records to draw again.
    """
    audit(task)
    if options.protocol == "original":
        task = under_original_protocol(task)
    if options.smoke and task.dataset not in STAND_INS:
        raise ValueError(f"--smoke: no embedded data stand in for {task.dataset}, only for {', '.join(STAND_INS)}")
    spec = STAND_INS[task.dataset] if options.smoke else DATASETS[task.dataset]
    # The hashes before the options change anything, always on the real data: a run is a quick look if one differs.
    recipes = hashes_of([*task.experiments, *task.ablation], DATASETS[task.dataset])
    task = overridden(task, options)
    experiments = chosen_experiments(task, options)
    hashes = hashes_of(experiments, spec)
    quick = any(recipes[name] != chosen for name, chosen in hashes.items())
    if quick and options.output_dir and options.output_dir.absolute().is_relative_to(PLOTS):
        raise ValueError(
            f"--output-dir {options.output_dir}: a quick look can't go into {PLOTS}; choose another folder"
        )
    output = options.output_dir or (options.runs_dir / "quick" / task.name if quick else PLOTS / task.name)
    processes, execution = choose_execution(options, cells=len(experiments) * len(options.seeds))
    return Plan(
        task=task,
        spec=spec,
        experiments=tuple(experiments),
        seeds=tuple(options.seeds),
        hashes=hashes,
        declared=hashes if quick else recipes,
        quick=quick,
        output=output,
        updates_readme=not quick and options.output_dir is None,
        runs_dir=options.runs_dir,
        data_dir=options.data_dir,
        download=not options.no_download,
        processes=processes,
        execution=execution,
        chooses_precision=options.precision == "auto",
        redraws=shown_kind(output / "records", options.kind) if options.replot else "",
        resume=options.resume,
        # A quick look replaces the last one; but in a folder that the user named, it deletes nothing.
        drops_older_records=options.fresh or (quick and options.output_dir is None),
        time_only=options.time_only,
        smoke=options.smoke,
        quiet=options.quiet,
    )


def hashes_of(experiments: Sequence[Experiment], spec: DatasetSpec) -> dict[str, str]:
    """{name: config hash} of the experiments on the data set. Raises ValueError if a model can't take its images."""
    hashes = {}
    for experiment in experiments:
        shapes = parameter_shapes(experiment, spec.image_shape, len(spec.class_names))
        hashes[experiment.name] = config_hash(experiment, spec.name, shapes)
    return hashes


def choose_execution(options: argparse.Namespace, cells: int) -> tuple[int, Execution]:
    """How many of `cells` run side by side, and the device, precision and threads of each.

    The threads of a cell depend on the whole plan, finished cells included: they change the last bits of a result, so a
    resumed command must choose the same number. Raises ValueError for a device or precision that isn't available, and
    for more processes than cores, since more threads than cores only wait for each other.
    """
    device, cores = choose_device(options.device), physical_cores()
    if options.precision == "bf16" and device.type == "mps":
        raise ValueError("--precision bf16: not available on mps; choose auto or fp32")
    precision = "fp32" if options.precision == "auto" else options.precision
    if device.type != "cpu":
        return options.jobs or 1, Execution(device, precision, cores)
    if options.jobs and options.jobs > cores:
        raise ValueError(f"--jobs {options.jobs}: only {cores} cores are available; choose 1 to {cores}")
    processes = options.jobs or min(cores, cells)
    return processes, Execution(device, precision, cores // processes)


def shown_kind(folder: Path, wanted: str | None) -> str:
    """The kind of records in `folder` to draw: `wanted`, or else the kind of the latest run.

    Raises ValueError if there are no records of that kind.
    """
    kinds = sorted(path.name for path in folder.glob("*") if path.is_dir())
    if not kinds:
        raise ValueError(f"{folder}: no records to draw from; run the task first")
    latest = folder / "shown_kind.txt"
    kind = wanted or (latest.read_text().strip() if latest.exists() else kinds[0])
    if kind not in kinds:
        raise ValueError(f"{folder}: no records of the kind {kind!r}; choose from {', '.join(kinds)}")
    return kind
