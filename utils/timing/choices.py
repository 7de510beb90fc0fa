"""What suits this machine: which precision, and how many threads for a cell."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional as F

from utils.data.images import Splits
from utils.experiment import Experiment
from utils.timing.clock import benchmark, seconds_per_call
from utils.timing.models import training_steps
from utils.training.device import Execution, has_bf16_units
from utils.training.model import build_model, flops_per_image

REFERENCE_KERNEL = 3  # a bf16 convolution so many times as slow as in fp32 is one of PyTorch's reference kernels
ALIKE = 0.10  # times that differ by less than that decide nothing
ROUNDS = 5


def choose_precision(
    experiments: Sequence[Experiment], data: Splits, execution: Execution, shown: str = ""
) -> tuple[str, str]:
    """ "bf16" if this machine trains the task's models faster with it, else "fp32", and why; one choice for all models.

    Without bf16 units it is fp32. On a CPU some builds of PyTorch run bf16 convolutions with a reference kernel that is
    4 to 500 times as slow, so a small one is tried first. Then the medians of a step of all models, one thread each,
    interleaved, decide; if they are within 10%, the kind of records that the page shows, `shown`, does, else bf16. A
    model that fails is named and left out.
    """
    device = execution.device
    if not has_bf16_units(device):
        return "fp32", f"Precision fp32: {device} has no bf16 units."
    if device.type == "cuda":
        return "bf16", f"Precision bf16: {device} has bf16 units."
    fp32, bf16 = (replace(execution, precision=precision, threads=1) for precision in ("fp32", "bf16"))
    times_slower = _convolution_seconds(bf16) / _convolution_seconds(fp32)
    if times_slower > REFERENCE_KERNEL:
        return "fp32", f"Precision fp32: a small convolution takes {times_slower:.0f} times as long in bf16."
    slow, fast, failed = 0.0, 0.0, []
    for experiment in experiments:
        try:
            of_fp32, of_bf16 = step_seconds(experiment, data, (fp32, bf16))
        except Exception as error:
            failed.append(f"{experiment.name} could not be measured ({type(error).__name__}: {error})")
            continue
        slow, fast = slow + of_fp32, fast + of_bf16
    measured = f"a step of all models takes {slow:.3g} s in fp32 and {fast:.3g} s in bf16, one thread"
    measured = "; ".join([measured, *failed])
    if abs(fast - slow) > ALIKE * slow:
        precision, why = "bf16" if fast < slow else "fp32", "the faster one"
    elif shown in (f"{device.type}-fp32", f"{device.type}-bf16"):
        precision, why = shown.rpartition("-")[2], "alike, so that of the records that the page shows"
    else:
        precision, why = "bf16", "alike"
    return precision, f"Precision {precision} ({why}): {measured}."


def seconds_by_threads(
    experiments: Sequence[Experiment], data: Splits, execution: Execution, threads: Sequence[int]
) -> list[float]:
    """Median seconds of a training step with each number of `threads`, of the model with the most FLOPs."""

    def flops(experiment: Experiment) -> int:
        return flops_per_image(build_model(experiment, data.image_shape, data.num_classes, seed=0), data.image_shape)

    largest = max(experiments, key=flops)
    return step_seconds(largest, data, [replace(execution, threads=number) for number in threads])


def step_seconds(experiment: Experiment, data: Splits, executions: Sequence[Execution]) -> list[float]:
    """Median seconds of a model's training step by each of `executions` on a CPU, measured in turns."""

    def with_threads(run: Callable[[], None], threads: int) -> Callable[[], None]:
        def action() -> None:
            torch.set_num_threads(threads)
            run()

        return action

    before = torch.get_num_threads()
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, before)
        actions = {
            str(index): with_threads(
                stack.enter_context(training_steps(experiment, data, execution, steps=1)), execution.threads
            )
            for index, execution in enumerate(executions)
        }
        # The shortest possible: one call a round after two to warm up.
        durations = benchmark(actions, lambda: None, ROUNDS, seconds=0)
    return [float(np.median(np.concatenate(rounds))) for rounds in durations.values()]


def _convolution_seconds(execution: Execution) -> float:
    """The median seconds of a small convolution, forward and backward, on the CPU."""
    weights = torch.randn(32, 32, 3, 3).to(memory_format=torch.channels_last).requires_grad_()
    images = torch.randn(16, 32, 14, 14).to(memory_format=torch.channels_last)

    def forward_and_backward():
        with execution.autocast():
            F.conv2d(images, weights, padding=1).float().sum().backward()

    return float(np.median(seconds_per_call(forward_and_backward, execution.synchronize, 5)))
