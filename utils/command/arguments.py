"""The options of the command line. They are checked before anything else is done."""

import argparse
import dataclasses
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

from utils.checkout import CHECKOUT
from utils.command.rules import fault_of
from utils.data.decode import FITS, LARGEST_SIZE
from utils.experiment import OPTIMIZERS, PROTOCOLS, SCHEDULES, Experiment, Task
from utils.files import LONGEST_NAME, file_name, sha256
from utils.records.record import WEIGHT_FILES
from utils.stats.looks import LOOKS

# Of all models, unless an option overrides it. As few images as a residual net needs to learn something, in small
# batches, so that it takes 100 steps; without the schedule its batch normalisation lags behind the last of them.
SMOKE_RECIPE = {"epochs": 2, "batch_size": 8, "limit": 400, "schedule": "cosine"}
# {option: the field of TrainConfig that it overrides, for all models}
OVERRIDES = {
    "epochs": "epochs",
    "batch_size": "batch_size",
    "lr": "learning_rate",
    "momentum": "momentum",
    "weight_decay": "weight_decay",
    "limit": "limit",
    "optimizer": "optimizer",
    "nesterov": "nesterov",
    "schedule": "schedule",
    "warmup": "warmup",
    "label_smoothing": "label_smoothing",
    "clip": "clip",
    "patience": "patience",
}


DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


def default_data_dir() -> Path:
    """The folder named by the environment variable CNN_COMPARE_DATA, or else `data/` in the checkout."""
    named = os.environ.get("CNN_COMPARE_DATA")
    return Path(named).expanduser() if named else CHECKOUT / "data"


def at_least(minimum: int, most: float = math.inf):
    """An argparse type: a whole number of at least `minimum`, and at most `most`."""
    bounds = f"{minimum} or more" if most == math.inf else f"{minimum} to {most}"

    def whole_number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1  # not a whole number: fails the next check
        if not minimum <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of {bounds}")
        return value

    return whole_number


def finite(minimum: float, *, exclusive: bool = False, below: float = math.inf):
    """An argparse type: a finite number from `minimum` (itself excluded if `exclusive`) to under `below`."""
    bounds = f"{'above' if exclusive else 'of at least'} {minimum:g}"
    if below < math.inf:
        bounds += f" and under {below:g}"

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and (value > minimum or value == minimum and not exclusive) and value < below):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number {bounds}")
        return value

    return number


def device_name(text: str) -> str:
    """An argparse type: the name of a device."""
    if not DEVICE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not one of auto, cpu, cuda, cuda:0, cuda:1, ..., mps")
    return text


def folder(text: str) -> Path:
    """An argparse type: a path, `~` expanded. A shell leaves it as it is in --data-dir=~/data.

    Not the empty text, which a variable that isn't set leaves, and which would mean the folder one is in.
    """
    if not text:
        raise argparse.ArgumentTypeError("an empty name; the folder you are in is .")
    return Path(text).expanduser()


def parser_for(task: Task) -> argparse.ArgumentParser:
    """The parser of a task's command line."""
    # No abbreviations: an option that is added later could make one ambiguous and break somebody's command.
    compared = ", ".join(experiment.name for experiment in task.experiments)
    parser = argparse.ArgumentParser(description=f"Compare {compared} on {task.dataset}.", allow_abbrev=False)
    names = [experiment.name for experiment in (*task.experiments, *task.ablation)]

    recipe = parser.add_argument_group("recipe (a value other than the task's makes the run a quick look)")
    recipe.add_argument("--epochs", type=at_least(1), metavar="N")
    recipe.add_argument("--batch-size", type=at_least(1), metavar="N")
    recipe.add_argument("--lr", type=finite(0, exclusive=True), metavar="X", help="learning rate")
    recipe.add_argument("--momentum", type=finite(0, below=1), metavar="X", help="of SGD")
    recipe.add_argument("--weight-decay", type=finite(0), metavar="X")
    recipe.add_argument("--optimizer", choices=OPTIMIZERS)
    recipe.add_argument("--nesterov", action="store_const", const=True, help="Nesterov's momentum, of SGD")
    recipe.add_argument("--schedule", choices=SCHEDULES, help="of the learning rate over the steps")
    recipe.add_argument("--warmup", type=finite(0), metavar="EPOCHS", help="in which the learning rate rises from 0")
    recipe.add_argument("--label-smoothing", type=finite(0, below=1), metavar="X")
    recipe.add_argument("--clip", type=finite(0, exclusive=True), metavar="NORM", help="of all gradients together")
    recipe.add_argument("--patience", type=at_least(1), metavar="N", help="stop after N epochs without a better one")
    recipe.add_argument(
        "--limit",
        type=at_least(1),
        metavar="N",
        help="train on N examples, every class in proportion, and validate on as large a part",
    )
    recipe.add_argument("--smoke", action="store_true", help="the whole pipeline on small embedded data: a quick look")

    what = parser.add_argument_group("what to run")
    which = f"of {', '.join(names)}; default: {compared}"
    what.add_argument("--models", nargs="+", choices=names, metavar="NAME", help=which)
    if task.ablation:
        added = ", ".join(experiment.name for experiment in task.ablation)
        what.add_argument("--ablation", action="store_true", help=f"the default models and {added}")
    parser.set_defaults(ablation=False)
    what.add_argument(
        "--add",
        nargs="+",
        metavar="MODEL",
        help="compare FILE.py:NAME, torchvision:NAME or timm:NAME with these; results go to runs/added",
    )
    what.add_argument(
        "--against", metavar="NAME", help=f"what --add contrasts with; default: {task.experiments[-1].name}"
    )
    what.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        default="holdout",
        help="original: train on all training images and validate on the test set, as the original report did",
    )
    seeds = what.add_mutually_exclusive_group()
    seeds.add_argument("--seeds", nargs="+", type=at_least(0), metavar="K", help="default: 0")
    seeds.add_argument("--num-seeds", type=at_least(1), metavar="N", help="the first N seeds")
    seeds.add_argument(
        "--until-decided",
        action="store_true",
        help="3 seeds of all models, then 6 and 12 of those whose contrasts on test accuracy are still open; each of "
        "these looks has a third of the 5%% error rate, and the folder is judged by looks from then on",
    )
    what.add_argument("--max-seeds", type=int, choices=LOOKS, help="the last look of --until-decided; default: 12")
    what.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep finished runs of the runs folder and resume interrupted ones (default)",
    )
    what.add_argument("--time-only", action="store_true", help="only measure times; train nothing")
    what.add_argument("--replot", action="store_true", help="only draw pictures and text again, from the records")
    what.add_argument(
        "--csv",
        nargs="?",
        const="tables",
        choices=("tables", "predictions"),
        help="also write runs, epochs and comparisons as CSV beside RESULTS.md, and with `predictions` those of every "
        "run on every test image; with --predict, probabilities",
    )
    what.add_argument(
        "--kind",
        metavar="KIND",
        help="with --replot: show these records from now on, such as cpu-bf16; with --predict or --export: use these",
    )
    what.add_argument(
        "--fresh", action="store_true", help="delete the older records of this kind when the first run has finished"
    )

    own = parser.add_argument_group("your own images instead of the task's (docs/your-own-images.md)")
    own.add_argument(
        "--images",
        type=folder,
        metavar="FOLDER",
        help="with a folder for each class, or train, val and test with such folders; results go to runs/images",
    )
    own.add_argument(
        "--image-size", type=at_least(1, LARGEST_SIZE), metavar="N", help="in pixels; default: the task's own"
    )
    own.add_argument("--fit", choices=FITS, help="keep the middle of each image (default), or all of it on black")
    own.add_argument("--skip-bad", action="store_true", help="go on without the files that can't be used")

    use = parser.add_argument_group("use what was trained; the other options say which (docs/your-own-images.md)")
    use.add_argument(
        "--predict",
        nargs="+",
        type=folder,
        metavar="PATH",
        help="name the class of each image, a file or all files in a folder, by the model of the highest validation "
        "accuracy, or by each of --models",
    )
    use.add_argument("--export", action="store_true", help="write each model, with its lowest seed's weights, as ONNX")
    use.add_argument(
        "--weights",
        choices=tuple(WEIGHT_FILES),
        help="use the averaged weights (default, if all runs of the model have them), those of the last epoch, or "
        "those of the lowest validation loss",
    )

    where = parser.add_argument_group("where")
    where.add_argument(
        "--data-dir", type=folder, default=default_data_dir(), metavar="DIR", help="default: %(default)s"
    )
    where.add_argument("--no-download", action="store_true", help="use only data that is already in the data folder")
    where.add_argument("--output-dir", type=folder, metavar="DIR", help=f"default: plots/{task.name}")
    where.add_argument("--runs-dir", type=folder, default=CHECKOUT / "runs", metavar="DIR", help="default: runs")

    how = parser.add_argument_group("how")
    how.add_argument(
        "--device", type=device_name, default="auto", metavar="auto|cpu|cuda|cuda:N|mps", help="cuda: all GPUs"
    )
    how.add_argument("--precision", choices=("auto", "fp32", "tf32", "bf16"), default="auto")
    how.add_argument(
        "--jobs", type=at_least(1), metavar="N", help="how many runs train side by side; default: one per core or GPU"
    )
    how.add_argument(
        "--threads", type=at_least(1), metavar="N", help="of a run on a CPU; default: OMP_NUM_THREADS, else measured"
    )
    how.add_argument(
        "--shared",
        action="store_true",
        help="share the work with other processes that see the same runs folder (docs/many-machines.md)",
    )
    how.add_argument(
        "--tensorboard",
        action="store_true",
        help="write losses, accuracies and learning rate of each run for TensorBoard",
    )
    how.add_argument("--quiet", action="store_true", help="print only errors and the closing lines")
    return parser


def parse(task: Task, argv: Sequence[str] | None) -> argparse.Namespace:
    """The checked options. If something is wrong with them, prints what it is and exits with code 2."""
    parser = parser_for(task)
    options = parser.parse_args(argv)
    default = 0 if options.predict or options.export else LOOKS[0] if options.until_decided else 1
    options.seeds = options.seeds or list(range(options.num_seeds or default))
    if fault := fault_of(task, options):
        parser.error(fault)
    return options


def overridden(task: Task, options: argparse.Namespace) -> Task:
    """The task with the recipes of all its experiments changed as the options say."""
    given = {field: getattr(options, option) for option, field in OVERRIDES.items()}
    changes = {field: value for field, value in given.items() if value is not None}
    if options.smoke:
        changes = SMOKE_RECIPE | changes  # the right side wins: an option counts more than --smoke

    def changed(experiments: Sequence[Experiment]) -> list[Experiment]:
        return [dataclasses.replace(e, config=dataclasses.replace(e.config, **changes)) for e in experiments]

    return dataclasses.replace(task, experiments=changed(task.experiments), ablation=changed(task.ablation))


def recipe_words(options: argparse.Namespace) -> tuple[str, ...]:
    """The options that say what is compared, as words of a command: without seeds, folders and machine.

    A folder of images goes by its name alone, since a page that tells them may be handed around.
    """
    names = [*OVERRIDES, "smoke", "models", "ablation", "add", "against", "images", "image_size", "fit", "skip_bad"]
    words: list[str] = []
    for name in names:
        value = getattr(options, name)
        if value not in (None, False):
            words.append(f"--{name.replace('_', '-')}")
            items = value if isinstance(value, list) else [] if value is True else [value]
            words += [item.name if isinstance(item, Path) else str(item) for item in items]
    return tuple(words)


def look_name(task: Task, options: argparse.Namespace, models: Sequence[str]) -> str:
    """The folder of a quick look at the `models` of a task, which comes as it is declared.

    Such as "epochs=2,limit=500--FCN,CIFARCNN", or "smoke" with all models of the task: the same for the same recipe, in
    whatever order and words it was asked for.
    """
    without = argparse.Namespace(**vars(options) | dict.fromkeys(OVERRIDES))
    usual = [experiment.config for experiment in overridden(task, without).experiments]
    parts = ["smoke"] if options.smoke else []
    for option, field in OVERRIDES.items():
        value = getattr(options, option)
        if value is not None and any(getattr(config, field) != value for config in usual):
            parts.append(option.replace("_", "-") + ("" if value is True else f"={value}"))
    name = ",".join(parts)
    if options.add or list(models) != [experiment.name for experiment in task.experiments]:
        name += "--" + ",".join(map(file_name, models))
    if options.add:  # models of the same name from another file, or contrasted otherwise, are another selection
        name += f"-{sha256(repr((sorted(options.add), options.against)).encode())[:8]}"
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 9]}-{sha256(name.encode())[:8]}"


def chosen_experiments(task: Task, options: argparse.Namespace) -> list[Experiment]:
    """The experiments to run: those of --models, or else those of the task, with --ablation also its ablation."""
    every = [*task.experiments, *task.ablation]
    if options.models:
        return [experiment for experiment in every if experiment.name in options.models]
    return every if options.ablation else list(task.experiments)
