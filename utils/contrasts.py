"""Planned contrasts: what two experiments differ in, and whether the task declares it. Never loads torch."""

import dataclasses
import json
from collections.abc import Sequence
from functools import partial

from utils.experiment import Contrast, Experiment, Task, model_defaults, model_options
from utils.files import file_name


def differences(a: Experiment, b: Experiment) -> dict[str, tuple]:
    """What the recipes of `a` and `b` differ in: {name of the field: (a's value, b's value)}.

    If both have the same model class, the model options that differ are included.
    """
    recipes = [dataclasses.asdict(experiment.config) for experiment in (a, b)]
    options = [model_options(experiment.model) for experiment in (a, b)]
    found = {name: (recipes[0][name], recipes[1][name]) for name in recipes[0] if recipes[0][name] != recipes[1][name]}
    if options[0]["class"] == options[1]["class"]:
        defaults = model_defaults(a.model)
        for name in sorted(options[0].keys() | options[1].keys()):
            values = tuple(chosen.get(name, defaults.get(name)) for chosen in options)
            if values[0] != values[1]:
                found[name] = values
    return found


def architectural(a: Experiment, b: Experiment) -> dict[str, tuple]:
    """For two different model classes, the options that both have and that differ: {name: (a's value, b's value)}.

    They are part of the two architectures, so a contrast need not declare them. Empty for two models of one class.
    """
    options = [model_defaults(experiment.model) | model_options(experiment.model) for experiment in (a, b)]
    if options[0].pop("class") == options[1].pop("class"):
        return {}
    common = options[0].keys() & options[1].keys()
    return {n: (options[0][n], options[1][n]) for n in sorted(common) if options[0][n] != options[1][n]}


def audit(task: Task) -> None:
    """Check what a task declares, so that no comparison hides a difference.

    Raises ValueError if a name can't be shown on a line, two experiments have one name (upper or lower case makes no
    other), a contrast names an unknown experiment, its two experiments differ in anything other than what it declares,
    the options of a model can't be read, or an ablation has no contrast to belong to.
    """
    every = (*task.experiments, *task.ablation)
    names = [experiment.name for experiment in every]
    for name in names:
        if not name.strip() or not name.isprintable():
            raise ValueError(f"an experiment is named {name!r}: a name has letters, all of them on one line")
    # Files of one model would replace another's where a file system doesn't tell upper from lower case.
    for called in (str, file_name):
        if len({called(name).casefold() for name in names}) < len(names):
            raise ValueError(f"two experiments have the same name: {', '.join(names)}")
    if not task.experiments:
        raise ValueError(f"{task.name} declares no experiment")
    for experiment in every:
        if faults := experiment.config.faults():
            raise ValueError(f"{experiment.name}: {'; '.join(faults)}")
    for name, model in ((experiment.name, experiment.model) for experiment in every):
        behind = model.func if isinstance(model, partial) and not model.args else model
        if not hasattr(behind, "__qualname__") or "<lambda>" in behind.__qualname__:
            raise ValueError(
                f"{name}: its model must be a class, a function, or a functools.partial of one with keywords only"
            )
        for option, value in (model.keywords if isinstance(model, partial) else {}).items():
            if "<" in getattr(value, "__qualname__", ""):
                raise ValueError(
                    f"{name}: its option {option} must be defined at the top of a module, to be told by name"
                )
        for option, value in model_options(model).items():
            try:
                json.dumps(value)
            except TypeError:
                raise ValueError(
                    f"{name}: its option {option} is a {type(value).__name__}, which has no name"
                ) from None
    experiments = {experiment.name: experiment for experiment in task.experiments}
    if task.ablation and not variants(task.contrasts):
        raise ValueError("an ablation needs a contrast of two variants, declared with what they differ in")
    for contrast in task.contrasts:
        unknown = [name for name in (contrast.a, contrast.b) if name not in experiments]
        if unknown:
            raise ValueError(f"a contrast names {', '.join(unknown)}: choose from {', '.join(experiments)}")
        found = differences(experiments[contrast.a], experiments[contrast.b])
        if undeclared := sorted(found.keys() - set(contrast.differs)):
            fields = ", ".join(f"{name} ({found[name][0]} and {found[name][1]})" for name in undeclared)
            declared = f"Contrast({contrast.a!r}, {contrast.b!r}, differs={tuple(sorted(found))!r})"
            raise ValueError(
                f"{contrast.a} and {contrast.b} differ in {fields}, which their contrast doesn't declare; if that is "
                f"what they are to be compared for, declare it: {declared}"
            )
        if alike := sorted(set(contrast.differs) - found.keys()):
            fields = ", ".join(alike)
            raise ValueError(f"{contrast.a} and {contrast.b} don't differ in {fields}, as their contrast declares")


def variants(contrasts: Sequence[Contrast]) -> tuple[str, str] | None:
    """The names of the first contrast that declares a difference, so of two variants of a model; None without one."""
    return next(((contrast.a, contrast.b) for contrast in contrasts if contrast.differs), None)
