"""Times that can be compared: after a warm-up, interleaved, synchronised, on a clock that is never set back."""

import random
import time
from collections.abc import Callable, Mapping

import numpy as np

WARM_UP_CALLS = 2  # the first calls allocate memory and choose kernels, so they take longer


def seconds_per_call(action: Callable[[], object], synchronize: Callable[[], None], calls: int) -> np.ndarray:
    """The duration of each of `calls` calls of `action`, in seconds, shape (calls,).

    `synchronize` waits until the device has finished. Without it, the clock would be read when the work has been queued
    on a GPU, not when it is done.
    """
    durations = np.empty(calls)
    synchronize()
    for call in range(calls):
        started = time.perf_counter_ns()
        action()
        synchronize()
        durations[call] = (time.perf_counter_ns() - started) / 1e9
    return durations


def benchmark(
    actions: Mapping[str, Callable[[], object]],
    synchronize: Callable[[], None],
    rounds: int,
    seconds: float,
    max_calls: int = 20,
) -> dict[str, list[np.ndarray]]:
    """The durations of each action's calls in seconds, {name: [one array of shape (calls,) for each round]}.

    Every round times all actions, in a newly shuffled order, so that a drift of the machine's speed affects all of them
    alike. After a warm-up, the number of calls a round is chosen so that the whole measurement takes about `seconds`;
    it is at least 1 and at most `max_calls`.
    """
    share = seconds / (rounds * len(actions))
    calls = {}
    for name, action in actions.items():
        once = seconds_per_call(action, synchronize, WARM_UP_CALLS)[-1]
        calls[name] = int(np.clip(share / once, 1, max_calls))
    durations: dict[str, list[np.ndarray]] = {name: [] for name in actions}
    shuffler = random.Random(2)  # a seed whose first orders of 3 and of 4 differ, even with two rounds
    for _ in range(rounds):
        for name in shuffler.sample(list(actions), len(actions)):
            durations[name].append(seconds_per_call(actions[name], synchronize, calls[name]))
    return durations
