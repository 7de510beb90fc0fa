"""What a folder of images holds, in words."""

import dataclasses

from utils.contents import Contents
from utils.report.contents import class_table, contents_in_words

PLAIN = Contents(
    name="photos",
    class_names=("cat", "a|b"),
    images={"train": (70, 14), "val": (15, 3), "test": (15, 3)},
    given=(),
    size=32,
    channels=3,
    fit="crop",
    smallest=(20, 30),
    largest=(4000, 3000),
    sizes=7,
    enlarged=2,
    skipped={},
)


def told(**changes) -> list[str]:
    return contents_in_words(dataclasses.replace(PLAIN, **changes))


def test_what_is_told_of_every_folder():
    assert told() == [
        "120 images in 2 classes: 84 to train, 18 to validate, 18 to test, split by contents alone, each class in "
        "proportion",
        "Of 7 sizes, from 20 x 30 pixels to 4000 x 3000, made 32 x 32 in colour: the shorter side to size and the "
        "middle kept; 2 of them enlarged",
        "Accuracy to beat: 83.3%, by always answering cat; the largest class has 5.00 times the images of the smallest"
        ", so models are judged on balanced accuracy, the mean of each class's share (to beat: 50.0%)",
    ]


def test_what_is_told_of_given_parts_equal_classes_and_one_size():
    even = {"train": (7, 7), "val": (2, 2), "test": (1, 1)}
    found = told(images=even, given=("train", "test"), sizes=1, enlarged=0, channels=1, fit="pad")
    assert found == [
        "20 images in 2 classes: 14 to train, 4 to validate, 2 to test, val split off train by contents alone",
        "Of 20 x 30 pixels, made 32 x 32 in grey: the whole image, black around it",
        "Accuracy to beat: 50.0%, by always answering cat",
    ]
    assert told(sizes=1, smallest=(32, 32), enlarged=0)[1] == "Of 32 x 32 pixels, which they keep, in colour"
    assert told(given=("train", "val", "test"))[0].endswith("18 to test, by the folder itself")
    assert told(skipped={"a/x.png": "an empty file"})[-1].startswith("1 file left out, since it can't be used: a/x")


def test_everything_odd_about_the_files_is_told():
    found = told(
        equal=(("a/1", "a/2", "a/3"), tuple(f"b/{k}" for k in range(9))),
        across=(("test/a/1", "train/a/1"),),
        contradictory=(("a/7", "b/7"),),
        several=tuple(f"a/{k}.gif" for k in range(7)),
        skipped={"a/x.png": "an empty file", "b/y": "truncated", "b/z": "an empty file"},
        loose=("notes.txt",),
        others={".csv": 1, ".ogg": 1200, ".txt": 1},
    )[3:]
    assert found == [
        "10 images are the same as others at this size; equal ones are in one part (a/1 = a/2 = a/3; "
        "b/0 = b/1 = b/2 = b/3 = b/4 and 4 more)",
        "1 image in more than one part of the folder, which makes accuracies look better than they are "
        "(test/a/1 = train/a/1)",
        "1 image in more than one class (a/7 = b/7)",
        "7 files with several frames or pages, of which the first counts (a/0.gif, a/1.gif, a/2.gif, a/3.gif, a/4.gif "
        "and 2 more)",
        "3 files left out, since they can't be used: a/x.png, b/z (an empty file); b/y (truncated)",
        "Files in the class folders that are no images count as nothing (1,200 .ogg, 1 .csv, 1 .txt)",
        "1 file outside the class folders left out (notes.txt)",
    ]


def test_the_table_of_classes():
    assert class_table(PLAIN).splitlines() == [
        "| class | train | val | test |",
        "| --- | --- | --- | --- |",
        "| cat | 70 | 15 | 15 |",
        r"| a\|b | 14 | 3 | 3 |",
        "| all | 84 | 18 | 18 |",
    ]


def test_what_models_are_judged_on_follows_from_the_numbers_of_images():
    """Up to three times the images of the smallest class it is accuracy; one test image is the smallest step of it."""
    three = {"train": (30, 10), "val": (6, 2), "test": (9, 3)}
    equal = dataclasses.replace(PLAIN, images=three)
    assert not equal.unequal and equal.one_test_image == 1 / 12
    unequal = dataclasses.replace(PLAIN, images=three | {"train": (31, 10)})
    assert unequal.unequal and unequal.one_test_image == 1 / 6  # 1 of 3, which is half of the mean of 2 classes
    (sentence,) = [text for text in told(images=three) if text.startswith("Accuracy to beat")]
    assert "3.00 times" in sentence and "balanced" not in sentence
