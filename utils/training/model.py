"""Building a model from a seed; its parameter shapes and its FLOPs."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from utils.experiment import Experiment
from utils.training.seeds import seed_model


def build_model(experiment: Experiment, image_shape: tuple[int, int, int], num_classes: int, seed: int) -> nn.Module:
    """The experiment's network with the initial weights of `seed`, for images of shape (C, H, W).

    Raises ValueError if the network can't take images of that shape.
    """
    seed_model(seed, "initialisation")
    return experiment.model(image_shape=image_shape, num_classes=num_classes)


def parameter_shapes(experiment: Experiment, image_shape: tuple[int, int, int], num_classes: int) -> dict[str, tuple]:
    """{name: shape} of the experiment's parameters. Raises ValueError as `build_model` does."""
    # On the meta device tensors have shapes but no values, so nothing is allocated and no random number drawn.
    with torch.device("meta"):
        model = experiment.model(image_shape=image_shape, num_classes=num_classes)
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


def flops_per_image(model: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """FLOPs of the forward pass of one image, counted by torch.utils.flop_counter; a multiply-add counts as 2.

    Leaves the model in evaluation mode, in which a forward pass changes no batch statistics.
    """
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, *image_shape, device=device))
    return counter.get_total_flops()
