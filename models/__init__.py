"""The compared networks. Each maps images (B, C, H, W) to logits (B, K) and knows no data set, optimiser or device."""

from models.cnn import CIFARCNN, SimpleCNN
from models.fcn import FCN
from models.residual import CNNWithResidual

__all__ = ["CIFARCNN", "FCN", "CNNWithResidual", "SimpleCNN"]
