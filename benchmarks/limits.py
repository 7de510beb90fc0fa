"""How near each model's training step comes to what the machine's arithmetic allows.

python benchmarks/limits.py      # prints the matmul and copy rates, and each model's share, as Markdown tables
"""

import argparse
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import numpy as np
import torch
from common import CASES, Case, busy, executions, header, parse_options, with_spread
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from utils.data.images import load_splits
from utils.data.specs import DATASETS
from utils.timing.clock import benchmark
from utils.timing.models import training_steps
from utils.training.device import Execution, has_bf16_units
from utils.training.gradients import UPDATE_RATIO_EVERY
from utils.words import table

MATMUL_SIZES = (1024, 2048, 3072)  # square; the fastest one is the limit
COPY_BYTES = 2**28  # far more than any cache holds
RATE_SECONDS, STEP_SECONDS = 10, 120  # of measurement, warm-up not counted
TARGET = {"CNNWithResidual-cifar10": "60% (bf16)"}


def matmul_rate(precision: str, execution: Execution, rounds: int) -> float:
    """FLOP/s of the fastest of the square matrix products."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    products = {str(size): _matmul(size, dtype) for size in MATMUL_SIZES}
    durations = benchmark(products, execution.synchronize, rounds, RATE_SECONDS)
    return max(2 * int(size) ** 3 / float(np.median(calls)) for size, calls in durations.items())


def _matmul(size: int, dtype: torch.dtype) -> Callable[[], object]:
    left, right = torch.randn(2, size, size, dtype=dtype)
    return lambda: left @ right


def copy_rate(execution: Execution, rounds: int) -> float:
    """Bytes/s of a copy within memory, those read and those written."""
    source = torch.ones(COPY_BYTES, dtype=torch.uint8)
    target = torch.empty_like(source)
    copies = {"copy": lambda: target.copy_(source)}
    return 2 * COPY_BYTES / float(np.median(benchmark(copies, execution.synchronize, rounds, RATE_SECONDS)["copy"]))


def flops_per_step(case: Case) -> int:
    """FLOPs of the forward and backward pass of one batch, counted operation by operation; a multiply-add is 2."""
    model = case.model()
    batch = case.experiment.config.batch_size
    images, labels = torch.zeros(batch, *case.spec.image_shape), torch.zeros(batch, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(model(images), labels).backward()
    return counter.get_total_flops()


def step_seconds(options: argparse.Namespace, execution: Mapping[str, Execution]) -> dict[str, list[float]]:
    """Seconds of each model's real training step, gradient flow recorded: {name: one value a round}."""
    data = {name: load_splits(DATASETS[name], options.data_dir) for name in execution}
    with ExitStack() as stack:
        steps = {}
        for case in options.cases:
            name = case.spec.name
            training = training_steps(case.experiment, data[name], execution[name], UPDATE_RATIO_EVERY)
            steps[case.name] = stack.enter_context(training)
        durations = benchmark(steps, execution[name].synchronize, options.rounds, STEP_SECONDS)
    return {name: [float(np.median(calls)) / UPDATE_RATIO_EVERY for calls in durations[name]] for name in steps}


def main() -> None:
    options = parse_options(__doc__.splitlines()[0], list(CASES), rounds=5)
    execution = executions(options)
    machine = next(iter(execution.values()))
    machine.prepare_process()
    precisions = {"fp32", *(how.precision for how in execution.values())}
    if has_bf16_units(machine.device):  # without them a large product may take minutes
        precisions.add("bf16")
    matmul = {precision: matmul_rate(precision, machine, options.rounds) for precision in sorted(precisions)}
    copy = copy_rate(machine, options.rounds)
    steps = step_seconds(options, execution)
    print(header())
    limits = [[f"matrix product, {precision}", f"{rate / 1e9:,.0f} GFLOP/s"] for precision, rate in matmul.items()]
    print(table(["limit", "measured"], [*limits, ["copy, read + written", f"{copy / 1e9:.1f} GB/s"]]), "", sep="\n")
    rows = []
    for case in options.cases:
        precision, flops, seconds = execution[case.spec.name].precision, flops_per_step(case), steps[case.name]
        rate, limit = flops / np.median(seconds), matmul[precision]
        milliseconds = [with_spread(np.multiply(seconds, 1e3)), f"{flops / limit * 1e3:.2f}"]
        achieved = [f"{flops / 1e9:.3f}", *milliseconds, f"{rate / 1e9:,.0f}", f"{rate / limit:.0%}"]
        rows.append([case.name, precision, *achieved, TARGET.get(case.name, "none")])
    columns = ["GFLOP per step", "step, ms (min to max)", "floor, ms", "GFLOP/s", "share of the limit", "target"]
    print(table(["model", "precision", *columns], rows))
    print(busy(steps))


if __name__ == "__main__":
    main()
