"""Training speed of this suite's `fit` against skorch and Keras on JAX.

python benchmarks/against_peers.py      # needs benchmarks/requirements.txt; prints a Markdown table
"""

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from common import IMAGES, Case, busy, compare, executions, header, parse_options, plain_optimizer, suite, with_spread
from torch import Tensor, nn

from utils.data.images import load_splits
from utils.timing.clock import seconds_per_call
from utils.training.device import Execution
from utils.words import table

PACKAGES = ("skorch", "keras", "jax")
# Times as fast as the faster peer that this suite wants to be, with bf16.
TARGETS = {"FCN-mnist": 1.1, "SimpleCNN-mnist": 1.5, "CNNWithResidual-cifar10": 2}


def training_images(case: Case, data_dir: Path) -> tuple[Tensor, Tensor]:
    """All images of the epoch, normalised, (N, C, H, W) float32 in channels_last, and their labels (N,)."""
    images = IMAGES[case.name]
    return next(load_splits(case.spec, data_dir, limit=images).train.batches(images))


def skorch(case: Case, data_dir: Path, execution: Execution) -> Callable[[], float]:
    """The same network under skorch, on arrays in memory, fp32."""
    from skorch import NeuralNetClassifier

    torch.set_num_threads(execution.threads)
    config = case.experiment.config
    images, labels = (tensor.contiguous().numpy() for tensor in training_images(case, data_dir))
    net = NeuralNetClassifier(
        case.model(),
        criterion=nn.CrossEntropyLoss,
        optimizer=plain_optimizer(config),
        lr=config.learning_rate,
        max_epochs=1,
        batch_size=config.batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    return lambda: float(seconds_per_call(lambda: net.partial_fit(images, labels), execution.synchronize, 1)[0])


def keras_on_jax(case: Case, data_dir: Path, execution: Execution) -> Callable[[], float]:
    """The same architecture in Keras on JAX, compiled, channels last, on arrays in memory, fp32."""
    os.environ |= {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "2"}
    import keras
    from keras_models import MODELS

    config = case.experiment.config
    images, labels = training_images(case, data_dir)
    images, labels = images.permute(0, 2, 3, 1).contiguous().numpy(), labels.numpy()
    model = MODELS[case.name](images.shape[1:], len(case.spec.class_names))
    ours, theirs = (
        sum(p.numel() for p in case.model().parameters()),
        sum(v.value.size for v in model.trainable_variables),
    )
    assert ours == theirs, f"{case.name}: {ours:,} parameters, but {theirs:,} in Keras"
    if config.optimizer == "adam":
        optimizer = keras.optimizers.Adam(config.learning_rate)
    else:
        optimizer = keras.optimizers.SGD(config.learning_rate, config.momentum)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=True)

    def epoch() -> None:
        model.fit(images, labels, batch_size=config.batch_size, verbose=0)

    return lambda: float(seconds_per_call(epoch, execution.synchronize, 1)[0])


def main() -> None:
    options = parse_options(__doc__.splitlines()[0], list(TARGETS), rounds=3)
    missing = [package for package in PACKAGES if find_spec(package) is None]
    if missing:
        print(f"error: no {' and no '.join(missing)}: pip install -r benchmarks/requirements.txt", file=sys.stderr)
        sys.exit(2)
    execution = executions(options)
    peers = {"skorch": skorch, "Keras on JAX": keras_on_jax}
    speeds = compare({"suite": suite, **peers}, options, execution)
    rows, rounds = [], {}
    for case in options.cases:
        precision, speed = execution[case.spec.name].precision, speeds[case.name]
        best = max(peers, key=lambda peer: np.median(speed[peer]))
        ratios = np.divide(speed["suite"], speed[best])
        target = f"{TARGETS[case.name]:g}" if precision == "bf16" else "none"
        medians = [f"{np.median(values):,.0f}" for values in speed.values()]
        rows.append([case.name, precision, *medians, best, with_spread(ratios), target])
        rounds |= {f"{case.name}, {name}": values for name, values in speed.items()}
    print(header(PACKAGES))
    columns = [f"{name}, images/s" for name in ("this suite", *peers)]
    print(table(["model", "precision", *columns, "faster peer", "ratio to it (min to max)", "target"], rows))
    print(busy(rounds))


if __name__ == "__main__":
    main()
