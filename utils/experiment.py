"""What is compared: experiments, their training recipes, and the hash that tells recipes apart.

Never loads torch: models are only held here as callables.
"""

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

# Raised whenever the meaning of training changes, so that older records are no longer pooled with newer ones.
RECIPE_VERSION = 1
PROTOCOLS = ("holdout", "original")


@dataclass(frozen=True)
class TrainConfig:
    """A training recipe. `learning_rate` and `weight_decay` are per step; `limit` trains on the first N examples.

    `augmentation` crops and flips training images at random (`utils.data.images.crop_and_flip`). The `protocol` "holdout"
    holds some training images out for validation; "original" trains on all of them and validates on the test set,
    as the original report did.
    """

    epochs: int
    batch_size: int
    optimizer: str  # "adam" or "sgd"
    learning_rate: float
    momentum: float = 0.0  # of SGD
    weight_decay: float = 0.0
    limit: int | None = None
    augmentation: bool = False
    protocol: str = "holdout"

    def __post_init__(self):
        if self.optimizer not in ("adam", "sgd"):
            raise ValueError(f"unknown optimizer {self.optimizer!r}: choose adam or sgd")
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"unknown protocol {self.protocol!r}: choose {' or '.join(PROTOCOLS)}")


@dataclass(frozen=True)
class Experiment:
    """A model and the recipe that trains it; `model(image_shape=(C, H, W), num_classes=K)` builds the network.

    `model` is its class or a partial of that with keywords, which are the options that `audit` compares.
    """

    name: str
    model: Callable
    config: TrainConfig


@dataclass(frozen=True)
class Contrast:
    """A planned comparison of two experiments, by name; `differs` names all in which their recipes differ."""

    a: str
    b: str
    differs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """A comparison: its folder name, its data set, the experiments in the order of every table, the planned contrasts,
    and the difference of test accuracy (a fraction) within which two models count as equivalent.

    `ablation` are further variants of the models of the first contrast that declares a difference: they tell which of
    the things that differ there does it, and stay out of every table but their own.
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
    """The same experiments by the original report's protocol: a task of its own, without contrasts or ablation."""
    return replace(
        task,
        name=f"original_protocol/{task.name}",
        experiments=[replace(e, config=replace(e.config, protocol="original")) for e in task.experiments],
        contrasts=(),
        ablation=(),
    )


def model_options(model: Callable) -> dict:
    """The class behind `model` and those of its keyword options that differ from the class's defaults."""
    if not isinstance(model, partial):
        return {"class": model.__name__}
    defaults = model_defaults(model)
    options = {name: value for name, value in model.keywords.items() if value != defaults.get(name)}
    return {"class": model.func.__name__, **options}


def model_defaults(model: Callable) -> dict:
    """The defaults of the options of the class behind `model`."""
    signature = inspect.signature(model.func if isinstance(model, partial) else model)
    return {name: parameter.default for name, parameter in signature.parameters.items()}


def resolved_config(config: TrainConfig) -> dict:
    """The fields of `config` that differ from their default: a field added later changes no older hash."""
    return {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != field.default
    }


def config_hash(experiment: Experiment, dataset: str, parameter_shapes: Mapping[str, Sequence[int]]) -> str:
    """Twelve hexadecimal digits for everything that decides what a run means, but for its seed and machine."""
    content = {
        "recipe_version": RECIPE_VERSION,
        "dataset": dataset,
        "model": model_options(experiment.model),
        "parameters": {name: list(shape) for name, shape in parameter_shapes.items()},
        "config": resolved_config(experiment.config),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
