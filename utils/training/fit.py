"""The training loop."""

import math
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from utils.data.images import Splits, batch_sizes
from utils.experiment import TrainConfig
from utils.training.averaging import LATEST_SETS, Weights, averaged_state, final_epochs, keep_weights
from utils.training.checkpoint import Checkpoints
from utils.training.device import Execution
from utils.training.gradients import GradientFlow
from utils.training.predict import loss_and_correct, predict
from utils.training.seeds import epoch_offsets, epoch_order, seed_model


@dataclass
class Fit:
    """The results of training, besides the final weights, which are in the model itself.

    `history` has one dict an epoch. `best_weights` are the weights after `best_epoch` (counted from 1), the epoch with
    the lowest validation loss. `averaged_weights` is the state dict of the average over the last `final_epochs` epochs,
    whose batch-norm statistics have yet to be re-estimated; empty if training diverged. `for_average` is what
    `keep_weights` keeps for it. `gradient_flow` has the arrays of `GradientFlow.read` over all steps, without "finite",
    and "weight_names". `diverged_at` is the first step (counted from 1) with a loss or gradient that was not finite,
    or None.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    final_epochs: int = 0
    averaged_weights: dict[str, Tensor] = field(default_factory=dict)
    for_average: list[Weights] = field(default_factory=list)
    gradient_flow: dict[str, np.ndarray] = field(default_factory=dict)
    diverged_at: int | None = None


def fit(
    model: nn.Module,
    config: TrainConfig,
    seed: int,
    data: Splits,
    execution: Execution,
    on_epoch: Callable[[dict[str, float]], None] = lambda entry: None,
    checkpoints: Checkpoints | None = None,
) -> Fit:
    """Train `model`, which is already on the device, with the recipe `config`.

    Calls `on_epoch` with the history entry of each epoch, restored epochs included. With `checkpoints` it resumes after
    the epoch of the last one and saves new ones. With the same machine, threads and versions, a resumed run gives the
    same result as an uninterrupted one, bit for bit. Stops after the epoch in which training diverges.
    """
    optimizer = make_optimizer(model, config)
    sizes = batch_sizes(len(data.train), config.batch_size)  # one for each step of an epoch
    schedule = make_schedule(optimizer, config, len(sizes))
    result = restored(checkpoints, model, optimizer, schedule) if checkpoints else Fit()
    for entry in result.history:
        on_epoch(entry)
    with GradientFlow(model, optimizer, len(sizes)) as gradient_flow:
        result.gradient_flow["weight_names"] = np.array(gradient_flow.weight_names)
        for epoch in range(len(result.history) + 1, config.epochs + 1):
            if config.patience and len(result.history) - result.best_epoch >= config.patience:
                break  # at an epoch's start, so that a resumed run stops where another did
            # Drawn on the CPU, so that every device trains on the same batches in the same order.
            order, offsets = epoch_order(len(data.train), seed, epoch).to(execution.device), None
            if config.augmentation:
                offsets = epoch_offsets(len(data.train), seed, epoch).to(execution.device)
            batches = data.train.batches(config.batch_size, order, offsets)
            seed_model(seed, "dropout", epoch)  # dropout draws from PyTorch's global generator

            started = time.perf_counter()
            losses, correct = train_one_epoch(model, optimizer, batches, execution, config, schedule)
            trained = time.perf_counter()
            fit_loss, fit_correct = loss_and_correct(predict(model, data.fit, execution), data.fit.labels)
            val_loss, val_correct = loss_and_correct(predict(model, data.val, execution), data.val.labels)
            evaluated = time.perf_counter()

            result.history.append(
                {
                    # Weighted by batch size: batches can differ in size, and each example must count equally.
                    "train_loss": float(np.average(losses.astype(np.float64), weights=sizes)),
                    "train_accuracy": correct / len(data.train),
                    "fit_loss": fit_loss,
                    "fit_accuracy": fit_correct / len(data.fit),
                    "val_loss": val_loss,
                    "val_accuracy": val_correct / len(data.val),
                    "train_seconds": trained - started,
                    "eval_seconds": evaluated - trained,
                }
            )
            flow = gradient_flow.read()
            on_epoch(result.history[-1])
            finite = np.isfinite(losses) & flow.pop("finite")
            for name, steps in flow.items():
                result.gradient_flow[name] = np.concatenate([result.gradient_flow.get(name, steps[:0]), steps])
            finite[-1] &= np.isfinite(fit_loss + val_loss)  # both come from the weights after the last step
            if not finite.all():
                result.diverged_at = (epoch - 1) * len(sizes) + int(finite.argmin()) + 1
                break
            if val_loss < min((entry["val_loss"] for entry in result.history[:-1]), default=float("inf")):
                result.best_epoch = epoch
                # Cloned, since the optimiser goes on changing the model's own tensors in place.
                result.best_weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            result.for_average = keep_weights(result.for_average, model, config, epoch)
            if checkpoints and (checkpoints.is_due() or epoch == config.epochs):
                save_checkpoint(checkpoints, model, optimizer, schedule, result)
    if result.diverged_at is None:
        result.final_epochs = final_epochs(config, len(result.history))
        result.averaged_weights = averaged_state(result.for_average, model, config, len(result.history))
    return result


def save_checkpoint(
    checkpoints: Checkpoints, model: nn.Module, optimizer: Optimizer, schedule: LRScheduler, result: Fit
) -> None:
    """Save everything that the remaining epochs depend on.

    Random states are not needed: every epoch seeds its own generators (`utils.training.seeds`).
    """
    flow = {name: array for name, array in result.gradient_flow.items() if name != "weight_names"}
    # safetensors stores a flat {name: tensor}, so the group becomes the first part of the name.
    groups = {
        "model": model.state_dict(),
        "best": result.best_weights,
        "flow": {name: torch.from_numpy(array) for name, array in flow.items()},
        **{f"average.{index}": weights for index, weights in enumerate(result.for_average)},
    }
    for index, parameter in enumerate(model.parameters()):
        # Empty for a parameter that is frozen, or that no step has reached.
        state = optimizer.state.get(parameter, {})
        groups[f"optimizer.{index}"] = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    tensors = {f"{group}.{name}": tensor for group, named in groups.items() for name, tensor in named.items()}
    values = {"history": result.history, "best_epoch": result.best_epoch, "scheduled_steps": schedule.last_epoch}
    checkpoints.save(len(result.history), tensors, values)


def restored(checkpoints: Checkpoints, model: nn.Module, optimizer: Optimizer, schedule: LRScheduler) -> Fit:
    """Load the last checkpoint into `model`, `optimizer` and `schedule` and return its results so far.

    If there is no checkpoint, it changes nothing and returns an empty Fit. Raises OSError.
    """
    loaded = checkpoints.load()
    if loaded is None:
        return Fit()
    tensors, state = loaded
    device = next(model.parameters()).device

    def group(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    model.load_state_dict(group("model."))
    for index, parameter in enumerate(model.parameters()):
        for name, tensor in group(f"optimizer.{index}.").items():
            if name != "step" and tensor.shape == parameter.shape:
                # The file holds contiguous tensors, but parameters may be channels_last. A fused optimiser goes through
                # both in memory order: with different strides it would silently combine the wrong numbers.
                tensor = torch.empty_like(parameter, memory_format=torch.preserve_format).detach().copy_(tensor)
                if tensor.stride() != parameter.stride():
                    raise RuntimeError(f"the optimiser's {name} of parameter {index} has other strides than it")
            # An optimiser that isn't fused counts its steps on the CPU, and on MPS fails with a counter elsewhere.
            counts_on_cpu = name == "step" and not optimizer.defaults["fused"]
            optimizer.state[parameter][name] = tensor if counts_on_cpu else tensor.to(device)
    if state["scheduled_steps"]:
        schedule.last_epoch = state["scheduled_steps"] - 1  # PyTorch counts its calls so, whatever they stand for
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it misses the optimiser's steps of the interrupted run
            schedule.step()
    return Fit(
        history=state["history"],
        best_epoch=state["best_epoch"],
        best_weights={name: tensor.to(device) for name, tensor in group("best.").items()},
        for_average=[
            {name: tensor.to(device) for name, tensor in weights.items()}
            for index in range(LATEST_SETS)
            if (weights := group(f"average.{index}."))
        ],
        gradient_flow={name: tensor.numpy() for name, tensor in group("flow.").items()},
    )


def train_one_epoch(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Iterable[tuple[Tensor, Tensor]],
    execution: Execution,
    config: TrainConfig,
    schedule: LRScheduler,
) -> tuple[np.ndarray, int]:
    """Train on `batches` once, in training mode.

    Returns the mean loss of each step, shape (steps,), and the number of examples that were predicted correctly.
    """
    model.train()
    losses, correct = [], torch.zeros((), dtype=torch.int64, device=execution.device)
    for images, labels in batches:  # (B, C, H, W), (B,)
        with execution.autocast():
            logits = model(images)  # (B, K)
        # Outside autocast and in fp32: bf16 has too few digits for it.
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=config.label_smoothing)
        loss.backward()
        if config.clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()  # GradientFlow's hooks read the gradients here
        schedule.step()
        optimizer.zero_grad()
        # No .item() here: reading a number makes the CPU wait for the device at every step.
        losses.append(loss.detach())
        correct += (logits.argmax(1) == labels).sum()
    return torch.stack(losses).cpu().numpy(), int(correct)  # the only synchronisation of the epoch


def make_optimizer(model: nn.Module, config: TrainConfig) -> Optimizer:
    """The recipe's optimiser of all parameters that aren't frozen.

    On CPU and CUDA it is fused: one kernel updates all parameters, which is faster.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    fused = parameters[0].device.type in ("cpu", "cuda")
    settings = {"lr": config.learning_rate, "weight_decay": config.weight_decay, "fused": fused}
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, **settings)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, **settings)
    return torch.optim.SGD(parameters, momentum=config.momentum, nesterov=config.nesterov, **settings)


def make_schedule(optimizer: Optimizer, config: TrainConfig, steps_an_epoch: int) -> LRScheduler:
    """The recipe's learning rate over the steps of a run: constant, cosine to 0, or one cycle, after its warm-up.

    Sources: cosine, Loshchilov and Hutter 2017 (arXiv 1608.03983), without restarts; one cycle, Smith and Topin 2018
    (arXiv 1708.07120), PyTorch's, with its peak at `learning_rate`, after 30% of the steps unless `warmup` says when.
    """
    steps, warmup = config.epochs * steps_an_epoch, round(config.warmup * steps_an_epoch)
    if config.schedule == "one-cycle":
        # The momentum stays as the recipe has it. One step more than are taken: the last call is after the last step.
        share = warmup / steps if warmup else 0.3
        return OneCycleLR(optimizer, config.learning_rate, total_steps=steps + 1, pct_start=share, cycle_momentum=False)

    def share_of_rate(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if config.schedule == "cosine":
            return (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2
        return 1.0

    return LambdaLR(optimizer, share_of_rate)
