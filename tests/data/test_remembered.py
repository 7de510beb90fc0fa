"""What a folder of images held, kept for new images: read back as it was, the latest last."""

import shutil

import pytest
from made_folders import class_folders, picture, write

from utils.command.use import NoWeights, trained_on
from utils.data.decode import Target
from utils.data.folder import read_folder
from utils.data.remembered import FILE, remember_data, remembered


@pytest.fixture
def photos(tmp_path):
    root = class_folders(tmp_path / "my photos", {"cat": 8, "a|b": 6, "猫": 6})
    write(root / "cat" / "again.png", picture(3))  # so that there are equal images to tell of
    (root / "cat" / "notes.png").write_bytes(b"hello")
    return root


@pytest.fixture
def data_sets(tmp_path, photos):
    """The folder at two sizes and by two fits."""
    targets = (Target(8, 1), Target(12, 3), Target(8, 1, "pad"))
    return [read_folder(photos, tmp_path / "data", target, skip_bad=True) for target in targets]


def test_what_is_read_back_equals_what_was_kept(tmp_path, data_sets, photos):
    for spec, contents in data_sets:
        remember_data(tmp_path / "runs", spec, contents)
    shutil.rmtree(photos)
    shutil.rmtree(tmp_path / "data")
    assert remembered(tmp_path / "runs") == data_sets
    assert data_sets[0][1].skipped and data_sets[0][1].equal  # so that every kind of field was compared


def test_the_latest_comes_last_and_none_twice(tmp_path, data_sets):
    first, second, third = data_sets
    for spec, contents in (first, second, third, first):
        remember_data(tmp_path, spec, contents)
    assert remembered(tmp_path) == [second, third, first]
    written = (tmp_path / FILE).stat().st_mtime_ns
    remember_data(tmp_path, *first)
    assert (tmp_path / FILE).stat().st_mtime_ns == written


def test_of_several_the_latest_counts_or_the_one_that_is_asked_for(tmp_path, data_sets):
    for spec, contents in data_sets:
        remember_data(tmp_path, spec, contents)
    first, second, third = data_sets
    assert trained_on(tmp_path, "my photos", None, None) == third
    assert trained_on(tmp_path, "my photos", 12, None) == second
    assert trained_on(tmp_path, "my photos", 8, "crop") == first
    with pytest.raises(NoWeights, match="no weights from my photos but by --image-size 8 --fit crop, --image-size 12"):
        trained_on(tmp_path, "my photos", 12, "pad")


def test_of_two_folders_with_one_name_the_classes_decide(tmp_path, data_sets, capsys):
    """A folder of other classes, trained on later; and a folder whose classes were never trained on."""
    other = class_folders(tmp_path / "other" / "my photos", {"x": 4, "y": 4})
    later = read_folder(other, tmp_path / "data", Target(8, 1))
    for spec, contents in (data_sets[0], later):
        remember_data(tmp_path, spec, contents)
    assert trained_on(tmp_path, "my photos", None, None, ("a|b", "cat", "猫")) == data_sets[0]
    assert trained_on(tmp_path, "my photos", None, None, ("x", "y")) == later
    assert capsys.readouterr().err == ""
    assert trained_on(tmp_path, "my photos", None, None, ("a", "b")) == later
    assert capsys.readouterr().err.startswith("warning: my photos has other classes now, or is another folder")


@pytest.mark.parametrize("content", [b"", b"{", b"[{}]", b"[3]", b'[{"spec": {}, "contents": {}}]', b"\xff"])
def test_a_damaged_file_is_none_and_is_written_again(tmp_path, data_sets, content):
    """Cut, of another shape, or no text: predicting then asks for the command that trains, which mends it."""
    (tmp_path / FILE).write_bytes(content)
    assert remembered(tmp_path) == []
    remember_data(tmp_path, *data_sets[0])
    assert remembered(tmp_path) == data_sets[:1]
