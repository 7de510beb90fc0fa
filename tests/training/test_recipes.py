"""Schedules, clipping, smoothing and early stopping against PyTorch and hand-worked values; resumed with equal bits."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from made_records import without_times
from torch.nn import functional as F

from models import FCN
from utils.experiment import Experiment, TrainConfig, config_hash
from utils.training import fit as fit_module
from utils.training.checkpoint import Checkpoints
from utils.training.device import Execution
from utils.training.fit import fit, make_optimizer, make_schedule, train_one_epoch
from utils.training.model import build_model

EXECUTION = Execution(torch.device("cpu"), "fp32", 1)
SGD = TrainConfig(epochs=4, batch_size=64, optimizer="sgd", learning_rate=0.1)
SMALL = Experiment("net", partial(FCN, hidden=(8,), dropout=0.0), SGD)
RECIPES = {
    "adamw": TrainConfig(4, 64, "adamw", 1e-3, weight_decay=0.1),
    "nesterov": replace(SGD, momentum=0.9, nesterov=True),
    "cosine": replace(SGD, schedule="cosine", warmup=0.5),
    "one-cycle": replace(SGD, schedule="one-cycle", momentum=0.9),
    "smoothed and clipped": replace(SGD, label_smoothing=0.1, clip=0.05),
}


def rates(config, steps_an_epoch):
    """The learning rate of each step."""
    optimizer = make_optimizer(FCN((1, 8, 8), 10), config)
    schedule, found = make_schedule(optimizer, config, steps_an_epoch), []
    for _ in range(config.epochs * steps_an_epoch):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_constant_is_the_rate_itself():
    assert rates(SGD, 5) == [0.1] * 20


def test_cosine_rises_over_the_warm_up_and_falls_to_almost_nothing():
    found = rates(replace(SGD, schedule="cosine", warmup=1.0), 5)
    assert found[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    expected = [0.05 * (1 + math.cos(math.pi * step / 15)) for step in range(15)]
    assert found[5:] == pytest.approx(expected) and found[-1] < 0.002


def test_one_cycle_is_pytorchs_with_its_peak_where_the_warm_up_ends():
    config = replace(SGD, schedule="one-cycle", warmup=2.0)
    found = rates(config, 5)
    assert max(found) == pytest.approx(0.1, rel=0.1) and 8 <= found.index(max(found)) <= 11
    assert found[0] == pytest.approx(0.1 / 25) and found[-1] < 0.003


def step_of(config, images, labels, schedule_steps=1):
    model = build_model(replace(SMALL, config=config), (1, 8, 8), 10, seed=0)
    optimizer = make_optimizer(model, config)
    schedule = make_schedule(optimizer, config, schedule_steps)
    losses, _ = train_one_epoch(model, optimizer, [(images, labels)], EXECUTION, config, schedule)
    return model, losses[0]


def test_a_step_by_each_recipe_is_that_of_plain_pytorch(data):
    images, labels = next(data.train.batches(64))
    for name, config in RECIPES.items():
        ours, loss = step_of(config, images, labels)
        theirs = build_model(replace(SMALL, config=config), (1, 8, 8), 10, seed=0).train()
        kinds = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}
        options = {"momentum": config.momentum, "nesterov": config.nesterov} if config.optimizer == "sgd" else {}
        optimizer = kinds[config.optimizer](
            theirs.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, **options
        )
        make_schedule(optimizer, config, 1)  # sets the rate of the first step
        expected = F.cross_entropy(theirs(images), labels, label_smoothing=config.label_smoothing)
        expected.backward()
        if config.clip:
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), config.clip)
        optimizer.step()
        assert loss == pytest.approx(expected.item()), name
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, msg=name)


def test_the_rate_changes_at_every_step(data):
    """Three steps of cosine against plain SGD whose rate is set by hand."""
    config = replace(SGD, schedule="cosine", epochs=1)
    batches = list(data.train.batches(64))[:3]
    ours = build_model(replace(SMALL, config=config), (1, 8, 8), 10, seed=0)
    optimizer = make_optimizer(ours, config)
    train_one_epoch(ours, optimizer, batches, EXECUTION, config, make_schedule(optimizer, config, 3))
    theirs = build_model(replace(SMALL, config=config), (1, 8, 8), 10, seed=0).train()
    for (images, labels), rate in zip(batches, rates(config, 3), strict=True):
        loss = F.cross_entropy(theirs(images), labels)
        gradients = torch.autograd.grad(loss, list(theirs.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(theirs.parameters(), gradients, strict=True):
                parameter -= rate * gradient
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", RECIPES)
def test_a_resumed_run_has_equal_bits(data, tmp_path, name):
    config = RECIPES[name]

    def run(epochs, checkpoints=None):
        """A run of the whole recipe that an interruption ends after `epochs`."""

        def end(entry, seen=[0]):  # noqa: B006  (counts the epochs of this run)
            seen[0] += 1
            if seen[0] == epochs and epochs < config.epochs:
                raise KeyboardInterrupt

        model = build_model(replace(SMALL, config=config), data.image_shape, 10, seed=0)
        return model, fit(model, config, 0, data, EXECUTION, end, checkpoints)

    whole, result = run(4)
    identity = {"run": "1"}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("utils.training.checkpoint.LEAST_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            run(3, Checkpoints(tmp_path, identity))
        resumed, parts = run(4, Checkpoints(tmp_path, identity))
    assert without_times(parts.history) == without_times(result.history)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_patience_stops_and_a_resumed_run_stops_at_the_same_epoch(data, tmp_path, monkeypatch):
    config = replace(SGD, epochs=9, patience=2)
    losses = iter([1.0, 0.5, 0.7, 0.6, 0.1, 0.1, 0.1, 0.1, 0.1] * 2)
    real = fit_module.loss_and_correct
    calls = iter(range(1000))

    def planned(logits, labels):
        loss, correct = real(logits, labels)
        return (next(losses) if next(calls) % 2 else loss), correct  # every second one is validation

    monkeypatch.setattr(fit_module, "loss_and_correct", planned)
    model = build_model(replace(SMALL, config=config), data.image_shape, 10, seed=0)
    result = fit(model, config, 0, data, EXECUTION, checkpoints=Checkpoints(tmp_path, {}))
    assert [entry["val_loss"] for entry in result.history] == [1.0, 0.5, 0.7, 0.6]
    assert (result.best_epoch, result.diverged_at) == (2, None)


def test_a_field_at_its_default_enters_no_hash():
    plain = config_hash(SMALL, "digits", {})
    assert plain == config_hash(replace(SMALL, config=replace(SGD, schedule="constant", clip=None)), "digits", {})
    changed = [{"schedule": "cosine"}, {"warmup": 1.0}, {"clip": 1.0}, {"patience": 3}, {"label_smoothing": 0.1}]
    hashes = {config_hash(replace(SMALL, config=replace(SGD, **change)), "digits", {}) for change in changed}
    assert len(hashes | {plain}) == 6


@pytest.mark.parametrize(
    "change, fault",
    [
        ({"nesterov": True}, "nesterov goes with optimizer sgd and a momentum"),
        ({"schedule": "step"}, "unknown schedule 'step': choose constant or cosine or one-cycle"),
        ({"warmup": 4.0}, "leaves none of 4"),
        ({"label_smoothing": 1.0}, "must be under 1"),
        ({"patience": 0}, "patience is 0"),
        ({"patience": 2, "protocol": "original"}, "would stop on the test set"),
    ],
)
def test_what_cannot_be_trained_by_is_named(change, fault):
    assert any(fault in found for found in replace(SGD, **change).faults())
