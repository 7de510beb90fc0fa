"""The training loop."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from utils.data import ImageSet, Splits
from utils.device import Execution, stream_seed
from utils.evaluate import loss_and_correct, predict
from utils.experiment import Experiment, TrainConfig
from utils.gradients import GradientFlow


@dataclass
class Fit:
    """What training leaves: `history` (one dict an epoch), the weights of the epoch with the lowest validation
    loss (`best_epoch`, from 1), the gradient flow of all steps (the arrays of `GradientFlow.read` and `weight_names`),
    and `diverged_at`, the first step (from 1) with a
    loss or gradient that wasn't finite, if there was one. The model itself holds the final weights."""

    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    gradient_flow: dict[str, np.ndarray] = field(default_factory=dict)
    diverged_at: int | None = None


def fit(
    model: nn.Module,
    config: TrainConfig,
    seed: int,
    data: Splits,
    execution: Execution,
    on_epoch: Callable[[dict[str, float]], None] = lambda entry: None,
) -> Fit:
    """Train `model`, already on the device, by `config`; call `on_epoch` with each epoch's history entry."""
    result = Fit()
    optimizer = make_optimizer(model, config)
    steps = -(-len(data.train) // config.batch_size)
    flow, lowest = [], float("inf")
    with GradientFlow(model, optimizer, steps) as gradient_flow:
        for epoch in range(1, config.epochs + 1):
            order = epoch_order(len(data.train), seed, epoch).to(execution.device)
            torch.manual_seed(stream_seed(seed, "dropout", epoch))

            started = time.perf_counter()
            losses, correct = train_one_epoch(model, optimizer, data.train, order, config.batch_size, execution)
            trained = time.perf_counter()
            fit_loss, fit_correct = loss_and_correct(predict(model, data.fit, execution), data.fit.labels)
            val_loss, val_correct = loss_and_correct(predict(model, data.val, execution), data.val.labels)
            evaluated = time.perf_counter()

            result.history.append(
                {
                    "train_loss": mean_over_examples(losses, len(data.train), config.batch_size),
                    "train_accuracy": correct / len(data.train),
                    "fit_loss": fit_loss,
                    "fit_accuracy": fit_correct / len(data.fit),
                    "val_loss": val_loss,
                    "val_accuracy": val_correct / len(data.val),
                    "train_seconds": trained - started,
                    "eval_seconds": evaluated - trained,
                }
            )
            flow.append(gradient_flow.read())
            on_epoch(result.history[-1])
            finite = np.isfinite(losses) & flow[-1].pop("finite")
            finite[-1] &= np.isfinite(fit_loss + val_loss)  # of the weights that the last step left
            if not finite.all():
                result.diverged_at = (epoch - 1) * steps + int(finite.argmin()) + 1
                break
            if val_loss < lowest:
                lowest, result.best_epoch = val_loss, epoch
                result.best_weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    result.gradient_flow = {name: np.concatenate([epoch[name] for epoch in flow]) for name in flow[0]}
    result.gradient_flow["weight_names"] = np.array(gradient_flow.weight_names)
    return result


def train_one_epoch(
    model: nn.Module,
    optimizer: Optimizer,
    data: ImageSet,
    order: Tensor,
    batch_size: int,
    execution: Execution,
) -> tuple[np.ndarray, int]:
    """One pass over `data` in `order`, in training mode; each step's mean loss (steps,) and the correct examples."""
    model.train()
    losses, correct = [], torch.zeros((), dtype=torch.int64, device=execution.device)
    for images, labels in data.batches(batch_size, order):  # (B, C, H, W), (B,)
        with execution.autocast():
            logits = model(images)  # (B, K)
        loss = F.cross_entropy(logits.float(), labels)
        loss.backward()
        optimizer.step()  # GradientFlow's hooks read the gradients here
        optimizer.zero_grad()
        losses.append(loss.detach())
        correct += (logits.argmax(1) == labels).sum()
    return torch.stack(losses).cpu().numpy(), int(correct)  # the epoch's one synchronisation


def mean_over_examples(losses: np.ndarray, examples: int, batch_size: int) -> float:
    """Mean over examples of the batches' mean losses, the last batch counting by its size."""
    sizes = np.full(len(losses), batch_size)
    sizes[-1] = examples - batch_size * (len(losses) - 1)
    return float(np.average(losses.astype(np.float64), weights=sizes))


def epoch_order(examples: int, seed: int, epoch: int) -> Tensor:
    """The order of the examples in an epoch: the same for every model of that seed, on any device."""
    generator = torch.Generator().manual_seed(stream_seed(seed, "order", epoch))
    return torch.randperm(examples, generator=generator)


def build_model(experiment: Experiment, image_shape: tuple[int, int, int], num_classes: int, seed: int) -> nn.Module:
    """The experiment's network with the initial weights of `seed`. Raises ValueError if it can't take such images."""
    torch.manual_seed(stream_seed(seed, "initialisation"))
    return experiment.model(image_shape=image_shape, num_classes=num_classes)


def make_optimizer(model: nn.Module, config: TrainConfig) -> Optimizer:
    """The recipe's optimiser; fused, all of a step's updates in one kernel, where the device has one."""
    fused = next(model.parameters()).device.type in ("cpu", "cuda")
    settings = {"lr": config.learning_rate, "weight_decay": config.weight_decay, "fused": fused}
    if config.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), **settings)
    return torch.optim.SGD(model.parameters(), momentum=config.momentum, **settings)
