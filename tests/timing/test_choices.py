"""Which precision suits a machine, and how long a step takes with so many threads."""

import itertools
import time
from functools import partial

import pytest
import torch

from models import FCN
from utils.experiment import Experiment, TrainConfig
from utils.timing import choices
from utils.timing.choices import choose_precision, seconds_by_threads, step_seconds
from utils.training.device import Execution

EXECUTION = Execution(torch.device("cpu"), "fp32", 1)
CONFIG = TrainConfig(epochs=2, batch_size=64, optimizer="adam", learning_rate=1e-3)


@pytest.fixture
def machine(monkeypatch, data):
    """`machine(units, convolution, steps)` is what a machine with these bf16 units and (fp32, bf16) times chooses."""

    def choose(units, convolution=None, steps=None, device="cpu", shown=""):
        def step(experiment, data, executions):
            assert [(e.precision, e.threads) for e in executions] == [("fp32", 1), ("bf16", 1)]
            return steps[experiment.name]  # without `steps`, timing a model is a TypeError

        times = dict(zip(("fp32", "bf16"), convolution or (), strict=bool(convolution)))
        monkeypatch.setattr(choices, "has_bf16_units", lambda device: units)
        monkeypatch.setattr(choices, "_convolution_seconds", lambda execution: times[execution.precision])
        monkeypatch.setattr(choices, "step_seconds", step)
        experiments = [Experiment(name, FCN, CONFIG) for name in ("A", "B")]
        precision, why = choose_precision(experiments, data, Execution(torch.device(device), "fp32", 2), shown)
        assert why.startswith(f"Precision {precision}") and why.endswith(".") and "\n" not in why
        return precision, why

    return choose


def test_bf16_only_where_it_is_faster(machine):
    assert machine(units=False) == ("fp32", "Precision fp32: cpu has no bf16 units.")
    found = machine(units=True, convolution=(1, 400))  # a reference kernel: no model is tried
    assert found == ("fp32", "Precision fp32: a small convolution takes 400 times as long in bf16.")
    precision, why = machine(units=True, convolution=(2, 1), steps={"A": (1, 0.9), "B": (1, 0.8)})
    told = "Precision bf16 (the faster one): a step of all models takes 2 s in fp32 and 1.7 s in bf16, one thread."
    assert (precision, why) == ("bf16", told)
    assert machine(units=True, convolution=(2, 1), steps={"A": (1, 1.1), "B": (1, 1.2)})[0] == "fp32"
    assert machine(units=True, device="cuda")[0] == "bf16"
    assert machine(units=False, device="mps")[0] == "fp32"


def test_one_precision_for_all_models_by_the_sum_of_their_times(machine):
    assert machine(units=True, convolution=(2, 1), steps={"A": (1, 1.5), "B": (10, 5)})[0] == "bf16"
    assert machine(units=True, convolution=(2, 1), steps={"A": (1, 0.5), "B": (10, 12)})[0] == "fp32"


@pytest.mark.parametrize(
    "shown, expected, words",
    [
        ("", "bf16", "(alike)"),
        ("cuda-fp32", "bf16", "(alike)"),  # of another device
        ("cpu-fp32", "fp32", "(alike, so that of the records that the page shows)"),
        ("cpu-bf16", "bf16", "(alike, so that of the records that the page shows)"),
    ],
)
def test_within_a_tenth_the_records_that_the_page_shows_decide(machine, shown, expected, words):
    for seconds in (0.91, 1.09):
        precision, why = machine(True, (2, 1), {"A": (1, seconds), "B": (1, seconds)}, shown=shown)
        assert precision == expected and words in why
    assert machine(True, (2, 1), {"A": (1, 0.8), "B": (1, 0.8)}, shown="cpu-fp32")[0] == "bf16"
    assert machine(True, (2, 1), {"A": (1, 1.2), "B": (1, 1.2)}, shown="cpu-bf16")[0] == "fp32"


def test_a_model_that_fails_is_named_and_left_out(machine):
    precision, why = machine(units=True, convolution=(2, 1), steps={"A": (1, 0.5)})
    assert precision == "bf16" and "takes 1 s in fp32 and 0.5 s in bf16" in why
    assert why.endswith("; B could not be measured (KeyError: 'B').")


def test_the_convolution_that_is_tried_runs_in_both_precisions():
    for precision in ("fp32", "bf16"):
        assert 0 < choices._convolution_seconds(Execution(torch.device("cpu"), precision, 1)) < 60


class Waits(FCN):
    """Its training step takes 2 ms for each thread, by the test's clock."""

    now = 0

    def forward(self, images):
        Waits.now += 2_000_000 * torch.get_num_threads()
        return super().forward(images)


def test_a_step_is_timed_by_each_execution_and_the_threads_are_as_before(data, monkeypatch):
    threads = [1]
    monkeypatch.setattr(torch, "set_num_threads", threads.append)  # real ones would wait for each other on one core
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(time, "perf_counter_ns", lambda: Waits.now)
    experiment = Experiment("waits", partial(Waits, hidden=(4,)), CONFIG)
    executions = [Execution(torch.device("cpu"), "fp32", number) for number in (1, 3, 2)]
    assert step_seconds(experiment, data, executions) == pytest.approx([0.002, 0.006, 0.004])
    assert threads[-1] == 1


def test_threads_are_tried_with_the_model_of_the_most_flops(data, monkeypatch):
    def steps(experiment, data, executions):
        return [experiment.name, *((e.threads, e.precision) for e in executions)]

    monkeypatch.setattr(choices, "step_seconds", steps)
    nets = [Experiment(str(width), partial(FCN, hidden=(width,)), CONFIG) for width in (8, 32, 16)]
    expected = ["32", (1, "fp32"), (2, "fp32")]
    assert all(seconds_by_threads(order, data, EXECUTION, (1, 2)) == expected for order in itertools.permutations(nets))
