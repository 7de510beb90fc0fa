"""One cell of a comparison: train a model with one seed, predict the test set, save the results."""

import io
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import precision_recall_fscore_support
from torch import nn

from utils.data.images import Splits, load_splits
from utils.data.specs import DataError, DatasetSpec
from utils.experiment import RECIPE_VERSION, Experiment, model_options, resolved_config
from utils.files import file_name, remove_leftovers, sha256
from utils.records.flow import thin
from utils.records.folder import publish
from utils.records.record import WEIGHT_FILES, RecordError, RunRecord, read_record, write_record
from utils.streams import warn
from utils.training.averaging import LATEST_SETS, reestimate_statistics
from utils.training.checkpoint import Checkpoints, tensor_bytes
from utils.training.device import Execution, noting_nondeterminism
from utils.training.fit import Fit, fit
from utils.training.machine import device_name
from utils.training.model import build_model, flops_per_image, parameter_shapes
from utils.training.predict import (
    arrays_of_readings,
    averaged_fields,
    fields_of_readings,
    image_counts,
    predict,
)


@dataclass(frozen=True)
class CellJob:
    """Everything that a process needs to train one cell. It is pickled and sent to that process.

    `environment` (see `utils.training.machine.describe_environment`) becomes part of the record, which is written into
    `folder`.
    """

    task: str
    spec: DatasetSpec
    experiment: Experiment
    seed: int
    config_hash: str
    data_sha256: str
    data_dir: Path
    download: bool
    environment: dict
    execution: Execution
    folder: Path

    def on(self, device: torch.device) -> "CellJob":
        """The same cell on a device of the same kind."""
        execution = replace(self.execution, device=device)
        return replace(
            self, execution=execution, environment={**self.environment, "device_name": device_name(execution)}
        )

    def with_threads(self, threads: int) -> "CellJob":
        """The same cell with another number of threads."""
        execution = replace(self.execution, threads=threads)
        return replace(self, execution=execution, environment={**self.environment, "threads": threads})

    @property
    def stem(self) -> str:
        return f"{file_name(self.experiment.name)}-seed{self.seed}"

    @property
    def record_path(self) -> Path:
        """The path of the JSON file that the cell writes into its folder."""
        return self.folder / f"{self.stem}.json"

    def load(self) -> Splits:
        """Load the data onto the job's device.

        Reads the cache, which the command has filled before; only if the data folder can't be written does each
        process fetch the data itself. Raises DataError.
        """
        config = self.experiment.config
        splits = load_splits(self.spec, self.data_dir, self.download, config.limit, config.protocol)
        if splits.sha256 != self.data_sha256:
            raise DataError(f"{self.spec.name} was changed while the run went on; start it again")
        return splits.to(self.execution.device)

    @property
    def bytes_left(self) -> int:
        """At most, on the disk when the cell has finished: three files of weights, one checkpoint, the rest."""
        return (len(WEIGHT_FILES) + self._tensors_in_checkpoint) * self._bytes_of_parameters + 2**24

    @property
    def bytes_while_training(self) -> int:
        """At most, more than `bytes_left` while the cell trains: two older checkpoints."""
        return 2 * self._tensors_in_checkpoint * self._bytes_of_parameters

    @property
    def _tensors_in_checkpoint(self) -> int:
        """For each parameter: its value, the best one, two of the optimiser, and what is kept for the average."""
        return 4 + (LATEST_SETS if self.experiment.config.patience else 1)

    @property
    def _bytes_of_parameters(self) -> int:
        shapes = parameter_shapes(self.experiment, self.spec.image_shape, len(self.spec.class_names))
        return 4 * sum(map(math.prod, shapes.values()))

    @property
    def checkpoints(self) -> Checkpoints:
        """The cell's checkpoints, with everything that a run must have in common with one to resume from it."""
        # Any of these can change the last bits of a sum, and a resumed run must equal an uninterrupted one exactly.
        names = ("source_hash", "device", "device_name", "precision", "threads", "torch")
        made_by = {name: self.environment[name] for name in names}
        data = self.data_sha256[:12]
        if self.spec.pinned:  # the value that checkpoints of these data sets have always had
            data = sha256(repr(sorted(self.spec.arrays.items())).encode())[:12]
        identity = {"config_hash": self.config_hash, "seed": self.seed, "data": data, **made_by}
        return Checkpoints(self.folder, identity)

    def finished_record(self, folder: Path | None = None) -> RunRecord | None:
        """The record in the cell's folder if it is finished and of the same recipe, else None."""
        try:
            record = read_record((folder or self.folder) / self.record_path.name)
        except RecordError:
            return None
        # A record of an older version names no data: with pinned checksums these were checked all the same.
        same_data = record.data_sha256 == self.data_sha256 or (self.spec.pinned and not record.data_sha256)
        same_recipe = record.config_hash == self.config_hash
        # One of an older version doesn't name the code either; for cells trained here, `source_hash` stands for it.
        same_model = record.environment.get("model_hash") in (None, self.environment.get("model_hash"))
        return record if record.status == "finished" and same_recipe and same_model and same_data else None


def run_cell(job: CellJob, on_epoch: Callable[[dict], None]) -> RunRecord:
    """Load, train, predict, save; returns the record. Resumes from the job's last checkpoint if there is one.

    An error ends only this cell: its record then has the status "failed" and the error as its message. `on_epoch` is
    called with each epoch's history entry. The results go into the job's folder: the record, `averaged.safetensors`,
    `final.safetensors` and `best.safetensors` (each a plain state dict), and `gradient_flow.npz` with the gradient flow
    of every step.
    """
    history: list[dict] = []

    def keep(entry: dict) -> None:
        history.append(entry)
        on_epoch(entry)

    files: dict[Path, bytes] = {}
    try:
        remove_leftovers(job.folder)
        data = job.load()
        model = build_model(job.experiment, data.image_shape, data.num_classes, job.seed)
        facts = {
            "parameters": sum(p.numel() for p in model.parameters()),
            "flops_per_image": flops_per_image(model, data.image_shape),
        }
        model = job.execution.place(model)
        with noting_nondeterminism(job.execution.device) as found:
            result = fit(model, job.experiment.config, job.seed, data, job.execution, keep, job.checkpoints)
        if found:
            warn(f"{job.stem}: another run may differ a little, since {', '.join(sorted(found))} adds in any order")
            job = replace(job, environment={**job.environment, "nondeterministic": sorted(found)})
        if result.diverged_at is None:
            fields, files = _results(job, model, data, result)
            outcome = {"status": "finished", **fields}
        else:
            outcome = {"status": "diverged", "message": f"not finite at step {result.diverged_at}"}
        record = _record(job, history, **facts, **outcome)
    except Exception as error:  # whatever it was, the other cells continue
        record = failed_record(job, f"{type(error).__name__}: {error}", history)
    try:
        keep_record(job, record, files)
    except OSError as error:
        return failed_record(job, f"could not be kept: {error}", history)
    if record.status == "finished":
        # The last checkpoint stays: if the record gets damaged, the cell only predicts again instead of training again.
        with suppress(OSError):
            job.checkpoints.prune(keep=1)
    return record


def keep_record(job: CellJob, record: RunRecord, files: Mapping[Path, bytes]) -> None:
    """Write the record into the job's folder, a finished one together with its `files`. Raises OSError."""
    if record.status == "finished":
        write_record(job.folder, record, files)
    else:
        publish(job.folder, record)  # which never replaces a finished record by another one


def failed_record(job: CellJob, message: str, history: list[dict] | None = None) -> RunRecord:
    """The record of a cell that ended with an error."""
    return _record(job, history or [], parameters=0, flops_per_image=0, status="failed", message=message)


def _results(job: CellJob, model: nn.Module, data: Splits, result: Fit) -> tuple[dict, dict[Path, bytes]]:
    """The fields of the record that come from a finished run's weights, and the files to keep, {path: bytes}.

    Each reading is made whatever the others say.
    """
    # First, since what follows changes what is in the model.
    files = {job.folder / WEIGHT_FILES["last"]: tensor_bytes(model.state_dict())}
    readings = {"": predict(model, data.test, job.execution)}
    batch_norms = reestimate_statistics(model, data.fit, job.execution, job.seed)
    # Without a batch norm it is the same net.
    readings["reestimated_"] = predict(model, data.test, job.execution) if batch_norms else readings[""]
    model.load_state_dict(result.averaged_weights)
    reestimate_statistics(model, data.fit, job.execution, job.seed)
    files[job.folder / WEIGHT_FILES["averaged"]] = tensor_bytes(model.state_dict())
    readings["averaged_"] = predict(model, data.test, job.execution)
    averaged_on_val = predict(model, data.val, job.execution)
    model.load_state_dict(result.best_weights)
    files[job.folder / WEIGHT_FILES["best"]] = tensor_bytes(model.state_dict())
    readings["best_"] = predict(model, data.test, job.execution)

    flow, buffer = result.gradient_flow, io.BytesIO()
    np.savez_compressed(buffer, **flow)
    files[job.folder / "gradient_flow.npz"] = buffer.getvalue()
    arrays = arrays_of_readings(readings, data.test)
    return {
        "best_epoch": result.best_epoch,
        "final_epochs": result.final_epochs,
        "reestimated_batch_norms": batch_norms,
        **image_counts(data),
        **fields_of_readings(readings, data.test),
        **averaged_fields(averaged_on_val, data.val, data.num_classes),
        "per_class": per_class(arrays["test_labels"], arrays["test_predictions"], data.num_classes),
        "arrays": arrays | thin(flow["norms"], flow["update_ratios"], flow["weight_names"], len(result.history)),
    }, files


def per_class(labels: np.ndarray, predictions: np.ndarray, classes: int) -> dict[str, list[float]]:
    """Precision, recall and F1 of each class, fractions; NaN where a class has no prediction or no example.

    `labels` and `predictions` are class indices of shape (N,).
    """
    scores = precision_recall_fscore_support(labels, predictions, labels=range(classes), zero_division=np.nan)
    # Not strict: scikit-learn returns a fourth array, the number of examples of each class.
    return {name: values.tolist() for name, values in zip(("precision", "recall", "f1"), scores, strict=False)}


def _record(job: CellJob, history: list[dict], **outcome) -> RunRecord:
    return RunRecord(
        task=job.task,
        dataset=job.spec.name,
        model=job.experiment.name,
        seed=job.seed,
        image_shape=job.spec.image_shape,
        class_names=job.spec.class_names,
        model_options=model_options(job.experiment.model),
        config=resolved_config(job.experiment.config),
        config_hash=job.config_hash,
        recipe_version=RECIPE_VERSION,
        environment=job.environment,
        history=history,
        data_sha256=job.data_sha256,
        **outcome,
    )
