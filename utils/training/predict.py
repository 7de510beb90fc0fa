"""Predictions: the model is run once for the logits; everything else is derived from logits and labels."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.data.images import ImageSet, Splits
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


def fields_of_readings(readings: Mapping[str, Tensor], data: ImageSet) -> dict:
    """The record's loss, count and accuracy of each reading of the test images, {prefix: logits (N, K)}."""
    fields = {}
    for reading, logits in readings.items():
        loss, correct = loss_and_correct(logits, data.labels)
        fields[f"{reading}test_loss"] = loss
        fields[f"{reading}test_correct"] = int(correct)
        fields[f"{reading}test_accuracy"] = correct / len(data)
    return fields


def arrays_of_readings(readings: Mapping[str, Tensor], data: ImageSet) -> dict[str, np.ndarray]:
    """The record's arrays of the test images, but for the gradient flow; `readings` as in `fields_of_readings`."""
    # uint8 holds class indices up to 255; records are committed, so their size matters.
    arrays = {"test_labels": data.labels.cpu().numpy().astype(np.uint8)}
    for reading, logits in readings.items():
        arrays[f"{reading}test_predictions"] = logits.argmax(1).cpu().numpy().astype(np.uint8)
    averaged = readings["averaged_"]
    confidences = averaged.softmax(1).amax(1).nan_to_num()  # an average of weights can give logits that are no numbers
    arrays["averaged_test_confidences"] = confidences.mul(255).round().cpu().numpy().astype(np.uint8)
    of_averaged = {f"averaged_{name}": array for name, array in confident_mistakes(averaged, data).items()}
    return arrays | confident_mistakes(readings[""], data) | of_averaged


def averaged_fields(logits: Tensor, data: ImageSet, classes: int) -> dict:
    """The record's fields of the averaged weights on the validation images `data`, from their logits (N, K)."""
    loss, correct = loss_and_correct(logits, data.labels)
    right = data.labels[logits.argmax(1) == data.labels]
    return {
        "averaged_val_loss": loss,
        "averaged_val_correct": int(correct),
        "averaged_val_correct_by_class": right.bincount(minlength=classes).tolist(),
    }


def image_counts(data: Splits) -> dict:
    """The record's numbers of images."""
    return {
        **{f"{name}_total": len(getattr(data, name)) for name in ("train", "fit", "val", "test")},
        **{
            f"{name}_total_by_class": getattr(data, name).labels.bincount(minlength=data.num_classes).tolist()
            for name in ("train", "val")
        },
    }
