"""Weights as a finished run leaves them, without the run: random, but answers differ between images and seeds."""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from made_records import make_record, older
from torch import nn

from utils.command.plan import hashes_of
from utils.data.specs import DatasetSpec, data_sha256
from utils.experiment import Experiment
from utils.files import file_name
from utils.records.record import WEIGHT_FILES, write_record
from utils.training.checkpoint import tensor_bytes
from utils.training.model import build_model
from utils.training.sources import model_hash

STRONGER = 6  # than at the start of training, so that probabilities are far from equal


def random_net(experiment: Experiment, spec: DatasetSpec, seed: int) -> nn.Module:
    """The experiment's net with random weights and batch statistics, in evaluation mode."""
    net = build_model(experiment, spec.image_shape, len(spec.class_names), seed)
    random = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=random).mul_(0.1)
            module.running_var.uniform_(0.5, 2, generator=random)
    with torch.no_grad():
        *_, last = (module for module in net.modules() if isinstance(module, (nn.Linear, nn.Conv2d)))
        last.weight.mul_(STRONGER)
    return net.eval()


def finished_cell(
    runs: Path,
    experiment: Experiment,
    spec: DatasetSpec,
    seed: int,
    *,
    val_accuracy: tuple[float, ...] = (0.5, 0.5),
    averaged_accuracy: float = 0.5,
    old: bool = False,
    kind: str = "cpu-fp32",
    without: tuple[str, ...] = (),
    test_accuracy: float = 0.5,
    environment: dict | None = None,
    **changes,
) -> nn.Module:
    """A cell's folder in the task's folder `runs`, with its weights and its record.

    Returns the net with the averaged weights, or with the last ones if the cell is `old` and has no others but the
    best; `net_of` gives the others. `averaged_accuracy` is that on the validation images. `changes` are fields of the
    record, `environment` entries of its environment, of which those of `without` are left out.
    """
    ((_, config_hash),) = hashes_of([experiment], spec).items()
    record = make_record(
        experiment.name,
        seed,
        epochs=len(val_accuracy),
        accuracy=test_accuracy,
        test_total=100,
        task=runs.name,
        dataset=spec.name,
        image_shape=spec.image_shape,
        class_names=spec.class_names,
        config_hash=config_hash,
    )
    device, precision = kind.split("-")
    made_by = {"device": device, "precision": precision, "model_hash": model_hash(experiment), **(environment or {})}
    made_by = {name: value for name, value in (record.environment | made_by).items() if name not in without}
    history = [{**e, "val_accuracy": value} for e, value in zip(record.history, val_accuracy, strict=True)]
    changes = {"environment": made_by, "history": history, **changes}
    if spec.pinned:
        changes = {"data_sha256": data_sha256(spec, {}), **changes}
    right = np.diff(np.linspace(0, round(averaged_accuracy * record.val_total), len(spec.class_names) + 1).astype(int))
    averaged = {"averaged_val_correct": int(right.sum()), "averaged_val_correct_by_class": right.tolist()}
    averaged["final_epochs"] = min(2, len(val_accuracy))
    record = dataclasses.replace(record, **{**averaged, **changes})
    folder = runs / kind / file_name(experiment.name) / config_hash / f"seed{seed}"
    nets = {name: net_of(experiment, spec, seed, name) for name in WEIGHT_FILES if not (old and name == "averaged")}
    files = {folder / WEIGHT_FILES[name]: tensor_bytes(net.state_dict()) for name, net in nets.items()}
    write_record(folder, older(record) if old else record, files)
    return next(iter(nets.values()))


def net_of(experiment: Experiment, spec: DatasetSpec, seed: int, weights: str) -> nn.Module:
    """The net that `finished_cell` leaves as those of the cell's weights: another one for each sort."""
    return random_net(experiment, spec, seed + 1000 * list(WEIGHT_FILES).index(weights))


@torch.no_grad()
def by_hand(nets, images, spec: DatasetSpec) -> np.ndarray:
    """Softmax probabilities (seeds, N, K) of uint8 images (N, H, W[, C]), by nothing but PyTorch."""
    pixels = torch.tensor(np.stack(images), dtype=torch.float64).reshape(len(images), *spec.image_shape[1:], -1) / 255
    inputs = ((pixels - torch.tensor(spec.mean)) / torch.tensor(spec.std)).permute(0, 3, 1, 2).float()
    return torch.stack([torch.softmax(net(inputs), dim=1) for net in nets]).numpy()
