"""The cells of one command, trained by all ranks that torchrun started. Rank 0 alone plans, publishes and draws."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import count

import torch.distributed as dist

from utils.command.devices import cores_for
from utils.command.plan import Plan
from utils.command.preflight import check_room, ready, reusable
from utils.command.processes import LOOK_SECONDS, OnEpoch, run_side_by_side, why_not_apart
from utils.command.schedule import make_jobs
from utils.command.session import Deal, GivenUp, Leader, Member, RankLost, pause, reaching_the_store
from utils.data.images import load_splits
from utils.data.specs import DataError
from utils.records.folder import publish
from utils.records.record import RecordError, RunRecord, parse_record, record_bytes
from utils.streams import warn
from utils.training.cell import CellJob, failed_record
from utils.training.device import Execution, check_precision


class CantFollow(ValueError):
    """This rank can't train what rank 0 asks for; the message says why."""


def train_by_ranks(
    leader: Leader, plan: Plan, execution: Execution, jobs: Sequence[CellJob], on_epoch: OnEpoch
) -> Iterator[RunRecord]:
    """Rank 0: have the cells trained by all ranks, this one among them; yields the record of each cell when it ends.

    `on_epoch` is called for the epochs of all. Raises CantFollow and RankLost.
    """
    if not jobs:
        return
    if why := why_not_apart(jobs):
        raise CantFollow(f"{why}, which ranks need")
    left = {job.stem: index for index, job in enumerate(jobs)}
    looks = pause(LOOK_SECONDS, plan.world.size)
    with reaching_the_store():
        deal = leader.post(orders_of(plan, execution, jobs), jobs)

        def own() -> Iterator[CellJob | None]:
            return (job and ready(job, plan.resume) for job in deal.cells(plan.processes))

        def elsewhere() -> Iterator[RunRecord]:
            for header, content in leader.letters():
                if (index := left.get(header["cell"])) is None:
                    continue  # another rank has sent it before
                if "entry" in header:
                    on_epoch(jobs[index], header["entry"])
                else:
                    yield received(jobs[index], header, content)
            for name in leader.newly_gone():
                warn(f"warning: nothing was heard of {name} for long; others train what it had")
            deal.give_up([*left.values()], leader.gone)

        with closing(run_side_by_side(own(), plan.places, on_epoch, elsewhere, look_seconds=looks)) as trained:
            for record in trained:
                if left.pop(record.stem, None) is not None:
                    if not left:
                        deal.end()
                    yield record


def received(job: CellJob, header: Mapping, content: bytes | None) -> RunRecord:
    """The record of a cell that another rank sent, checked, and kept in the cell's folder here as well."""
    try:
        if content is None:
            raise RecordError("damaged on its way")
        text, arrays = content[: header["text"]], content[header["text"] :]
        record, _ = parse_record(job.record_path.name, text, lambda: arrays)
        if (record.task, record.config_hash, record.data_sha256) != (job.task, job.config_hash, job.data_sha256):
            raise RecordError("of another task, recipe or data")
        publish(job.folder, record)
        return record
    except (RecordError, OSError) as error:
        return failed_record(job, f"its record, from {header['from']}, could not be kept: {error}")


def follow(plan: Plan) -> int:
    """Any other rank: train what rank 0 deals, until it has all records; returns the exit code.

    A cell that fails is told by rank 0, and no failure of this rank: torchrun would end all others.
    """
    if plan.use or plan.redraws or plan.time_only:
        return 0
    try:
        plan.execution.prepare_process()  # before the first tensor
        with Member(plan.world) as member:
            for number in count():
                if (posted := member.orders(number)) is None:
                    return 0
                train_for_rank_0(member, plan, *posted)
    except CantFollow as error:
        warn(f"error: {plan.world.name}: {error}")
        return 2
    except GivenUp as error:
        warn(f"warning: {plan.world.name}: {error}")
        return 0  # of a failure torchrun would end the others, who train what this rank had
    except (RankLost, DataError, OSError) as error:
        warn(f"error: {plan.world.name}: {error}. Checkpoints are kept")
    except KeyboardInterrupt:
        return 130  # said by rank 0
    except SystemExit as end:  # from SIGTERM
        return end.code
    return 1


def train_for_rank_0(member: Member, plan: Plan, orders: Mapping, store: "dist.Store") -> None:
    """Train cells of a posted list as long as there are some, and send their epochs and records."""
    jobs = jobs_of(plan, orders)
    config = plan.experiments[0].config
    data = load_splits(plan.spec, plan.data_dir, plan.download, config.limit, config.protocol)
    if data.sha256 != orders["data"]:
        raise DataError(f"{plan.spec.name} differs from what rank 0 has")
    check_room(plan, jobs)
    deal = Deal(store, member.number, jobs, plan.world.size)
    looks = pause(LOOK_SECONDS, plan.world.size)

    def send(record: RunRecord) -> None:
        text, arrays = record_bytes(record)
        member.send({"cell": record.stem, "text": len(text), "from": plan.world.name}, text + arrays)

    def finished(job: CellJob) -> RunRecord | None:
        return reusable(job, quiet=True) if orders["resume"] and job.record_path.exists() else None

    def cells() -> Iterator[CellJob | None]:
        for job in deal.take_first(finished):  # rank 0 may have been another, with another runs folder, before
            send(finished(job))
        for job in deal.cells(plan.processes):
            yield job and ready(job, orders["resume"])

    def on_epoch(job: CellJob, entry: dict) -> None:
        member.send({"cell": job.stem, "entry": entry})

    with (
        reaching_the_store(),
        closing(run_side_by_side(cells(), plan.places, on_epoch, member.check, look_seconds=looks)) as trained,
    ):
        for record in trained:
            send(record)


def orders_of(plan: Plan, execution: Execution, jobs: Sequence[CellJob]) -> dict:
    """What another rank must know to train the cells as rank 0 would, in plain values."""
    return {
        "device": execution.device.type,
        "precision": execution.precision,
        "threads": execution.threads,
        "data": jobs[0].data_sha256,
        "resume": plan.resume,
        "code": {job.experiment.name: code_of(job) for job in jobs},
        "cells": [[job.experiment.name, job.seed] for job in jobs],
    }


def code_of(job: CellJob) -> dict[str, str]:
    """What must be the same wherever a model of a comparison is trained."""
    names = ("source_hash", "model_hash", "torch")
    return {"config_hash": job.config_hash, **{name: job.environment[name] for name in names}}


def jobs_of(plan: Plan, orders: Mapping) -> list[CellJob]:
    """The cells that the orders name, made from this rank's own plan. Raises CantFollow where it would differ."""
    cells = [(model, seed) for model, seed in orders["cells"]]
    execution = execution_of(plan, orders)
    known = {experiment.name for experiment in plan.experiments}
    if unknown := {model for model, _ in cells} - known:
        raise CantFollow(f"there is no model {', '.join(sorted(unknown))} here; start all ranks with the same command")
    seeds = sorted({seed for _, seed in cells})
    jobs = {
        (job.experiment.name, job.seed): job for job in make_jobs(replace(plan, seeds=seeds), execution, orders["data"])
    }
    found = [jobs[cell] for cell in cells]
    for job in found:
        ours, theirs = code_of(job), orders["code"][job.experiment.name]
        if differing := [name for name in ours if ours[name] != theirs.get(name)]:
            what = ", ".join(f"{name} {ours[name]}, not {theirs.get(name)}" for name in differing)
            raise CantFollow(f"{job.experiment.name} has another code or version here than on rank 0 ({what})")
    if why := why_not_apart(found):
        raise CantFollow(f"{why}, which ranks need")
    return found


def execution_of(plan: Plan, orders: Mapping) -> Execution:
    """This rank's device, with the precision and the threads of rank 0. Raises CantFollow."""
    device, threads = plan.execution.device, orders["threads"]
    if device.type != orders["device"]:
        raise CantFollow(f"it has {device.type}, rank 0 trains on {orders['device']}; --device says which")
    try:
        check_precision(orders["precision"], device)
    except ValueError as error:
        raise CantFollow(f"rank 0 trains in {orders['precision']}: {error}") from error
    if device.type == "cpu" and plan.processes and threads > (cores := cores_for(plan.world)):
        raise CantFollow(f"it has {cores} of its machine's cores, and rank 0 trains with {threads} threads")
    return replace(plan.execution, precision=orders["precision"], threads=threads)
