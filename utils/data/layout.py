"""Which image files a folder holds, of which class and part. Reads names only. Never loads torch."""

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from utils.data.specs import DataError

PARTS = ("train", "val", "test")
PART_NAMES = {
    **{name: "train" for name in ("train", "training")},
    **{name: "val" for name in ("val", "valid", "validation")},
    **{name: "test" for name in ("test", "testing")},
}
LEFT_BY_SYSTEMS = ("__macosx", "desktop.ini", "thumbs.db")  # hidden where they were made
MOST_CLASSES = 256  # a record holds class indices as uint8


@dataclass(frozen=True)
class ImageFile:
    """A file in a class folder. `part` is "train", "val" or "test" if the folder says so, otherwise "train"."""

    path: Path
    part: str
    label: int


@dataclass(frozen=True)
class Layout:
    """The files of a folder, sorted by part, class and path. `class_names` are sorted by code point.

    `given` are the parts that the folder itself separates, () if it has none. `loose` are the files outside the class
    folders.
    """

    class_names: tuple[str, ...]
    given: tuple[str, ...]
    files: tuple[ImageFile, ...]
    loose: tuple[Path, ...]


def read_layout(root: Path) -> Layout:
    """What the folder holds: `<class>/*`, or `train/<class>/*` with `val`, `valid`, `validation` and `test` beside it.

    Folders within a class folder belong to the class; links are followed. Hidden files and folders count as nothing.
    Raises DataError, which says what is wrong with the folder and what it may look like.
    """
    if not root.is_dir():
        raise DataError(f"{root} is {'not a folder' if root.exists() else 'not there'}: name a folder of images")
    folders = part_folders(root)
    found: dict[str, dict[str, list[Path]]] = {}
    for part, folder in folders:
        above = frozenset(map(os.path.realpath, (root, folder)))
        found[part] = {name: list(files_in(*paths, above=above)) for name, paths in classes_in(folder).items()}
        if not found[part]:
            raise DataError(
                f"{folder} has no folders: the images of each class belong in a folder with the name of the class"
            )
    names = sorted(set().union(*found.values()))
    if len(names) == 1:
        inner = next(path for _, folder in folders for path in entries(folder) if path.is_dir())
        hint = f"; if the classes lie in it, name {inner}" if classes_in(inner) else ""  # as an archive unpacks
        raise DataError(f"{root} holds the folder of one class only, {names[0]}: 2 to {MOST_CLASSES} are needed{hint}")
    if len(names) > MOST_CLASSES:
        raise DataError(f"{root} holds folders of {len(names)} classes: 2 to {MOST_CLASSES} can be told apart")
    files = [
        ImageFile(path, part, label)
        for part, _ in folders
        for label, name in enumerate(names)
        for path in found[part].get(name, [])
    ]
    loose = [path for folder in {root, *(f for _, f in folders)} for path in entries(folder) if not path.is_dir()]
    given = tuple(part for part, _ in folders) if folders[0][1] != root else ()
    return Layout(tuple(names), given, tuple(files), tuple(sorted(loose)))


def class_names_in(root: Path) -> tuple[str, ...]:
    """The classes of a folder as it is now; none if it is gone or can't be used."""
    try:
        return read_layout(root).class_names
    except (DataError, OSError):
        return ()


def part_folders(root: Path) -> list[tuple[str, Path]]:
    """(part, its folder) of each part that the folder separates, in the order of PARTS; ("train", root) if none."""
    folders = [path for path in entries(root) if path.is_dir()]
    named = [(PART_NAMES[path.name.lower()], path) for path in folders if path.name.lower() in PART_NAMES]
    if not any(part == "train" and classes_in(path) for part, path in named):
        if len({part for part, _ in named}) > 1 and len(named) == len(folders):
            raise DataError(
                f"{root} has {', '.join(path.name for _, path in named)}, but no train/ with folders in it: the images "
                f"of each class belong in a folder with the name of the class"
            )
        return [("train", root)]
    others = [path.name for path in folders if path not in [path for _, path in named] and any(files_in(path))]
    if others:
        raise DataError(
            f"{root} has train/ with folders in it, so its folders should be train, val and test; but it also has "
            f"{', '.join(map(shown_name, others))}: move them elsewhere, or rename train/ if it is a class"
        )
    found = sorted(named, key=lambda entry: PARTS.index(entry[0]))
    if len({part for part, _ in found}) < len(found):
        raise DataError(f"{root} has two folders for one part: {', '.join(path.name for _, path in found)}")
    return found


def classes_in(folder: Path) -> dict[str, list[Path]]:
    """{class name: its folders}. There are several only if their names are the same letters in different bytes."""
    found: dict[str, list[Path]] = {}
    for path in entries(folder):
        if path.is_dir():
            found.setdefault(shown_name(path.name), []).append(path)
    return found


def shown_name(name: str) -> str:
    """The name of a class, from that of its folder: the same letters on every system, and printable.

    A Mac writes letters with accents as two; a name may also hold a line break, or bytes that are no letters.
    """
    letters = unicodedata.normalize("NFC", name)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in letters)


def entries(folder: Path) -> list[Path]:
    """What lies in the folder and isn't hidden, sorted. Raises DataError if it can't be read."""
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} can't be read ({error.strerror})") from error
    return [path for path in found if not (path.name.startswith(".") or path.name.lower() in LEFT_BY_SYSTEMS)]


def files_in(
    *folders: Path, above: frozenset[str] = frozenset(), faults: list[DataError] | None = None
) -> Iterator[Path]:
    """All files in the folders and the folders within them. A link to a folder around it is not followed.

    A folder that can't be read raises DataError, or joins `faults` where these are given.
    """
    for folder in folders:
        place = os.path.realpath(folder)
        if place in above:
            continue
        try:
            inside = entries(folder)
        except DataError as error:
            if faults is None:
                raise
            faults.append(error)
            continue
        for path in inside:
            if path.is_dir():
                yield from files_in(path, above=above | {place}, faults=faults)
            else:
                yield path
