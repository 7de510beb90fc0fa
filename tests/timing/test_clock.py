"""Times are those of what is timed, on a clock that nobody can set back."""

import time

import numpy as np
import pytest

from utils.timing.clock import benchmark, seconds_per_call


def nothing():
    pass


def test_a_planted_sleep_is_found():
    actions = {"quick": nothing, "slow": lambda: time.sleep(0.005)}
    durations = benchmark(actions, nothing, rounds=3, seconds=0.1)
    assert [len(rounds) for rounds in durations.values()] == [3, 3]
    difference = np.median(np.concatenate(durations["slow"])) - np.median(np.concatenate(durations["quick"]))
    assert difference == pytest.approx(0.005, abs=0.003)


def test_a_clock_set_back_changes_nothing(monkeypatch):
    monkeypatch.setattr(time, "time", iter(range(10**6, 0, -3600)).__next__)
    assert (seconds_per_call(lambda: time.sleep(0.002), nothing, calls=3) > 0.0019).all()


def test_an_asynchronous_device_is_waited_for():
    pending = []

    def wait():
        time.sleep(0.004 * len(pending))
        pending.clear()

    assert (seconds_per_call(lambda: pending.append(1), wait, calls=3) > 0.0039).all()
    assert (seconds_per_call(lambda: pending.append(1), nothing, calls=3) < 0.0039).all()  # what missing it looks like


def test_every_round_times_all_models_in_an_order_of_its_own():
    order = []
    benchmark({name: lambda name=name: order.append(name) for name in "abc"}, nothing, rounds=6, seconds=9, max_calls=3)
    rounds = np.array(order[6:]).reshape(6, 3, 3)[..., 0]  # warm-up: 2 calls of each; then 3 calls at a time
    assert all(sorted(names) == list("abc") for names in rounds.tolist())
    assert len({tuple(names) for names in rounds[:5].tolist()}) > 3 and set(rounds[:5, 0]) == set("abc")
