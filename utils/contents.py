"""What a folder of images holds, as it is told before training and in the report. Never loads torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field

MOST_UNEQUAL = 3  # above, accuracy is mostly that of the largest class


@dataclass(frozen=True, kw_only=True)
class Contents:
    """All that is told about a folder of images. Plain values, so that it can be kept as JSON.

    `images` is {part: how many images of each class}, with the parts "train", "val" and "test", of which the folder
    itself separates those in `given`. Images became squares of `size` pixels with `channels`, by `fit` "crop" or "pad".
    `smallest` and `largest` are the (width, height) with the fewest and the most pixels, `sizes` is how many different
    ones there are, and `enlarged` how many images were smaller than `size`.

    Files are named by their paths within the folder. `equal` are groups of images with the same pixels, in one part and
    class; `across` those that lie in several given parts, `contradictory` those of several classes. `several` have more
    frames or pages than the first, `skipped` is {path: what is wrong with it}, `loose` lie in no class folder.
    `others` is {ending: how many files with it are no images, neither by content nor by name}.
    """

    name: str
    class_names: tuple[str, ...]
    images: Mapping[str, tuple[int, ...]]
    given: tuple[str, ...]
    size: int
    channels: int
    fit: str
    smallest: tuple[int, int]
    largest: tuple[int, int]
    sizes: int
    enlarged: int
    equal: tuple[tuple[str, ...], ...] = ()
    across: tuple[tuple[str, ...], ...] = ()
    contradictory: tuple[tuple[str, ...], ...] = ()
    several: tuple[str, ...] = ()
    skipped: Mapping[str, str]
    loose: tuple[str, ...] = ()
    others: Mapping[str, int] = field(default_factory=dict)

    def total(self, part: str) -> int:
        return sum(self.images[part])

    @property
    def of_each_class(self) -> tuple[int, ...]:
        """How many images each class has in all parts together."""
        return tuple(map(sum, zip(*self.images.values(), strict=True)))

    @property
    def largest_class(self) -> int:
        """The index of the class with the most training images, which a model that learns nothing answers."""
        return self.images["train"].index(max(self.images["train"]))

    @property
    def accuracy_to_beat(self) -> float:
        """The test accuracy of always answering `largest_class`, a fraction."""
        return self.images["test"][self.largest_class] / self.total("test")

    @property
    def imbalance(self) -> float:
        """How many times the images of the smallest class the largest one has."""
        return max(self.of_each_class) / min(self.of_each_class)

    @property
    def unequal(self) -> bool:
        """Whether models are judged on balanced accuracy. The images alone decide that, before anything is trained."""
        return self.imbalance > MOST_UNEQUAL

    @property
    def to_beat(self) -> float:
        """What always answering `largest_class` reaches by what models are judged on, a fraction."""
        return 1 / len(self.class_names) if self.unequal else self.accuracy_to_beat

    @property
    def one_test_image(self) -> float:
        """The most by which one more correct test image changes what models are judged on, a fraction."""
        counts = [count for count in self.images["test"] if count]
        return 1 / (len(counts) * min(counts)) if self.unequal else 1 / sum(counts)
