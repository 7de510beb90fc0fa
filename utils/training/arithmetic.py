"""Operations computed in another way than PyTorch's own, where that is missing, wrong or far too slow."""

import math

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only


class Bf16ByFp32(TorchDispatchMode):
    """Computes bf16 convolutions and matrix products with the fp32 kernels and rounds the results to bf16.

    It works in the thread that enters it. Apart from the order of the sums, bf16 units compute the same: exact
    products, summed in fp32. On a CPU without such units, PyTorch's own bf16 convolutions take more than ten times as
    long and round some sums on the way. A backward pass on a CPU runs in the thread that calls it, so this mode covers
    it too.
    """

    # conv2d and linear are in the list since inference mode does not split them into convolution and addmm.
    OPERATIONS = frozenset(
        getattr(torch.ops.aten, name).default
        for name in ("convolution", "convolution_backward", "mm", "addmm", "conv2d", "linear")
    )

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation not in self.OPERATIONS or args[0].dtype != torch.bfloat16:
            return operation(*args, **(kwargs or {}))
        result = operation(*tree_map_only(torch.Tensor, torch.Tensor.float, args), **(kwargs or {}))
        return tree_map_only(torch.Tensor, torch.Tensor.bfloat16, result)


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
