"""What a command leaves behind and says: pictures and text from the records on disk, and what changed."""

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from utils.checkout import CHECKOUT, git, shown
from utils.command.plan import Plan
from utils.contrasts import variants
from utils.experiment import Task
from utils.figures.panels import Difference
from utils.figures.task import draw_task
from utils.files import write_atomically
from utils.findings.verdicts import accuracy_verdicts
from utils.records.folder import read_runs
from utils.records.record import RunRecord, Runs
from utils.records.timing import TimingRecord, read_timing
from utils.report.page import conclusions, original_protocol_text, results_text
from utils.report.readme import update_block
from utils.training.cell import CellJob
from utils.words import plural

README = CHECKOUT / "README.md"
OUR_NAMES = {"CNN": "CNNWithResidual", "CNN-Regularized": "CNNWithResidual-Regularized"}
ORIGINAL_REPORT = CHECKOUT / "docs" / "original_report.json"


def draw(plan: Plan, kind: str) -> bool:
    """Pictures, RESULTS.md and (for the default folder) the README's block, from the kind's records on disk.

    Where no record counts, says why, leaves what evidence has drawn, and returns False.
    """
    task, folder = plan.task, plan.records(kind)
    every, diverged, left_out = read_runs(folder, task.name, plan.declared)
    runs = {e.name: every[e.name] for e in task.experiments if e.name in every}
    if not runs:
        why = "only models of the ablation have records that count" if every else "no record that counts"
        warn("\n  ".join([f"{shown(folder)}: {why}", *left_out]))
        if not plan.quick:
            return False
    # A quick look says nothing of the original report, which had other data or another recipe.
    original, claims = ({}, []) if plan.quick else original_report(Path(task.name).name)
    if task.protocol == "original":

        def text(pictures: str) -> str:
            return original_protocol_text(runs, left_out, original)
    else:
        timing, ablation = read_timing(folder, list(runs)), ablation_runs(every, task)
        draw_pictures(plan, runs, ablation, timing)

        def text(pictures: str) -> str:
            return results_text(runs, ablation, diverged, left_out, timing, original, claims, pictures, task)

    write_atomically(plan.output / "RESULTS.md", text("").encode())
    write_atomically(plan.output / "records" / "shown_kind.txt", f"{kind}\n".encode())
    if plan.updates_readme and not update_block(README, plan.task.name, text(f"plots/{plan.task.name}/")):
        print(f"warning: {README.name} has no markers for {plan.task.name}, so its results stay as they are")
    return bool(runs)


def conclusions_of(plan: Plan, kind: str) -> str:
    """What the kind's records on disk say, for a terminal; "" where none counts or by the original protocol."""
    every, diverged, _ = read_runs(plan.records(kind), plan.task.name, plan.declared)
    runs = {e.name: every[e.name] for e in plan.task.experiments if e.name in every}
    if not runs or plan.task.protocol == "original":
        return ""
    return conclusions(runs, diverged, read_timing(plan.records(kind), list(runs)), plan.task)


def draw_pictures(plan: Plan, runs: Runs, ablation: Runs, timing: TimingRecord | None) -> None:
    task = plan.task
    verdicts = accuracy_verdicts(runs, task.contrasts, task.equivalence_margin) if runs else []
    draw_task(
        runs,
        timing,
        plan.output,
        list(plan.declared),
        differences=[
            Difference(f"{v.b} − {v.a}", v.comparison.difference, v.differences, v.in_short) for v in verdicts
        ],
        margin=task.equivalence_margin,
        confused_pair=variants(task.contrasts),
        ablation=ablation,
    )


def ablation_runs(every: Runs, task: Task) -> dict[str, Sequence[RunRecord]]:
    """The two contrasted variants of one model and those of the ablation, once one of these has run."""
    names = [e.name for e in task.ablation]
    if every.keys().isdisjoint(names):
        return {}
    return {name: every[name] for name in (*variants(task.contrasts), *names) if name in every}


def shown_kind(plan: Plan, wanted: str | None) -> str:
    """The kind of records to draw: the one wanted, else that of the latest run. Raises ValueError if there is none."""
    folder = plan.output / "records"
    kinds = sorted(path.name for path in folder.glob("*") if path.is_dir())
    if not kinds:
        raise ValueError(f"{folder}: no records to draw from; run the task first")
    latest = folder / "shown_kind.txt"
    kind = wanted or (latest.read_text().strip() if latest.exists() else kinds[0])
    if kind not in kinds:
        raise ValueError(f"{folder}: no records of the kind {kind!r}; choose from {', '.join(kinds)}")
    return kind


def original_report(task: str) -> tuple[dict[str, dict], list[str]]:
    """The original report's runs of this task, by our model names, and its claims on it."""
    report = json.loads(ORIGINAL_REPORT.read_text(encoding="utf-8"))
    runs = {OUR_NAMES.get(name, name): run for name, run in report["runs"].items() if run["task"] == task}
    return runs, [claim["claim"] for claim in report["claims"] if claim["task"] == task]


def plan_in_words(
    plan: Plan, jobs: Sequence[CellJob], waiting: Sequence[CellJob], processes: int, seconds: dict[str, float]
) -> str:
    """What is about to happen, and a rough time: `waiting`, longest first, dealt to `processes` as they get free."""
    execution = jobs[0].execution
    busy_until = [0.0] * processes
    for job in waiting:
        busy_until[busy_until.index(min(busy_until))] += seconds[job.stem]
    threads = f", {plural(execution.threads, 'thread')} each" if execution.device.type == "cpu" else ""
    lines = [
        f"{plan.task.name} on {plan.spec.name}: {plural(len(jobs), 'run')} "
        f"({', '.join(job.stem for job in jobs)}), {len(jobs) - len(waiting)} finished before",
        f"{execution.kind}, {processes} at a time{threads}; results go to {shown(plan.output)}"
        + (" (a quick look: plots/ and README.md stay as they are)" if plan.quick else ""),
    ]
    if going_on := [f"{job.stem} after epoch {epoch}" for job in waiting if (epoch := job.checkpoints.epoch())]:
        lines.append(f"Going on: {', '.join(going_on)}")
    if waiting:
        timing = (
            ", the timing pass one or two minutes more" if plan.compared and plan.spec.name == plan.task.dataset else ""
        )
        lines.append(f"Training will take about {minutes(max(busy_until))}{timing}.")
    return "\n".join(lines)


def closing_lines(plan: Plan, records: Sequence[RunRecord]) -> str:
    """A table of what was trained now, what changed in the checkout, and how to undo it."""
    lines = []
    for record in records:
        seconds = sum(epoch["train_seconds"] + epoch["eval_seconds"] for epoch in record.history)
        outcome = (
            f"test {record.test_accuracy:.2%}" if record.status == "finished" else f"{record.status}: {record.message}"
        )
        if record.status == "finished" and plan.task.protocol == "holdout":  # else chosen on the test set
            best = f"{record.best_test_accuracy:.2%}"
            outcome += f", best-validation weights (epoch {record.best_epoch}) {best}"
        lines.append(f"  {record.stem:<32} {outcome}  [{minutes(seconds)}]")
    lines.append(f"Pictures, RESULTS.md and records: {shown(plan.output)}")
    paths = [str(path.relative_to(CHECKOUT)) for path in (plan.output, README) if path.is_relative_to(CHECKOUT)]
    changed = git("status", "--porcelain", "--", *paths) if plan.updates_readme and paths else ""
    if changed:
        count = plural(len(changed.splitlines()), "changed path")
        tracked = [path for path in paths if git("ls-files", "--", path)]  # of a first run the folder isn't
        undo = f"git restore {' '.join(tracked)} && git clean -fd {paths[0]}"
        lines.append(f"The checkout has {count} in {' and '.join(paths)}. To undo: {undo}")
    elif plan.updates_readme and not git("rev-parse", "HEAD"):
        lines.append(f"{README.name} and {shown(plan.output)} were rewritten; without git there is no undo.")
    elif plan.updates_readme:
        lines.append("The checkout is as it was committed.")
    else:
        lines.append("Nothing else in the checkout was changed.")
    return "\n".join(lines)


def warn(text: str) -> None:
    """A line on stderr; one that can't be written, as on a full disk, costs no training."""
    with suppress(OSError):
        print(text, file=sys.stderr)


def minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
