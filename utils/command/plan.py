"""What a command means: which experiments and seeds run, which records count, and where the results go."""

import argparse
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path

import torch

from utils.checkout import CHECKOUT
from utils.command.added import own_models, resolved, with_added
from utils.command.arguments import chosen_experiments, look_name, overridden, recipe_words
from utils.command.devices import choose_execution, wanted_threads
from utils.command.use import Use, trained_on, use_of_weights
from utils.command.world import World, world_of_torchrun
from utils.contents import Contents
from utils.contrasts import audit
from utils.data.decode import Target
from utils.data.folder import name_of, read_folder
from utils.data.layout import class_names_in
from utils.data.specs import DATASETS, STAND_INS, DatasetSpec, data_sha256
from utils.experiment import Declared, Experiment, Task, config_hash, under_original_protocol
from utils.files import file_name
from utils.stats.looks import LOOKS
from utils.training.device import Execution
from utils.training.model import parameter_shapes
from utils.training.sources import model_hash

PLOTS = CHECKOUT / "plots"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All decisions that follow from the options. Code after `make_plan` does not see the options themselves.

    `contents` is what the folder of images holds, if the data come from one. `compared` are the experiments of the
    timing pass. `hashes` is {experiment to run: its config hash}; `declared` is the same for all models whose records
    count in `output`, and what else they must be made of. `quick` marks a quick look: a run that differs from the
    task's recipes, whose results stay apart. `looks` are the numbers of seeds at which models are judged until there is
    a decision, the first of them those of `seeds`; none if `seeds` are all. `added` maps what the command line adds to
    the experiment that it is contrasted with. `redraws` is the kind of records to draw again if nothing is to be
    trained, otherwise "". With `use`, weights are used and nothing is trained; no `seeds` then means all that there
    are. `csv` says which CSV files are written beside the pages, `tensorboard` for an event file of each run.
    `recipe_words` are the options that say what is compared, as words of a command. `processes` is how many cells this
    process trains at once, `world` its place among the ranks of torchrun, if it is one; `shared` is whether other
    commands train the same cells. If `chooses_precision` is true, the precision of `execution` is fp32 until the models
    have been measured; if `chooses_threads` is, its threads are the share of the cores.
    """

    task: Task
    spec: DatasetSpec
    contents: Contents | None
    experiments: tuple[Experiment, ...]
    compared: tuple[Experiment, ...]
    seeds: tuple[int, ...]
    looks: tuple[int, ...]
    hashes: dict[str, str]
    declared: Declared
    quick: bool
    output: Path
    updates_readme: bool
    runs_dir: Path
    data_dir: Path
    download: bool
    devices: tuple[torch.device, ...]
    processes: int
    world: World | None
    shared: bool
    execution: Execution
    chooses_precision: bool
    chooses_threads: bool
    redraws: str
    use: Use | None
    resume: bool
    drops_older_records: bool
    csv: str
    added: dict[str, str]
    time_only: bool
    smoke: bool
    quiet: bool
    tensorboard: bool
    recipe_words: tuple[str, ...]

    @property
    def places(self) -> list[torch.device]:
        """A device for each cell at once. Several GPUs get their cells in turns: with 2 and 4 processes, 0 1 0 1."""
        return list(islice(cycle(self.devices), self.processes))

    @property
    def at_once(self) -> int:
        """How many cells all ranks together train at once."""
        return self.processes * (self.world.size if self.world else 1)

    @property
    def runs(self) -> Path:
        """The folder in which the task's cells keep checkpoints, weights and records."""
        return self.runs_dir / self.task.name

    def cells(self, kind: str, model: str) -> Path:
        """The folder with a folder `seed<k>` for each cell of an experiment."""
        return self.runs / kind / file_name(model) / self.hashes[model]

    def committed(self, experiment: Experiment, kind: str) -> Path | None:
        """The folder of published records from which a cell may be taken instead of training it.

        Beside added models, the task's own may come from the committed ones. Looks go on from what they have seen.
        """
        if self.added and not experiment.source:
            return PLOTS / self.task.name / "records" / kind
        return self.records_folder(kind) if self.looks and not self.drops_older_records else None

    def records_folder(self, kind: str) -> Path:
        """The folder of the published records of `kind`, from which pictures and text are made."""
        return self.output / "records" / kind


def make_plan(task: Task, options: argparse.Namespace) -> Plan:
    """The plan that the options give for the task.

    Raises ValueError if a model can't take the data set's images, if two contrasted experiments differ in something
    undeclared, if looks have nothing to decide, if the device, the precision or the number of processes isn't
    available, if a quick look would write into plots/, if there are no records to draw again, or if a folder of images
    can't be used; NoWeights if no net was trained on it whose weights could be used. Raises OSError if its decoded
    images can't be kept.
    """
    audit(task)
    if options.protocol == "original":
        task = under_original_protocol(task)
    real, spec, contents = data_of(task, options)
    if contents:
        task = on_images(task, contents)
    if options.add:
        chosen = chosen_experiments(task, options)
        options.against = options.against or chosen[-1].name
        task = with_added(task, own_models(task, chosen, options), options)
        audit(task)
    # The hashes before the options change anything, always on the real data: a run is a quick look if one differs.
    recipes = hashes_of([*task.experiments, *task.ablation], real)
    as_declared, task = task, overridden(task, options)
    experiments = chosen_experiments(task, options)
    if options.add:
        run = {experiment.name for experiment in chosen}
        experiments = [experiment for experiment in task.experiments if experiment.source or experiment.name in run]
    check_recipes(task, experiments, spec, options)
    hashes = hashes_of(experiments, spec)
    quick = any(recipes[name] != theirs for name, theirs in hashes.items())
    declared = Declared(
        declared_in_a_quick_look(task, hashes, spec) if quick else recipes,
        {experiment.name: model_hash(experiment) for experiment in (*task.experiments, *task.ablation)},
        data_sha256(spec, {}) if spec.pinned else "",  # checksums allow one content only, so it needs no data
    )
    output = where_results_go(as_declared, options, [*hashes] if quick else [])
    use = use_of_weights(options)
    cells = 1 if use else len(experiments) * len(options.seeds)
    devices, processes, execution = choose_execution(options, cells)
    return Plan(
        task=task,
        spec=spec,
        contents=contents,
        experiments=tuple(experiments),
        compared=tuple(compared_in_time(task, experiments)),
        seeds=tuple(options.seeds),
        looks=tuple(n for n in LOOKS if n <= (options.max_seeds or LOOKS[-1])) if options.until_decided else (),
        hashes=hashes,
        declared=declared,
        quick=quick,
        output=output,
        updates_readme=not (quick or options.output_dir or options.add or contents),
        added=dict.fromkeys(map(resolved, options.add), options.against) if options.add else {},
        runs_dir=options.runs_dir,
        data_dir=options.data_dir,
        download=not options.no_download,
        devices=tuple(devices),
        processes=processes,
        world=world_of_torchrun(),
        shared=options.shared,
        execution=execution,
        chooses_precision=options.precision == "auto" and not options.smoke,
        chooses_threads=not (options.threads or wanted_threads() or options.smoke),
        redraws=kind_to_draw(output / "records", options.kind) if options.replot else "",
        use=use,
        resume=options.resume,
        drops_older_records=options.fresh,
        csv=options.csv or "",
        time_only=options.time_only,
        smoke=options.smoke,
        quiet=options.quiet,
        tensorboard=options.tensorboard,
        recipe_words=recipe_words(options),
    )


def compared_in_time(task: Task, experiments: Sequence[Experiment]) -> list[Experiment]:
    """The experiments of the timing pass: all of the task's own, or none.

    Times are only compared within one pass. So it is none if some of the models do not run, or by the original
    protocol, which times nothing.
    """
    names = [experiment.name for experiment in task.experiments]
    found = [experiment for experiment in experiments if experiment.name in names]
    return found if len(found) == len(names) and task.protocol == "holdout" else []


def data_of(task: Task, options: argparse.Namespace) -> tuple[DatasetSpec, DatasetSpec, Contents | None]:
    """The data on which recipes count as declared, those to run on, and what they hold if they are a folder of images.

    Raises ValueError if there are none, and what `read_folder` raises.
    """
    if task.dataset not in DATASETS:
        raise ValueError(f"unknown data set {task.dataset!r}: choose from {', '.join(DATASETS)}")
    real = DATASETS[task.dataset]
    if options.images:
        if use_of_weights(options):
            name = name_of(options.images)
            runs = options.runs_dir / name_on_images(task, name)
            spec, contents = trained_on(runs, name, options.image_size, options.fit, class_names_in(options.images))
            return spec, spec, contents
        channels, size, _ = real.image_shape
        target = Target(options.image_size or size, channels, options.fit or "crop")
        spec, contents = read_folder(options.images, options.data_dir, target, options.skip_bad)
        return spec, spec, contents
    if options.smoke and task.dataset not in STAND_INS:
        raise ValueError(f"--smoke: no embedded data stand in for {task.dataset}, only for {', '.join(STAND_INS)}")
    return real, STAND_INS[task.dataset] if options.smoke else real, None


def on_images(task: Task, contents: Contents) -> Task:
    """The same experiments on a folder of images, as another task; one test image is a small difference."""
    margin = max(task.equivalence_margin, contents.one_test_image)
    return replace(task, name=name_on_images(task, contents.name), equivalence_margin=margin)


def name_on_images(task: Task, folder: str) -> str:
    return f"images/{file_name(folder)}/{task.name}"


def check_recipes(
    task: Task, experiments: Sequence[Experiment], spec: DatasetSpec, options: argparse.Namespace
) -> None:
    """Raise ValueError if a recipe can't be trained by, or if looks at the `experiments` have nothing to decide."""
    for experiment in task.experiments:
        if faults := experiment.config.faults():
            raise ValueError(f"{experiment.name}: {'; '.join(faults)}")
    limit, classes = task.experiments[0].config.limit, len(spec.class_names)
    if limit and limit < classes:
        raise ValueError(f"--limit {limit}: {spec.name} has {classes} classes, of each of which one example is needed")
    names = {experiment.name for experiment in experiments}
    if options.until_decided and not any({contrast.a, contrast.b} <= names for contrast in task.contrasts):
        planned = ", ".join(f"{contrast.a} and {contrast.b}" for contrast in task.contrasts) or "none"
        raise ValueError(f"--until-decided: needs both models of a planned contrast ({planned})")


def where_results_go(task: Task, options: argparse.Namespace, looked_at: Sequence[str]) -> Path:
    """The folder that --output-dir names, or else one for what is run.

    `looked_at` are the models of a quick look; each recipe and selection of models has a folder of its own. Raises
    ValueError for a quick look or images of one's own in plots/, which has the task's data and recipes only.
    """
    if options.output_dir:
        if (looked_at or options.images) and options.output_dir.absolute().is_relative_to(PLOTS):
            what = "a quick look" if looked_at else "results on your own images"
            raise ValueError(f"--output-dir {options.output_dir}: {what} can't go into {PLOTS}; choose another folder")
        return options.output_dir
    added = ["added"] if options.add else []
    if looked_at:
        return options.runs_dir.joinpath("quick", *added, task.name, look_name(task, options, looked_at))
    return options.runs_dir.joinpath(*added, task.name) if added or options.images else PLOTS / task.name


def declared_in_a_quick_look(task: Task, hashes: dict[str, str], spec: DatasetSpec) -> dict[str, str]:
    """`hashes` and those of the models that don't run now, whose records by the same recipe count as well."""
    others = [experiment for experiment in (*task.experiments, *task.ablation) if experiment.name not in hashes]
    declared = dict(hashes)
    for experiment in others:
        with suppress(ValueError):  # it can't take the embedded images
            declared |= hashes_of([experiment], spec)
    return declared


def hashes_of(experiments: Sequence[Experiment], spec: DatasetSpec) -> dict[str, str]:
    """{name: config hash} of the experiments on the data set. Raises ValueError if a model can't take its images."""
    hashes = {}
    for experiment in experiments:
        try:
            shapes = parameter_shapes(experiment, spec.image_shape, len(spec.class_names))
        except Exception as error:
            images = f"images {spec.image_shape} in {len(spec.class_names)} classes"
            what = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            raise ValueError(f"{experiment.name} can't be built for {images}: {what}{error}") from error
        # A folder of images is named by its contents: another one may have the name of a data set.
        hashes[experiment.name] = config_hash(experiment, spec.folder or spec.name, shapes)
    return hashes


def kind_to_draw(folder: Path, wanted: str | None) -> str:
    """The kind of records in `folder` to draw: `wanted`, or else the one that is shown.

    Raises ValueError if there are no records of that kind.
    """
    from utils.records.kinds import kinds_in, shown_kind  # here: a bad option is answered before SciPy is loaded

    kinds = kinds_in(folder)
    if not kinds:
        raise ValueError(f"{folder}: no records to draw from; run the task first")
    if wanted and wanted not in kinds:
        raise ValueError(f"{folder}: no records of the kind {wanted!r}; choose from {', '.join(kinds)}")
    return wanted or shown_kind(folder)
