"""Times that can be compared: after a warm-up, interleaved, synchronised, on a clock that is never set back."""

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

WARM_UP_SECONDS = 0.5  # a GPU needs so long to reach its clock rate
SAMPLE_SECONDS = 0.02  # shorter ones would be timing the clock and the synchronisation as well
WARM_UP_CALLS = 2  # at least: the first calls allocate memory and choose kernels, so they take longer


def seconds_per_call(
    action: Callable[[], object], synchronize: Callable[[], None], calls: int, repeats: int = 1
) -> np.ndarray:
    """The duration of a call of `action`, in seconds, `calls` times, shape (calls,); each a mean over `repeats`.

    `synchronize` waits until the device has finished. Without it, the clock would be read when the work has been queued
    on a GPU, not when it is done.
    """
    durations = np.empty(calls)
    synchronize()
    for call in range(calls):
        started = time.perf_counter_ns()
        for _ in range(repeats):
            action()
        synchronize()
        durations[call] = (time.perf_counter_ns() - started) / 1e9 / repeats
    return durations


def warm_up(action: Callable[[], object], synchronize: Callable[[], None], seconds: float) -> float:
    """Call `action` for about `seconds`; returns the duration of its last call, in seconds."""
    started = time.perf_counter()
    once = seconds_per_call(action, synchronize, WARM_UP_CALLS)[-1]
    while time.perf_counter() - started < seconds:
        once = seconds_per_call(action, synchronize, 1)[0]
    return float(once)


def expected_seconds(
    once: Sequence[float], rounds: int, seconds: float, max_calls: int = 20, sample_seconds: float = SAMPLE_SECONDS
) -> float:
    """About how long a `benchmark` of actions takes of which a call takes `once` seconds, one number for each."""
    share = seconds / (rounds * len(once))
    total = 0.0
    for call in once:
        calls, repeats = _how_often(call, share, max_calls, sample_seconds)
        total += max(WARM_UP_CALLS * call, WARM_UP_SECONDS if seconds else 0) + rounds * calls * repeats * call
    return total


def _how_often(once: float, share: float, max_calls: int, sample_seconds: float) -> tuple[int, int]:
    """How many samples of a call of `once` seconds fill `share` seconds of a round, and how many calls are a sample."""
    repeats = max(1, math.ceil(sample_seconds / once)) if share else 1
    return int(np.clip(share / (once * repeats), 1, max_calls)), repeats


def benchmark(
    actions: Mapping[str, Callable[[], object]],
    synchronize: Callable[[], None],
    rounds: int,
    seconds: float,
    max_calls: int = 20,
    sample_seconds: float = SAMPLE_SECONDS,
) -> dict[str, list[np.ndarray]]:
    """The durations of each action's calls in seconds, {name: [one array of shape (calls,) for each round]}.

    Every round times all actions, in a newly shuffled order, so that a drift of the machine's speed affects all of them
    alike. After a warm-up, the number of samples a round is chosen so that the whole measurement takes about `seconds`;
    it is at least 1 and at most `max_calls`. A sample is a call, or the mean of so many as take `sample_seconds`. With
    `seconds` 0 everything is as short as possible.
    """
    share = seconds / (rounds * len(actions))
    calls, repeats = {}, {}
    for name, action in actions.items():
        once = warm_up(action, synchronize, WARM_UP_SECONDS if seconds else 0)
        calls[name], repeats[name] = _how_often(once, share, max_calls, sample_seconds)
    durations: dict[str, list[np.ndarray]] = {name: [] for name in actions}
    shuffler = random.Random(2)  # a seed whose first orders of 3 and of 4 differ, even with two rounds
    for _ in range(rounds):
        for name in shuffler.sample(list(actions), len(actions)):
            durations[name].append(seconds_per_call(actions[name], synchronize, calls[name], repeats[name]))
    return durations
