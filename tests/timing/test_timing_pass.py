"""What a model costs: FLOPs counted by hand, shapes without memory, what the timing pass times, which precision."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from utils.cost import (
    build_model,
    choose_precision,
    flops_per_image,
    parameter_shapes,
    seconds_per_step,
    timing_pass,
)

from models import FCN, CNNWithResidual, SimpleCNN
from utils.experiment import Experiment, TrainConfig
from utils.timing import models as cost
from utils.timing.clock import seconds_per_call
from utils.training.device import Execution

EXECUTION = Execution(torch.device("cpu"), "fp32", 1)
CONFIG = TrainConfig(epochs=2, batch_size=64, optimizer="adam", learning_rate=1e-3)


# Parameters and FLOPs


def test_flops_of_a_fully_connected_net_by_hand():
    multiply_adds = 2 * 6 * 10 * 30 + 30 * 20 + 20 * 7
    assert flops_per_image(FCN((2, 6, 10), 7, hidden=(30, 20)), (2, 6, 10)) == 2 * multiply_adds


def test_flops_of_convolutional_nets_by_hand():
    # SimpleCNN on (3, 12, 20): 3x3 convolutions at 12x20 and, pooled, 6x10, then 64 maps of 3x5 to 128 to 7.
    multiply_adds = 12 * 20 * 32 * 3 * 9 + 6 * 10 * 64 * 32 * 9 + 64 * 3 * 5 * 128 + 128 * 7
    assert flops_per_image(SimpleCNN((3, 12, 20), 7), (3, 12, 20)) == 2 * multiply_adds
    # One residual block of stride 2: the stem at 12x20, the block's two convolutions and its shortcut at 6x10.
    multiply_adds = 12 * 20 * 4 * 3 * 9 + 6 * 10 * (4 * 4 * 9 + 4 * 4 * 9 + 4 * 4) + 4 * 7
    net = CNNWithResidual((3, 12, 20), 7, widths=(4,), strides=(2,), blocks_per_stage=1)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert flops_per_image(net, (3, 12, 20)) == 2 * multiply_adds
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())  # running means too


@pytest.mark.parametrize("model", [FCN, SimpleCNN, partial(CNNWithResidual, widths=(4, 8), strides=(1, 2))])
def test_parameter_shapes_are_those_of_the_model_itself(model):
    net = model(image_shape=(3, 12, 20), num_classes=7)
    expected = {name: tuple(p.shape) for name, p in net.named_parameters()}
    shapes = parameter_shapes(Experiment("any", model, CONFIG), (3, 12, 20), 7)
    assert shapes == expected and list(shapes) == list(expected)


def test_parameter_shapes_take_no_memory_and_no_random_numbers():
    state = torch.get_rng_state()
    shapes = parameter_shapes(Experiment("huge", partial(FCN, hidden=(10**7, 10**7)), CONFIG), (1, 28, 28), 10)
    assert shapes["4.weight"] == (10**7, 10**7)  # 400 TB
    assert torch.equal(torch.get_rng_state(), state)


def test_initial_weights_follow_from_the_seed_alone():
    def weights(seed):
        return build_model(Experiment("any", FCN, CONFIG), (1, 8, 8), 10, seed)[1].weight

    first = weights(3)
    torch.manual_seed(99)
    assert torch.equal(weights(3), first) and not torch.equal(weights(4), first)


# The timing pass


def test_a_timing_pass_has_finite_positive_times_of_all_models_and_rounds(data, monkeypatch):
    for constant in ("TRAIN_SECONDS", "INFERENCE_SECONDS", "LATENCY_SECONDS", "THROUGHPUT_SECONDS"):
        monkeypatch.setattr(cost, constant, 0)
    monkeypatch.setattr(cost, "ROUNDS", 3)
    experiments = [Experiment(str(width), partial(FCN, hidden=(width,)), CONFIG) for width in (4, 8)]
    timing = timing_pass(experiments, data, 10, EXECUTION)
    assert list(timing.models) == ["4", "8"] and (timing.reference, timing.rounds) == ("4", 3)
    for measures in timing.models.values():
        times = np.array(list(measures.values()))
        assert times.shape == (6, 3) and np.isfinite(times).all() and (times > 0).all()
        steps = -(-len(data.train) // 64)
        np.testing.assert_allclose(measures["train_epoch_seconds"], np.multiply(measures["train_step_seconds"], steps))
        assert np.all(np.array(measures["latency_p95_seconds"]) >= measures["latency_seconds"])
    assert (timing.batch_size, timing.throughput_batch_size) == (64, 512)
    assert (timing.environment["threads"], timing.environment["precision"]) == (1, "fp32")


class Spy(nn.Module):
    """Notes the mode, and the shape, of every batch that it is given."""

    seen: list[tuple[str, tuple]] = []

    def __init__(self, image_shape, num_classes):
        super().__init__()
        self.layer = nn.Linear(image_shape[1] * image_shape[2], num_classes)

    def forward(self, images):
        mode = "training" if self.training else "inference" if torch.is_inference_mode_enabled() else "evaluation"
        self.seen.append((mode, tuple(images.shape)))
        return self.layer(images.flatten(1))


def test_what_is_timed_and_how_calls_become_times_of_a_step(data, monkeypatch):
    calls = {}

    def benchmark(actions, wait, rounds, seconds):
        Spy.seen.clear()
        actions["spy"]()
        calls[seconds] = list(Spy.seen)
        return {"spy": [np.array([seconds, 4.0 * seconds, 2.0 * seconds])] * rounds}

    monkeypatch.setattr(cost, "benchmark", benchmark)
    measures = timing_pass([Experiment("spy", Spy, CONFIG)], data, 10, EXECUTION).models["spy"]
    assert calls == {
        cost.TRAIN_SECONDS: [("training", (64, 1, 8, 8))] * 10,
        cost.INFERENCE_SECONDS: [("inference", (64, 1, 8, 8))],
        cost.LATENCY_SECONDS: [("inference", (1, 1, 8, 8))],
        cost.THROUGHPUT_SECONDS: [("inference", (512, 1, 8, 8))],  # more than there are test images
    }
    assert measures["train_step_seconds"] == pytest.approx([2 * cost.TRAIN_SECONDS / 10] * cost.ROUNDS)
    assert measures["inference_batch_seconds"] == [2 * cost.INFERENCE_SECONDS] * cost.ROUNDS
    assert measures["latency_seconds"] == [2 * cost.LATENCY_SECONDS] * cost.ROUNDS
    assert measures["latency_p95_seconds"] == pytest.approx([3.8 * cost.LATENCY_SECONDS] * cost.ROUNDS)
    assert measures["throughput_batch_seconds"] == [2 * cost.THROUGHPUT_SECONDS] * cost.ROUNDS


@pytest.mark.parametrize("steps", [1, 40])  # 40 batches are more than one pass over the images
def test_seconds_per_step_are_those_of_one_step(data, monkeypatch, steps):
    durations = []

    def measured(action, wait, calls):
        durations.append(seconds_per_call(action, wait, calls))
        return durations[-1]

    monkeypatch.setattr(cost, "seconds_per_call", measured)
    experiment = Experiment("tiny", partial(FCN, hidden=(4,)), CONFIG)
    seconds = seconds_per_step(experiment, data, 10, EXECUTION, steps)
    assert 0 < seconds == durations[0][-1] / steps  # the last call, after one to warm up
    assert len(durations[0]) == 2


# Which precision


@pytest.fixture
def machine(monkeypatch, data):
    """`machine(units, convolution, steps)` is what a machine with these bf16 units and (fp32, bf16) times chooses."""

    def choose(units, convolution=None, steps=None, device="cpu"):
        def step(experiment, data, num_classes, execution, **options):
            return dict(zip(("fp32", "bf16"), steps[experiment.name], strict=True))[execution.precision]

        times = dict(zip(("fp32", "bf16"), convolution or (), strict=bool(convolution)))
        monkeypatch.setattr(cost, "has_bf16_units", lambda device: units)
        monkeypatch.setattr(cost, "_convolution_seconds", lambda execution: times[execution.precision])
        monkeypatch.setattr(cost, "seconds_per_step", step)  # without `steps`, timing a model is a TypeError
        experiments = [Experiment(name, FCN, CONFIG) for name in ("A", "B")]
        return choose_precision(experiments, data, 10, Execution(torch.device(device), "fp32", 1))

    return choose


def test_bf16_only_where_it_is_faster(machine):
    assert machine(units=False) == "fp32"
    assert machine(units=True, convolution=(1, 400)) == "fp32"  # a reference kernel: no model is tried
    assert machine(units=True, convolution=(2, 1), steps={"A": (1, 0.9), "B": (1, 0.8)}) == "bf16"
    assert machine(units=True, convolution=(2, 1), steps={"A": (1, 1.1), "B": (1, 1.2)}) == "fp32"
    assert machine(units=True, device="cuda") == "bf16"
    assert machine(units=False, device="mps") == "fp32"


def test_one_precision_for_all_models_by_the_sum_of_their_times(machine):
    assert machine(units=True, convolution=(2, 1), steps={"A": (1, 1.5), "B": (10, 5)}) == "bf16"
    assert machine(units=True, convolution=(2, 1), steps={"A": (1, 0.5), "B": (10, 11)}) == "fp32"


def test_the_convolution_that_is_tried_runs_in_both_precisions():
    for precision in ("fp32", "bf16"):
        assert 0 < cost._convolution_seconds(Execution(torch.device("cpu"), precision, 1)) < 60
