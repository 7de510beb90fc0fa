"""A fully connected network: no convolution, no notion of which pixels are neighbours."""

import math

from torch import nn


class FCN(nn.Sequential):
    """Fully connected layers with ReLU, and dropout after each hidden layer."""

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        hidden: tuple[int, ...] = (512, 256, 128),
        dropout: float = 0.25,
    ):
        layers: list[nn.Module] = [nn.Flatten()]
        width = math.prod(image_shape)
        for next_width in hidden:
            layers += [nn.Linear(width, next_width), nn.ReLU(), nn.Dropout(dropout)]
            width = next_width
        super().__init__(*layers, nn.Linear(width, num_classes))
