"""Plain convolutional networks: 3x3 convolutions with pooling, then two fully connected layers."""

from torch import Tensor, nn


class PlainCNN(nn.Module):
    """For each of `widths` a 3x3 convolution, 2x2 max pooling and ReLU; then fc, ReLU, dropout, fc.

    `image_shape` is (C, H, W), `hidden` the width of the first fully connected layer.

    Raises ValueError if an image is too small to be halved once for each of `widths`.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        widths: tuple[int, ...],
        hidden: int,
        dropout: float,
    ):
        super().__init__()
        channels, height, width = image_shape
        smallest = 2 ** len(widths)
        if min(height, width) < smallest:
            raise ValueError(
                f"{type(self).__name__} halves its images {len(widths)} times and needs at least "
                f"(C, {smallest}, {smallest}), not {tuple(image_shape)}"
            )
        layers: list[nn.Module] = []
        for next_channels in widths:
            # The usual order is ReLU, then pooling. Both orders give the same values and gradients, since
            # max(relu(x)) = relu(max(x)); but after pooling the ReLU has only a quarter of the values to process.
            layers += [nn.Conv2d(channels, next_channels, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(inplace=True)]
            channels = next_channels
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Flatten(),  # (B, C, H, W) -> (B, C * H * W)
            nn.Linear(channels * (height // smallest) * (width // smallest), hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))  # (B, C, H, W) -> (B, K)


class SimpleCNN(PlainCNN):
    """Two convolutions of 32 and 64 channels and a hidden layer of 128."""

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, dropout: float = 0.25):
        super().__init__(image_shape, num_classes, widths=(32, 64), hidden=128, dropout=dropout)


class CIFARCNN(PlainCNN):
    """Three convolutions of 32, 64 and 128 channels and a hidden layer of 256."""

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, dropout: float = 0.25):
        super().__init__(image_shape, num_classes, widths=(32, 64, 128), hidden=256, dropout=dropout)
