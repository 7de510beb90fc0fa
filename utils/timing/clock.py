"""Times that can be compared: interleaved, warmed up, synchronised, on a clock that can't be set back."""

import random
import time
from collections.abc import Callable, Mapping

import numpy as np

WARM_UP_CALLS = 2


def seconds_per_call(action: Callable[[], object], synchronize: Callable[[], None], calls: int) -> np.ndarray:
    """Duration of each of `calls` calls of `action`, shape (calls,), in seconds.

    `synchronize` waits for the device before the clock is read: without it, an asynchronous device has only been
    given the work.
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
    """Durations of each action's calls, one array a round, {name: [(calls,), ...]}.

    Every round times all actions, in an order shuffled anew, so that a drift of the machine's speed falls on all of
    them alike. After a warm-up, each action gets as many calls a round as make the
    whole take about `seconds`, at least 1 and at most `max_calls`.
    """
    share = seconds / (rounds * len(actions))
    calls = {}
    for name, action in actions.items():
        once = seconds_per_call(action, synchronize, WARM_UP_CALLS)[-1]
        calls[name] = int(np.clip(share / once, 1, max_calls))
    durations: dict[str, list[np.ndarray]] = {name: [] for name in actions}
    shuffler = random.Random(2)  # whose first orders of 3 and 4 differ; those of other seeds may begin alike
    for _ in range(rounds):
        for name in shuffler.sample(list(actions), len(actions)):
            durations[name].append(seconds_per_call(actions[name], synchronize, calls[name]))
    return durations
