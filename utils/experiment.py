"""What is compared: tasks, experiments, their training recipes, and the hash that identifies a recipe.

Never loads torch: here a model is only a callable.
"""

import dataclasses
import hashlib
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

# Increase it whenever training changes its meaning. It is part of the config hash, so older records stop counting.
RECIPE_VERSION = 1
PROTOCOLS = ("holdout", "original")
OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "one-cycle")


@dataclass(frozen=True)
class TrainConfig:
    """A training recipe; `faults` names what in it can't be trained by. docs/recipes.md says what each field does.

    `limit` trains on N examples only, every class in proportion, None on all of them. `augmentation` crops and flips
    training images at random (`utils.data.images.crop_and_flip`). The `protocol` "holdout" holds some training images
    out for validation; "original" trains on all of them and validates on the test set, as the original report did.

    A new field needs a plain default that means "as before": then it enters no hash of a recipe that doesn't set it.
    """

    epochs: int
    batch_size: int
    optimizer: str  # one of OPTIMIZERS
    learning_rate: float
    momentum: float = 0.0  # SGD only
    weight_decay: float = 0.0
    limit: int | None = None
    augmentation: bool = False
    protocol: str = "holdout"
    nesterov: bool = False  # SGD only
    schedule: str = "constant"  # one of SCHEDULES, stepped at every step
    warmup: float = 0.0  # epochs over which the learning rate rises from 0; for one-cycle until its peak
    label_smoothing: float = 0.0
    clip: float | None = None  # the largest L2 norm of all gradients together
    patience: int | None = None  # stop after so many epochs without a lower validation loss

    def faults(self) -> list[str]:
        """What in the recipe can't be trained by, each fault in words."""
        kinds = {"optimizer": OPTIMIZERS, "protocol": PROTOCOLS, "schedule": SCHEDULES}
        found = [
            f"unknown {name} {getattr(self, name)!r}: choose {' or '.join(known)}"
            for name, known in kinds.items()
            if getattr(self, name) not in known
        ]
        least = {"epochs": 1, "batch_size": 1, "weight_decay": 0, "momentum": 0, "learning_rate": 0}
        least |= {"warmup": 0, "label_smoothing": 0}
        least |= {name: 1 for name in ("limit", "patience") if getattr(self, name) is not None}
        least |= {"clip": 0} if self.clip is not None else {}
        for name, minimum in least.items():
            value = getattr(self, name)
            whole = name in ("epochs", "batch_size", "limit", "patience")
            if not isinstance(value, int if whole else (int, float)) or not minimum <= value < math.inf:
                found.append(f"{name} is {value!r}, not a {'whole ' if whole else ''}number of at least {minimum}")
        if found:
            return found
        if self.label_smoothing >= 1 or self.momentum >= 1:
            found.append("label_smoothing and momentum must be under 1")
        if self.nesterov and (self.optimizer != "sgd" or not self.momentum):
            found.append("nesterov goes with optimizer sgd and a momentum")
        if self.warmup >= self.epochs:
            found.append(f"a warmup of {self.warmup:g} epochs leaves none of {self.epochs}")
        if self.protocol == "original" and self.patience:
            found.append("patience would stop on the test set, which is the validation set by the original protocol")
        return found


@dataclass(frozen=True)
class Experiment:
    """A model and the recipe that trains it. `model(image_shape=(C, H, W), num_classes=K)` builds the network.

    `model` is a class, or a `functools.partial` of one with keyword arguments only: `utils.contrasts.audit` reads the
    options from these keywords to find what two experiments differ in.
    """

    name: str
    model: Callable
    config: TrainConfig
    source: str = ""  # of a model from elsewhere: what identifies its code, and so its records


@dataclass(frozen=True)
class Contrast:
    """A planned comparison of the experiments named `a` and `b`.

    `differs` names every recipe field and model option in which they differ.
    """

    a: str
    b: str
    differs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """A comparison of several models on one data set.

    `name` is also the name of its folder. Tables list `experiments` in this order. `contrasts` are the planned
    comparisons. `equivalence_margin` is a difference of test accuracy, as a fraction: two models whose difference is
    shown to be smaller count as equivalent.

    `ablation` holds further variants of the first contrast that declares a difference. They show which of the declared
    differences causes the effect, and appear only in their own table.
    """

    name: str
    dataset: str
    experiments: Sequence[Experiment]
    contrasts: Sequence[Contrast] = ()
    equivalence_margin: float = 0.0
    ablation: Sequence[Experiment] = ()

    @property
    def protocol(self) -> str:
        return self.experiments[0].config.protocol


class Declared(NamedTuple):
    """What a record must be made of to count for a task.

    `hashes` maps each model's name to its config hash, `code` to the hash of its code, if that is to be checked. `data`
    is the SHA-256 of the data if only one content is possible, else "": then it is that of the latest run. An older
    record names no code, and no data where only one content is possible; it counts.
    """

    hashes: Mapping[str, str]
    code: Mapping[str, str] = MappingProxyType({})
    data: str = ""


def under_original_protocol(task: Task) -> Task:
    """The same experiments under the original report's protocol, as a separate task without contrasts or ablation."""
    return replace(
        task,
        name=f"original_protocol/{task.name}",
        experiments=[replace(e, config=replace(e.config, protocol="original")) for e in task.experiments],
        contrasts=(),
        ablation=(),
    )


def model_options(model: Callable) -> dict:
    """The name of the class or function behind `model`, as "class", and the options that differ from its defaults."""
    if not isinstance(model, partial):
        return {"class": model.__name__}
    defaults = model_defaults(model)
    options = {name: _named(value) for name, value in model.keywords.items()}
    options = {name: value for name, value in options.items() if value != defaults.get(name)}
    return {"class": model.func.__name__, **options}


def _named(value):
    """A class or function by its qualified name, such as "torch.nn.modules.activation.GELU"; a plain value as it is."""
    return f"{value.__module__}.{value.__qualname__}" if hasattr(value, "__qualname__") else value


def model_defaults(model: Callable) -> dict:
    """The default of every option of the class behind `model`, {name: default}."""
    signature = inspect.signature(model.func if isinstance(model, partial) else model)
    return {name: _named(parameter.default) for name, parameter in signature.parameters.items()}


def resolved_config(config: TrainConfig) -> dict:
    """The fields of `config` that differ from their defaults.

    Defaults are left out so that a field that is added later, at its default, does not change the existing hashes.
    """
    return {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != field.default
    }


def config_hash(experiment: Experiment, dataset: str, parameter_shapes: Mapping[str, Sequence[int]]) -> str:
    """Twelve hexadecimal digits that identify everything that defines a run, except its seed and its machine.

    Runs are pooled only if they have the same hash. `parameter_shapes` is {parameter name: shape}.
    """
    content = {
        "recipe_version": RECIPE_VERSION,
        "dataset": dataset,
        "model": model_options(experiment.model),
        "parameters": {name: list(shape) for name, shape in parameter_shapes.items()},
        "config": resolved_config(experiment.config),
    }
    if experiment.source:
        content["source"] = experiment.source
    # Sorted keys: the same content must give the same hash, in whatever order its options were written.
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
