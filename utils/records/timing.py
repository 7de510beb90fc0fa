"""The record of a timing pass. Never loads torch."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from utils.files import write_atomically
from utils.records.record import SCHEMA_VERSION, to_json

MEASURES = {
    f"{what}_seconds"
    for what in ("train_step", "train_epoch", "inference_batch", "latency", "latency_p95", "throughput_batch")
}


@dataclass(frozen=True, kw_only=True)
class TimingRecord:
    """A timing pass. `models` maps each model to its measures, one value a round, in seconds:

    train_step_seconds (median of a round's steps), train_epoch_seconds (that times the steps of an epoch),
    inference_batch_seconds (one training-size batch), latency_seconds and latency_p95_seconds (one image: median
    and 95th percentile of a round), throughput_batch_seconds (a batch of `throughput_batch_size` images).
    """

    environment: dict
    batch_size: int
    throughput_batch_size: int
    models: dict[str, dict[str, list[float]]]
    schema_version: int = SCHEMA_VERSION

    @property
    def reference(self) -> str:
        """The model that the others' times are set against: the first."""
        return next(iter(self.models))

    @property
    def rounds(self) -> int:
        return len(self.models[self.reference]["train_step_seconds"])


def write_timing(folder: Path, timing: TimingRecord) -> None:
    write_atomically(folder / "timing.json", to_json(dataclasses.asdict(timing)))


def read_timing(folder: Path, models: Sequence[str]) -> TimingRecord | None:
    """The folder's timing pass; None where there is none of this schema, or it lacks one of `models`."""
    try:
        timing = TimingRecord(**json.loads((folder / "timing.json").read_bytes()))
        whole = timing.schema_version == SCHEMA_VERSION and all(
            timing.models[model].keys() >= MEASURES for model in models
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return timing if whole else None
