"""The record of a run: strict JSON, and an .npz file with its arrays. Never loads torch.

A folder of records holds one pair `<model>-seed<k>.json` and `.npz` for each cell, with the model's `file_name`. The
JSON is written last and contains the SHA-256 of the .npz. So a pair counts only if both files are complete and belong
together.
"""

import dataclasses
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np

from utils.files import file_name, sha256, write_together
from utils.records.arrays import RecordError, StoredArrays, open_arrays

SCHEMA_VERSION = 1  # of the JSON's fields: a record of another version is not read
DATA_NAMES = {"mnist": "MNIST", "cifar10": "CIFAR-10", "digits": "scikit-learn's digits", "shapes": "generated shapes"}
STATUSES = ("finished", "diverged", "failed")
# Prefixes of fields and arrays: the final weights, those of the best epoch, the averaged ones, and the final ones with
# re-estimated batch-norm statistics.
READINGS = ("", "best_", "averaged_", "reestimated_")
OLD_READINGS = ("", "best_")  # those of records of older versions
WEIGHT_FILES = {"averaged": "averaged.safetensors", "last": "final.safetensors", "best": "best.safetensors"}


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The outcome of one cell, in plain values. Accuracies are fractions, times seconds, losses means over examples.

    `status` is one of STATUSES; if it isn't "finished", `message` says why. `history` has one dict an epoch:
    train_loss, train_accuracy, fit_loss, fit_accuracy, val_loss, val_accuracy, train_seconds, eval_seconds. train_ is
    measured while training (dropout on), fit_ in evaluation mode on a fixed part of the training images.

    There are four readings of the test images (READINGS). `test_` fields come from the final
    weights; `reestimated_test_` from these with batch-norm statistics re-estimated on the fit images, in
    `reestimated_batch_norms` batch norms (with none it is the same net); `averaged_test_` from the equal average of the
    weights after the last `final_epochs` epochs, with re-estimated statistics; `best_test_` from the weights of epoch
    `best_epoch` (counted from 1), which had the lowest validation loss. `per_class` has precision, recall and f1 with
    the final weights, each a list over classes. `averaged_val_` fields are of the validation images. `train_total`,
    `fit_total` and `val_total` count images, those with `_by_class` each class's. All of these are None unless the run
    finished. Records of older versions have no `averaged_` and `reestimated_` fields, and no sizes but `test_total`.

    `arrays` is kept in the .npz, of a record that was read from disk there alone (`StoredArrays`):

    - test_labels and, for each reading, test_predictions with its prefix: uint8 of shape (N,);
    - averaged_test_confidences (N,) uint8: the probability of the predicted class, round(255 p), averaged weights;
    - mistake_indices (M,) int64, the M <= 16 wrong test images with the highest confidence, highest first;
      mistake_images (M, C, H, W) uint8; mistake_confidences (M,) float32, the probability of the wrong class; with
      the prefix averaged_ those of the averaged weights;
    - the flow_ arrays of `utils.records.flow.thin`.
    """

    task: str
    dataset: str
    model: str
    seed: int
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    parameters: int
    flops_per_image: int
    model_options: dict
    config: dict
    config_hash: str
    recipe_version: int
    environment: dict
    history: list[dict[str, float | None]]
    status: str
    message: str = ""
    test_total: int | None = None
    test_correct: int | None = None
    test_accuracy: float | None = None
    test_loss: float | None = None
    best_epoch: int | None = None
    best_test_correct: int | None = None
    best_test_accuracy: float | None = None
    best_test_loss: float | None = None
    final_epochs: int | None = None
    averaged_test_correct: int | None = None
    averaged_test_accuracy: float | None = None
    averaged_test_loss: float | None = None
    averaged_val_correct: int | None = None
    averaged_val_loss: float | None = None
    averaged_val_correct_by_class: list[int] | None = None
    reestimated_batch_norms: int | None = None
    reestimated_test_correct: int | None = None
    reestimated_test_accuracy: float | None = None
    reestimated_test_loss: float | None = None
    train_total: int | None = None
    fit_total: int | None = None
    val_total: int | None = None
    train_total_by_class: list[int] | None = None
    val_total_by_class: list[int] | None = None
    per_class: dict[str, list[float]] | None = None
    data_sha256: str = ""
    schema_version: int = SCHEMA_VERSION
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False, repr=False)

    @property
    def data_name(self) -> str:
        """The name of the data set as its authors write it."""
        return DATA_NAMES.get(self.dataset, self.dataset)

    @property
    def kind(self) -> str:
        """Device and precision, for example "cpu-bf16". Records of different kinds are never pooled."""
        return f"{self.environment['device']}-{self.environment['precision']}"

    @property
    def has_average(self) -> bool:
        """Whether the run gave averaged weights: it finished, and an older version did not make it."""
        return self.averaged_test_correct is not None

    @property
    def averaged_in_words(self) -> str:
        """What the averaged weights are: of one final epoch they are its weights."""
        return "averaged weights" if self.final_epochs > 1 else "last weights, statistics re-estimated"

    @property
    def stem(self) -> str:
        return f"{file_name(self.model)}-seed{self.seed}"

    def curve(self, metric: str) -> np.ndarray:
        """`metric` over the epochs, shape (epochs,); a value that was not finite is NaN (null in the JSON)."""
        return np.array([epoch[metric] for epoch in self.history], dtype=float)

    @property
    def counts_by_class(self) -> np.ndarray:
        """The confusion matrix (K, K) of the final weights: test images by true class (row) and predicted (column)."""
        classes = len(self.class_names)
        # scikit-learn's confusion_matrix gives the same; of thousands of records it takes ten times as long.
        places = classes * self.arrays["test_labels"].astype(int) + self.arrays["test_predictions"]
        return np.bincount(places, minlength=classes**2).reshape(classes, classes)


Runs = Mapping[str, Sequence[RunRecord]]  # {model: its finished records}, in the order in which models are shown


def paired(a: Sequence[RunRecord], b: Sequence[RunRecord]) -> list[tuple[RunRecord, RunRecord]]:
    """The pairs (run of `a`, run of `b`) with the same seed, in the order of seeds; seeds of only one are left out."""
    of_a, of_b = ({record.seed: record for record in records} for records in (a, b))
    return [(of_a[seed], of_b[seed]) for seed in sorted(of_a.keys() & of_b.keys())]


def share_a_seed(runs: Runs, a: str, b: str) -> bool:
    """Whether models `a` and `b` have runs with a common seed, so that they can be compared."""
    return bool(paired(runs.get(a, ()), runs.get(b, ())))


def to_json(values) -> bytes:
    """`values` as strict JSON. NaN and infinity become null, since JSON has no such numbers."""

    def plain(value):
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return value

    return (json.dumps(plain(values), indent=1, allow_nan=False) + "\n").encode()


def write_record(folder: Path, record: RunRecord, files: Mapping[Path, bytes] = MappingProxyType({})) -> Path:
    """Write a record into `folder`, together with `files` ({path: bytes}) of the same folder; returns the JSON's path.

    All files are written or none. The JSON comes last: once it is there, all others are complete. Raises OSError.
    """
    path = folder / f"{record.stem}.json"
    text, arrays = record_bytes(record)
    write_together({**files, path.with_suffix(".npz"): arrays, path: text})
    return path


def record_bytes(record: RunRecord) -> tuple[bytes, bytes]:
    """The bytes of a record's JSON and of its .npz."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **record.arrays)
    values = {f.name: getattr(record, f.name) for f in dataclasses.fields(record) if f.name != "arrays"}
    values["arrays_sha256"] = sha256(buffer.getvalue())
    return to_json(values), buffer.getvalue()


def read_record(path: Path) -> RunRecord:
    """Read the record whose JSON is `path`, and its .npz. Raises RecordError, which names the fault.

    All arrays are read and checked, and then left on the disk (`StoredArrays`).
    """
    stored = path.with_suffix(".npz")
    try:
        text = path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path.name}: not a whole record ({type(error).__name__}: {error})") from error
    record, arrays_sha256 = parse_record(path.name, text, stored.read_bytes)
    return dataclasses.replace(record, arrays=StoredArrays(stored, arrays_sha256, tuple(record.arrays)))


def parse_record(name: str, text: bytes, read_arrays: Callable[[], bytes]) -> tuple[RunRecord, str]:
    """The record of which a file `name` would hold the JSON `text`, with its arrays, and the SHA-256 of its .npz.

    `read_arrays()` returns the bytes of the .npz. Raises RecordError, which names the fault. Never runs code: JSON
    holds none, and NumPy by default refuses to load pickled objects.
    """
    path = Path(name)
    try:
        values = json.loads(text)
        if not isinstance(values, dict) or "schema_version" not in values:
            raise RecordError(f"{path.name}: not a record of this suite")
        if values["schema_version"] != SCHEMA_VERSION:
            raise RecordError(f"{path.name}: schema {values['schema_version']}, this version reads {SCHEMA_VERSION}")
        arrays_sha256 = values.pop("arrays_sha256", None)
        with open_arrays(path.stem, read_arrays(), arrays_sha256) as archive:
            arrays = {name: archive[name] for name in archive.files}
        values["image_shape"] = tuple(values["image_shape"])
        values["class_names"] = tuple(values["class_names"])
        record = RunRecord(**values, arrays=arrays)
        _check_contents(record)
    except RecordError:
        raise
    except Exception as error:  # a damaged zip or JSON file can raise almost any exception
        raise RecordError(f"{path.name}: not a whole record ({type(error).__name__}: {error})") from error
    if record.status not in STATUSES or record.stem != path.stem:
        raise RecordError(f"{path.name}: its model, seed or status don't fit its name")
    return record, arrays_sha256


def _check_contents(record: RunRecord) -> None:
    """Raise KeyError or ValueError if a record lacks something that reports and pictures rely on."""
    for name in ("device", "device_name", "precision", "threads", "torch"):
        record.environment[name]
    if record.status == "finished":
        if not record.history:
            raise ValueError("a finished run without history")
        curves = [record.curve(f"{part}_{what}") for part in ("train", "fit", "val") for what in ("loss", "accuracy")]
        if not np.isfinite(curves).all():
            raise ValueError("a finished run with a loss or an accuracy that isn't finite")
        readings = READINGS if record.has_average else OLD_READINGS
        names = [f"{reading}test_predictions" for reading in readings]
        names += ["averaged_test_confidences"] if record.has_average else []
        shapes = {record.arrays[name].shape for name in ("test_labels", *names)}
        if shapes != {(record.test_total,)}:
            raise ValueError(f"{record.test_total} test images, but arrays of the shapes {shapes}")
        # Counts and predictions are stored apart, and pages print one and draw the other: they must agree.
        for reading in readings:
            counted = int((record.arrays["test_labels"] == record.arrays[f"{reading}test_predictions"]).sum())
            stored = getattr(record, f"{reading}test_correct"), getattr(record, f"{reading}test_accuracy")
            if stored != (counted, counted / record.test_total):
                raise ValueError(f"{counted} of its {reading}test_predictions are correct, but it says {stored}")
        if record.has_average:
            _check_sizes(record)


def _check_sizes(record: RunRecord) -> None:
    """Raise ValueError if the numbers of images of a finished run with averaged weights contradict each other."""
    by_class = {
        "train_total": record.train_total_by_class,
        "val_total": record.val_total_by_class,
        "averaged_val_correct": record.averaged_val_correct_by_class,
    }
    for name, counts in by_class.items():
        if (len(counts), sum(counts)) != (len(record.class_names), getattr(record, name)):
            raise ValueError(f"{name} is {getattr(record, name)}, but by class it is {counts}")
    if not 1 <= record.final_epochs <= len(record.history):
        raise ValueError(f"{record.final_epochs} final epochs of {len(record.history)}")
    if any(right > n for right, n in zip(record.averaged_val_correct_by_class, record.val_total_by_class, strict=True)):
        raise ValueError("more validation images of a class are right than there are")
