"""Average pooling computed in another way than PyTorch's own, where that is missing or its sums change."""

import math

import torch
from torch import Tensor, nn


class SlicedAveragePool(nn.Module):
    """`nn.AdaptiveAvgPool2d` by slices and means: (B, C, H, W) -> (B, C, *output_size).

    On MPS, PyTorch's own is missing for sizes that don't divide (pytorch issue 96056); on CUDA its backward pass adds
    in an order that changes from run to run. Output cell i averages the rows from floor(i H / h) to
    ceil((i + 1) H / h), as PyTorch's does.
    """

    def __init__(self, output_size: tuple[int, int]):
        super().__init__()
        self.output_size = output_size

    def forward(self, images: Tensor) -> Tensor:
        rows, columns = (
            [slice(i * size // parts, math.ceil((i + 1) * size / parts)) for i in range(parts)]
            for size, parts in zip(images.shape[-2:], self.output_size, strict=True)
        )
        means = [[images[..., row, column].mean((-2, -1)) for column in columns] for row in rows]
        return torch.stack([torch.stack(of_row, dim=-1) for of_row in means], dim=-2)


def with_sliced_pooling(model: nn.Module) -> nn.Module:
    """`model` with each adaptive average pooling replaced, but for those to a single pixel, which are plain means."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.AdaptiveAvgPool2d:
                size = child.output_size
                height, width = size if isinstance(size, tuple) else (size, size)
                if None not in (height, width) and (height, width) != (1, 1):
                    setattr(module, name, SlicedAveragePool((height, width)))
    return model
