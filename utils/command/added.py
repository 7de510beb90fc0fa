"""Models that the command line adds to a task: from a file, from torchvision or from timm."""

import argparse
import difflib
import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch

from utils.command.arguments import OVERRIDES
from utils.command.libraries import enlargement, timm_classifier, torchvision_classifier
from utils.data.images import Splits
from utils.experiment import Contrast, Experiment, Task
from utils.files import file_name, write_atomically
from utils.streams import warn
from utils.training.sources import sources_digest

LIST = "added.json"  # in the output folder: what has been added there so far


def with_added(task: Task, own: Sequence[Experiment], options: argparse.Namespace) -> Task:
    """The task with the experiments `own` and the models that --add names, each contrasted with --against.

    Models that were added to the same folder before count too, since they share the family of contrasts; those that
    can't be loaded any more are left out. Every added model trains by the recipe of the experiment that it is
    contrasted with. Raises ValueError for one that can't be loaded, or an --against that is none of `own`.
    """
    experiments = {experiment.name: experiment for experiment in own}
    wanted, against = [resolved(spec) for spec in options.add], options.against or own[-1].name
    if against not in experiments:
        raise ValueError(f"--against {against}: choose from {', '.join(experiments)}")
    folder = folder_of_earlier(task, options)
    entries = {spec: name for spec, name in (listed(folder) if folder else {}).items() if name in experiments}
    added, contrasts = [], []
    # Those of before first: a name that two models share goes to the one that had it.
    for spec, partner in (entries | dict.fromkeys(wanted, against)).items():
        try:
            name, model, source = load(spec)
        except ValueError as error:
            if spec in wanted:
                raise
            warn(f"warning: left out, though it was added before: {error}")
            continue
        taken = {one.name.lower() for one in (*own, *added)}
        if name.lower() in taken:
            name = f"{name} ({Path(spec.rpartition(':')[0]).stem})"
        added.append(Experiment(name, model, experiments[partner].config, source))
        contrasts.append(Contrast(partner, name))
    return replace(task, experiments=[*own, *added], contrasts=contrasts, ablation=())


def own_models(task: Task, chosen: Sequence[Experiment], options: argparse.Namespace) -> list[Experiment]:
    """The task's own models to show beside added ones: those `chosen`, and those that have records there already."""
    names, folder = {experiment.name for experiment in chosen}, folder_of_earlier(task, options)
    if folder is not None:
        names |= {e.name for e in task.experiments if any(folder.glob(f"records/*/{file_name(e.name)}-seed*.json"))}
    return [experiment for experiment in (*task.experiments, *task.ablation) if experiment.name in names]


def folder_of_earlier(task: Task, options: argparse.Namespace) -> Path | None:
    """The folder whose earlier results added models join; None for a quick look."""
    if options.smoke or any(getattr(options, option) is not None for option in OVERRIDES):
        return None
    return options.output_dir or options.runs_dir / "added" / task.name


def resolved(spec: str) -> str:
    """The same model by one name, from whatever folder it is named."""
    place, _, name = spec.rpartition(":")
    return f"{Path(place).expanduser().absolute()}:{name}" if place.endswith(".py") else spec


def listed(folder: Path) -> dict[str, str]:
    """{what was added to the folder: the experiment that it is contrasted with}."""
    try:
        return dict(json.loads((folder / LIST).read_bytes()))
    except (OSError, ValueError, TypeError):
        return {}


def enlarged(experiments: Sequence[Experiment], data: Splits) -> dict[str, str]:
    """{model: the size to which it enlarges its images}, of those from a library that do."""
    sizes = {}
    for experiment in experiments:
        if experiment.source.startswith(("torchvision", "timm")):
            with torch.device("meta"):
                model = experiment.model(image_shape=data.image_shape, num_classes=data.num_classes)
            sizes[experiment.name] = enlargement(model)
    return {name: size for name, size in sizes.items() if size}


def remember(folder: Path, added: Mapping[str, str]) -> None:
    """Add to the folder's list. Raises OSError."""
    entries = listed(folder) | added
    write_atomically(folder / LIST, (json.dumps(entries, indent=1) + "\n").encode())


def load(spec: str) -> tuple[str, Callable, str]:
    """Name, model and source of "FILE.py:NAME", "torchvision:NAME" or "timm:NAME". Raises ValueError.

    The source is the SHA-256 of the file and of the local modules that it imports, or the library's version.
    """
    place, _, name = spec.rpartition(":")
    if place == "torchvision":
        import torchvision
        from torchvision.models import list_models

        _check_known(spec, name, list_models(module=torchvision.models))
        return name, partial(torchvision_classifier, architecture=name), f"torchvision {version('torchvision')}"
    if place == "timm":
        if find_spec("timm") is None:
            raise ValueError(f"--add {spec}: timm is not installed; pip install timm")
        import timm

        _check_known(spec, name, timm.list_models())
        return name, partial(timm_classifier, architecture=name), f"timm {version('timm')}"
    if not place.endswith(".py"):
        raise ValueError(f"--add {spec}: write FILE.py:NAME, torchvision:NAME or timm:NAME")
    module = _module_of(spec, Path(place).expanduser().absolute())
    model = getattr(module, name, None)
    if not callable(model):
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        raise ValueError(f"--add {spec}: {place} has no {name}; it has {', '.join(own) or 'no class and no function'}")
    return name, model, sources_digest(module)


def _check_known(spec: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        near = ", ".join(difflib.get_close_matches(name, known, 5)) or ", ".join(known[:5]) + ", ..."
        raise ValueError(f"--add {spec}: there is no {name}; near it: {near}")


def _module_of(spec: str, path: Path):
    """The module in the file `path`, under its own name, so that the processes of the cells can import it as well."""
    if not path.is_file():
        raise ValueError(f"--add {spec}: there is no file {path}")
    if str(path.parent) not in sys.path:
        # Handed on to processes that are started. At the end: a folder of the user's may hold another `utils`.
        sys.path.append(str(path.parent))
    try:
        module = importlib.import_module(path.stem)
    except Exception as error:
        raise ValueError(f"--add {spec}: {path.name} can't be imported ({type(error).__name__}: {error})") from error
    if Path(getattr(module, "__file__", None) or "").resolve() != path.resolve():
        raise ValueError(f"--add {spec}: another module is called {path.stem}; rename the file")
    return module
