"""Predictions: the model is run once for the logits; everything else is derived from logits and labels."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.data.images import ImageSet
from utils.training.device import Execution

EVAL_BATCH_SIZE = 500  # affects speed and memory only
MISTAKES_KEPT = 16  # for the picture of the most confident mistakes


@torch.inference_mode()
def predict(model: nn.Module, data: ImageSet, execution: Execution) -> Tensor:
    """Logits (N, K), float32, of all images, computed in evaluation mode. Leaves the model in evaluation mode."""
    model.eval()
    logits = []
    for images, _ in data.batches(EVAL_BATCH_SIZE):
        with execution.autocast():
            logits.append(model(images).float())  # (B, K)
    return torch.cat(logits)  # (N, K)


def loss_and_correct(logits: Tensor, labels: Tensor) -> tuple[float, int]:
    """Mean cross-entropy over examples and the number of correct predictions, from logits (N, K) and labels (N,)."""
    loss, correct = F.cross_entropy(logits, labels), (logits.argmax(1) == labels).sum()
    # Stacked, so that the CPU waits for the device once and not twice. In fp32, since MPS has no float64: it holds
    # every count up to 16 million exactly.
    return tuple(torch.stack([loss, correct.to(loss.dtype)]).tolist())


def confident_mistakes(logits: Tensor, data: ImageSet) -> dict[str, np.ndarray]:
    """The record's `mistake_` arrays: the wrong predictions with the highest probability, highest first.

    `logits` are of shape (N, K), for the images of `data` in their order.
    """
    confidences, predictions = logits.softmax(1).max(1)
    wrong = (predictions != data.labels).nonzero().flatten()
    kept = wrong[confidences[wrong].argsort(descending=True, stable=True)][:MISTAKES_KEPT]
    return {
        "mistake_indices": kept.cpu().numpy(),
        "mistake_images": data.take(kept).images.permute(0, 3, 1, 2).contiguous().cpu().numpy(),  # (M, C, H, W)
        "mistake_confidences": confidences[kept].cpu().numpy(),
    }
