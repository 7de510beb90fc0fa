"""What the timing pass times."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from models import FCN
from utils.experiment import Experiment, TrainConfig
from utils.timing import models as cost
from utils.timing.clock import SAMPLE_SECONDS, seconds_per_call
from utils.timing.models import seconds_per_step, timing_pass
from utils.training.device import Execution

EXECUTION = Execution(torch.device("cpu"), "fp32", 1)
CONFIG = TrainConfig(epochs=2, batch_size=64, optimizer="adam", learning_rate=1e-3)


def test_a_timing_pass_has_finite_positive_times_of_all_models_and_rounds(data, monkeypatch):
    for constant in ("TRAIN_SECONDS", "INFERENCE_SECONDS", "LATENCY_SECONDS", "THROUGHPUT_SECONDS"):
        monkeypatch.setattr(cost, constant, 0)
    monkeypatch.setattr(cost, "WHOLE_PASS", (3, *cost.WHOLE_PASS[1:]))
    experiments = [Experiment(str(width), partial(FCN, hidden=(width,)), CONFIG) for width in (4, 8)]
    timing = timing_pass(experiments, {"4": "aa", "8": "bb", "16": "cc"}, {"4": "dd", "8": "ee"}, data, EXECUTION)
    assert list(timing.models) == ["4", "8"] and (timing.reference, timing.rounds) == ("4", 3)
    for measures in timing.models.values():
        times = np.array(list(measures.values()))
        assert times.shape == (6, 3) and np.isfinite(times).all() and (times > 0).all()
        steps = -(-len(data.train) // 64)
        np.testing.assert_allclose(measures["train_epoch_seconds"], np.multiply(measures["train_step_seconds"], steps))
        assert np.all(np.array(measures["latency_p95_seconds"]) >= measures["latency_seconds"])
    assert timing.config_hashes == {"4": "aa", "8": "bb"} and timing.model_hashes == {"4": "dd", "8": "ee"}
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
    calls, samples = {}, {}

    def benchmark(actions, wait, rounds, seconds, sample_seconds=SAMPLE_SECONDS):
        Spy.seen.clear()
        samples[seconds] = sample_seconds
        actions["spy"]()
        calls[seconds] = list(Spy.seen)
        return {"spy": [np.array([seconds, 4.0 * seconds, 2.0 * seconds])] * rounds}

    monkeypatch.setattr(cost, "benchmark", benchmark)
    measures = timing_pass([Experiment("spy", Spy, CONFIG)], {"spy": "aa"}, {"spy": ""}, data, EXECUTION).models["spy"]
    assert calls == {
        cost.TRAIN_SECONDS: [("training", (64, 1, 8, 8))] * 10,
        cost.INFERENCE_SECONDS: [("inference", (64, 1, 8, 8))],
        cost.LATENCY_SECONDS: [("inference", (1, 1, 8, 8))],
        cost.THROUGHPUT_SECONDS: [("inference", (512, 1, 8, 8))],  # more than there are test images
    }
    # A latency is that of a single call, however short; the others are means over samples of some length.
    assert samples == dict.fromkeys(calls, SAMPLE_SECONDS) | {cost.LATENCY_SECONDS: 0}
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
    seconds = seconds_per_step(experiment, data, EXECUTION, steps)
    assert 0 < seconds == durations[0][-1] / steps  # the last call, after one to warm up
    assert len(durations[0]) == 2
