"""What a command writes and prints: pictures and text from the records on disk, the plan, the closing lines."""

import shlex
import textwrap
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from utils import streams
from utils.checkout import CHECKOUT, git, git_distrusts_owner, shown
from utils.command.one_page import NAME, write_report
from utils.command.plan import Plan
from utils.command.schedule import Forecast
from utils.data.folder import few_of_each_class
from utils.data.store import open_set
from utils.figures.samples import IN_A_ROW, class_columns, draw_samples
from utils.figures.task import draw_task
from utils.files import visible, write_atomically
from utils.findings.results import Results, read_results
from utils.records.kinds import kinds_in, mark_kind, shown_kind
from utils.records.record import RunRecord
from utils.report import csv_tables
from utils.report.blocks import readme_blocks
from utils.report.page import original_protocol_text, results_text
from utils.report.readme import update_block
from utils.report.short import in_short
from utils.streams import warn
from utils.training.cell import CellJob
from utils.words import duration, in_a_row, plural

README = CHECKOUT / "README.md"
RUNS_NAMED = 30  # of more it is told which models they are


def results_of(plan: Plan, kind: str) -> Results:
    """What the plan's folder of records of `kind` holds."""
    return read_results(plan.records_folder(kind), plan.task, plan.declared, plan.contents)


def draw(plan: Plan, kind: str, results: Results) -> None:
    """Draw the pictures and write RESULTS.md and, for the default output folder, the blocks of the README.

    `results` come from the records of `kind`. If no record counts, it prints why; earlier results of real runs then
    stay as they are, while a quick look is still written. The pages of a kind that isn't shown go to a folder of its
    own. Raises OSError.
    """
    if not results.runs:
        why = "only models of the ablation have records that count" if results.ablation else "no record that counts"
        warn("\n  ".join([f"{shown(plan.records_folder(kind))}: {why}", *results.left_out]))
        if not plan.quick:
            return
    records = plan.output / "records"
    if (folder := folder_of_pages(plan, kind)) != plan.output:
        write_pages(plan, results, folder)
        return
    before = shown_kind(records)
    pictures = write_pages(plan, results, plan.output)
    mark_kind(records, kind)
    if plan.updates_readme:
        update_readme(plan, results)
    remove_pages(plan.output / kind, pictures)
    for other in set(kinds_in(records)) - {kind} if plan.redraws or kind != before else ():
        of_other = results_of(plan, other)
        if of_other.runs:
            theirs = write_pages(plan, of_other, plan.output / other)
            if other == before:  # what this kind has no picture of
                remove_pages(plan.output, theirs - pictures, text=False)


def folder_of_pages(plan: Plan, kind: str) -> Path:
    """Where the pages of `kind` lie: beside its records, or in a folder of its own if another kind is shown."""
    shown = plan.redraws or shown_kind(plan.output / "records")
    return plan.output if shown in ("", kind) else plan.output / kind


def update_readme(plan: Plan, results: Results) -> None:
    """Write the blocks of the task into the README. Raises OSError."""
    for block, text in readme_blocks(results).items():
        if not update_block(README, block, text, f"plots/{plan.task.name}"):
            warn(f"warning: {README.name} has no markers for {block}, so its results stay as they are")


def in_short_lines(plan: Plan, results: Results | None) -> str:
    """What the results say, in plain sentences: the last that a command prints. "" where nothing is to be said."""
    if results is None or plan.task.protocol == "original":
        return ""
    sentences = [f"{sentence.text}." for sentence in in_short(results)]
    # A model's name stays whole.
    wrapper = textwrap.TextWrapper(100, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)
    lines = map(wrapper.fill, sentences)
    return "\n".join(["", "In short:", *lines]) if sentences else ""


def write_pages(plan: Plan, results: Results, folder: Path) -> set[str]:
    """Draw the pictures and write RESULTS.md and report.html into `folder`; returns the names of the pictures.

    CSV files that were written before are kept up to date, so that they never contradict the page. Raises OSError.
    """
    pictures: list[Path] = []
    if plan.task.protocol == "original":
        text = original_protocol_text(results)
    else:
        pictures = draw_task(results, folder)
        if plan.contents:
            pictures.append(draw_images(plan, folder))
        text = results_text(results)
        write_report(plan, results, folder)
    write_atomically(folder / "RESULTS.md", text.encode())
    if results.runs and (plan.csv or csv_tables.has_csv(folder)):
        csv_tables.write_csv(results, folder)
    if results.runs and plan.csv == "predictions":
        csv_tables.write_predictions(results, folder / "predictions")
    return {picture.name for picture in pictures}


def draw_images(plan: Plan, folder: Path) -> Path:
    """Draw the contact sheet of a folder of images into `folder`. Raises OSError and DataError."""
    arrays, names = open_set(plan.spec, plan.data_dir), plan.spec.class_names
    count = IN_A_ROW[class_columns(len(names))]
    images = few_of_each_class(arrays["train_images"], arrays["train_labels"], len(names), count)
    return draw_samples(plan.spec.name, names, images, folder / "samples.png")


def remove_pages(folder: Path, pictures: Iterable[str], text: bool = True) -> None:
    """Delete these pictures, the pages and CSV files if `text`, and the folder if nothing else is in it."""
    tables = csv_tables.csv_files(folder).values() if text and csv_tables.has_csv(folder) else ()
    for path in (*(folder / name for name in (*pictures, *(["RESULTS.md", NAME] if text else []))), *tables):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # it holds more, or isn't there
        folder.rmdir()


def plan_in_words(plan: Plan, jobs: Sequence[CellJob], waiting: Sequence[CellJob], expected: Forecast) -> str:
    """What is about to happen, and roughly how long it takes.

    `jobs` are all cells of the command, `waiting` those to be trained.
    """
    execution, config = jobs[0].execution, plan.experiments[0].config
    threads = f", {plural(execution.threads, 'thread')} each" if execution.device.type == "cpu" else ""
    which = ", ".join(job.stem for job in jobs)
    if len(jobs) > RUNS_NAMED:
        which = f"{len(plan.seeds)} seeds of {in_a_row([experiment.name for experiment in plan.experiments])}"
    ranks = f" on {plan.world.size} ranks" if plan.world else ""
    lines = [
        f"{plan.task.name} on {plan.spec.name}: {plural(len(jobs), 'run')} ({which}), "
        f"{len(jobs) - len(waiting)} finished before",
        f"{execution.kind}, {plan.at_once} at a time{ranks}{threads}; results go to {shown(plan.output)}"
        + (" (a quick look: plots/ and README.md stay as they are)" if plan.quick else ""),
    ]
    if plan.smoke:
        lines.append(f"Smoke test: {plan.spec.name}, small embedded data, stand in for {plan.task.dataset}.")
    if config.limit:
        held_out = " and as large a part of the images held out for validation" * (config.protocol == "holdout")
        lines.append(f"Limited to {config.limit} training images{held_out}; the test set is whole.")
    folder, ours = plan.records_folder(execution.kind), {job.stem for job in jobs}
    older = [path.stem for path in visible(folder, "*-seed*.json") if path.stem not in ours]
    if plan.drops_older_records and older:
        lines.append(f"Once a run has finished, --fresh deletes the older records: {', '.join(older)}")
    if going_on := [f"{job.stem} after epoch {epoch}" for job in waiting if (epoch := job.checkpoints.epoch())]:
        lines.append(f"Resuming: {', '.join(going_on)}")
    if waiting:
        timing = f", of which {duration(expected.timing)} to time the models" if expected.timing >= 1 else ""
        lines.append(f"It will take about {duration(expected.in_all(plan.at_once))}{timing}.")
    return "\n".join(lines)


def closing_lines(plan: Plan, kind: str, records: Sequence[RunRecord]) -> str:
    """What was trained now, a line for each run, where the pages of `kind` are, and how to undo what changed.

    Of very many runs only those that did not finish have a line.
    """
    lines = []
    if len(records) > RUNS_NAMED:
        every, records = records, [record for record in records if record.status != "finished"]
        lines.append(f"  {plural(len(every) - len(records), 'run')} finished")
    for record in records:
        seconds = sum(epoch["train_seconds"] + epoch["eval_seconds"] for epoch in record.history)
        outcome = f"{record.status}: {record.message}"
        if record.status == "finished":
            outcome = f"test: last epoch {record.test_accuracy:.2%}"
        if record.status == "finished" and plan.task.protocol == "holdout":  # else the test set chose the best epoch
            outcome += f", {record.averaged_in_words} {record.averaged_test_accuracy:.2%}"
            outcome += f", best-validation weights (epoch {record.best_epoch}) {record.best_test_accuracy:.2%}"
        lines.append(f"  {record.stem:<32} {outcome}  [{duration(seconds)}]")
    lines.append(where_the_pages_are(plan, kind))
    paths = [str(path.relative_to(CHECKOUT)) for path in (plan.output, README) if path.is_relative_to(CHECKOUT)]
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
        lines.append(f"{README.name} and {shown(plan.output)} were rewritten; {why}")
    elif plan.updates_readme:
        lines.append("The checkout is as it was committed.")
    else:
        lines.append("Nothing else in the checkout was changed.")
    return "\n".join(lines)


def where_the_pages_are(plan: Plan, kind: str) -> str:
    """Where the pages of `kind` lie, and which kind is shown instead, if another is."""
    instead = shown_kind(plan.output / "records")
    if instead in ("", kind):
        return f"Pictures, RESULTS.md and records: {shown(plan.output)}"
    where = f"{shown(plan.output)} and {README.name}" if plan.updates_readme else shown(plan.output)
    not_both = " instead of --until-decided" if plan.looks else " instead of --time-only" if plan.time_only else ""
    return (
        f"Pictures and RESULTS.md of {kind}: {shown(plan.output / kind)}; records: {shown(plan.records_folder(kind))}\n"
        f"{where} still show {instead}. To show {kind}: the same command with --replot --kind {kind}{not_both}"
    )


def say(plan: Plan, text: str) -> None:
    """Print a text, if there is one and --quiet doesn't forbid it."""
    if text and not plan.quiet:
        streams.say(text)
