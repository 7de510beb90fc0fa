"""A folder of records: which of them count for a task; adding and dropping records. Never loads torch."""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils.experiment import Declared
from utils.files import visible, write_atomically
from utils.records.record import RecordError, RunRecord, read_record, to_json, write_record
from utils.stats.looks import LOOKS

LOOKS_FILE = "looks.json"  # only where verdicts are made by looks
DATA_FILE = "data_sha256.txt"  # only where the data set has no pinned checksums
CLOSE = 1e-3  # two runs whose losses and accuracies differ by no more than this are said to agree up to rounding


class Records(NamedTuple):
    """What a folder of records holds for a task.

    `runs` is {model: its finished records in the order of seeds}, in the declared order of the models; models without
    such a record are left out. `diverged` is {model: the seeds with which it diverged}. `left_out` has a line for each
    record that does not count, with the reason.
    """

    runs: dict[str, list[RunRecord]]
    diverged: dict[str, list[int]]
    left_out: list[str]


def read_runs(folder: Path, task: str, declared: Declared) -> Records:
    """Read all records in `folder` and sort them into those that count for `task` and those that don't.

    A record that can't be read is left out, with the reason; it raises no error.
    """
    hashes, code, data = declared
    runs: dict[str, list[RunRecord]] = {name: [] for name in hashes}
    diverged: dict[str, list[int]] = {}
    left_out = []
    latest = data or latest_data(folder)
    for path in sorted(visible(folder, "*.json"), key=_by_model_and_seed):
        if path.name in ("timing.json", LOOKS_FILE):
            continue
        try:
            record = read_record(path)
        except RecordError as error:
            left_out.append(str(error))
            continue
        if record.task != task:
            left_out.append(f"{path.name}: a record of {record.task}, not of {task}")
        elif record.model not in hashes:
            left_out.append(f"{path.name}: {task} declares no model {record.model}")
        elif record.data_sha256 != latest and latest and (record.data_sha256 or not data):
            theirs = record.data_sha256[:12] or "unknown"
            left_out.append(f"{path.name}: trained on other data (SHA-256 {theirs}, in the latest run {latest[:12]})")
        elif record.config_hash != hashes[record.model]:
            left_out.append(f"{path.name}: from another recipe ({record.config_hash}, now {hashes[record.model]})")
        elif (theirs := record.environment.get("model_hash", "")) and theirs != code.get(record.model, theirs):
            left_out.append(f"{path.name}: trained with other code of the model ({theirs}, now {code[record.model]})")
        elif record.status != "finished":
            left_out.append(f"{path.name}: {record.status} ({' '.join(record.message.split())})")
            if record.status == "diverged":
                diverged.setdefault(record.model, []).append(record.seed)
        else:
            runs[record.model].append(record)
    return Records({name: records for name, records in runs.items() if records}, diverged, left_out)


def latest_data(folder: Path) -> str:
    """The SHA-256 of the data that the latest run in `folder` was trained on; "" where only one content is possible."""
    path = folder / DATA_FILE
    return path.read_text().strip() if path.exists() else ""


def mark_data(folder: Path, sha256: str) -> None:
    """Say that the latest run in `folder` is trained on data of this SHA-256. Raises OSError."""
    write_atomically(folder / DATA_FILE, f"{sha256}\n".encode())


def judged_by_looks(folder: Path) -> bool:
    """Whether verdicts on the records in `folder` are made by looks (`utils.stats.looks`), which its mark says.

    Raises RecordError if the mark is damaged, or names other looks than ours.
    """
    path = folder / LOOKS_FILE
    try:
        looks = json.loads(path.read_bytes())["looks"]
    except FileNotFoundError:
        return False
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise RecordError(f"{path}: not a list of looks ({type(error).__name__}: {error})") from error
    if looks != list(LOOKS):
        raise RecordError(f"{path}: looks at {looks} seeds, this version makes them at {list(LOOKS)}")
    return True


def mark_looks(folder: Path) -> None:
    """Say that verdicts on the records in `folder` are made by looks, whatever is added later. Raises OSError."""
    write_atomically(folder / LOOKS_FILE, to_json({"looks": LOOKS}))


def _by_model_and_seed(path: Path) -> tuple[str, int]:
    # Seeds as numbers: as text, seed10 would come before seed2.
    match = re.fullmatch(r"(.*)-seed(\d+)", path.stem)
    return (match[1], int(match[2])) if match else (path.stem, -1)


def publish(folder: Path, record: RunRecord) -> str:
    """Put `record` into a folder of records and return a line that says what changed. Raises OSError.

    A finished record is replaced only by another finished record. A file that can't be read counts as finished, since
    it may hold a result.
    """
    path = folder / f"{record.stem}.json"
    try:
        old = read_record(path)
    except RecordError:
        old = None
    if record.status != "finished" and path.exists() and (old is None or old.status == "finished"):
        return f"{record.stem} {record.status}; the older record stays"
    # == leaves the arrays out (`RunRecord.arrays`), so they are compared one by one.
    if old == record and all(np.array_equal(old.arrays[name], array) for name, array in record.arrays.items()):
        return f"{record.stem} is there already"
    told = f"{record.stem} added ({record.status})"
    if old is not None and None not in (old.test_accuracy, record.test_accuracy):  # while its arrays are there
        accuracies = f"test accuracy {old.test_accuracy:.2%} -> {record.test_accuracy:.2%}"
        told = f"{record.stem} replaced: {accuracies}, {reproduction(old, record)}"
    write_record(folder, record)
    return told


def reproduction(old: RunRecord, new: RunRecord) -> str:
    """Whether a finished run reproduces the history and the test predictions of an older one, in words.

    "Closely" means that no loss or accuracy of any epoch differs by more than CLOSE. Times are not compared. Of
    runs that differ it says what has changed between them.
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
    differ = f"history differs by up to {largest:.2g}, the predictions of {changed} test images differ"
    return f"{word} ({'; '.join(filter(None, [differ, _changes(old, new)]))})"


def _changes(old: RunRecord, new: RunRecord) -> str:
    """What has changed, of all that changes the rounding of a run or more, in words; "" if nothing has.

    What only one of the records names is left out. Threads round only where they compute, on a CPU.
    """
    words = {"device_name": "processor", "torch": "PyTorch", "source_hash": "training code"}
    if new.environment["device"] == "cpu":
        words = {"threads": "threads", **words}
    changed = {
        words[name]: f"from {old.environment[name]} to {new.environment[name]}"
        for name in words
        if name in old.environment and old.environment[name] != new.environment.get(name, old.environment[name])
    }
    told = ", ".join(f"{name} {how}" for name, how in changed.items())
    if list(changed) == ["threads"]:
        return f"the cause: {told}, so that sums are rounded in another order"
    return told and f"changed: {told}"


def drop_records(folder: Path, keep: Sequence[RunRecord]) -> None:
    """Delete the timing pass, the mark of looks and all records except those of `keep`.

    Those of `keep` that did not finish are written again: next to an older finished record they could not be kept.
    """
    finished = {record.stem for record in keep if record.status == "finished"}
    others = [folder / "timing.json", folder / LOOKS_FILE]
    for path in [*visible(folder, "*-seed*.json"), *visible(folder, "*-seed*.npz"), *others]:
        if path.stem not in finished:
            path.unlink(missing_ok=True)
    for record in keep:
        if record.status != "finished":
            with suppress(OSError):  # on a full disk; its run has been reported as failed
                publish(folder, record)
