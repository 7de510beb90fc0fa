"""The networks that are compared. Each maps images (B, C, H, W) to logits (B, K), one per class.

They know nothing of data sets, optimisers or devices, so that any task can use them.
"""

from models.cnn import CIFARCNN, SimpleCNN
from models.fcn import FCN
from models.residual import CNNWithResidual

__all__ = ["CIFARCNN", "FCN", "CNNWithResidual", "SimpleCNN"]
