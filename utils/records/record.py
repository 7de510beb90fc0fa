"""Records of finished runs, as strict JSON beside an .npz of arrays. Never loads torch.

A folder of records holds one pair `<model>-seed<k>.json` and `.npz` for each cell; the JSON is written last and
names the SHA-256 of its arrays, so that a pair is either whole or not there.
"""

import dataclasses
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
from sklearn.metrics import confusion_matrix

from utils.files import sha256, write_together
from utils.stats.curves import Onset, overfitting_onset

SCHEMA_VERSION = 1
DATA_NAMES = {"mnist": "MNIST", "cifar10": "CIFAR-10", "digits": "scikit-learn's digits", "shapes": "generated shapes"}
STATUSES = ("finished", "diverged", "failed")


class RecordError(ValueError):
    """A file that is no record of ours, or not a whole one; the message names the file and the fault."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One cell's outcome, in plain values. Accuracies are fractions, times seconds, losses means over examples.

    `history` has one dict an epoch: train_loss, train_accuracy, fit_loss, fit_accuracy, val_loss, val_accuracy,
    train_seconds, eval_seconds. `test_` fields come from the final weights, `best_test_` from those of the epoch
    `best_epoch` (counted from 1), which had the lowest validation loss; `per_class` has precision, recall and f1 of
    the final weights, each a list over classes. All are None unless the run finished.

    `arrays` (kept in the .npz): test_labels, test_predictions, best_test_predictions, uint8 of shape (N,);
    mistake_indices (M,) int64 of the M <= 16 most confident wrong test images, most confident first,
    mistake_images (M, C, H, W) uint8 and mistake_confidences (M,) float32, the probability of the wrong class; and
    the flow_ arrays of utils.records.flow.thin.
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
    per_class: dict[str, list[float]] | None = None
    schema_version: int = SCHEMA_VERSION
    arrays: dict[str, np.ndarray] = field(default_factory=dict, compare=False, repr=False)

    @property
    def data_name(self) -> str:
        """The data set as its authors write it."""
        return DATA_NAMES.get(self.dataset, self.dataset)

    @property
    def kind(self) -> str:
        """Device kind and precision, such as cpu-bf16: records of different kinds are never pooled."""
        return f"{self.environment['device']}-{self.environment['precision']}"

    @property
    def stem(self) -> str:
        return f"{self.model}-seed{self.seed}"

    def curve(self, metric: str) -> np.ndarray:
        """`metric` over the epochs, shape (epochs,); a value that wasn't finite is NaN."""
        return np.array([epoch[metric] for epoch in self.history], dtype=float)

    @property
    def counts_by_class(self) -> np.ndarray:
        """Test images by true (rows) and predicted class (columns), shape (K, K), of the final weights."""
        classes = np.arange(len(self.class_names))
        return confusion_matrix(self.arrays["test_labels"], self.arrays["test_predictions"], labels=classes)

    @cached_property
    def onset(self) -> Onset:
        """From which epoch the run overfits, if it does."""
        return overfitting_onset(self.curve("val_loss"), self.curve("fit_loss"))


Runs = Mapping[str, Sequence[RunRecord]]  # each model's finished records, in the order of display


def paired(a: Sequence[RunRecord], b: Sequence[RunRecord]) -> list[tuple[RunRecord, RunRecord]]:
    """A run of each for every seed that both have, in the order of seeds."""
    of_a, of_b = ({record.seed: record for record in records} for records in (a, b))
    return [(of_a[seed], of_b[seed]) for seed in sorted(of_a.keys() & of_b.keys())]


def share_a_seed(runs: Runs, a: str, b: str) -> bool:
    """Whether both models have a run of the same seed, so that they can be compared."""
    return bool(paired(runs.get(a, ()), runs.get(b, ())))


def to_json(values) -> bytes:
    """Strict JSON: a number that isn't finite becomes null, since NaN is no JSON."""

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
    """Write the pair of files into `folder`, after `files` of the same folder, the JSON last; returns the JSON's path.

    All of them or none. Raises OSError.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **record.arrays)
    values = {f.name: getattr(record, f.name) for f in dataclasses.fields(record) if f.name != "arrays"}
    values["arrays_sha256"] = sha256(buffer.getvalue())
    path = folder / f"{record.stem}.json"
    write_together({**files, path.with_suffix(".npz"): buffer.getvalue(), path: to_json(values)})
    return path


def read_record(path: Path) -> RunRecord:
    """Read the pair of files whose JSON is `path`. Raises RecordError, naming the fault; runs no code it reads."""
    try:
        values = json.loads(path.read_bytes())
        if not isinstance(values, dict) or "schema_version" not in values:
            raise RecordError(f"{path.name}: not a record of this suite")
        if values["schema_version"] != SCHEMA_VERSION:
            raise RecordError(f"{path.name}: schema {values['schema_version']}, this version reads {SCHEMA_VERSION}")
        content = path.with_suffix(".npz").read_bytes()
        if sha256(content) != values.pop("arrays_sha256", None):
            raise RecordError(f"{path.name}: its arrays ({path.stem}.npz) don't have the SHA-256 that it names")
        with np.load(io.BytesIO(content)) as archive:
            arrays = {name: archive[name] for name in archive.files}
        values["image_shape"] = tuple(values["image_shape"])
        values["class_names"] = tuple(values["class_names"])
        record = RunRecord(**values, arrays=arrays)
        _check_contents(record)
    except RecordError:
        raise
    except Exception as error:  # a garbled zip or JSON can raise nearly anything
        raise RecordError(f"{path.name}: not a whole record ({type(error).__name__}: {error})") from error
    if record.status not in STATUSES or record.stem != path.stem:
        raise RecordError(f"{path.name}: its model, seed or status don't fit its name")
    return record


def _check_contents(record: RunRecord) -> None:
    """Raise KeyError or ValueError if a record lacks what reports and pictures take for granted."""
    for name in ("device", "device_name", "precision", "threads", "torch"):
        record.environment[name]
    if record.status == "finished":
        if not record.history:
            raise ValueError("a finished run without history")
        curves = [record.curve(f"{part}_{what}") for part in ("train", "fit", "val") for what in ("loss", "accuracy")]
        if not np.isfinite(curves).all():
            raise ValueError("a finished run with a loss or an accuracy that isn't finite")
        shapes = {record.arrays[name].shape for name in ("test_labels", "test_predictions")}
        if shapes != {(record.test_total,)}:
            raise ValueError(f"{record.test_total} test images, but arrays of the shapes {shapes}")
        for best in ("", "best_"):
            counted = int((record.arrays["test_labels"] == record.arrays[f"{best}test_predictions"]).sum())
            message = getattr(record, f"{best}test_correct"), getattr(record, f"{best}test_accuracy")
            if message != (counted, counted / record.test_total):
                raise ValueError(f"{counted} of its {best}test_predictions are correct, but it says {message}")
