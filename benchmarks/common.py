"""What the benchmarks share: the models with their recipes, options, fresh processes, and how results are printed.

The scripts run as `python benchmarks/<script>.py`; importing this module lets them import the checkout's own.
"""

import argparse
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

sys.path.insert(1, str(Path(__file__).resolve().parent.parent))

import task_1_1_mnist
import task_1_2_cifar
from utils.command.arguments import at_least, default_data_dir
from utils.data.images import load_splits
from utils.data.specs import CIFAR10, MNIST, DatasetSpec
from utils.experiment import Experiment, TrainConfig
from utils.report.tables import BUSY
from utils.timing.models import choose_precision
from utils.training.device import Execution, physical_cores
from utils.training.fit import fit
from utils.training.machine import describe_environment
from utils.training.model import build_model
from utils.words import plural

# Images of one epoch in the comparisons, whole batches: some 5 to 10 s of the original loop on two cores.
IMAGES = {
    "FCN-mnist": 51_200,
    "SimpleCNN-mnist": 19_200,
    "CNNWithResidual-mnist": 6_400,
    "CIFARCNN-cifar10": 12_800,
    "CNNWithResidual-cifar10": 2_560,
}
LEAST_SECONDS = 5.0  # of each measurement, after the epoch that warms up


@dataclass(frozen=True)
class Case:
    """A model with its recipe, and the data set that it trains on."""

    experiment: Experiment
    spec: DatasetSpec

    @property
    def name(self) -> str:
        return f"{self.experiment.name}-{self.spec.name}"

    def model(self) -> torch.nn.Module:
        """A fresh network on the CPU, its initial weights those of seed 0."""
        return build_model(self.experiment, self.spec.image_shape, len(self.spec.class_names), seed=0)


CASES = {
    case.name: case
    for experiments, spec in ((task_1_1_mnist.EXPERIMENTS, MNIST), (task_1_2_cifar.EXPERIMENTS, CIFAR10))
    for case in (Case(experiment, spec) for experiment in experiments)
}

# Prepares a case's training; each call of what it returns trains one epoch of IMAGES and returns its seconds.
Contender = Callable[[Case, Path, Execution], Callable[[], float]]


def parse_options(description: str, names: Sequence[str], rounds: int) -> argparse.Namespace:
    """The command line: `cases` to measure (of those called `names`), `rounds`, `data_dir` and `precision`."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    parser.add_argument("--models", nargs="+", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--rounds", type=at_least(1), default=rounds, metavar="N", help="default: %(default)s")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="of this suite")
    parser.add_argument("--data-dir", type=Path, default=default_data_dir(), metavar="DIR", help="default: %(default)s")
    options = parser.parse_args()
    options.cases = [CASES[name] for name in names if name in (options.models or names)]
    return options


def executions(options: argparse.Namespace) -> dict[str, Execution]:
    """How this suite trains each data set's models: the CPU, all physical cores, the precision asked for or probed."""
    chosen = {}
    for spec in {case.spec.name: case.spec for case in options.cases}.values():
        execution = Execution(torch.device("cpu"), "fp32", physical_cores())
        precision = options.precision
        if precision == "auto":
            precision = in_fresh_process(_probe, spec, options.data_dir, execution)
        chosen[spec.name] = replace(execution, precision=precision)
    return chosen


def _probe(spec: DatasetSpec, data_dir: Path, execution: Execution) -> str:
    execution.prepare_process()
    experiments = [case.experiment for case in CASES.values() if case.spec.name == spec.name]
    return choose_precision(experiments, load_splits(spec, data_dir), execution)


def in_fresh_process(function: Callable, *arguments):
    """What `function` returns in a Python process of its own, which ends before this returns."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        return executor.submit(function, *arguments).result()


def compare(
    contenders: Mapping[str, Contender], options: argparse.Namespace, execution: Mapping[str, Execution]
) -> dict[str, dict[str, list[float]]]:
    """Training images per second of each contender, one value a round, by the case's name.

    Each value comes from a process of its own, one after another. Those to be compared run close together in time,
    and each round starts with the next of them: in a few rounds, shuffling might leave one always first.
    """
    speeds = {case.name: {name: [] for name in contenders} for case in options.cases}
    order = deque(contenders)
    for round_number in range(1, options.rounds + 1):
        for case in options.cases:
            for name in order:
                progress(f"round {round_number} of {options.rounds}, {case.name}, {name}")
                arguments = contenders[name], case, options.data_dir, execution[case.spec.name]
                speeds[case.name][name].append(in_fresh_process(images_per_second, *arguments))
                progress(f"    {speeds[case.name][name][-1]:,.0f} images/s")
        order.rotate(-1)
    return speeds


def images_per_second(contender: Contender, case: Case, data_dir: Path, execution: Execution) -> float:
    """The contender's speed over as many epochs as take LEAST_SECONDS, after one to warm up."""
    epoch = contender(case, data_dir, execution)
    epoch()
    seconds = []
    while sum(seconds) < LEAST_SECONDS:
        seconds.append(epoch())
    return IMAGES[case.name] * len(seconds) / sum(seconds)


def suite(case: Case, data_dir: Path, execution: Execution) -> Callable[[], float]:
    """This suite's `fit`, gradient flow recorded; its own clock leaves out the evaluation after the epoch."""
    execution.prepare_process()
    config = replace(case.experiment.config, epochs=1, limit=IMAGES[case.name])
    data = load_splits(case.spec, data_dir, limit=config.limit).to(execution.device)
    model = execution.place(case.model())
    return lambda: fit(model, config, 0, data, execution).history[0]["train_seconds"]


def plain_optimizer(config: TrainConfig) -> Callable[..., torch.optim.Optimizer]:
    """The recipe's optimiser as PyTorch gives it by default, which isn't fused."""
    settings = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if config.optimizer == "adam":
        return partial(torch.optim.Adam, **settings)
    return partial(torch.optim.SGD, momentum=config.momentum, **settings)


def progress(text: str) -> None:
    """A line for who waits; the results alone go to standard output."""
    print(text, file=sys.stderr, flush=True)


def header(packages: Sequence[str] = ()) -> str:
    """Machine, threads and versions: what every number depends on."""
    facts = describe_environment(Execution(torch.device("cpu"), "fp32", physical_cores()))
    threads = plural(facts["threads"], "thread")
    versions = ", ".join(f"{package} {version(package)}" for package in ("torch", *packages))
    commit = f"{facts['commit'][:12] or 'unknown'}{' (modified)' if facts['modified'] else ''}"
    return f"{facts['device_name']}, {facts['system']}, {threads}; {versions}; commit {commit}.\n"


def with_spread(values: Sequence[float], digits: int = 2) -> str:
    """The median, and the least and the greatest of one value a round."""
    middle, low, high = (f"{value:.{digits}f}" for value in (np.median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"


def busy(rounds: Mapping[str, Sequence[float]]) -> str:
    """A warning that names what differed too much between rounds; "" if nothing did."""
    names = [name for name, values in rounds.items() if np.ptp(values) > BUSY * np.median(values)]
    if not names:
        return ""
    return f"\nThe machine was busy: rounds differ by more than {BUSY:.0%} for {'; '.join(names)}."
