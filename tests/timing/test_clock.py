"""Times are those of what is timed, on a clock that nobody can set back."""

import time

import numpy as np
import pytest

from utils.timing import clock
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


def test_every_round_times_all_models_in_an_order_of_its_own(monkeypatch):
    monkeypatch.setattr(clock, "WARM_UP_SECONDS", 0)
    order = []
    actions = {name: lambda name=name: order.append(name) for name in "abc"}
    benchmark(actions, nothing, rounds=6, seconds=9, max_calls=3, sample_seconds=0)
    rounds = np.array(order[6:]).reshape(6, 3, 3)[..., 0]  # warm-up: 2 calls of each; then 3 calls at a time
    assert all(sorted(names) == list("abc") for names in rounds.tolist())
    assert len({tuple(names) for names in rounds[:5].tolist()}) > 3 and set(rounds[:5, 0]) == set("abc")


class Clock:
    """A clock that stands still but for the calls of `work(seconds)`, whose durations it collects."""

    def __init__(self, monkeypatch):
        self.now, self.calls = 1_000_000, []
        monkeypatch.setattr(time, "perf_counter_ns", lambda: self.now)
        monkeypatch.setattr(time, "perf_counter", lambda: self.now / 1e9)

    def work(self, milliseconds: float):
        def action():
            self.now += round(milliseconds * 1e6)
            self.calls.append(milliseconds)

        return action


@pytest.mark.parametrize("milliseconds, repeats", [(0.7, 29), (21, 1), (33, 1), (19, 2)])
def test_a_sample_takes_20_ms_and_gives_the_duration_of_a_call(monkeypatch, milliseconds, repeats):
    fake = Clock(monkeypatch)
    rounds = benchmark({"a": fake.work(milliseconds)}, nothing, rounds=3, seconds=0.6)["a"]
    samples = max(1, int(200 / (milliseconds * repeats)))  # a round takes 200 ms
    assert [len(calls) for calls in rounds] == [samples] * 3
    np.testing.assert_allclose(np.concatenate(rounds), milliseconds / 1e3)
    warm = len(fake.calls) - 3 * samples * repeats
    assert 500 <= warm * milliseconds < 500 + max(2 * milliseconds, 1)  # half a second before anything is timed


def test_a_latency_is_of_single_calls(monkeypatch):
    """Also where each is far shorter than a sample: else the slow ones would vanish in means."""
    fake = Clock(monkeypatch)
    rounds = benchmark({"a": fake.work(0.5)}, nothing, rounds=2, seconds=0.02, sample_seconds=0)["a"]
    assert [len(calls) for calls in rounds] == [20, 20]
    assert len(fake.calls) == 1000 + 40


def test_without_seconds_everything_is_as_short_as_possible(monkeypatch):
    fake = Clock(monkeypatch)
    rounds = benchmark({"a": fake.work(0.5)}, nothing, rounds=2, seconds=0)["a"]
    assert [len(calls) for calls in rounds] == [1, 1] and len(fake.calls) == 2 + 2
