"""Precision `auto` and the threads of a cell: what decides, by made-up times."""

import pytest
import torch
from place import TASK

from utils.timing import choices
from utils.training.device import Execution

EXECUTION = Execution(torch.device("cpu"), "fp32", 1)


@pytest.fixture
def choose(monkeypatch, data):
    """`choose(A=(fp32, bf16), B=...)` is what a machine with bf16 units and these seconds a step chooses, and why."""

    def chosen(shown="", **seconds):
        def step_seconds(experiment, data, executions):
            assert [(e.precision, e.threads) for e in executions] == [("fp32", 1), ("bf16", 1)]
            if isinstance(seconds[experiment.name], Exception):
                raise seconds[experiment.name]
            return seconds[experiment.name]

        monkeypatch.setattr(choices, "has_bf16_units", lambda device: True)
        monkeypatch.setattr(choices, "_convolution_seconds", lambda execution: 1.0)
        monkeypatch.setattr(choices, "step_seconds", step_seconds)
        return choices.choose_precision(TASK.experiments, data, EXECUTION, shown=shown)

    return chosen


def test_the_sum_of_all_models_decides(choose):
    assert choose(A=(1, 1.5), B=(10, 5))[0] == "bf16"
    assert choose(A=(1, 0.1), B=(10, 15))[0] == "fp32"
    assert "a step of all models takes 11 s in fp32 and 15.1 s in bf16, one thread" in choose(A=(1, 0.1), B=(10, 15))[1]


@pytest.mark.parametrize("bf16", [9.1, 10.0, 10.9])
def test_times_within_ten_percent_keep_the_kind_that_is_shown_or_else_take_bf16(choose, bf16):
    times = {"A": (5, bf16 - 5), "B": (5, 5)}
    assert [choose(shown, **times)[0] for shown in ("cpu-fp32", "cpu-bf16", "", "cuda-fp32")] == [
        "fp32", "bf16", "bf16", "bf16",
    ]  # fmt: skip
    assert "alike" in choose("cpu-fp32", **times)[1]


@pytest.mark.parametrize("bf16, faster", [(8.9, "bf16"), (11.1, "fp32")])
def test_times_further_apart_decide_whatever_is_shown(choose, bf16, faster):
    times = {"A": (5, bf16 - 5), "B": (5, 5)}
    assert {choose(shown, **times)[0] for shown in ("cpu-fp32", "cpu-bf16", "")} == {faster}


def test_a_model_that_fails_is_named_and_left_out(choose):
    """Its step raises an error; the other model decides."""
    for times, precision in ((10, 20), "fp32"), ((20, 10), "bf16"):
        chosen, why = choose(A=RuntimeError("no forward"), B=times)
        assert chosen == precision and "A could not be measured (RuntimeError: no forward)" in why
