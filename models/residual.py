"""A convolutional network with residual blocks (He et al. 2016, https://arxiv.org/abs/1512.03385)."""

from torch import Tensor, nn
from torch.nn import functional as F


class ResidualBlock(nn.Module):
    """conv-BN-ReLU-conv-BN plus a shortcut, then ReLU: (B, `in_channels`, H, W) to (B, `out_channels`, H', W').

    H' is H / `stride`, rounded up; W' likewise. The shortcut is the identity, or a 1x1 conv-BN where the shape changes.

    On a CPU, a block with a stride needs at least 16 `in_channels`. With fewer than a vector register holds, oneDNN's
    kernel for the gradient of the shortcut's weights writes past the end of its memory (uxlfoundation/oneDNN issue
    6035).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        # No bias: the batch normalisation after each convolution subtracts the mean, and with it any bias.
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Sequential()  # empty: the identity
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x), inplace=True)


class CNNWithResidual(nn.Module):
    """A stem (conv3x3-BN-ReLU), stages of residual blocks, adaptive average pooling, optional dropout, fc.

    `image_shape` is (C, H, W). The stem has `widths[0]` channels. Stage i has `blocks_per_stage` blocks of `widths[i]`
    channels; the first of them has stride `strides[i]`. The pooling leaves `pooled_size` x `pooled_size` values of each
    channel. Raises ValueError if `widths` and `strides` differ in length.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        widths: tuple[int, ...] = (32, 64, 128, 256),
        strides: tuple[int, ...] = (1, 2, 2, 2),
        blocks_per_stage: int = 2,
        stem_bias: bool = False,
        pooled_size: int = 1,
        dropout: float = 0.0,
    ):
        super().__init__()
        channels = widths[0]
        self.stem = nn.Sequential(
            nn.Conv2d(image_shape[0], channels, 3, padding=1, bias=stem_bias), nn.BatchNorm2d(channels), nn.ReLU(True)
        )
        blocks = []
        for width, stride in zip(widths, strides, strict=True):
            for index in range(blocks_per_stage):
                blocks.append(ResidualBlock(channels, width, stride if index == 0 else 1))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(pooled_size)
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels * pooled_size**2, num_classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.pool(self.blocks(self.stem(images))))  # (B, C, H, W) -> (B, K)
