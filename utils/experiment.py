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

# Increase it whenever training changes its meaning. It is part of the config hash, so older records stop counting.
RECIPE_VERSION = 1
PROTOCOLS = ("holdout", "original")
OPTIMIZERS = ("adam", "sgd")


@dataclass(frozen=True)
class TrainConfig:
    """A training recipe. `limit` trains on the first N examples only, None on all of them.

    `learning_rate` and `weight_decay` are used as they are at every step, without a schedule. `augmentation` crops and
    flips training images at random (`utils.data.images.crop_and_flip`). The `protocol` "holdout" holds some training
    images out for validation; "original" trains on all of them and validates on the test set, as the original report
    did. Raises ValueError for an unknown optimizer or protocol.
    """

    epochs: int
    batch_size: int
    optimizer: str  # "adam" or "sgd"
    learning_rate: float
    momentum: float = 0.0  # SGD only
    weight_decay: float = 0.0
    limit: int | None = None
    augmentation: bool = False
    protocol: str = "holdout"

    def faults(self) -> list[str]:
        """What in the recipe can't be trained by, each fault in words."""
        kinds = {"optimizer": OPTIMIZERS, "protocol": PROTOCOLS}
        found = [
            f"unknown {name} {getattr(self, name)!r}: choose {' or '.join(known)}"
            for name, known in kinds.items()
            if getattr(self, name) not in known
        ]
        least = {"epochs": 1, "batch_size": 1, "weight_decay": 0, "momentum": 0, "learning_rate": 0}
        if self.limit is not None:
            least["limit"] = 1
        for name, minimum in least.items():
            value = getattr(self, name)
            whole = name in ("epochs", "batch_size", "limit")
            if not isinstance(value, int if whole else (int, float)) or not minimum <= value < math.inf:
                found.append(f"{name} is {value!r}, not a {'whole ' if whole else ''}number of at least {minimum}")
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
    """The name of the class behind `model`, as "class", and the options that differ from the class's defaults."""
    if not isinstance(model, partial):
        return {"class": model.__name__}
    defaults = model_defaults(model)
    options = {name: value for name, value in model.keywords.items() if value != defaults.get(name)}
    return {"class": model.func.__name__, **options}


def model_defaults(model: Callable) -> dict:
    """The default of every option of the class behind `model`, {name: default}."""
    signature = inspect.signature(model.func if isinstance(model, partial) else model)
    return {name: parameter.default for name, parameter in signature.parameters.items()}


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
    # Sorted keys: the same content must give the same hash, in whatever order its options were written.
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
