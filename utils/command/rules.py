"""Which options go together. Never loads torch."""

import argparse
import os
from importlib.util import find_spec
from pathlib import Path

from utils.experiment import Task

NEEDS = {
    "--max-seeds": ("--until-decided",),
    "--against": ("--add",),
    "--image-size": ("--images",),
    "--fit": ("--images",),
    "--skip-bad": ("--images",),
    "--weights": ("--predict", "--export"),
    "--kind": ("--replot", "--predict", "--export"),
}
TRAINING = (
    "--replot",
    "--time-only",
    "--until-decided",
    "--protocol original",
    "--fresh",
    "--no-resume",
    "--tensorboard",
)
USING_WEIGHTS = (*TRAINING, "--jobs", "--shared", "--precision bf16", "--precision tf32")
# (option, those that it isn't allowed with, why)
APART = (
    ("--predict", ("--export", *USING_WEIGHTS), "it uses weights, in fp32, and trains nothing"),
    ("--export", ("--csv", *USING_WEIGHTS), "it uses weights, in fp32, and trains nothing"),
    ("--until-decided", ("--replot", "--time-only", "--protocol original"), "it trains until contrasts are decided"),
    ("--tensorboard", ("--replot", "--time-only"), "it records training"),
    ("--add", ("--ablation", "--protocol original"), "these compare the task's own models"),
    ("--images", ("--smoke", "--protocol original"), "these have data of their own"),
    ("--shared", TRAINING, "it concerns the work of all processes"),
    ("--time-only", ("--replot", "--protocol original"), "nothing is timed then"),
    ("--time-only", ("--models",), "it times all models of the task"),
    ("--ablation", ("--models",), "it adds to all models of the task"),
)


def given_options(options: argparse.Namespace) -> set[str]:
    """The options that were given, or have a default, as they are written; of a few also with their value."""
    given = {f"--{name.replace('_', '-')}" for name, value in vars(options).items() if value not in (None, False)}
    with_value = {f"--protocol {options.protocol}", f"--precision {options.precision}"}
    return given | with_value | ({"--no-resume"} if not options.resume else set())


def fault_of(task: Task, options: argparse.Namespace) -> str:
    """What is wrong with the options together, in a sentence that names the option; "" if nothing is."""
    given = given_options(options)
    for option, others in NEEDS.items():
        if option in given and given.isdisjoint(others):
            return f"argument {option}: goes with {' or '.join(others)}"
    for option, others, why in APART:
        if option in given and (both := [other for other in others if other in given]):
            return f"argument {option}: not allowed with {', '.join(both)}: {why}"
    for option, values in (("--seeds", options.seeds), ("--models", options.models or ())):
        if len(set(values)) < len(values):
            return f"argument {option}: {' '.join(map(str, values))} names one twice"
    if options.shared and "TORCHELASTIC_RUN_ID" in os.environ:
        return "argument --shared: torchrun shares the work of its ranks; take one of the two"
    if options.tensorboard and find_spec("tensorboard") is None:
        return "argument --tensorboard: needs the package tensorboard: pip install tensorboard"
    if options.momentum is not None and {options.optimizer or e.config.optimizer for e in task.experiments} != {"sgd"}:
        return "argument --momentum: of SGD, and this task trains with Adam: add --optimizer sgd"
    compared = {experiment.name for experiment in task.experiments}
    if options.protocol == "original" and (options.ablation or not compared.issuperset(options.models or ())):
        return f"argument --protocol: original has no ablation; choose from {', '.join(sorted(compared))}"
    return fault_of_folders(options)


def fault_of_folders(options: argparse.Namespace) -> str:
    """What keeps the folders from being written, found now rather than after hours of training; "" if nothing does."""
    for folder in filter(None, (options.output_dir, options.runs_dir, options.data_dir)):
        if options.images and folder.resolve().is_relative_to(options.images.resolve()):
            return f"argument --images: {folder} lies within, and nothing is written into a folder of images"
        if path := no_folder(folder):
            return f"{folder}: {path} is a file or a link to nothing, not a folder"
    return ""


def no_folder(folder: Path) -> Path | None:
    """What lies where `folder`, or a folder above it, would have to be; None if nothing is in the way."""
    paths = (folder, *folder.absolute().parents)
    return next((path for path in paths if (path.exists() or path.is_symlink()) and not path.is_dir()), None)
