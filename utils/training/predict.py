"""Predictions: logits first, everything else is derived from logits and labels."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.data.images import ImageSet
from utils.training.device import Execution

EVAL_BATCH_SIZE = 500
MISTAKES_KEPT = 16


@torch.inference_mode()
def predict(model: nn.Module, data: ImageSet, execution: Execution) -> Tensor:
    """Logits (N, K), float32, of all images in evaluation mode; leaves the model in that mode."""
    model.eval()
    with execution.autocast():
        return torch.cat([model(images).float() for images, _ in data.batches(EVAL_BATCH_SIZE)])


def loss_and_correct(logits: Tensor, labels: Tensor) -> tuple[float, int]:
    """Mean cross-entropy over examples and the number of right predictions, from logits (N, K) and labels (N,)."""
    loss, correct = F.cross_entropy(logits, labels), (logits.argmax(1) == labels).sum()
    return tuple(torch.stack([loss.double(), correct.double()]).tolist())  # one synchronisation for both


def confident_mistakes(logits: Tensor, data: ImageSet) -> dict[str, np.ndarray]:
    """The wrong predictions with the highest probability, highest first: the record's `mistake_` arrays."""
    confidences, predictions = logits.softmax(1).max(1)
    wrong = (predictions != data.labels).nonzero().flatten()
    kept = wrong[confidences[wrong].argsort(descending=True, stable=True)][:MISTAKES_KEPT]
    return {
        "mistake_indices": kept.cpu().numpy(),
        "mistake_images": data.images[kept].permute(0, 3, 1, 2).contiguous().cpu().numpy(),  # (M, C, H, W)
        "mistake_confidences": confidences[kept].cpu().numpy(),
    }
