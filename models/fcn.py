"""A fully connected network. Without convolutions, it does not know which pixels are neighbours."""

import math

from torch import nn


class FCN(nn.Sequential):
    """Fully connected layers of the widths `hidden`, each followed by ReLU and dropout; a last layer gives the logits.

    `image_shape` is (C, H, W).
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        hidden: tuple[int, ...] = (512, 256, 128),
        dropout: float = 0.25,
    ):
        layers: list[nn.Module] = [nn.Flatten()]  # (B, C, H, W) -> (B, C * H * W)
        width = math.prod(image_shape)
        for next_width in hidden:
            layers += [nn.Linear(width, next_width), nn.ReLU(), nn.Dropout(dropout)]
            width = next_width
        super().__init__(*layers, nn.Linear(width, num_classes))
