"""Checks before anything is trained: what has finished, which checkpoints fit, whether there is enough disk space."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from utils.checkout import shown
from utils.data.images import Splits
from utils.data.specs import DatasetSpec
from utils.records.record import RecordError, RunRecord, read_record
from utils.training.cell import CellJob
from utils.training.checkpoint import CheckpointError
from utils.words import plural


def reusable(job: CellJob) -> RunRecord | None:
    """The cell's record if it finished before, else None. If the training code has changed: None, and a message."""
    record = job.finished_record()
    if record is not None and record.environment.get("source_hash") != job.environment["source_hash"]:
        print(f"{job.stem} had finished, but the code that trains it has changed since: it is trained again")
        return None
    return record


def check_everything(records: Path, jobs: Sequence[CellJob], waiting: Sequence[CellJob], resume: bool) -> None:
    """Run all checks; if they pass, delete the checkpoints that the cells of `waiting` must not resume from.

    Without `resume` it also deletes the records of finished cells. Otherwise, if the command is interrupted and started
    again without --no-resume, these old records would count as its own.

    Raises RecordError, CheckpointError or OSError; nothing has been changed then.
    """
    check_records(records, jobs[0].task)
    check_disk_space(waiting)
    # A list, so that all cells are checked before the first file is deleted.
    stale = [job for job in waiting if not resume or is_of_changed_code(job)]
    for job in stale:
        job.checkpoints.prune(keep=0)
        if not resume:
            job.record_path.unlink(missing_ok=True)


def check_records(folder: Path, task: str) -> None:
    """Raise RecordError if the folder holds records of another task or protocol, which this run could replace."""
    for path in folder.glob("*-seed*.json"):
        try:
            record = read_record(path)
        except RecordError:
            continue  # `read_runs` reports it
        if record.task != task:
            raise RecordError(f"{shown(folder)} holds records of {record.task}; choose another --output-dir")


def tell_shared_images(spec: DatasetSpec, data: Splits) -> None:
    """Warn if test images are also training images, which would make every accuracy look too good.

    Only data sets without checksums are checked: MNIST and CIFAR-10 are known to share none.
    """
    if all(array.sha256 for array in spec.arrays.values()):
        return
    train, test = ({image.tobytes() for image in part.images.cpu().numpy()} for part in (data.train, data.test))
    if shared := len(train & test):
        print(f"warning: {spec.name}: {plural(shared, 'test image')} among the training images", file=sys.stderr)


def check_disk_space(jobs: Sequence[CellJob]) -> None:
    """Raise OSError if the disk that holds (or will hold) the folders of `jobs` has less space than they may need."""
    if not jobs:
        return
    needed, folder = sum(job.bytes_needed for job in jobs), jobs[0].folder.absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise OSError(
            f"{there}: {free / 2**20:,.0f} MiB are free, and this run may need {needed / 2**20:,.0f}; make room, or "
            "choose another --runs-dir"
        )


def is_of_changed_code(job: CellJob) -> bool:
    """Whether the training code has changed since the cell's checkpoints were saved; prints a message if so.

    Raises CheckpointError, which names the differences, if they come from another machine or other options: then the
    user has to choose, since the checkpoint is still good there.
    """
    differences = job.checkpoints.differences()
    changed_code = differences.pop("source_hash", None)
    if differences:
        message = ", ".join(f"{name} {theirs}, not {ours}" for name, (theirs, ours) in differences.items())
        raise CheckpointError(
            f"{shown(job.folder)}: the checkpoint of {job.stem} has {message}. Resume it with the settings that it was "
            "started with (the threads follow from --jobs and the number of runs), start again with --no-resume, or "
            "choose another --runs-dir"
        )
    if changed_code and job.finished_record() is None:  # for a finished cell, `reusable` has printed it
        print(f"{job.stem} was interrupted, but the code that trains it has changed since: it starts again")
    return bool(changed_code)
