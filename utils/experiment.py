"""What is compared: experiments, their training recipes, and the hash that tells recipes apart.

Never loads torch: models are only held here as callables.
"""

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

# Raised whenever the meaning of training changes, so that older records are no longer pooled with newer ones.
RECIPE_VERSION = 1


@dataclass(frozen=True)
class TrainConfig:
    """A training recipe. `learning_rate` and `weight_decay` are per step; `limit` trains on the first N examples."""

    epochs: int
    batch_size: int
    optimizer: str  # "adam" or "sgd"
    learning_rate: float
    momentum: float = 0.0  # of SGD
    weight_decay: float = 0.0
    limit: int | None = None

    def __post_init__(self):
        if self.optimizer not in ("adam", "sgd"):
            raise ValueError(f"unknown optimizer {self.optimizer!r}: choose adam or sgd")


@dataclass(frozen=True)
class Experiment:
    """A model and the recipe that trains it; `model(image_shape=(C, H, W), num_classes=K)` builds the network."""

    name: str
    model: Callable
    config: TrainConfig


@dataclass(frozen=True)
class Task:
    """A comparison: its folder name, its data set, and the experiments in the order of every table."""

    name: str
    dataset: str
    experiments: Sequence[Experiment]


def model_options(model: Callable) -> dict:
    """The class behind `model` and those of its keyword options that differ from the class's defaults."""
    if not isinstance(model, partial):
        return {"class": model.__name__}
    defaults = {name: p.default for name, p in inspect.signature(model.func).parameters.items()}
    options = {name: value for name, value in model.keywords.items() if value != defaults.get(name)}
    return {"class": model.func.__name__, **options}


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
