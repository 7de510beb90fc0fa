"""The net that a run gives: the average of its weights after the final epochs, with new batch-norm statistics.

At a constant learning rate the weights keep moving around a minimum, and the last epoch is one draw from that movement.
Their average lies closer to the minimum, and costs no training. Source: stochastic weight averaging, Izmailov et al.
2018 (arXiv 1803.05407).
"""

from collections.abc import Iterable, Iterator, Sequence
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

Weights = dict[str, Tensor]  # {parameter name: value}


def final_epochs(config: TrainConfig, trained: int) -> int:
    """The number of final epochs of a run that trained for `trained` epochs."""
    most = LATEST_SETS if config.patience else trained
    return max(1, min(most, trained // 3))


def keep_weights(kept: Sequence[Weights], model: nn.Module, config: TrainConfig, epoch: int) -> list[Weights]:
    """What is kept after `epoch` (counted from 1) for the average, given what was `kept` before it.

    Returns the average so far as a list of one, or [] before the final epochs; with early stopping, the latest sets of
    weights, the oldest first.
    """
    if config.patience:
        return [*kept, _copied(model)][-LATEST_SETS:]
    count = epoch - config.epochs + final_epochs(config, config.epochs)  # of the sets of weights, this one included
    if count < 1:
        return []
    return [_copied(model) if count == 1 else _with_one_more(kept[0], _copied(model), count)]


def averaged_state(kept: Sequence[Weights], model: nn.Module, config: TrainConfig, trained: int) -> dict[str, Tensor]:
    """The state dict of the equal average of the weights after each final epoch.

    `kept` is what `keep_weights` returned after the last epoch, `model` the net as that epoch left it. Its buffers and
    whole-number parameters are those of that epoch, as in `torch.optim.swa_utils.AveragedModel`.
    """
    average, *later = kept[-final_epochs(config, trained) :]  # the average so far is the only element, if there is one
    for count, weights in enumerate(later, 2):
        average = _with_one_more(average, weights, count)
    return {name: average.get(name, tensor).clone() for name, tensor in model.state_dict().items()}


def _copied(model: nn.Module) -> Weights:
    """The parameters that can be averaged; tied ones by each of their names, as in the state dict."""
    return {
        name: parameter.detach().clone()
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if parameter.is_floating_point() or parameter.is_complex()
    }


def _with_one_more(average: Weights, weights: Weights, count: int) -> Weights:
    """The average of `count` sets of weights: `average` is that of all but the last, `weights` is the last."""
    return {
        # Where nothing changed, the value stays as it is: a mask holds -inf, and -inf minus -inf is no number.
        name: torch.where(weights[name] == old, old, old + (weights[name] - old) / count)
        for name, old in average.items()
    }


@torch.no_grad()
def reestimate_statistics(model: nn.Module, images: ImageSet, execution: Execution, seed: int) -> int:
    """Compute the batch-norm statistics anew from `images`, with the model's present weights.

    Returns the number of batch norms whose statistics are new: those that normalise by their batches while the model is
    in training mode. The statistics of all others, and all other buffers, stay as they are. Without such a batch norm,
    nothing is computed.

    The running statistics of training are an average over the last steps, each with the weights of that step. They
    don't belong to averaged weights, and lag behind weights that move fast.
    """
    seed_model(seed, "batch-norm statistics")  # dropout draws from PyTorch's global generator
    model.train()
    norms = [module for module in model.modules() if _estimates(module)]
    if not norms:
        return 0
    before = {module: dict(module.named_buffers(recurse=False)) for module in model.modules()}
    before = {module: {name: buffer.clone() for name, buffer in buffers.items()} for module, buffers in before.items()}

    def put_back(modules: Iterable[nn.Module]) -> None:
        for module in modules:
            for name, buffer in before[module].items():
                setattr(module, name, buffer.clone())

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        # `update_bn` has reset every batch norm by now, those too that only apply their statistics. The first batch
        # replaces the statistics of those that count from 0.
        put_back(before)
        for norm in norms:
            norm.num_batches_tracked.zero_()
        # In a random order: images may be sorted by class, and the variance between classes would be lost. In batches
        # of nearly equal size, none of one image: `update_bn` weights all batches equally.
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SPLIT_SEED))
        for rows in order.tensor_split(ceil(len(images) / STATISTICS_BATCH_SIZE)):
            yield from images.batches(len(rows), rows)

    with execution.autocast():
        update_bn(batches(), model)
    # A layer that is skipped at random may have met no batch.
    new = {norm for norm in norms if norm.num_batches_tracked > 0}
    put_back(before.keys() - new)
    return len(new)


def _estimates(module: nn.Module) -> bool:
    """Whether a module is a batch norm that takes its statistics from its batches now."""
    tracks = isinstance(module, _BatchNorm) and module.track_running_stats and module.running_mean is not None
    return tracks and module.training
