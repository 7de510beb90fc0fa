"""A folder of records: what in it counts for a task, what a new record changes, what is dropped. Never loads torch."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils.records.record import RecordError, RunRecord, read_record, write_record

CLOSE = 1e-3  # the largest difference of a loss or an accuracy between two runs that is put down to rounding


class Records(NamedTuple):
    """What a folder of records holds for a task: `runs`, {model: its finished records by seed}, in the declared order,
    models without a record left out; `diverged`, {model: the seeds with which it diverged}; and a line for each record
    that is not among `runs`, saying why."""

    runs: dict[str, list[RunRecord]]
    diverged: dict[str, list[int]]
    left_out: list[str]


def read_runs(folder: Path, task: str, declared: Mapping[str, str]) -> Records:
    """All records in `folder`, sorted into what counts for `task` and what doesn't.

    `declared` maps each model's name to its config hash.
    """
    runs: dict[str, list[RunRecord]] = {name: [] for name in declared}
    diverged: dict[str, list[int]] = {}
    left_out = []
    for path in sorted(folder.glob("*.json"), key=_by_model_and_seed):
        if path.name == "timing.json":
            continue
        try:
            record = read_record(path)
        except RecordError as error:
            left_out.append(str(error))
            continue
        if record.task != task:
            left_out.append(f"{path.name}: a record of {record.task}, not of {task}")
        elif record.model not in declared:
            left_out.append(f"{path.name}: {task} declares no model {record.model}")
        elif record.config_hash != declared[record.model]:
            left_out.append(f"{path.name}: from another recipe ({record.config_hash}, now {declared[record.model]})")
        elif record.status != "finished":
            left_out.append(f"{path.name}: {record.status} ({' '.join(record.message.split())})")
            if record.status == "diverged":
                diverged.setdefault(record.model, []).append(record.seed)
        else:
            runs[record.model].append(record)
    return Records({name: records for name, records in runs.items() if records}, diverged, left_out)


def _by_model_and_seed(path: Path) -> tuple[str, int]:
    match = re.fullmatch(r"(.*)-seed(\d+)", path.stem)
    return (match[1], int(match[2])) if match else (path.stem, -1)


def publish(folder: Path, record: RunRecord) -> str:
    """Put `record` into a folder of records and say what that changed. A finished record is only replaced by one."""
    path = folder / f"{record.stem}.json"
    try:
        old = read_record(path)
    except RecordError:
        old = None
    if record.status != "finished" and path.exists() and (old is None or old.status == "finished"):
        return f"{record.stem} {record.status}; the older record stays"
    if old == record and all(np.array_equal(old.arrays[name], array) for name, array in record.arrays.items()):
        return f"{record.stem} is there already"
    write_record(folder, record)
    if old is None or old.test_accuracy is None or record.test_accuracy is None:
        return f"{record.stem} added ({record.status})"
    return (
        f"{record.stem} replaced: test accuracy {old.test_accuracy:.2%} -> {record.test_accuracy:.2%}, "
        f"{reproduction(old, record)}"
    )


def reproduction(old: RunRecord, new: RunRecord) -> str:
    """Whether a finished run repeats the history and the test predictions of an older one, in words.

    "Closely" means that no loss or accuracy of any epoch differs by more than CLOSE.
    """
    if old.config_hash != new.config_hash:
        return "by another recipe"
    curves = [np.array([r.curve(name) for name in r.history[0] if not name.endswith("_seconds")]) for r in (old, new)]
    predictions = [r.arrays["test_predictions"] for r in (old, new)]
    if any(a.shape != b.shape for a, b in (curves, predictions)):
        return "not reproduced (other numbers of epochs, measures or test images)"
    largest, changed = float(np.abs(np.subtract(*curves)).max()), int(np.not_equal(*predictions).sum())
    if largest == changed == 0:
        return "history and predictions reproduced exactly"
    word = "closely reproduced" if largest <= CLOSE else "not reproduced"
    return f"{word} (history differs by up to {largest:.2g}, the predictions of {changed} test images differ)"


def drop_records(folder: Path, keep: Sequence[RunRecord]) -> None:
    """Delete the timing pass and all records but those of `keep`, of which the failed ones replace older ones now."""
    finished = {record.stem for record in keep if record.status == "finished"}
    for path in [*folder.glob("*-seed*.json"), *folder.glob("*-seed*.npz"), folder / "timing.json"]:
        if path.stem not in finished:
            path.unlink(missing_ok=True)
    for record in keep:
        if record.status != "finished":
            with suppress(OSError):  # on a full disk; its run has been reported as failed
                publish(folder, record)
