"""What a command writes and prints: pictures and text from the records on disk, the plan, the closing lines."""

import shlex
import textwrap
from collections.abc import Sequence
from pathlib import Path

from utils.checkout import CHECKOUT, git, git_distrusts_owner, shown
from utils.command.plan import Plan
from utils.figures.task import draw_task
from utils.files import write_atomically
from utils.findings.results import Results
from utils.records.record import RunRecord
from utils.report.blocks import original_report_blocks, readme_blocks
from utils.report.original import Original, read_original
from utils.report.page import original_protocol_text, results_text
from utils.report.readme import update_block
from utils.report.short import in_short
from utils.streams import warn
from utils.training.cell import CellJob
from utils.words import in_a_row, plural

README = CHECKOUT / "README.md"
ORIGINAL_PAGE = "docs/original-report.md"  # seen from the README


def draw(plan: Plan, kind: str, results: Results) -> None:
    """Draw the pictures and write RESULTS.md and, for the default output folder, the blocks of README and docs.

    `results` come from the records of `kind`. If no record counts, it prints why; earlier results of real runs then
    stay as they are, while a quick look is still written. Raises OSError.
    """
    task = plan.task
    if not results.runs:
        why = "only models of the ablation have records that count" if results.ablation else "no record that counts"
        warn("\n  ".join([f"{shown(plan.records_folder(kind))}: {why}", *results.left_out]))
        if not plan.quick:
            return
    original = original_of(plan)
    if task.protocol == "original":
        text = original_protocol_text(results, original)
    else:
        draw_task(results, plan.output)
        text = results_text(results, original)
    write_atomically(plan.output / "RESULTS.md", text.encode())
    write_atomically(plan.output / "records" / "shown_kind.txt", f"{kind}\n".encode())
    if plan.updates_readme:
        update_pages(task.name, results, original)


def original_of(plan: Plan) -> Original:
    """The original report on the task; of a quick look nothing, since it had other data or another recipe."""
    return Original() if plan.quick or plan.added else read_original(Path(plan.task.name).name)


def update_pages(name: str, results: Results, original: Original) -> None:
    """Write the blocks of the task `name` into the README and the page on the original report. Raises OSError."""
    for path, up, blocks in (
        (README, "", readme_blocks(results, original)),
        (README.parent / ORIGINAL_PAGE, "../", original_report_blocks(results, original)),
    ):
        for block, text in blocks.items():
            if not update_block(path, block, text, f"{up}plots/{name}"):
                warn(f"warning: {path.name} has no markers for {block}, so its results stay as they are")


def in_short_lines(plan: Plan, results: Results | None) -> str:
    """What the results say, in plain sentences: the last that a command prints. "" where nothing is to be said."""
    if results is None or plan.task.protocol == "original":
        return ""
    sentences = [f"{sentence.text}." for sentence in in_short(results, original_of(plan))]
    lines = [textwrap.fill(text, 100, initial_indent="- ", subsequent_indent="  ") for text in sentences]
    return "\n".join(["", "In short:", *lines]) if lines else ""


def plan_in_words(plan: Plan, jobs: Sequence[CellJob], waiting: Sequence[CellJob], seconds: dict[str, float]) -> str:
    """What is about to happen, and roughly how long it takes.

    `jobs` are all cells of the command, `waiting` those to be trained, the longest first; `seconds` is {stem: expected
    seconds}.
    """
    execution = jobs[0].execution
    # Each job goes to the process that is free first, as `run_side_by_side` will do it.
    busy_until = [0.0] * plan.processes
    for job in waiting:
        busy_until[busy_until.index(min(busy_until))] += seconds[job.stem]
    threads = f", {plural(execution.threads, 'thread')} each" if execution.device.type == "cpu" else ""
    lines = [
        f"{plan.task.name} on {plan.spec.name}: {plural(len(jobs), 'run')} "
        f"({', '.join(job.stem for job in jobs)}), {len(jobs) - len(waiting)} finished before",
        f"{execution.kind}, {plan.processes} at a time{threads}; results go to {shown(plan.output)}"
        + (" (a quick look: plots/ and README.md stay as they are)" if plan.quick else ""),
    ]
    if going_on := [f"{job.stem} after epoch {epoch}" for job in waiting if (epoch := job.checkpoints.epoch())]:
        lines.append(f"Resuming: {', '.join(going_on)}")
    if waiting:
        timing = (
            ", the timing pass one or two minutes more" if plan.compared and plan.spec.name == plan.task.dataset else ""
        )
        lines.append(f"Training will take about {minutes(max(busy_until))}{timing}.")
    return "\n".join(lines)


def closing_lines(plan: Plan, records: Sequence[RunRecord]) -> str:
    """What was trained now, a line for each run, what changed in the checkout, and how to undo it."""
    lines = []
    for record in records:
        seconds = sum(epoch["train_seconds"] + epoch["eval_seconds"] for epoch in record.history)
        outcome = (
            f"test {record.test_accuracy:.2%}" if record.status == "finished" else f"{record.status}: {record.message}"
        )
        if record.status == "finished" and plan.task.protocol == "holdout":  # else the test set chose the best epoch
            best = f"{record.best_test_accuracy:.2%}"
            outcome += f", best-validation weights (epoch {record.best_epoch}) {best}"
        lines.append(f"  {record.stem:<32} {outcome}  [{minutes(seconds)}]")
    lines.append(f"Pictures, RESULTS.md and records: {shown(plan.output)}")
    paths = [
        str(path.relative_to(CHECKOUT))
        for path in (plan.output, README, README.parent / ORIGINAL_PAGE)
        if path.is_relative_to(CHECKOUT)
    ]
    changed = git("status", "--porcelain", "--", *paths) if plan.updates_readme and paths else ""
    if changed:
        count = plural(len(changed.splitlines()), "changed path")
        tracked = [path for path in paths if git("ls-files", "--", path)]  # git restore fails on untracked paths
        undo = f"git restore {' '.join(tracked)} && git clean -fd {paths[0]}"
        lines.append(f"The checkout has {count} in {in_a_row(paths)}. To undo: {undo}")
    elif plan.updates_readme and not git("rev-parse", "HEAD"):
        why = "without git there is no undo."
        if git_distrusts_owner():
            trust = f"git config --global --add safe.directory {shlex.quote(str(CHECKOUT))}"
            why = f"git offers no undo, since another user owns the checkout (dubious ownership). To trust it: {trust}"
        lines.append(f"{README.name}, {ORIGINAL_PAGE} and {shown(plan.output)} were rewritten; {why}")
    elif plan.updates_readme:
        lines.append("The checkout is as it was committed.")
    else:
        lines.append("Nothing else in the checkout was changed.")
    return "\n".join(lines)


def minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
