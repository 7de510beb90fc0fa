"""On a real GPU: bits that repeat, gradients, memory, and nothing that waits. `pytest -m cuda` where there is one."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from made_records import without_times
from torch.nn import functional as F

from models import CIFARCNN, FCN, CNNWithResidual, SimpleCNN
from utils.data.images import load_splits
from utils.data.specs import SHAPES
from utils.experiment import Experiment, TrainConfig
from utils.timing.models import training_steps
from utils.training.checkpoint import Checkpoints
from utils.training.device import Execution, check_precision, choose_devices
from utils.training.fit import fit, make_optimizer, make_schedule, train_one_epoch
from utils.training.model import build_model
from utils.training.pooling import SlicedAveragePool
from utils.training.predict import predict

pytestmark = pytest.mark.cuda

ADAM = TrainConfig(epochs=3, batch_size=64, optimizer="adam", learning_rate=1e-3)
SGD = TrainConfig(epochs=3, batch_size=64, optimizer="sgd", learning_rate=0.01, momentum=0.9, augmentation=True)
NETS = [
    Experiment("FCN", FCN, ADAM),
    Experiment("SimpleCNN", SimpleCNN, ADAM),
    Experiment("CIFARCNN", CIFARCNN, SGD),
    Experiment("residual", partial(CNNWithResidual, dropout=0.5), SGD),
    Experiment("residual, pooled", partial(CNNWithResidual, strides=(1, 2, 2, 1), pooled_size=3), SGD),
]


@pytest.fixture(scope="module")
def device() -> torch.device:
    return choose_devices("cuda")[0]


@pytest.fixture(scope="module")
def shapes(device, tmp_path_factory):
    return load_splits(SHAPES, tmp_path_factory.mktemp("data")).to(device)


def execution_of(device, precision) -> Execution:
    execution = Execution(device, precision, 1)
    execution.prepare_process()
    return execution


def trained(experiment, data, execution, checkpoints=None, epochs=None):
    config = replace(experiment.config, epochs=epochs or experiment.config.epochs)
    model = execution.place(build_model(experiment, data.image_shape, data.num_classes, seed=0))
    result = fit(model, config, 0, data, execution, checkpoints=checkpoints)
    return without_times(result.history), predict(model, data.test, execution).cpu(), result.gradient_flow["norms"]


def assert_same_bits(first, second):
    assert first[0] == second[0]
    assert torch.equal(first[1], second[1])
    np.testing.assert_array_equal(first[2], second[2])


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("experiment", NETS, ids=lambda e: e.name)
def test_the_same_seed_gives_the_same_bits_twice(device, shapes, experiment, precision):
    check_precision(precision, device)
    execution = execution_of(device, precision)
    assert_same_bits(trained(experiment, shapes, execution), trained(experiment, shapes, execution))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("experiment", NETS, ids=lambda e: e.name)
def test_a_resumed_run_has_the_bits_of_one_that_was_not_interrupted(device, shapes, tmp_path, experiment, precision):
    execution = execution_of(device, precision)
    whole = trained(experiment, shapes, execution)

    def checkpoints():
        return Checkpoints(tmp_path / "cell", {"run": "1"})

    trained(experiment, shapes, execution, checkpoints(), epochs=1)
    assert_same_bits(whole, trained(experiment, shapes, execution, checkpoints()))


@pytest.mark.parametrize("precision, most", [("fp32", 1e-3), ("tf32", 4e-2), ("bf16", 0.12)])
@pytest.mark.parametrize("experiment", NETS, ids=lambda e: e.name)
def test_gradients_are_those_of_float64(device, shapes, experiment, precision, most):
    """The relative error of all gradients together, without dropout."""
    execution = execution_of(device, precision)
    model = execution.place(build_model(experiment, shapes.image_shape, shapes.num_classes, seed=0)).eval()
    exact = copy.deepcopy(model).double()
    images, labels = next(shapes.train.batches(64))
    with execution.autocast():
        logits = model(images)
    F.cross_entropy(logits.float(), labels).backward()
    F.cross_entropy(exact(images.double()), labels).backward()
    pairs = [
        (p.grad.double().flatten(), q.grad.flatten())
        for p, q in zip(model.parameters(), exact.parameters(), strict=True)
    ]
    found, expected = (torch.cat(side) for side in zip(*pairs, strict=True))
    error = ((found - expected).norm() / expected.norm()).item()
    print(f"{experiment.name} {precision}: {error:.2e}")
    assert 0 < error < most


def test_memory_is_flat_over_epochs(device, shapes):
    execution, used = execution_of(device, "bf16"), []
    model = execution.place(build_model(NETS[3], shapes.image_shape, shapes.num_classes, seed=0))
    config = replace(NETS[3].config, epochs=6)
    fit(model, config, 0, shapes, execution, on_epoch=lambda entry: used.append(torch.cuda.memory_allocated(device)))
    assert max(used[2:]) - min(used[2:]) < 2**20, used


@pytest.mark.parametrize("experiment", NETS, ids=lambda e: e.name)
def test_nothing_waits_for_the_device_between_first_and_last_step(device, shapes, experiment):
    execution = execution_of(device, "bf16")
    with training_steps(experiment, shapes, execution, steps=20) as run:
        run()  # what is made once is made here
    model = execution.place(build_model(experiment, shapes.image_shape, shapes.num_classes, seed=0))
    optimizer = make_optimizer(model, experiment.config)
    schedule = make_schedule(optimizer, experiment.config, steps_an_epoch=20)
    order = torch.arange(1280, device=device)

    def strict(batches) -> Iterator:
        for index, batch in enumerate(batches):
            torch.cuda.set_sync_debug_mode("error" if index else "default")
            yield batch
        torch.cuda.set_sync_debug_mode("default")

    try:
        train_one_epoch(
            model, optimizer, strict(shapes.train.batches(64, order)), execution, experiment.config, schedule
        )
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("size, output", [((14, 14), (4, 4)), ((7, 5), (4, 3)), ((8, 8), (4, 4))])
def test_sliced_pooling_is_adaptive_pooling(device, size, output):
    images = torch.randn(5, 3, *size, device=device, requires_grad=True)
    weights = torch.randn(5, 3, *output, device=device)
    grads = []
    for pooled in (SlicedAveragePool(output)(images), F.adaptive_avg_pool2d(images, output)):
        grads.append(torch.autograd.grad((pooled * weights).sum(), images)[0])
    torch.testing.assert_close(SlicedAveragePool(output)(images), F.adaptive_avg_pool2d(images, output))
    torch.testing.assert_close(*grads)


def test_out_of_memory_is_an_error_after_which_training_goes_on(device, shapes):
    execution = execution_of(device, "fp32")
    before = trained(NETS[0], shapes, execution)
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(2**50, device=device)
    assert_same_bits(before, trained(NETS[0], shapes, execution))


def test_images_that_stay_in_the_computer_s_memory_give_the_same_bits(shapes, device, tmp_path, monkeypatch):
    execution = execution_of(device, "fp32")
    monkeypatch.setattr("utils.data.images.room_for_images", lambda _: 0)
    stayed = load_splits(SHAPES, tmp_path).to(device)
    assert stayed.train.images.device.type == "cpu" and shapes.train.images.device == device
    for experiment in NETS[1:3]:  # without and with augmentation
        (history, logits, norms), (expected, *others) = (trained(experiment, d, execution) for d in (stayed, shapes))
        assert history == expected and logits.equal(others[0]) and np.array_equal(norms, others[1])
