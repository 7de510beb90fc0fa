"""Checkpoints: where a cell resumes after any interruption.

They are safetensors and JSON files. Unlike pickle, reading these formats can't run code.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from utils.files import sha256, write_together
from utils.streams import warn

GENERATIONS = 2  # checkpoints kept: if the newest is damaged, there is one before it
DAMAGED = (ValueError, KeyError, TypeError, RecursionError, SafetensorError)  # what reading a damaged file can raise
LEAST_SECONDS = 10.0  # between two checkpoints of a cell, so that saving them takes little of the time


class CheckpointError(ValueError):
    """This run must not resume from a checkpoint; the message names the checkpoint, the reason and the choices."""


def tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """The bytes of a safetensors file that holds `tensors`, made contiguous: the format stores no strides."""
    # Tied weights share their memory, which the format has no way to say: each name gets a copy.
    seen: set[int] = set()
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().contiguous().cpu()
        plain[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    return save(plain)


@dataclass
class Checkpoints:
    """The checkpoints of one cell in `folder`, one per saved epoch: `epoch<k>.safetensors` and `epoch<k>.json`.

    The JSON holds the plain values of the state, the SHA-256 of the tensors, its own SHA-256, and `identity`: what a
    run must have in common with the one that saved it. The JSON is written last. So a checkpoint counts only if it is
    complete, and if any byte of the newest is damaged, `load` returns the one before it.
    """

    folder: Path
    identity: dict[str, str | int]
    saved_at: float = field(default_factory=time.monotonic)

    def is_due(self) -> bool:
        """Whether enough time has passed since the last checkpoint to save another one."""
        return time.monotonic() - self.saved_at >= LEAST_SECONDS

    def save(self, epoch: int, tensors: dict[str, Tensor], values: dict) -> None:
        """Save the state after epoch `epoch`, then delete all but the newest GENERATIONS. Raises OSError.

        `values` are plain JSON values, among them "history", a list with one entry an epoch.
        """
        content = tensor_bytes(tensors)
        state = {"identity": self.identity, "tensors_sha256": sha256(content), **values}
        text = json.dumps({"sha256": _digest(state), "state": state}, allow_nan=False)
        path = self.folder / f"epoch{epoch}.json"
        write_together({path.with_suffix(".safetensors"): content, path: text.encode()})
        self.prune(GENERATIONS)
        self.saved_at = time.monotonic()

    def load(self) -> tuple[dict[str, Tensor], dict] | None:
        """The tensors and values of the newest complete checkpoint, or None if there is none.

        Prints which checkpoints are damaged and deletes them; otherwise they would count as newer than those that the
        resumed run saves. Raises OSError for a file that can't be read now, since it may well be complete.
        """
        for path in self._newest_first():
            try:
                state = _read_state(path)
                content = path.with_suffix(".safetensors").read_bytes()
                if sha256(content) != state["tensors_sha256"]:
                    raise ValueError("its tensors don't have the SHA-256 that it names")
                return load(content), state
            except (FileNotFoundError, *DAMAGED) as error:
                warn(f"{path}: a damaged checkpoint is left out ({error})")
                for damaged in (path, path.with_suffix(".safetensors")):
                    damaged.unlink(missing_ok=True)
        return None

    def epoch(self) -> int:
        """The epoch of the newest checkpoint whose JSON is complete; 0 if there is none."""
        return len(self._newest_state().get("history", ()))

    def differences(self) -> dict[str, tuple]:
        """Where the identity of the newest complete checkpoint differs from this run's: {name: (its value, ours)}.

        Empty if there is no checkpoint.
        """
        theirs = self._newest_state().get("identity", self.identity)
        return {name: (theirs.get(name), ours) for name, ours in self.identity.items() if theirs.get(name) != ours}

    def prune(self, keep: int) -> None:
        """Delete all but the `keep` newest checkpoints, and tensors without their JSON."""
        kept = {path.stem for path in self._newest_first()[:keep]}
        for path in self.folder.glob("epoch*.*"):
            if path.stem not in kept:
                path.unlink(missing_ok=True)

    def _newest_state(self) -> dict:
        for path in self._newest_first():
            try:
                return _read_state(path)
            except (OSError, *DAMAGED):
                continue  # `load` will report it
        return {}

    def _newest_first(self) -> list[Path]:
        paths = [path for path in self.folder.glob("epoch*.json") if path.stem[5:].isdecimal()]
        # As numbers: as text, epoch10 would come before epoch9.
        return sorted(paths, key=lambda path: int(path.stem[5:]), reverse=True)


def _read_state(path: Path) -> dict:
    """The state in a checkpoint's JSON. Raises OSError, or one of DAMAGED if the file is damaged."""
    document = json.loads(path.read_bytes())
    if document["sha256"] != _digest(document["state"]):
        raise ValueError("it doesn't have its own SHA-256")
    return document["state"]


def _digest(state: dict) -> str:
    # It covers the values rather than the file, which contains it. Sorted keys make it the same on every call.
    return sha256(json.dumps(state, sort_keys=True, allow_nan=False).encode())
