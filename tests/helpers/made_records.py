"""Made-up but realistic records for tests: seeded, with curves, an asymmetric confusion, mistakes and timings."""

import dataclasses
import zlib

import numpy as np
from sklearn.metrics import precision_recall_fscore_support

from utils.records.flow import BINS, on_main_path
from utils.records.record import RunRecord
from utils.records.timing import TimingRecord

ENVIRONMENT = {"device": "cpu", "device_name": "Test CPU 9000", "threads": 2, "precision": "bf16", "torch": "2.14.1"}
CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# of grey 28 x 28 and of coloured 32 x 32 images
PARAMETERS = {"FCN": (567_434, 1_738_890), "SimpleCNN": (421_642, 545_098), "CIFARCNN": (390_410, 620_362)}
RESIDUAL_PARAMETERS = (160_906, 2_797_610)
# weights of convolutions and linear layers, shortcuts among them; of the residual nets eight blocks
WEIGHT_NAMES = {
    "FCN": [f"{i}.weight" for i in (1, 4, 7, 10)],
    "SimpleCNN": [f"{name}.weight" for name in ("features.0", "features.3", "classifier.1", "classifier.4")],
    "CIFARCNN": [
        f"{name}.weight" for name in ("features.0", "features.3", "features.6", "classifier.1", "classifier.4")
    ],
}
RESIDUAL_WEIGHT_NAMES = [
    "stem.0.weight",
    *(
        f"blocks.{block}.{name}.weight"
        for block in range(8)
        for name in (("conv1", "conv2", "shortcut.0") if block in (2, 4, 6) else ("conv1", "conv2"))
    ),
    "classifier.2.weight",
]


def make_record(
    model: str = "FCN",
    seed: int = 0,
    *,
    epochs: int = 15,
    accuracy: float = 0.98,
    overfits_from: int | None = None,
    diverges_from: int | None = None,
    test_total: int = 2_000,
    task: str = "task_1_1",
    dataset: str = "mnist",
    image_shape: tuple[int, int, int] = (1, 28, 28),
    class_names: tuple[str, ...] = tuple("0123456789"),
    config_hash: str = "0123456789ab",
) -> RunRecord:
    """A run that ends near `accuracy`; its test labels are the same for every model and seed, as in a real task.

    From epoch `overfits_from` validation loss rises; from epoch `diverges_from` losses are NaN and nothing was tested.
    """
    random = np.random.default_rng([zlib.crc32(model.encode()), seed])
    history = make_history(random, epochs, accuracy, overfits_from)
    outcome = {"status": "finished"}
    if diverges_from is None:
        outcome |= make_test_outcome(random, seed, accuracy, test_total, image_shape, len(class_names))
        outcome["arrays"] |= flow_arrays(model, seed, epochs)
        outcome["final_epochs"] = max(1, epochs // 3)
        outcome["best_epoch"] = int(np.argmin([epoch["val_loss"] for epoch in history])) + 1
    else:
        outcome = {"status": "diverged", "message": f"loss not finite at step {diverges_from * 100}"}
        for epoch in history[diverges_from - 1 :]:
            epoch |= {name: float("nan") for name in ("train_loss", "fit_loss", "val_loss")}
    parameters = PARAMETERS.get(model, RESIDUAL_PARAMETERS)[image_shape[0] == 3]
    return RunRecord(
        task=task,
        dataset=dataset,
        model=model,
        seed=seed,
        image_shape=image_shape,
        class_names=class_names,
        parameters=parameters,
        flops_per_image=2 * parameters,
        model_options={"class": model},
        config={"epochs": epochs, "batch_size": 64, "optimizer": "adam", "learning_rate": 1e-3},
        config_hash=config_hash,
        recipe_version=1,
        environment=dict(ENVIRONMENT),
        history=history,
        **outcome,
    )


def older(record: RunRecord) -> RunRecord:
    """The record as a version without averaged weights would have written it."""
    new = ("averaged_", "reestimated_", "train_total", "fit_total", "val_total", "final_epochs")
    fields = {f.name: None for f in dataclasses.fields(record) if f.name.startswith(new)}
    arrays = {name: array for name, array in record.arrays.items() if not name.startswith(new)}
    return dataclasses.replace(record, **fields, arrays=arrays)


def wavy_record(model: str, seed: int, size: float) -> RunRecord:
    """A run whose validation loss falls in waves of the relative `size`."""
    random = np.random.default_rng([seed, len(model)])
    history = [{"val_loss": float(np.exp(size * random.normal() - 0.1 * t))} for t in range(15)]
    return dataclasses.replace(make_record(model, seed, test_total=100), history=history)


def without_times(history: list[dict]) -> list[dict]:
    """A history without what differs from run to run."""
    return [{name: value for name, value in epoch.items() if "seconds" not in name} for epoch in history]


def make_history(random: np.random.Generator, epochs: int, accuracy: float, overfits_from: int | None) -> list[dict]:
    """Curves that fall like a + b exp(-t / 3) with noise; the training loss in training mode lies above fit_loss."""
    t = np.arange(epochs)
    error = 1 - accuracy
    rise = 0 if overfits_from is None else 0.12 * error * np.clip(t + 1 - overfits_from, 0, None)
    noise = random.normal(1, 0.04, (3, epochs))
    losses = {
        "train": noise[0] * error * (1.0 + 8 * np.exp(-t / 2.5)),
        "fit": noise[1] * error * (0.3 + 5 * np.exp(-t / 3)),
        "val": noise[2] * error * (3.0 + 3 * np.exp(-t / 2)) + 3 * rise,
    }
    losses_without_rise = losses | {"val": losses["val"] - 2.7 * rise}
    accuracies = {name: 1 - np.clip(loss / 3.2, 0, 0.9) for name, loss in losses_without_rise.items()}
    return [
        {f"{name}_loss": float(loss[i]) for name, loss in losses.items()}
        | {f"{name}_accuracy": float(values[i]) for name, values in accuracies.items()}
        | {"train_seconds": 2.5, "eval_seconds": 0.2}
        for i in t
    ]


def make_test_outcome(
    random: np.random.Generator, seed: int, accuracy: float, total: int, image_shape: tuple[int, int, int], classes: int
) -> dict:
    """Test fields and arrays. Images differ in difficulty, alike for all models; class c is mostly taken for c + 2."""
    test_set = np.random.default_rng(1)
    labels = test_set.integers(0, classes, total).astype(np.uint8)
    difficulty = test_set.normal(size=total)

    def predict(correct: int) -> np.ndarray:
        wrong = np.argsort(difficulty + random.normal(size=total))[correct:]
        shifts = random.choice([1, 2, 3, classes - 1], size=len(wrong), p=[0.2, 0.6, 0.15, 0.05])
        predictions = labels.copy()
        predictions[wrong] = (labels[wrong] + shifts) % classes
        return predictions

    spread = (0.0004 + 0.015 * (1 - accuracy)) * total
    correct, best_correct = (
        int(np.clip(round(random.normal(accuracy * total, spread)), 1, total - 1)) for _ in range(2)
    )
    predictions, best_predictions = predict(correct), predict(best_correct)
    averaged = predict(averaged_correct := min(total - 1, correct + round(0.004 * total)))
    wrong = np.flatnonzero(predictions != labels)[:16]
    arrays = {
        "test_labels": labels,
        "test_predictions": predictions,
        "best_test_predictions": best_predictions,
        "mistake_indices": wrong,
        "mistake_confidences": np.linspace(0.9999, 0.83, len(wrong), dtype=np.float32),
        "mistake_images": make_images(random, len(wrong), image_shape),
        "reestimated_test_predictions": predictions,
        "averaged_test_predictions": averaged,
        "averaged_test_confidences": np.full(total, 250, np.uint8),
    }
    arrays |= {f"averaged_{name}": array for name, array in arrays.items() if name.startswith("mistake_")}
    return {
        "test_total": total,
        "test_correct": correct,
        "test_accuracy": correct / total,
        "test_loss": 3 * (1 - accuracy),
        "best_test_correct": best_correct,
        "best_test_accuracy": best_correct / total,
        "best_test_loss": 2.9 * (1 - accuracy),
        "reestimated_batch_norms": 0,
        "reestimated_test_correct": correct,
        "reestimated_test_accuracy": correct / total,
        "reestimated_test_loss": 3 * (1 - accuracy),
        "averaged_test_correct": averaged_correct,
        "averaged_test_accuracy": averaged_correct / total,
        "averaged_test_loss": 2.5 * (1 - accuracy),
        "averaged_val_correct": 90 * classes,
        "averaged_val_loss": 2.5 * (1 - accuracy),
        "averaged_val_correct_by_class": [90] * classes,
        "train_total": 900 * classes,
        "fit_total": 100 * classes,
        "val_total": 100 * classes,
        "train_total_by_class": [900] * classes,
        "val_total_by_class": [100] * classes,
        "per_class": per_class(labels, predictions, classes),
        "arrays": arrays,
    }


def per_class(labels: np.ndarray, predictions: np.ndarray, classes: int) -> dict[str, list[float]]:
    """Precision, recall and F1 of each class by scikit-learn; NaN where a class has no prediction or no image."""
    scores = precision_recall_fscore_support(labels, predictions, labels=range(classes), zero_division=np.nan)
    return {name: values.tolist() for name, values in zip(("precision", "recall", "f1"), scores, strict=False)}


def flow_arrays(model: str, seed: int, epochs: int, *, scale: float = 1.0) -> dict:
    """Gradient flow like that of `utils.flow.thin`: norms near `scale` that rise with depth and fall over the run."""
    random = np.random.default_rng([zlib.crc32(model.encode()), seed, 1])
    names = WEIGHT_NAMES.get(model, RESIDUAL_WEIGHT_NAMES)
    bins = epochs * max(1, BINS // epochs)
    over_depth = np.geomspace(0.1, 1, len(names)) * random.lognormal(0, 0.1, len(names))
    over_time = np.geomspace(1, 0.03, bins)[:, None] * random.lognormal(0, 0.1, (bins, len(names)))
    medians = scale * over_depth * over_time
    epoch_norms = np.median(medians.reshape(epochs, -1, len(names)), axis=1).astype(np.float32)
    main = epoch_norms[0, on_main_path(names)].astype(np.float64)
    quantiles = np.array([0.4, 1, 2.2])
    with np.errstate(invalid="ignore"):
        return {
            "flow_weight_names": np.array(names),
            "flow_norms": (medians[..., None] * quantiles).astype(np.float32),
            "flow_update_ratios": (0.003 * np.sqrt(medians)[..., None] * quantiles).astype(np.float32),
            "flow_epoch_norms": epoch_norms,
            "flow_first_epoch_ratio": main[0] / main[-1],
        }


def make_images(random: np.random.Generator, count: int, image_shape: tuple[int, int, int]) -> np.ndarray:
    """One bright blob an image, (count, C, H, W) uint8; the channels of an image differ."""
    channels, height, width = image_shape
    y, x = np.mgrid[:height, :width]
    centres = random.uniform(0.3, 0.7, (count, channels, 2, 1, 1)) * np.array([height, width])[:, None, None]
    distances = (y - centres[:, :, 0]) ** 2 + (x - centres[:, :, 1]) ** 2
    return (255 * np.exp(-distances / (0.03 * height * width))).astype(np.uint8)


def make_timing(models: list[str], *, rounds: int = 7, first_epoch_seconds: float = 1.2) -> TimingRecord:
    """Each model trains three times, and infers twice, as slowly as the one before; rounds differ by a few percent."""
    random = np.random.default_rng(2)
    measures = {}
    for i, model in enumerate(models):
        step = first_epoch_seconds * 3**i / 860 * random.normal(1, 0.02, rounds)
        batch = 0.0005 * 2**i * random.normal(1, 0.02, rounds)
        measures[model] = {
            "train_step_seconds": step.tolist(),
            "train_epoch_seconds": (860 * step).tolist(),
            "inference_batch_seconds": batch.tolist(),
            "latency_seconds": (batch / 10).tolist(),
            "latency_p95_seconds": (batch / 8).tolist(),
            "throughput_batch_seconds": (6 * batch).tolist(),
        }
    return TimingRecord(environment=dict(ENVIRONMENT), batch_size=64, throughput_batch_size=512, models=measures)


def with_predictions(seed: int, model: str, predictions) -> object:
    """Ten images of class 0, twenty of class 1, predicted as said; a third class has none."""
    record = make_record(model, seed, class_names=("a", "b", "c"))
    arrays = {"test_labels": np.repeat([0, 1], [10, 20]), "test_predictions": np.asarray(predictions)}
    return dataclasses.replace(record, arrays=arrays, per_class=per_class(*arrays.values(), 3))


def predictions_of(wrong_zeros: int, wrong_ones: int) -> np.ndarray:
    """So many images of class 0 taken for class 2, and of class 1 for class 0."""
    zeros, ones = np.zeros(10, dtype=int), np.ones(20, dtype=int)
    zeros[:wrong_zeros], ones[:wrong_ones] = 2, 0
    return np.concatenate([zeros, ones])


def pair_of_models(a_wrong, b_wrong):
    return (
        [with_predictions(seed, model, predictions_of(*wrong)) for seed, wrong in enumerate(counts)]
        for model, counts in (("A", a_wrong), ("B", b_wrong))
    )


def with_losses(record, **losses):
    history = [dict(epoch) for epoch in record.history]
    for name, values in losses.items():
        for epoch, value in zip(history, values, strict=True):
            epoch[name] = float(value)
    return dataclasses.replace(record, history=history)
