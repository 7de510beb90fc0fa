"""Experiments: the hash that tells recipes apart, and a task by the original protocol."""

import dataclasses
from functools import partial

import pytest
from place import WITH_ABLATION

from models import FCN
from utils import experiment as experiment_module
from utils.contrasts import audit
from utils.experiment import Experiment, TrainConfig, config_hash, under_original_protocol

RECIPE = TrainConfig(epochs=15, batch_size=64, optimizer="adam", learning_rate=1e-3)
SHAPES = {"1.weight": (512, 784), "1.bias": (512,)}


def hash_of(model=FCN, name="FCN", dataset="mnist", shapes=SHAPES, **config):
    return config_hash(Experiment(name, model, dataclasses.replace(RECIPE, **config)), dataset, shapes)


def test_the_hash_tells_apart_everything_that_decides_what_a_run_means(monkeypatch):
    hashes = [
        hash_of(),
        hash_of(dataset="cifar10"),
        hash_of(partial(FCN, dropout=0.5)),
        hash_of(partial(FCN, dropout=0.1)),
        hash_of(shapes={**SHAPES, "1.bias": (513,)}),
        hash_of(shapes={"0.weight": (512, 784), "1.bias": (512,)}),
        *(hash_of(**{field: value}) for field, value in {
            "epochs": 16, "batch_size": 32, "optimizer": "sgd", "learning_rate": 2e-3, "momentum": 0.9,
            "weight_decay": 0.01, "limit": 100,
        }.items()),
    ]  # fmt: skip
    monkeypatch.setattr(experiment_module, "RECIPE_VERSION", 99)
    hashes.append(hash_of())
    assert len(set(hashes)) == len(hashes) == 14


def test_the_hash_ignores_what_is_at_its_default_and_how_an_experiment_is_called():
    assert hash_of(partial(FCN)) == hash_of(partial(FCN, dropout=0.25)) == hash_of()
    assert hash_of(momentum=0.0, weight_decay=0.0, limit=None, name="another") == hash_of()


def test_a_field_added_later_orphans_no_record():
    @dataclasses.dataclass(frozen=True)
    class LaterConfig(TrainConfig):
        label_smoothing: float = 0.0

    later = LaterConfig(**dataclasses.asdict(RECIPE))
    assert config_hash(Experiment("FCN", FCN, later), "mnist", SHAPES) == hash_of()
    changed = dataclasses.replace(later, label_smoothing=0.1)
    assert config_hash(Experiment("FCN", FCN, changed), "mnist", SHAPES) != hash_of()


def test_a_task_by_the_original_protocol_has_other_hashes_and_no_verdicts():
    theirs = under_original_protocol(WITH_ABLATION)
    assert theirs.protocol == "original" and not theirs.contrasts and not theirs.ablation
    hashes = [config_hash(task.experiments[0], "digits", {}) for task in (WITH_ABLATION, theirs)]
    assert hashes[0] != hashes[1]
    assert theirs.experiments[0].config.faults() == []


@pytest.mark.parametrize(
    "changes, fault",
    [
        ({"protocol": "other"}, "unknown protocol 'other': choose holdout or original"),
        ({"optimizer": "lion"}, "unknown optimizer 'lion': choose adam or adamw or sgd"),
        ({"epochs": 0}, "epochs is 0, not a whole number of at least 1"),
        ({"epochs": 1.5}, "epochs is 1.5, not a whole number of at least 1"),
        ({"batch_size": -3}, "batch_size is -3, not a whole number of at least 1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan, not a number of at least 0"),
        ({"learning_rate": "1e-3"}, "learning_rate is '1e-3', not a number of at least 0"),
        ({"momentum": float("inf")}, "momentum is inf, not a number of at least 0"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1, not a number of at least 0"),
        ({"limit": 0}, "limit is 0, not a whole number of at least 1"),
    ],
)
def test_each_fault_of_a_recipe_is_said_in_words(changes, fault):
    recipe = dataclasses.replace(RECIPE, **changes)
    assert RECIPE.faults() == [] and recipe.faults() == [fault]
    task = dataclasses.replace(WITH_ABLATION, experiments=[Experiment("A", FCN, recipe)], contrasts=[], ablation=())
    with pytest.raises(ValueError) as caught:
        audit(task)
    assert str(caught.value) == f"A: {fault}"
