"""Which images train, validate and test: by their contents alone, equal ones always together. Never loads torch."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from utils.data.decode import ImageFacts
from utils.data.layout import PARTS, ImageFile, Layout
from utils.data.specs import SPLIT_SEED, DataError
from utils.files import sha256

TRAIN_SHARE, HELD_OUT_SHARE = 70, 15  # percent; the second is that of validation, and of testing


@dataclass(frozen=True)
class Example:
    """An image file that could be read: where it lies, which part it belongs to, and what is known of it."""

    file: ImageFile
    part: str
    facts: ImageFacts


def split(layout: Layout, facts: Mapping[ImageFile, ImageFacts]) -> list[Example]:
    """Every image with its part, in an order that looks random and depends on nothing but contents.

    Parts that the folder gives stay. What is missing is split off from the training images, every class in proportion:
    70% train, 15% validate and 15% test. Images with equal pixels stay together. Raises DataError, which names the
    classes that have too few different images and how many they need.
    """
    examples = [Example(file, file.part, known) for file, known in facts.items()]
    missing = [part for part in PARTS[1:] if part not in layout.given]
    groups_of = equal_images(layout, examples)
    check_counts(layout, examples, groups_of, needed=1 + len(missing))
    found = [example for example in examples if example.part != "train"]
    for groups in groups_of.values():
        found += _split_class(groups, missing)
    return sorted(found, key=lambda example: (_at_random("order", example.facts.content), example.file.label))


def check_counts(layout: Layout, examples: Sequence[Example], groups_of: Mapping[int, list], needed: int) -> None:
    """Raise DataError unless each class has `needed` different images to train with and split off, and one elsewhere.

    An image that an earlier class has too counts there.
    """
    faults = []
    for part in layout.given or ("train",):
        counts = Counter(example.file.label for example in examples if example.part == part)
        if part == "train":
            counts = {label: len(groups) for label, groups in groups_of.items()}
        least = needed if part == "train" else 1
        few = [f"{name} has {counts[k]}" for k, name in enumerate(layout.class_names) if counts[k] < least]
        if few:
            where = f" in {part}" if layout.given else ""
            faults.append(f"{', '.join(few)} of at least {least} that each class needs{where}")
    if faults:
        raise DataError(f"too few different images: {'; '.join(faults)}")


def equal_images(layout: Layout, examples: Sequence[Example]) -> dict[int, list[list[Example]]]:
    """The training images of each class in groups of equal ones. If their classes differ, the first class counts."""
    groups = defaultdict(list)
    for example in examples:
        if example.part == "train":
            groups[example.facts.pixels].append(example)
    found: dict[int, list[list[Example]]] = {label: [] for label in range(len(layout.class_names))}
    for group in groups.values():
        found[min(example.file.label for example in group)].append(group)
    return found


def _split_class(groups: Sequence[list[Example]], missing: Sequence[str]) -> list[Example]:
    """The examples of a class with their parts: in a random order, the first groups validate or test, the rest train.

    So an image that is added later leaves most of the others where they are. A group that is larger than a held-out
    part is put in the end, to train.
    """
    total = sum(map(len, groups))
    size = max(1, round(total * HELD_OUT_SHARE / (TRAIN_SHARE + HELD_OUT_SHARE * len(missing))))

    def key(group: Sequence[Example]) -> tuple[bool, str]:
        return len(group) > size, min(_at_random("split", example.facts.content) for example in group)

    waiting = sorted(groups, key=key)
    found: list[Example] = []
    for index, part in enumerate(missing):
        taken: list[Example] = []
        others = len(missing) - index  # parts that need a group too
        while not taken or (len(waiting) > others and len(taken) + len(waiting[0]) <= size):
            taken += waiting.pop(0)
        found += [replace(example, part=part) for example in taken]
    return found + [example for group in waiting for example in group]


def _at_random(stream: str, content: str) -> str:
    return sha256(f"{stream} {SPLIT_SEED} {content}".encode())
