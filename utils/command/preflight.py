"""Checks before anything is trained: what has finished, which checkpoints fit, whether there is enough disk space."""

import shutil
from collections.abc import Sequence
from math import ceil
from pathlib import Path

from utils.checkout import shown
from utils.command.claims import claims_in
from utils.command.locks import FolderInUse
from utils.command.plan import Plan
from utils.data.images import Splits
from utils.data.specs import DatasetSpec
from utils.files import visible
from utils.records.folder import judged_by_looks
from utils.records.record import RecordError, RunRecord, read_record
from utils.streams import say, warn
from utils.training.cell import CellJob
from utils.training.checkpoint import CheckpointError
from utils.training.model import broken_contract
from utils.words import plural

FAR_OFF = 0.25  # of a standard deviation; a part of the images never has exactly the values of all


class ModelError(ValueError):
    """A model that breaks the contract of docs/adding-a-model.md; the message names it and the fault."""


def reusable(job: CellJob, committed: Path | None = None, quiet: bool = False) -> RunRecord | None:
    """The cell's record if it finished before, here or among the `committed` records; else None.

    If the training code has changed since it finished here, or if it has no averaged weights: None, and a message
    unless `quiet`.
    """
    record, why = job.finished_record(), ""
    if record is not None and record.environment.get("source_hash") != job.environment["source_hash"]:
        why = "the code that trains it has changed since"
    elif committed is not None and (record is None or not record.has_average):
        record = job.finished_record(committed) or record
    if record is not None and not record.has_average:
        why = "an older version kept no averaged weights"
    if why and not quiet:
        say(f"{job.stem} had finished, but {why}: it is trained again")
    return None if why else record


def with_its_threads(job: CellJob) -> CellJob:
    """The job with the number of threads of its checkpoint, if it has one: another number would change its bits."""
    theirs, _ = job.checkpoints.differences().get("threads", (None, None))
    return job.with_threads(theirs) if isinstance(theirs, int) else job


def ready(job: CellJob, resume: bool) -> CellJob:
    """The job of a cell that other processes may have begun, in another place: with nothing that it can't resume from.

    A checkpoint made with another processor, PyTorch, code or data would change its bits; so it starts again.
    """
    if resume:
        job = with_its_threads(job)
    if not resume or job.checkpoints.differences():
        job.checkpoints.prune(keep=0)
    if not resume:
        job.record_path.unlink(missing_ok=True)
    return job


def check_everything(folder: Path, jobs: Sequence[CellJob], waiting: Sequence[CellJob], plan: Plan) -> None:
    """Run all checks; if they pass, delete the checkpoints that the cells of `waiting` must not resume from.

    Without `plan.resume` it also deletes the records of finished cells. Otherwise, if the command is interrupted and
    started again without --no-resume, these old records would count as its own.

    Raises RecordError, CheckpointError, FolderInUse or OSError; nothing has been changed then.
    """
    check_records(folder, jobs[0].task)
    check_unclaimed(waiting)
    check_room(plan, waiting)
    # A list, so that all cells are checked before the first file is deleted. Of several ranks, whoever trains a cell
    # sees whether it can resume it.
    stale = [job for job in waiting if not plan.resume or (not plan.world and is_outdated(job))]
    for job in stale:
        job.checkpoints.prune(keep=0)
        if not plan.resume:
            job.record_path.unlink(missing_ok=True)


def check_unclaimed(jobs: Sequence[CellJob]) -> None:
    """Raise FolderInUse if a process of --shared trains one of the cells: two must not write in one folder."""
    for job in jobs:
        if claims := claims_in(job.folder):
            raise FolderInUse(
                f"{job.stem} is claimed by another process, of --shared ({shown(claims[-1])}); wait for it, add "
                "--shared, or delete that file if the process is gone"
            )


def check_models(jobs: Sequence[CellJob], data: Splits) -> None:
    """Raise ModelError, with a sentence for each model that can't be trained."""
    experiments = {job.experiment.name: job.experiment for job in jobs}
    faults = {name: broken_contract(experiment, data, jobs[0].execution) for name, experiment in experiments.items()}
    if found := [f"{name} can't be trained: {fault}" for name, fault in faults.items() if fault]:
        raise ModelError("\n".join(found))


def check_records(folder: Path, task: str) -> None:
    """Raise RecordError if the folder holds records of another task or protocol, which this run could replace.

    Also if it can't be told whether it is judged by looks.
    """
    judged_by_looks(folder)
    for path in visible(folder, "*-seed*.json"):
        try:
            record = read_record(path)
        except RecordError:
            continue  # `read_runs` reports it
        if record.task != task:
            raise RecordError(f"{shown(folder)} holds records of {record.task}; choose another --output-dir")


def tell_about_data(spec: DatasetSpec, data: Splits) -> None:
    """Warn of what makes results on data of one's own misleading. Pinned data sets are known to be well.

    Test images that are also training images make every accuracy look too good. A normalisation that isn't that of the
    training pixels slows learning down.
    """
    if spec.pinned:
        return
    train, test = ({image.tobytes() for image in part.images.cpu().numpy()} for part in (data.train, data.test))
    if shared := len(train & test):
        warn(f"warning: {spec.name}: {plural(shared, 'test image')} among the training images")
    pixels = data.train.images.float().div(255)
    mean, std = (tuple(value.tolist()) for value in (pixels.mean((0, 1, 2)), pixels.std((0, 1, 2))))
    if any(abs(a - b) > FAR_OFF * c for a, b, c in zip(mean + std, spec.mean + spec.std, std + std, strict=True)):
        theirs, ours = (
            ", ".join(f"{value:.4f}" for value in (*means, *stds))
            for means, stds in ((mean, std), (spec.mean, spec.std))
        )
        warn(f"warning: {spec.name}: mean and std of the training pixels are {theirs}; its specification has {ours}")


def check_room(plan: Plan, jobs: Sequence[CellJob]) -> None:
    """Raise OSError if there is less space than `jobs` may need, or of several ranks this machine's part of them."""
    share = plan.world.local_size / plan.world.size if plan.world else 1
    check_disk_space(jobs[: ceil(share * len(jobs))], ceil(share * plan.at_once))


def check_disk_space(jobs: Sequence[CellJob], at_once: int) -> None:
    """Raise OSError if the disk that holds (or will hold) the folders of `jobs` has less space than they may need.

    That is what all of them leave, and what those that train at once need meanwhile.
    """
    if not jobs:
        return
    of_models = {job.experiment.name: job for job in jobs}  # each is built for it, so once, and not for every seed
    sizes = {name: (job.bytes_left, job.bytes_while_training) for name, job in of_models.items()}
    left, passing = zip(*(sizes[job.experiment.name] for job in jobs), strict=True)
    needed, folder = sum(left) + sum(sorted(passing, reverse=True)[:at_once]), jobs[0].folder.absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise OSError(
            f"{there}: {free / 2**20:,.0f} MiB are free, and this run may need {needed / 2**20:,.0f}; make room, or "
            "choose another --runs-dir"
        )


def is_outdated(job: CellJob) -> bool:
    """Whether the training code or the data have changed since the cell's checkpoints were saved; says so.

    Raises CheckpointError, which names the differences, if they come from another machine or other options: then the
    user has to choose, since the checkpoint is still good there.
    """
    differences = job.checkpoints.differences()
    changed = {
        "code that trains it has": differences.pop("source_hash", None),
        "data have": differences.pop("data", None),
    }
    what = " and the ".join(name for name, difference in changed.items() if difference)
    if differences:
        message = ", ".join(f"{name} {theirs}, not {ours}" for name, (theirs, ours) in differences.items())
        raise CheckpointError(
            f"{shown(job.folder)}: the checkpoint of {job.stem} has {message}. Resume it with the settings that it was "
            "started with, start again with --no-resume, or choose another --runs-dir"
        )
    if what and not job.record_path.exists():  # for a finished cell, `reusable` has said it
        say(f"{job.stem} was interrupted, but the {what} changed since: it starts again")
    return bool(what)
