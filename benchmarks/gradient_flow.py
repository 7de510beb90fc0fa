"""What recording gradient flow adds to a training step: this suite's way beside the original report's.

python benchmarks/gradient_flow.py      # prints both overheads in percent as a Markdown table
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from common import CASES, Case, busy, executions, header, parse_options, progress, with_spread
from torch import nn
from torch.optim import Optimizer

from utils.data.images import Splits, load_splits
from utils.timing.clock import benchmark
from utils.training.device import Execution
from utils.training.fit import make_optimizer, make_schedule, train_one_epoch
from utils.training.gradients import UPDATE_RATIO_EVERY, GradientFlow
from utils.words import table

SECONDS = 40  # of measurement for each model, warm-up not counted
Recorder = Callable[[nn.Module, Optimizer], object]  # makes a context manager


@contextmanager
def no_recording(model: nn.Module, optimizer: Optimizer) -> Iterator[Callable[[], object]]:
    yield lambda: None


@contextmanager
def suite_way(model: nn.Module, optimizer: Optimizer) -> Iterator[Callable[[], object]]:
    with GradientFlow(model, optimizer, UPDATE_RATIO_EVERY) as flow:
        yield flow.read


@contextmanager
def original_way(model: nn.Module, optimizer: Optimizer) -> Iterator[Callable[[], object]]:
    """Every weight tensor's mean absolute gradient as a Python number after each backward pass."""
    weights = [module.weight for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    logged: list[list[float]] = []
    hook = optimizer.register_step_pre_hook(
        lambda *_: logged.append([weight.grad.abs().mean().item() for weight in weights])
    )
    yield logged.clear
    hook.remove()


RECORDERS = {"no recording": no_recording, "suite": suite_way, "original": original_way}


def blocks_of_steps(case: Case, data: Splits, execution: Execution, stack: ExitStack) -> dict[str, Callable]:
    """For each way of recording a callable that trains a model of its own for a block of steps and reads the record.

    This suite records more in one of UPDATE_RATIO_EVERY steps: only whole blocks of them can be compared.
    """
    config = case.experiment.config
    order = torch.arange(UPDATE_RATIO_EVERY * config.batch_size)

    def block(recorder: Recorder) -> Callable[[], None]:
        model = execution.place(case.model())
        optimizer = make_optimizer(model, config)
        schedule = make_schedule(optimizer, config, steps_an_epoch=10**9)
        read = stack.enter_context(recorder(model, optimizer))

        def run() -> None:
            train_one_epoch(model, optimizer, data.train.batches(config.batch_size, order), execution, config, schedule)
            read()

        return run

    return {name: block(recorder) for name, recorder in RECORDERS.items()}


def main() -> None:
    options = parse_options(__doc__.splitlines()[0], list(CASES), rounds=9)
    execution = executions(options)
    next(iter(execution.values())).prepare_process()
    rows, rounds = [], {}
    for case in options.cases:
        how = execution[case.spec.name]
        data = load_splits(case.spec, options.data_dir)
        with ExitStack() as stack:
            blocks = blocks_of_steps(case, data, how, stack)
            durations = benchmark(blocks, how.synchronize, options.rounds, SECONDS)
        seconds = {
            name: np.array([np.median(calls) for calls in durations[name]]) / UPDATE_RATIO_EVERY for name in blocks
        }
        suite, original = (100 * (seconds[name] / seconds["no recording"] - 1) for name in ("suite", "original"))
        step, target = f"{np.median(seconds['no recording']) * 1e3:.2f}", 10 if case.experiment.name == "FCN" else 5
        rows.append([case.name, how.precision, step, with_spread(suite, 1), with_spread(original, 1), f"{target}"])
        rounds |= {f"{case.name}, {name}": values for name, values in seconds.items()}
        progress(f"{case.name}: done")
    print(header())
    columns = ["model", "precision", "step without, ms", "this suite, % (min to max)", "original way, %", "target, %"]
    print(table(columns, rows))
    print(busy(rounds))


if __name__ == "__main__":
    main()
