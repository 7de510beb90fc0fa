"""Training speed of this suite's `fit` against the original report's loop, written afresh.

python benchmarks/against_original.py      # prints images per second, ratios and targets as a Markdown table
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import IMAGES, Case, busy, compare, executions, header, parse_options, plain_optimizer, suite, with_spread
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets
from torchvision.transforms import v2

from utils.data.sources import load_arrays
from utils.data.specs import DatasetSpec
from utils.timing.clock import seconds_per_call
from utils.training.device import Execution
from utils.words import table

# Times as fast as the original loop that this suite wants to be; None: no target.
TARGETS = {
    "FCN-mnist": {"bf16": 6, "fp32": 4},
    "SimpleCNN-mnist": {"bf16": 2.5, "fp32": 1.2},
    "CNNWithResidual-mnist": {"bf16": 2.2, "fp32": 1.3},
    "CIFARCNN-cifar10": {"bf16": 2.4, "fp32": None},
    "CNNWithResidual-cifar10": {"bf16": 2.2, "fp32": 1.3},
}


class CachedMNIST(datasets.MNIST):
    """torchvision's data set, which makes a PIL image of each example asked for, on arrays that are already here."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: v2.Transform):
        self.data, self.targets = torch.from_numpy(images), torch.from_numpy(labels).long()
        self.transform, self.target_transform = transform, None


class CachedCIFAR10(datasets.CIFAR10):
    """The same for CIFAR-10."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: v2.Transform):
        self.data, self.targets = images, labels.tolist()
        self.transform, self.target_transform = transform, None


def pil_data_set(spec: DatasetSpec, data_dir: Path, images: int) -> Dataset:
    transform = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(spec.mean, spec.std)])
    arrays = load_arrays(spec, data_dir)
    data_set = {"mnist": CachedMNIST, "cifar10": CachedCIFAR10}[spec.name]
    return data_set(arrays["train_images"][:images], arrays["train_labels"][:images], transform)


def original(case: Case, data_dir: Path, execution: Execution) -> Callable[[], float]:
    """The original loop: PIL images, transforms and collation for each batch, `.item()` in each step, fp32."""
    torch.set_num_threads(execution.threads)
    config = case.experiment.config
    loader = DataLoader(pil_data_set(case.spec, data_dir, IMAGES[case.name]), config.batch_size, shuffle=True)
    model, criterion = case.model(), nn.CrossEntropyLoss()
    optimizer = plain_optimizer(config)(model.parameters())

    def epoch() -> tuple[float, float]:
        model.train()
        loss_sum, correct, seen = 0.0, 0, 0
        for images, labels in loader:
            optimizer.zero_grad()
            outputs = model(images)
            loss = criterion(outputs, labels)
            loss.backward()
            optimizer.step()
            loss_sum += loss.item()
            _, predicted = outputs.max(1)
            seen += labels.size(0)
            correct += predicted.eq(labels).sum().item()
        return loss_sum / len(loader), correct / seen

    return lambda: float(seconds_per_call(epoch, execution.synchronize, 1)[0])


def main() -> None:
    options = parse_options(__doc__.splitlines()[0], list(TARGETS), rounds=3)
    execution = executions(options)
    speeds = compare({"original": original, "suite": suite}, options, execution)
    rows, rounds = [], {}
    for case in options.cases:
        precision, speed = execution[case.spec.name].precision, speeds[case.name]
        ratios = np.divide(speed["suite"], speed["original"])
        target = TARGETS[case.name][precision]
        medians = [f"{np.median(speed[name]):,.0f}" for name in ("original", "suite")]
        rows.append([case.name, precision, *medians, with_spread(ratios), f"{target:g}" if target else "none"])
        rounds |= {f"{case.name}, {name}": values for name, values in speed.items()}
    print(header(["torchvision"]))
    columns = ["model", "precision", "original loop, images/s", "this suite, images/s", "ratio (min to max)", "target"]
    print(table(columns, rows))
    print(busy(rounds))


if __name__ == "__main__":
    main()
