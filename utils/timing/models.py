"""The timing pass over all models of a task, and which precision is faster on this machine."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import nn

from utils.data.images import Splits, batch_sizes
from utils.experiment import Experiment
from utils.records.timing import TimingRecord
from utils.timing.clock import benchmark, expected_seconds, seconds_per_call
from utils.training.device import Execution
from utils.training.fit import make_optimizer, make_schedule, train_one_epoch
from utils.training.gradients import UPDATE_RATIO_EVERY, GradientFlow
from utils.training.machine import describe_environment
from utils.training.model import build_model
from utils.training.predict import predict
from utils.training.seeds import epoch_offsets

ROUNDS = 5
IMAGES_TRIED = 100  # for a rough time of an evaluation
THREADS_GAIN = 0.7  # a step with twice the threads takes about 1 / 2**0.7 of the time
THROUGHPUT_BATCH_SIZE = 512
# Rounds, steps in a call, share of the seconds below, images in a large batch.
WHOLE_PASS, SMOKE_PASS = (ROUNDS, UPDATE_RATIO_EVERY, 1.0, THROUGHPUT_BATCH_SIZE), (2, 1, 0.0, 32)
# Seconds that each part of the timing pass takes for all models together, without the warm-up.
TRAIN_SECONDS, INFERENCE_SECONDS, LATENCY_SECONDS, THROUGHPUT_SECONDS = 30, 6, 3, 9


@contextmanager
def training_steps(experiment: Experiment, data: Splits, execution: Execution, steps: int):
    """A context that gives a callable: each call trains a new model for `steps` steps.

    It uses the same code as `fit` and records gradient flow as well, so that it takes the same time.
    """
    config = experiment.config
    model = execution.place(build_model(experiment, data.image_shape, data.num_classes, seed=0))
    optimizer = make_optimizer(model, config)
    schedule = make_schedule(optimizer, config, steps_an_epoch=10**9)  # a benchmark takes any number of steps
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    # Repeated, in case the data set has fewer examples than `steps` full batches need.
    order = order.repeat(1 + steps * config.batch_size // len(order))[: steps * config.batch_size].to(execution.device)
    offsets = epoch_offsets(len(data.train), 0, 1).to(execution.device) if config.augmentation else None
    with GradientFlow(model, optimizer, steps) as flow:

        def run() -> None:
            batches = data.train.batches(config.batch_size, order, offsets)
            train_one_epoch(model, optimizer, batches, execution, config, schedule)
            flow.read()

        yield run


def timing_pass(
    experiments: Sequence[Experiment],
    hashes: Mapping[str, str],
    code: Mapping[str, str],
    data: Splits,
    execution: Execution,
    smoke: bool = False,
) -> TimingRecord:
    """Time all models in shuffled rounds: training steps, inference, latency and throughput.

    Nothing else should run meanwhile. Training steps are timed ten at a time, since every tenth step also records the
    update ratio and takes longer. With `smoke` there are two rounds with as few calls as possible. `hashes` maps each
    model to its config hash, `code` to the hash of its code.
    """
    rounds, steps, share, many = SMOKE_PASS if smoke else WHOLE_PASS
    models = {
        e.name: execution.place(build_model(e, data.image_shape, data.num_classes, 0)).eval() for e in experiments
    }
    batch_size = experiments[0].config.batch_size
    wait = execution.synchronize
    with ExitStack() as stack:
        training = {e.name: stack.enter_context(training_steps(e, data, execution, steps)) for e in experiments}
        train = benchmark(training, wait, rounds, share * TRAIN_SECONDS)
    inference = benchmark(_inference(models, data, batch_size, execution), wait, rounds, share * INFERENCE_SECONDS)
    # Each call by itself: the 95th percentile of means would hide the slow ones.
    latency = benchmark(_inference(models, data, 1, execution), wait, rounds, share * LATENCY_SECONDS, sample_seconds=0)
    large = _inference(models, data, many, execution)
    throughput = benchmark(large, wait, rounds, share * THROUGHPUT_SECONDS)
    measured = {}
    for experiment in experiments:
        name, per_epoch = experiment.name, len(batch_sizes(len(data.train), experiment.config.batch_size))
        step = [float(np.median(calls)) / steps for calls in train[name]]
        measured[name] = {
            "train_step_seconds": step,
            "train_epoch_seconds": [seconds * per_epoch for seconds in step],
            "inference_batch_seconds": [float(np.median(calls)) for calls in inference[name]],
            "latency_seconds": [float(np.median(calls)) for calls in latency[name]],
            "latency_p95_seconds": [float(np.percentile(calls, 95)) for calls in latency[name]],
            "throughput_batch_seconds": [float(np.median(calls)) for calls in throughput[name]],
        }
    return TimingRecord(
        environment=describe_environment(execution),
        batch_size=batch_size,
        throughput_batch_size=many,
        models=measured,
        config_hashes={experiment.name: hashes[experiment.name] for experiment in experiments},
        model_hashes={experiment.name: code[experiment.name] for experiment in experiments},
    )


def _inference(
    models: Mapping[str, nn.Module], data: Splits, batch_size: int, execution: Execution
) -> dict[str, Callable[[], object]]:
    """{model: a callable that runs a forward pass over one batch}. The batch is normalised and on the device before."""
    # The remainder repeats images if the test set is smaller than the batch.
    rows = torch.arange(batch_size, device=execution.device) % len(data.test)
    images, _ = next(data.test.batches(batch_size, rows))

    def action(model: nn.Module) -> Callable[[], object]:
        @torch.inference_mode()
        def forward():
            with execution.autocast():
                return model(images)

        return forward

    return {name: action(model) for name, model in models.items()}


def seconds_of_a_pass(
    costs: Sequence[tuple[float, float]], batch_size: int, threads: int, cores: int, smoke: bool = False
) -> float:
    """About how long a timing pass takes of models with these `costs`, (seconds a step, seconds an image).

    They were measured with `threads` threads, of the `cores` that the pass has.
    """
    rounds, steps, share, many = SMOKE_PASS if smoke else WHOLE_PASS
    faster = (threads / cores) ** THREADS_GAIN
    training = [faster * steps * step for step, _ in costs]
    images = [faster * image for _, image in costs]
    throughput = [many * image for image in images]
    return (
        expected_seconds(training, rounds, share * TRAIN_SECONDS)
        + expected_seconds([batch_size * image for image in images], rounds, share * INFERENCE_SECONDS)
        + expected_seconds(images, rounds, share * LATENCY_SECONDS, sample_seconds=0)
        + expected_seconds(throughput, rounds, share * THROUGHPUT_SECONDS)
    )


def seconds_per_image(experiment: Experiment, data: Splits, execution: Execution) -> float:
    """A rough duration of the evaluation of one image in seconds, from one batch after another to warm up."""
    model = execution.place(build_model(experiment, data.image_shape, data.num_classes, seed=0))
    images = data.test.take(np.arange(min(IMAGES_TRIED, len(data.test))))
    durations = seconds_per_call(lambda: predict(model, images, execution), execution.synchronize, 2)
    return float(durations[-1]) / len(images)


def seconds_per_step(experiment: Experiment, data: Splits, execution: Execution, steps: int = 2) -> float:
    """A rough duration of one training step in seconds, from `steps` steps after as many to warm up."""
    with training_steps(experiment, data, execution, steps) as run:
        return float(seconds_per_call(run, execution.synchronize, 2)[-1]) / steps
