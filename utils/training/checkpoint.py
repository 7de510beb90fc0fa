"""Checkpoints: from where a cell goes on, whatever ended it. Safetensors and JSON, never pickle."""

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from utils.files import sha256, write_together

GENERATIONS = 2
DAMAGED = (ValueError, KeyError, TypeError, RecursionError, SafetensorError)  # what such a file raises when read
LEAST_SECONDS = 10.0  # between two checkpoints of a cell


class CheckpointError(ValueError):
    """A checkpoint that this run must not go on from; the message names it and the way out."""


def tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """A safetensors file of `tensors`, contiguous whatever their memory format."""
    return save({name: tensor.contiguous().cpu() for name, tensor in tensors.items()})


@dataclass
class Checkpoints:
    """The checkpoints of one cell in `folder`: `epoch<k>.safetensors` and, written after it, `epoch<k>.json`.

    The JSON holds the state in plain values, the SHA-256 of the tensors and its own, and `identity`: what a run must
    have in common with the one that saved it. So a generation is either whole or none, and damage to any byte of the
    newest leads back to the one before it.
    """

    folder: Path
    identity: dict[str, str | int]
    saved_at: float = field(default_factory=time.monotonic)

    def is_due(self) -> bool:
        return time.monotonic() - self.saved_at >= LEAST_SECONDS

    def save(self, epoch: int, tensors: dict[str, Tensor], values: dict) -> None:
        """Keep this epoch's state; the generation before the last goes once it is safe. Raises OSError."""
        content = tensor_bytes(tensors)
        state = {"identity": self.identity, "tensors_sha256": sha256(content), **values}
        text = json.dumps({"sha256": _digest(state), "state": state}, allow_nan=False)
        path = self.folder / f"epoch{epoch}.json"
        write_together({path.with_suffix(".safetensors"): content, path: text.encode()})
        self.prune(GENERATIONS)
        self.saved_at = time.monotonic()

    def load(self) -> tuple[dict[str, Tensor], dict] | None:
        """Tensors and values of the newest whole generation, None if there is none.

        Says which were damaged, and deletes them: else they would pass for newer ones. Raises OSError for one that
        can't be read now and may be whole.
        """
        for path in self._newest_first():
            try:
                state = _read_state(path)
                content = path.with_suffix(".safetensors").read_bytes()
                if sha256(content) != state["tensors_sha256"]:
                    raise ValueError("its tensors don't have the SHA-256 that it names")
                return load(content), state
            except (FileNotFoundError, *DAMAGED) as error:
                print(f"{path}: a damaged checkpoint is left out ({error})", file=sys.stderr)
                for damaged in (path, path.with_suffix(".safetensors")):
                    damaged.unlink(missing_ok=True)
        return None

    def epoch(self) -> int:
        """That of the newest generation whose JSON is whole, 0 if there is none."""
        return len(self._newest_state().get("history", ()))

    def differences(self) -> dict[str, tuple]:
        """By what name the newest whole generation's identity differs from this run's: {name: (its, ours)}."""
        theirs = self._newest_state().get("identity", self.identity)
        return {name: (theirs.get(name), ours) for name, ours in self.identity.items() if theirs.get(name) != ours}

    def prune(self, keep: int) -> None:
        """Delete all but the `keep` newest generations, and tensors without their JSON."""
        kept = {path.stem for path in self._newest_first()[:keep]}
        for path in self.folder.glob("epoch*.*"):
            if path.stem not in kept:
                path.unlink(missing_ok=True)

    def _newest_state(self) -> dict:
        for path in self._newest_first():
            try:
                return _read_state(path)
            except (OSError, *DAMAGED):
                continue  # `load` tells of it
        return {}

    def _newest_first(self) -> list[Path]:
        paths = [path for path in self.folder.glob("epoch*.json") if path.stem[5:].isdecimal()]
        return sorted(paths, key=lambda path: int(path.stem[5:]), reverse=True)


def _read_state(path: Path) -> dict:
    """The state in a generation's JSON. Raises OSError, or one of DAMAGED if it isn't whole."""
    document = json.loads(path.read_bytes())
    if document["sha256"] != _digest(document["state"]):
        raise ValueError("it doesn't have its own SHA-256")
    return document["state"]


def _digest(state: dict) -> str:
    return sha256(json.dumps(state, sort_keys=True, allow_nan=False).encode())
