"""Up to 1,000 workers on paper: how long they take for the cells of task 1.2, and what limits them.

python benchmarks/workers.py --data-dir DIR     # prints this machine's rates and the table of simulations
"""

import argparse
import heapq
import itertools
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from common import in_fresh_process
from torch.distributed import TCPStore

from task_1_2_cifar import TASK
from utils.checkout import CHECKOUT
from utils.command.arguments import at_least, default_data_dir
from utils.command.processes import LOOK_SECONDS
from utils.command.session import BEAT_SECONDS, pause
from utils.data.images import load_splits
from utils.data.specs import CIFAR10
from utils.records.record import read_record
from utils.words import duration, table

RECORDS = CHECKOUT / "plots/task_1_2/records/cpu-bf16"
WORKERS, SEEDS = [1, 8, 32, 128, 512, 1000], [32, 128, 1000]
RECORD_BYTES = 90_000  # of a record, JSON and arrays
MEASURED_SECONDS = 2.0  # of each kind of request


class Costs(NamedTuple):
    """Seconds: of a worker from its start to its first claim; of the store for a claim, a record, any other request."""

    start: float
    claim: float
    record: float
    request: float


class Run(NamedTuple):
    """What a simulation finds, in seconds: until the last record has arrived; waiting for the store, all workers."""

    makespan: float
    waited: float


def recorded_seconds(seeds: int) -> list[tuple[str, float]]:
    """(model, seconds) of all cells in declared order, those of a seed together; recorded seeds come in turns."""
    recorded = {}
    for experiment in TASK.experiments:
        paths = sorted(RECORDS.glob(f"{experiment.name}-seed*.json"))
        histories = [read_record(path).history for path in paths]
        recorded[experiment.name] = [sum(e["train_seconds"] + e["eval_seconds"] for e in h) for h in histories]
    return [(name, of_model[seed % len(of_model)]) for seed in range(seeds) for name, of_model in recorded.items()]


def longest_first(cells: Sequence[tuple[str, float]]) -> list[float]:
    """The seconds of the cells, in the order of the suite: by the mean of their model, which is all it can expect."""
    of_model = {model: [seconds for name, seconds in cells if name == model] for model, _ in cells}
    expected = {model: sum(seconds) / len(seconds) for model, seconds in of_model.items()}
    return [seconds for _, seconds in sorted(cells, key=lambda cell: -expected[cell[0]])]


def simulate(cells: Sequence[float], workers: int, costs: Costs) -> Run:
    """Each worker claims the next cell when it is free, and sends the record of its last one before that.

    The store serves one request at a time, in the order in which they come.
    """
    free = [(costs.start, 0.0) for _ in range(workers)]  # (when, seconds that the store takes for its last record)
    heapq.heapify(free)
    served, waited, last = 0.0, 0.0, 0.0
    for seconds in itertools.chain(cells, itertools.repeat(None, workers)):  # at the end each finds nothing left
        now, sending = heapq.heappop(free)
        begun = max(now, served)
        waited, served = waited + begun - now, begun + sending + costs.claim
        last = max(last, begun + sending if sending else 0.0)
        if seconds is not None:
            heapq.heappush(free, (served + seconds, costs.record))
    return Run(last, waited)


def rate(request: Callable[[], object]) -> float:
    """Requests a second, one after another."""
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < MEASURED_SECONDS:
        request()
        count += 1
    return count / (time.perf_counter() - started)


def rates_of_store() -> dict[str, float]:
    """Requests a second of one client to a TCPStore on this machine's loopback."""
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    client = TCPStore("127.0.0.1", server.port, is_master=False, timeout=timedelta(seconds=30))
    record, names = bytes(RECORD_BYTES).decode(), itertools.cycle(f"record{i}" for i in range(100))
    client.set("key", "value")
    return {
        "add": rate(lambda: client.add("counter", 1)),
        "get": rate(lambda: client.get("key")),
        f"set of {RECORD_BYTES:,} bytes": rate(lambda: client.set(next(names), record)),
    }


def what_limits(cells: Sequence[float], workers: int, costs: Costs, makespan: float) -> str:
    """The largest part of the makespan: the work shared by all, the longest cell, or what comes on top of both."""
    share, longest = sum(cells) / workers, max(cells)
    if makespan > 1.2 * (max(share, longest) + costs.start):
        return "the last cells" if longest < makespan else "the store"
    return "the longest cell" if longest > share else "the work"


def requests_a_second(ranks: int) -> float:
    """Of all ranks under torchrun that train: each one's beat, its three looks at rank 0, rank 0's two looks at it."""
    return ranks * (1 / pause(BEAT_SECONDS, ranks) + (3 + 2) / pause(LOOK_SECONDS, ranks))


def row(seeds: int, workers: int, costs: Costs, cells: Sequence[tuple[str, float]]) -> list[str]:
    order = longest_first(cells)
    declared = simulate([seconds for _, seconds in cells], workers, costs)
    found, bound = simulate(order, workers, costs), max(max(order), sum(order) / workers) + costs.start
    return [
        f"{seeds:,}",
        f"{len(cells):,}",
        f"{workers:,}",
        duration(found.makespan),
        f"{found.makespan / bound:.3f}",
        f"{declared.makespan / bound:.3f}",
        f"{sum(order) / (workers * found.makespan):.1%}",
        f"{found.waited / workers:.2f}",
        f"{requests_a_second(workers) * costs.request:.0%}",
        what_limits(order, workers, costs, found.makespan),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--seeds", nargs="+", type=at_least(1), default=SEEDS, metavar="N")
    parser.add_argument("--workers", nargs="+", type=at_least(1), default=WORKERS, metavar="N")
    parser.add_argument("--data-dir", type=Path, default=default_data_dir(), metavar="DIR", help="default: %(default)s")
    options = parser.parse_args()
    started = time.perf_counter()
    in_fresh_process(load_splits, CIFAR10, options.data_dir, False)
    start, rates = time.perf_counter() - started, rates_of_store()
    sending = 1 / rates[f"set of {RECORD_BYTES:,} bytes"]
    costs = Costs(start, 1 / rates["add"], 2 * sending, 1 / rates["get"])  # a record is sent and fetched
    print(f"A worker is ready after {start:.1f} s (Python, PyTorch, CIFAR-10 from the cache).\n")
    print(table(["request to a TCPStore, one client", "a second"], [[name, f"{r:,.0f}"] for name, r in rates.items()]))
    header = ["seeds", "cells", "workers", "takes", "over the bound", "in declared order", "efficiency"]
    lines = []
    for seeds in options.seeds:
        cells = recorded_seconds(seeds)
        lines += [row(seeds, workers, costs, cells) for workers in options.workers]
    print(f"\n{table([*header, 'waits for the store, s', 'ranks keep it busy', 'limited by'], lines)}")


if __name__ == "__main__":
    main()
