"""Splits of folders: by contents alone, in proportion, equal images together."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from utils.data.decode import ImageFacts
from utils.data.layout import PARTS, ImageFile, Layout
from utils.data.specs import DataError
from utils.data.split import split


def made(images, given=(), names=None):
    """A layout and its facts from (part, label, pixels) of each image, whose path is its position."""
    files = tuple(ImageFile(Path(str(k)), part, label) for k, (part, label, _) in enumerate(images))
    names = names or tuple(f"c{k}" for k in range(1 + max(label for _, label, _ in images)))
    facts = {
        file: ImageFacts(str(file.path), f"content {pixels}", f"pixels {pixels}", 1, 1, False)
        for file, (_, _, pixels) in zip(files, images, strict=True)
    }
    return Layout(names, given, files, ()), facts


def counts(examples):
    return Counter((example.part, example.file.label) for example in examples)


def parts_of(examples):
    """{pixels: its parts} of the images."""
    found = {}
    for example in examples:
        found.setdefault(example.facts.pixels, set()).add(example.part)
    return found


def test_shares_are_those_of_scikit_learn_s_stratified_split():
    sizes = [1000, 333, 120, 47]
    labels = np.repeat(range(4), sizes)
    examples = split(*made([("train", label, k) for k, label in enumerate(labels)]))
    rest, test = train_test_split(labels, test_size=0.15, stratify=labels, random_state=0)
    train, val = train_test_split(rest, test_size=0.15 / 0.85, stratify=rest, random_state=0)
    found = counts(examples)
    for part, expected in zip(PARTS, (train, val, test), strict=True):
        for label in range(4):
            assert abs(found[part, label] - (expected == label).sum()) <= 1
    assert len(examples) == sum(sizes)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(1, 30), min_size=3, max_size=30), min_size=2, max_size=4))
def test_equal_images_stay_together_and_every_part_has_every_class(copies):
    """Classes of groups of equal images, of any sizes."""
    images = [
        ("train", label, f"{label}-{group}")
        for label, sizes in enumerate(copies)
        for group, size in enumerate(sizes)
        for _ in range(size)
    ]
    examples = split(*made(images))
    assert sorted(int(str(example.file.path)) for example in examples) == list(range(len(images)))
    assert all(len(parts) == 1 for parts in parts_of(examples).values())
    found = counts(examples)
    for label, sizes in enumerate(copies):
        assert all(found[part, label] >= 1 for part in PARTS)
        if max(sizes) == 1:
            share = max(1, round(0.15 * len(sizes)))
            assert found["test", label] == found["val", label] == share


def test_a_picture_that_is_there_many_times_does_not_fill_the_test_set():
    images = [("train", 0, "placeholder")] * 40 + [("train", 0, k) for k in range(60)]
    images += [("train", 1, f"other {k}") for k in range(20)]
    examples = split(*made(images))
    assert parts_of(examples)["pixels placeholder"] == {"train"} and counts(examples)["test", 0] == 15


def test_the_split_depends_on_contents_alone():
    images = [("train", k % 3, k) for k in range(200)]
    order = np.random.default_rng(0).permutation(200)
    one, other = split(*made(images)), split(*made([images[k] for k in order]))
    assert [(e.part, e.facts.pixels) for e in one] == [(e.part, e.facts.pixels) for e in other]
    assert len({example.file.label for example in one[:20]}) == 3  # not sorted by class


def test_one_more_image_leaves_most_where_they_are():
    images = [("train", k % 2, k) for k in range(400)]
    one, other = (parts_of(split(*made(more))) for more in (images, [*images, ("train", 0, "new")]))
    assert sum(one[pixels] != other[pixels] for pixels in one) <= 3


@pytest.mark.parametrize("missing", ["val", "test"])
def test_a_part_that_is_missing_is_split_off_and_the_given_ones_stay(missing):
    (other,) = {"val", "test"} - {missing}
    images = [("train", k % 2, k) for k in range(340)] + [(other, k % 2, f"given {k}") for k in range(10)]
    examples = split(*made(images, given=("train", other)))
    found = counts(examples)
    assert found == {(p, k): n for p, n in (("train", 140), (missing, 30), (other, 5)) for k in range(2)}
    assert parts_of(examples)["pixels given 3"] == {other}


def test_given_parts_stay_even_if_they_share_images():
    images = [(part, label, f"{label} {k}") for part in PARTS for label in range(2) for k in range(3)]
    examples = split(*made(images, given=PARTS))
    assert counts(examples) == {(part, label): 3 for part in PARTS for label in range(2)}


def test_equal_images_of_two_classes_stay_together():
    images = [("train", label, k) for label in range(2) for k in range(20)]  # the same twenty in both
    images += [("train", 1, f"own {k}") for k in range(20)]
    examples = split(*made(images))
    assert all(len(parts) == 1 for parts in parts_of(examples).values())
    assert all(counts(examples)[part, label] for part in PARTS for label in range(2))


CATS = [("train", 0, k) for k in range(9)]


@pytest.mark.parametrize(
    ("dogs", "given", "message"),
    [
        ([("train", 1, k) for k in "ab"], (), "dog has 2 of at least 3 that each class needs"),
        ([("train", 1, "a")] * 7, (), "dog has 1 of at least 3 that each class needs"),
        ([("train", 1, k) for k in range(9)], (), "dog has 0 of at least 3 that each class needs"),
        (
            [("test", 0, "x"), ("train", 1, "y"), ("train", 1, "z")],
            ("train", "test"),
            "dog has 0 of at least 1 that each class needs in test",
        ),
        (
            [("test", 0, "x"), ("test", 1, "y"), ("train", 1, "z")],
            ("train", "test"),
            "dog has 1 of at least 2 that each class needs in train",
        ),
    ],
)
def test_classes_with_too_few_images_are_named_with_the_number_needed(dogs, given, message):
    """Two images; seven copies of one; none that an earlier class lacks; none to test; one where two are needed."""
    with pytest.raises(DataError, match=f"^too few different images: {message}$"):
        split(*made(CATS + dogs, given, ("cat", "dog")))
