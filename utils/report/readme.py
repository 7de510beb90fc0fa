"""The generated parts of the README and other pages: the text between two markers is replaced. Never loads torch."""

import re
from pathlib import Path

from utils.files import locked, remove_leftovers, write_atomically


def block_of(readme: str, name: str) -> str | None:
    """The text between the markers of block `name` in the text `readme`; None if the markers are missing."""
    match = _block_pattern(name).search(readme)
    return match and match[2]


def update_block(path: Path, name: str, text: str, folder: str) -> bool:
    """Replace the block `name` of the file at `path`, under a lock. Returns False if its markers are missing.

    The links in `text` expect pictures and RESULTS.md in the same folder. They are changed to point to `folder`, a path
    relative to the file. Raises OSError.
    """
    path = path.resolve()  # of a symbolic link the target is replaced, not the link
    # Matches only links without a folder, (name.png), and puts the folder before the name; a name may hold "\\](".
    link = r"(?<=[^\\]\]\()([^()/]+\.png|RESULTS\.md(#[\w-]*)?)(?=\))"
    text = re.sub(link, lambda found: f"{folder}/{found[0]}", text)
    with locked(path.with_name(f".{path.name}.lock"), timeout=60):
        readme = path.read_text(encoding="utf-8") if path.exists() else ""
        if block_of(readme, name) is None:
            return False
        updated = _block_pattern(name).sub(lambda match: f"{match[1]}\n{text}\n{match[3]}", readme)
        if updated != readme:
            remove_leftovers(path.parent, path.name)
            write_atomically(path, updated.encode())
        return True


def _block_pattern(name: str) -> re.Pattern:
    return re.compile(rf"(<!-- {name}: begin[^>]*-->)\n(.*?)\n?(<!-- {name}: end -->)", re.DOTALL)
