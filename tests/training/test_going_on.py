"""Training that goes on from a checkpoint ends as if it had never been interrupted."""

import dataclasses
import itertools
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from made_records import without_times

from models import FCN, CNNWithResidual, SimpleCNN
from utils.data.images import Splits
from utils.experiment import Experiment, TrainConfig
from utils.training import checkpoint
from utils.training import fit as train
from utils.training.checkpoint import Checkpoints
from utils.training.device import Execution
from utils.training.fit import fit, make_optimizer, make_schedule, restored
from utils.training.model import build_model

EXECUTION = Execution(torch.device("cpu"), "fp32", 1)
IDENTITY = {"config_hash": "abc", "threads": 1}
NETS = {
    "FCN": partial(FCN, hidden=(16, 8)),
    "SimpleCNN": SimpleCNN,
    "residual": partial(CNNWithResidual, widths=(16, 32), strides=(1, 2), blocks_per_stage=1),
}
RECIPES = {
    "sgd": TrainConfig(6, 64, "sgd", 0.05, momentum=0.9, augmentation=True),
    "adam": TrainConfig(6, 64, "adam", 3e-3),
    "early stopping": TrainConfig(6, 64, "adam", 3e-3, patience=6),
}


@pytest.fixture(autouse=True)
def each_epoch(monkeypatch):
    monkeypatch.setattr(checkpoint, "LEAST_SECONDS", 0.0)


@pytest.fixture
def few(data) -> Splits:
    return dataclasses.replace(data, train=data.train.take(np.arange(200)))


def train_in(folder: Path, few: Splits, net="FCN", recipe="adam", stop_after=None):
    """(model, what `fit` returned) with checkpoints in `folder`; interrupted in the epoch after `stop_after`."""
    model = EXECUTION.place(build_model(Experiment("net", NETS[net], RECIPES[recipe]), few.image_shape, 10, seed=3))
    epochs = 0

    def press_ctrl_c(entry):
        nonlocal epochs
        epochs += 1
        if stop_after is not None and epochs > stop_after:
            raise KeyboardInterrupt

    return model, fit(model, RECIPES[recipe], 3, few, EXECUTION, press_ctrl_c, Checkpoints(folder, IDENTITY))


def interrupt(folder: Path, few: Splits, after: int, **options):
    with pytest.raises(KeyboardInterrupt):
        train_in(folder, few, stop_after=after, **options)


def last_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Weights, best weights, what is kept for the average, optimiser and gradient flow at the end."""
    tensors, state = Checkpoints(folder, IDENTITY).load()
    assert len(state["history"]) == 6
    return tensors


def assert_same_end(first: tuple, second: tuple, first_folder: Path, second_folder: Path):
    (net, result), (other, again) = first, second
    assert without_times(again.history) == without_times(result.history) and again.best_epoch == result.best_epoch
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True))
    assert result.final_epochs == again.final_epochs == 2
    for averaged, other_averaged in zip(result.averaged_weights.items(), again.averaged_weights.items(), strict=True):
        assert averaged[0] == other_averaged[0] and torch.equal(averaged[1], other_averaged[1])
    expected, found = last_tensors(first_folder), last_tensors(second_folder)
    assert any(name.startswith("average.") for name in expected)
    assert expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)
    for name, steps in result.gradient_flow.items():
        np.testing.assert_array_equal(again.gradient_flow[name], steps, strict=True)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("net", NETS)
def test_going_on_after_an_interruption_changes_no_bit(tmp_path, few, net, recipe):
    """Three interruptions, and a start after the last epoch; SGD with momentum and random crops, Adam, early stopping.

    The weights are averaged over epochs 5 and 6. Every tensor and number is compared.
    """
    whole = train_in(tmp_path / "whole", few, net, recipe)
    for after in (1, 4, 5):  # epochs that are kept: before the final ones, and between them
        interrupt(tmp_path / "parts", few, after, net=net, recipe=recipe)
    parts = train_in(tmp_path / "parts", few, net, recipe)
    assert_same_end(whole, parts, tmp_path / "whole", tmp_path / "parts")
    again = train_in(tmp_path / "parts", few, net, recipe)  # nothing is left to train
    assert_same_end(whole, again, tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("after", [2, 6])
def test_a_run_that_stops_early_ends_the_same_when_it_goes_on(tmp_path, few, monkeypatch, after):
    """Interrupted long before it stops, and in its last epochs; started again after its end, it trains nothing."""
    monkeypatch.setitem(RECIPES, "stops", TrainConfig(30, 64, "adam", 0.03, patience=3))
    _, whole = train_in(tmp_path / "whole", few, recipe="stops")
    assert 6 < len(whole.history) < 30
    interrupt(tmp_path / "parts", few, after, recipe="stops")
    for _ in range(2):
        _, parts = train_in(tmp_path / "parts", few, recipe="stops")
        assert without_times(parts.history) == without_times(whole.history)
        assert parts.final_epochs == whole.final_epochs
        for name, value in whole.averaged_weights.items():
            assert torch.equal(parts.averaged_weights[name], value)


def test_without_new_random_numbers_in_each_epoch_going_on_would_differ(tmp_path, few, monkeypatch):
    """The negative control of the tests above and below: dropout is seeded once at the start of a process only."""
    seeded = []
    manual_seed = torch.manual_seed

    def once(seed):
        if len(seeded) < 2:  # initialisation and the first epoch
            seeded.append(seed)
            manual_seed(seed)

    monkeypatch.setattr(train.torch, "manual_seed", once)
    _, whole = train_in(tmp_path / "whole", few)
    seeded.clear()
    interrupt(tmp_path / "parts", few, after=2)
    seeded.clear()
    _, parts = train_in(tmp_path / "parts", few)
    assert without_times(parts.history[:2]) == without_times(whole.history[:2])
    assert without_times(parts.history) != without_times(whole.history)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_tensor_of_the_optimiser_takes_its_parameters_strides(tmp_path, few, recipe):
    """After going on with a channels-last net, fused SGD and fused Adam."""
    interrupt(tmp_path, few, after=2, net="residual", recipe=recipe)
    experiment = Experiment("net", NETS["residual"], RECIPES[recipe])
    model = EXECUTION.place(build_model(experiment, few.image_shape, 10, seed=9))
    optimizer = make_optimizer(model, RECIPES[recipe])
    schedule = make_schedule(optimizer, RECIPES[recipe], steps_an_epoch=1)
    assert len(restored(Checkpoints(tmp_path, IDENTITY), model, optimizer, schedule).history) == 2
    strides = {
        (tensor.stride(), parameter.stride())
        for parameter in model.parameters()
        for tensor in optimizer.state[parameter].values()
        if tensor.shape == parameter.shape
    }
    assert all(its == parameters for its, parameters in strides)
    assert any(parameters[-1] != 1 for _, parameters in strides if len(parameters) == 4)  # channels_last among them


def test_at_most_one_in_ten_seconds_and_always_the_last(tmp_path, few, monkeypatch):
    monkeypatch.setattr(checkpoint, "LEAST_SECONDS", 10.0)
    start, calls = checkpoint.time.monotonic(), itertools.count(1)
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: start + 4 * next(calls))
    saved = []
    save = Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", lambda self, epoch, *rest: (saved.append(epoch), save(self, epoch, *rest)))
    train_in(tmp_path, few)
    assert saved == [3, 6]  # 12 and 24 s after the start


def test_one_from_another_model_is_an_error_that_says_why(tmp_path, few):
    """A right checksum, but tensors of other names and shapes."""
    interrupt(tmp_path, few, after=2, net="FCN")
    with pytest.raises(RuntimeError, match=r"(?s)loading state_dict for SimpleCNN.*Missing key"):
        train_in(tmp_path, few, net="SimpleCNN")
