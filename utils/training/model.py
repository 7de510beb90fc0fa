"""A model as the suite sees it: built from a seed, its parameters and its cost."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from utils.experiment import Experiment
from utils.training.seeds import stream_seed


def build_model(experiment: Experiment, image_shape: tuple[int, int, int], num_classes: int, seed: int) -> nn.Module:
    """The experiment's network with the initial weights of `seed`. Raises ValueError if it can't take such images."""
    torch.manual_seed(stream_seed(seed, "initialisation"))
    return experiment.model(image_shape=image_shape, num_classes=num_classes)


def parameter_shapes(experiment: Experiment, image_shape: tuple[int, int, int], num_classes: int) -> dict[str, tuple]:
    """Names and shapes of the parameters, found without allocating or drawing them."""
    with torch.device("meta"):
        model = experiment.model(image_shape=image_shape, num_classes=num_classes)
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


def flops_per_image(model: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """FLOPs of one image's forward pass by torch.utils.flop_counter; a multiply-add counts as 2."""
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, *image_shape, device=device))
    return counter.get_total_flops()
