"""Which kind of records the pages of a folder show. Never loads torch.

A folder of results holds `records/<kind>/` for each kind, and its pages show one of them; those of the others lie in
`<kind>/`. Another kind is shown only if it has as much to show, or if somebody chose it.
"""

from pathlib import Path

from utils.experiment import Declared
from utils.files import visible, write_atomically
from utils.records.folder import read_runs
from utils.words import plural

SHOWN_FILE = "shown_kind.txt"
CHOSEN = "chosen by --replot --kind"


def kinds_in(records: Path) -> list[str]:
    """The kinds of which there are records, sorted."""
    return [path.name for path in visible(records, "*") if path.is_dir()]


def marked_kind(records: Path) -> tuple[str, bool]:
    """The kind that the pages show, "" if none is named, and whether somebody chose it."""
    path = records / SHOWN_FILE
    kind, _, why = path.read_text().strip().partition("\n") if path.exists() else ("", "", "")
    return kind, why == CHOSEN


def mark_kind(records: Path, kind: str, chosen: bool) -> None:
    """Say that the pages show `kind`. Raises OSError."""
    write_atomically(records / SHOWN_FILE, f"{kind}\n{CHOSEN}\n".encode() if chosen else f"{kind}\n".encode())


def shown_kind(records: Path, task: str, declared: Declared) -> str:
    """The kind that the pages show, or, if none is named, that with the most finished runs that count; "" if none."""
    kind, kinds = marked_kind(records)[0], kinds_in(records)
    if not kinds:
        return ""
    if kind in kinds:
        return kind
    return max(kinds, key=lambda one: sum(_runs_of(records / one, task, declared).values()))


def why_not_shown(records: Path, kind: str, task: str, declared: Declared) -> str:
    """Why the pages go on showing another kind than `kind`, in words; "" if they are to show `kind`.

    They are if it has at least as many finished runs that count, and a run of each model that is shown.
    """
    shown = shown_kind(records, task, declared)
    if shown in ("", kind):
        return ""
    if marked_kind(records) == (shown, True):
        return f"{shown}, which was {CHOSEN}"
    ours, theirs = (_runs_of(records / one, task, declared) for one in (kind, shown))
    if lacking := theirs.keys() - ours.keys():
        return f"{shown}, which has runs of {', '.join(model for model in theirs if model in lacking)} as well"
    if sum(ours.values()) < sum(theirs.values()):
        return f"{shown}, which has {plural(sum(theirs.values()), 'finished run')}, not {sum(ours.values())}"
    return ""


def _runs_of(folder: Path, task: str, declared: Declared) -> dict[str, int]:
    """{model: the number of its finished runs that count}, of models that have one."""
    return {model: len(runs) for model, runs in read_runs(folder, task, declared).runs.items()}
