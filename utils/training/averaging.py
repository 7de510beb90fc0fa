"""The net that a run gives: the average of its weights after the final epochs, with new batch-norm statistics.

At a constant learning rate the weights keep moving around a minimum, and the last epoch is one draw from that movement.
Their average lies closer to the minimum, and costs no training. Source: stochastic weight averaging, Izmailov et al.
2018 (arXiv 1803.05407).
"""

from collections.abc import Iterator, Sequence
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from utils.data.images import ImageSet
from utils.data.specs import SPLIT_SEED
from utils.experiment import TrainConfig
from utils.training.device import Execution
from utils.training.seeds import seed_model

STATISTICS_BATCH_SIZE = 500  # at most
LATEST_SETS = 3  # of weights that a run with early stopping keeps, since it doesn't know which epoch is its last

Weights = dict[str, Tensor]  # {name in the state dict: value of a parameter}


def final_epochs(config: TrainConfig, trained: int) -> int:
    """How many epochs at the end of a run that `trained` so many epochs are averaged."""
    return max(1, min(LATEST_SETS, trained // 3)) if config.patience else max(1, config.epochs // 3)


def keep_weights(kept: Sequence[Weights], model: nn.Module, config: TrainConfig, epoch: int) -> list[Weights]:
    """What is to be kept after `epoch` (counted from 1) for the average, given what was kept before.

    That is the average so far, a list of one; nothing before the final epochs. With early stopping it is the latest
    sets of weights, the oldest first.
    """
    weights = {
        name: value.detach().clone()
        for name, value in model.state_dict(keep_vars=True).items()
        if isinstance(value, nn.Parameter) and (value.is_floating_point() or value.is_complex())
    }
    if config.patience:
        return [*kept, weights][-LATEST_SETS:]
    count = epoch - config.epochs + final_epochs(config, epoch)  # of the sets of weights, this one included
    return [_with_one_more(kept[0], weights, count) if count > 1 else weights] if count > 0 else []


def averaged_state(kept: Sequence[Weights], model: nn.Module, config: TrainConfig, trained: int) -> dict[str, Tensor]:
    """The state dict of the equal average of the weights after each final epoch.

    `kept` is what `keep_weights` returned after the last epoch, `model` the net as that epoch left it. Its buffers and
    whole-number parameters are those of that epoch, as in `torch.optim.swa_utils.AveragedModel`.
    """
    average, *later = kept[-final_epochs(config, trained) :]  # the average so far is the only element, if there is one
    for count, weights in enumerate(later, 2):
        average = _with_one_more(average, weights, count)
    return {name: average.get(name, tensor).clone() for name, tensor in model.state_dict().items()}


def _with_one_more(average: Weights, weights: Weights, count: int) -> Weights:
    """The average of `count` sets of weights, from that of the sets before the last and the last one."""
    return {
        # Where nothing changed, the value stays as it is: a mask holds -inf, and -inf minus -inf is no number.
        name: torch.where(weights[name] == old, old, old + (weights[name] - old) / count)
        for name, old in average.items()
    }


@torch.no_grad()
def reestimate_statistics(model: nn.Module, images: ImageSet, execution: Execution, seed: int) -> int:
    """Compute the batch-norm statistics anew from `images`, with the model's present weights.

    Returns the number of batch norms whose statistics are new: those that are in training mode while the model is.
    Those of all others, and all other buffers, stay as they are. Without such a batch norm, nothing is computed.

    The running statistics of training are an average over the last steps, each with the weights of that step; they
    don't belong to averaged weights, and lag behind weights that move fast.
    """
    seed_model(seed, "batch-norm statistics")  # dropout draws from PyTorch's global generator
    model.train()
    trained = [module for module in model.modules() if _is_estimated(module)]
    if not trained:
        return 0
    new = {id(buffer) for module in trained for buffer in module.buffers(recurse=False)}
    others = {name: buffer.clone() for name, buffer in model.named_buffers() if id(buffer) not in new}

    def put_back_others() -> None:
        buffers = dict(model.named_buffers())
        for name, value in others.items():
            buffers[name].copy_(value)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        # `update_bn` has reset every batch norm by now, those too that only apply their statistics.
        put_back_others()
        # In a random order: images may be sorted by class, and the variance between classes would be lost. In batches
        # of nearly equal size, none of one image: `update_bn` weights all batches equally.
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SPLIT_SEED))
        for rows in order.tensor_split(ceil(len(images) / STATISTICS_BATCH_SIZE)):
            yield from images.batches(len(rows), rows)

    with execution.autocast():
        update_bn(batches(), model)
    put_back_others()
    return len(trained)


def _is_estimated(module: nn.Module) -> bool:
    """Whether a module is a batch norm that takes its statistics from the batches now."""
    return isinstance(module, _BatchNorm) and module.training and module.running_mean is not None
