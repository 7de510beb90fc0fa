"""A folder of images as a data set: decoded, split, kept in the data folder, and described. Never loads torch.

Nothing is ever written into the folder itself.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from utils.contents import Contents
from utils.data.decode import IMAGE_ENDINGS, NotAnImage, Target
from utils.data.layout import PARTS, Layout, read_layout, shown_name
from utils.data.sources import one_at_a_time
from utils.data.specs import DataError, DatasetSpec
from utils.data.split import Example, split
from utils.data.store import FOLDER, decode_files, keep_set


class UnusableImages(DataError):
    """Files that are no images or can't be read; the message lists all of them by path, with what is wrong."""


def read_folder(root: Path, data_dir: Path, target: Target, skip_bad: bool = False) -> tuple[DatasetSpec, Contents]:
    """The images of a folder as a data set for `load_splits`, and what is told about it.

    Each image is decoded once, in parallel, with a progress bar; later runs take it from `data_dir`. Raises
    UnusableImages, unless `skip_bad` leaves such files out; DataError, which says what is wrong with the folder; and
    OSError if `data_dir` can't be written.
    """
    layout = read_layout(root)
    name = name_of(root)
    store = data_dir / FOLDER / target.folder
    with one_at_a_time(store, FOLDER):
        store.mkdir(parents=True, exist_ok=True)
        facts, faults = decode_files([file.path for file in layout.files], store, target)
        others = {path for path, fault in faults.items() if is_another_file(path, fault)}
        faults = {path: fault for path, fault in faults.items() if path not in others}
        if faults and not skip_bad:
            raise UnusableImages(in_words(root, faults, len(layout.files) - len(others)))
        examples = split(layout, {file: facts[file.path] for file in layout.files if file.path in facts})
        spec = keep_set(store, target, name, layout.class_names, examples)
    return spec, describe(root, name, layout, target, examples, faults, others)


def is_another_file(path: Path, fault: DataError) -> bool:
    """Whether a file that can't be used is no image by its name either, such as notes beside the images."""
    return isinstance(fault, NotAnImage) and path.suffix.lower() not in IMAGE_ENDINGS


def name_of(root: Path) -> str:
    """What a folder's data set is called: the folder's name, printable."""
    return shown_name(root.resolve().name) or "images"


def in_words(root: Path, faults: Mapping[Path, DataError], files: int) -> str:
    """One line for each file that can't be used."""
    lines = [f"  - {within(root, path)}: {fault}\n" for path, fault in faults.items()]
    return (
        f"{len(faults)} of {files} files in {root} can't be used:\n{''.join(lines)}"
        "Mend them or move them elsewhere, or go on without them by --skip-bad."
    )


def within(root: Path, path: Path) -> str:
    """A file's path within the folder, printable."""
    return shown_name(path.relative_to(root).as_posix())


def describe(
    root: Path,
    name: str,
    layout: Layout,
    target: Target,
    examples: Sequence[Example],
    faults: Mapping[Path, DataError],
    others: Iterable[Path],
) -> Contents:
    """What is told about the folder: see `Contents`."""
    counts = {part: [0] * len(layout.class_names) for part in PARTS}
    for example in examples:
        counts[example.part][example.file.label] += 1
    sizes = sorted({(e.facts.width, e.facts.height) for e in examples}, key=lambda size: (size[0] * size[1], size))

    groups: dict[str, list[Example]] = defaultdict(list)
    for example in sorted(examples, key=lambda example: example.file.path):
        groups[example.facts.pixels].append(example)
    found: dict[str, list[tuple[str, ...]]] = {"equal": [], "across": [], "contradictory": []}
    for group in groups.values():
        if len(group) > 1:
            paths = tuple(within(root, example.file.path) for example in group)
            several_classes = len({example.file.label for example in group}) > 1
            several_parts = len({example.part for example in group}) > 1
            for kind, holds in (("across", several_parts), ("contradictory", several_classes)):
                if holds:
                    found[kind].append(paths)
            if not (several_parts or several_classes):
                found["equal"].append(paths)
    smaller = min if target.fit == "crop" else max
    return Contents(
        name=name,
        class_names=layout.class_names,
        images={part: tuple(numbers) for part, numbers in counts.items()},
        given=layout.given,
        size=target.size,
        channels=target.channels,
        fit=target.fit,
        smallest=sizes[0],
        largest=sizes[-1],
        sizes=len(sizes),
        enlarged=sum(smaller(e.facts.width, e.facts.height) < target.size for e in examples),
        several=tuple(sorted(within(root, example.file.path) for example in examples if example.facts.several)),
        skipped={within(root, path): str(fault) for path, fault in faults.items()},
        others=Counter(sorted(shown_name(path.suffix.lower()) for path in others)),
        loose=tuple(within(root, path) for path in layout.loose),
        **{kind: tuple(sorted(groups)) for kind, groups in found.items()},
    )


def few_of_each_class(images: np.ndarray, labels: np.ndarray, classes: int, count: int) -> list[np.ndarray]:
    """The first images of each class, at most `count`, for a contact sheet."""
    return [images[np.flatnonzero(labels == label)[:count]] for label in range(classes)]
