"""Which kind of records the pages of a folder show. Never loads torch.

A folder of results holds `records/<kind>/` for each kind. Its pages show one of them, that of its first finished run
until somebody chooses another; the pages of the others lie in `<kind>/`.
"""

from pathlib import Path

from utils.files import visible, write_atomically

SHOWN_FILE = "shown_kind.txt"


def kinds_in(records: Path) -> list[str]:
    """The kinds of which there are records, sorted."""
    return [path.name for path in visible(records, "*") if path.is_dir()]


def shown_kind(records: Path) -> str:
    """The kind that the pages show, "" if there are no records; the first by name in a folder that names none."""
    kinds, path = kinds_in(records), records / SHOWN_FILE
    marked = path.read_text().partition("\n")[0].strip() if path.exists() else ""
    return marked if marked in kinds else next(iter(kinds), "")


def mark_kind(records: Path, kind: str) -> None:
    """Say that the pages show `kind`. Raises OSError."""
    write_atomically(records / SHOWN_FILE, f"{kind}\n".encode())
