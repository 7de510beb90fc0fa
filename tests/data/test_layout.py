"""Which files of a folder are images of which class and part; folders that mean nothing are refused in a sentence."""

import os

import pytest
from made_folders import class_folders, picture, write

from utils.data.layout import PARTS, read_layout
from utils.data.specs import DataError


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def found(root):
    layout = read_layout(root)
    return {
        (file.part, layout.class_names[file.label], file.path.relative_to(root).as_posix()) for file in layout.files
    }


def test_a_folder_for_each_class_and_folders_within_belong_to_it(tmp_path):
    touch(tmp_path, "cat/a.jpg", "cat/more/b", "cat/more/still/c.png", "dog/a.jpg", "notes.txt")
    assert found(tmp_path) == {
        ("train", "cat", "cat/a.jpg"),
        ("train", "cat", "cat/more/b"),
        ("train", "cat", "cat/more/still/c.png"),
        ("train", "dog", "dog/a.jpg"),
    }
    layout = read_layout(tmp_path)
    assert layout.given == () and [path.name for path in layout.loose] == ["notes.txt"]


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_parts_that_the_folder_separates(tmp_path, val):
    touch(tmp_path, "train/a/1", "train/b/deep/2", f"{val}/a/3", f"{val}/b/4", "test/a/5", "test/b/6", "train/list.csv")
    layout = read_layout(tmp_path)
    assert layout.given == PARTS and layout.class_names == ("a", "b")
    assert [(file.part, file.label, file.path.name) for file in layout.files] == [
        ("train", 0, "1"), ("train", 1, "2"), ("val", 0, "3"), ("val", 1, "4"), ("test", 0, "5"), ("test", 1, "6"),
    ]  # fmt: skip
    assert [path.name for path in layout.loose] == ["list.csv"]


def test_hidden_files_and_folders_are_nothing(tmp_path):
    touch(tmp_path, "a/1", "b/1", ".hidden/1", "a/.DS_Store", "a/._1", "a/.cache/2", "__MACOSX/a/1", "a/Thumbs.db")
    assert read_layout(tmp_path).class_names == ("a", "b")
    assert found(tmp_path) == {("train", "a", "a/1"), ("train", "b", "b/1")}


def test_class_names_of_any_letters_sorted_by_code_point(tmp_path):
    names = ["two words", "猫", "a|b", "$x$", "Cat", "cat", "é", "line\nbreak", "-", "10", "9"]
    touch(tmp_path, *(f"{name}/1" for name in names))
    expected = sorted(name.replace("\n", "\\n") for name in names)
    assert list(read_layout(tmp_path).class_names) == expected


def test_a_mac_s_accents_are_the_same_class(tmp_path):
    touch(tmp_path, "train/caf\u00e9/1", "train/b/1", "test/cafe\u0301/2", "test/b/2")
    layout = read_layout(tmp_path)
    assert layout.class_names == ("b", "caf\u00e9") and len(layout.files) == 4


def test_a_name_that_is_no_text_can_be_shown(tmp_path):
    touch(tmp_path, "a/1")
    try:
        os.mkdir(os.fsencode(tmp_path) + b"/\xff\xfe")
    except OSError:
        pytest.skip("this file system takes text only")
    touch(tmp_path, os.fsdecode(b"\xff\xfe/1"))
    names = read_layout(tmp_path).class_names
    assert len(names) == 2 and all(name.isprintable() and name.encode() for name in names)


def test_links_are_followed_but_not_in_circles(tmp_path):
    touch(tmp_path, "elsewhere/1", "photos/b/1")
    (tmp_path / "photos" / "a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "b" / "up").symlink_to(tmp_path / "photos")
    assert found(tmp_path / "photos") == {("train", "a", "a/1"), ("train", "b", "b/1")}


def test_a_class_may_be_called_train(tmp_path):
    class_folders(tmp_path, {"train": 1, "car": 1, "test": 1})
    assert read_layout(tmp_path).class_names == ("car", "test", "train")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "has no folders"),
        (["1.jpg", "2.jpg"], "has no folders: the images of each class belong in a folder"),
        (["cat/1.jpg"], "holds the folder of one class only, cat: 2 to 256 are needed$"),
        (["photos/cat/1", "photos/dog/1"], r"one class only, photos: .*; if the classes lie in it, name \S+/photos$"),
        ([f"{k}/1" for k in range(257)], "holds folders of 257 classes: 2 to 256"),
        (["train/a/1", "train/b/1", "test/1.jpg"], "test has no folders"),
        (["train/cat.1.jpg", "test/1.jpg"], "has test, train, but no train/ with folders in it: the images of each"),
        (["val/a/1", "val/b/1", "test/a/1", "test/b/1"], "has test, val, but no train/ with folders in it"),
        (["train/a/1", "train/b/1", "val/a/1", "valid/a/1"], "two folders for one part: .*val, valid"),
        (["train/a/1", "train/b/1", "labels/1"], "it also has labels: move them elsewhere"),
    ],
)
def test_folders_that_mean_nothing_are_refused(tmp_path, files, message):
    """No class, one, 257; images without folders; parts without classes, without train, twice, beside others."""
    touch(tmp_path, *files)
    with pytest.raises(DataError, match=message):
        read_layout(tmp_path)


def test_no_folder_is_named(tmp_path):
    """A path that isn't there, and one that is a file."""
    with pytest.raises(DataError, match="gone is not there: name a folder of images"):
        read_layout(tmp_path / "gone")
    write(tmp_path / "a.png", picture(0))
    with pytest.raises(DataError, match="a.png is not a folder"):
        read_layout(tmp_path / "a.png")
