"""The record of a timing pass. Never loads torch."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from utils.files import write_atomically
from utils.records.record import SCHEMA_VERSION, to_json

MEASURES = {
    f"{what}_seconds"
    for what in ("train_step", "train_epoch", "inference_batch", "latency", "latency_p95", "throughput_batch")
}


@dataclass(frozen=True, kw_only=True)
class TimingRecord:
    """A timing pass. `models` maps each model to its measures, {measure: seconds, one value a round}:

    - train_step_seconds: the median of a round's steps;
    - train_epoch_seconds: that times the number of steps of an epoch;
    - inference_batch_seconds: one batch of `batch_size` images, the size used in training;
    - latency_seconds and latency_p95_seconds: one image, median and 95th percentile of a round;
    - throughput_batch_seconds: one batch of `throughput_batch_size` images.
    """

    environment: dict
    batch_size: int
    throughput_batch_size: int
    models: dict[str, dict[str, list[float]]]
    config_hashes: dict[str, str] = field(default_factory=dict)
    model_hashes: dict[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @property
    def reference(self) -> str:
        """The model with which the times of the others are compared: the first."""
        return next(iter(self.models))

    @property
    def rounds(self) -> int:
        """The number of rounds, in each of which every model was timed."""
        return len(self.models[self.reference]["train_step_seconds"])


def write_timing(folder: Path, timing: TimingRecord) -> None:
    """Write the timing pass into `folder`, in place of an older one. Raises OSError."""
    write_atomically(folder / "timing.json", to_json(dataclasses.asdict(timing)))


def read_timing(
    folder: Path, hashes: Mapping[str, str], code: Mapping[str, str] = MappingProxyType({})
) -> TimingRecord | None:
    """The timing pass in `folder` of the models that `hashes` maps to their config hashes, `code` to those of its code.

    None if it is missing, damaged, of another schema, lacks one of them or timed it by another recipe or with other
    code. A pass of an older version names neither and counts.
    """
    try:
        timing = TimingRecord(**json.loads((folder / "timing.json").read_bytes()))
        whole = timing.schema_version == SCHEMA_VERSION and all(
            timing.models[model].keys() >= MEASURES
            and timing.config_hashes.get(model, config_hash) == config_hash
            and (not (theirs := timing.model_hashes.get(model)) or theirs == code.get(model, theirs))
            for model, config_hash in hashes.items()
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return timing if whole else None
