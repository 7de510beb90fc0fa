"""What is looked at before anything is trained: what has finished, what a run may go on from, whether there is room."""

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
    """The record of a cell that has finished before, unless the code that trains it has changed since."""
    record = job.finished_record()
    if record is not None and record.environment.get("source_hash") != job.environment["source_hash"]:
        print(f"{job.stem} had finished, but the code that trains it has changed since: it is trained again")
        return None
    return record


def check_everything(records: Path, jobs: Sequence[CellJob], waiting: Sequence[CellJob], resume: bool) -> None:
    """All checks; only then delete what the cells of `waiting` are not to go on from.

    Those are their checkpoints and, without `resume`, the records that they had finished with: else the command that
    goes on after an interruption would take these for done.

    Raises RecordError, CheckpointError or OSError with everything as it was.
    """
    check_records(records, jobs[0].task)
    check_disk_space(waiting)
    stale = [job for job in waiting if not resume or is_of_changed_code(job)]
    for job in stale:
        job.checkpoints.prune(keep=0)
        if not resume:
            job.record_path.unlink(missing_ok=True)


def check_records(folder: Path, task: str) -> None:
    """Raise RecordError if the folder holds records of another task or protocol, which a run could replace or drop."""
    for path in folder.glob("*-seed*.json"):
        try:
            record = read_record(path)
        except RecordError:
            continue
        if record.task != task:
            raise RecordError(f"{shown(folder)} holds records of {record.task}; choose another --output-dir")


def tell_shared_images(spec: DatasetSpec, data: Splits) -> None:
    """Say how many test images are training images as well, which would flatter every accuracy.

    Only of data without checksums: those of MNIST and CIFAR-10 are known to share none.
    """
    if all(array.sha256 for array in spec.arrays.values()):
        return
    train, test = ({image.tobytes() for image in part.images.cpu().numpy()} for part in (data.train, data.test))
    if shared := len(train & test):
        print(f"warning: {spec.name}: {plural(shared, 'test image')} among the training images", file=sys.stderr)


def check_disk_space(jobs: Sequence[CellJob]) -> None:
    """Raise OSError unless what `jobs` may need at most is free where their folders lie or will lie."""
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
    """Whether the cell's checkpoints are of code that has changed since, which is said.

    Raises CheckpointError, naming what differs, for those that another machine or other options have made.
    """
    differences = job.checkpoints.differences()
    changed_code = differences.pop("source_hash", None)
    if differences:
        message = ", ".join(f"{name} {theirs}, not {ours}" for name, (theirs, ours) in differences.items())
        raise CheckpointError(
            f"{shown(job.folder)}: the checkpoint of {job.stem} has {message}. Go on as it was begun (the threads "
            "follow from --jobs and the number of runs), start it again with --no-resume, or choose another --runs-dir"
        )
    if changed_code and job.finished_record() is None:  # of a finished one it has been said
        print(f"{job.stem} was interrupted, but the code that trains it has changed since: it starts again")
    return bool(changed_code)
