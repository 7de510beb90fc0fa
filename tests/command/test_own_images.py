"""`--images`: a folder of images in, results in a folder of their own; nothing else in the checkout is touched."""

import json
import shutil
import sys

import pytest
from made_folders import class_folders, picture, snapshot, write
from place import TASK, WITH_ABLATION, digests
from sklearn.metrics import balanced_accuracy_score

from utils.data import store
from utils.records.record import read_record

COUNTS = {"cat": 20, "a|b": 12, "猫": 10}
MODELS = ["A-seed0", "B-seed0"]


@pytest.fixture
def photos(tmp_path):
    return class_folders(tmp_path / "my photos", COUNTS)


@pytest.fixture
def look(place, photos):
    """Runs a command on the folder of images; `look.folder` is where its results belong."""

    def run(*arguments, task=TASK):
        return place.run("--images", str(photos), "--data-dir", str(place.folder / "data"), *arguments, task=task)

    (run.folder,) = [place.runs / "images" / "my-photos-d3522f7d" / "tiny"]
    return run


def page(folder):
    return (folder / "RESULTS.md").read_text()


def records(folder):
    return {path.stem: read_record(path) for path in sorted((folder / "records/cpu-fp32").glob("*-seed*.json"))}


def test_results_have_a_folder_of_their_own_and_say_what_the_data_are(place, look, capsys):
    plots, readme = place.old_records("A-seed0", "B-seed0"), place.readme.read_bytes()
    assert look() == 0
    assert place.trained == MODELS and list(records(look.folder)) == MODELS
    assert digests(place.plots) == plots and place.readme.read_bytes() == readme
    told, text = capsys.readouterr().out, page(look.folder)
    for sentence in ("42 images in 3 classes: 28 to train, 7 to validate, 7 to test", "by always answering cat"):
        assert sentence in told and sentence in text
    assert told.index("42 images") < told.index("It will take")
    assert r"| a\|b | 8 | 2 | 2 |" in text and "![A few training images of each class](samples.png)" in text
    assert (look.folder / "samples.png").stat().st_size > 1000
    assert "original report" not in text + told and "# Results on my photos" in text


def test_balanced_accuracy_stands_beside_accuracy(look):
    assert look() == 0
    (row,) = [line for line in page(look.folder).splitlines() if line.startswith("| A | ") and "%" in line]
    arrays = records(look.folder)["A-seed0"].arrays
    expected = balanced_accuracy_score(arrays["test_labels"], arrays["test_predictions"])
    assert row.split(" | ")[2] == f"{expected:.2%}"


def test_the_weights_lie_where_the_page_says(place, look):
    assert look() == 0
    (path,) = [line for line in page(look.folder).splitlines() if "load_file(" in line]
    assert (place.folder / path.partition('load_file("')[2].partition('"')[0]).exists()


def test_a_second_run_goes_on_and_adds_seeds(place, look, capsys):
    assert look() == 0
    assert look("--num-seeds", "2") == 0
    assert place.trained == ["A-seed1", "B-seed1"] and "2 finished before" in capsys.readouterr().out
    assert len(records(look.folder)) == 4


def test_another_size_or_a_changed_file_makes_another_data_set(place, look, photos):
    """Records of the older contents are named and left out; going back to them trains nothing again."""
    assert look("--models", "A") == 0
    write(photos / "cat" / "0.png", picture(999))
    assert look("--models", "B") == 0
    assert place.trained == ["B-seed0"] and place.drawn[-1] == {"B": [0]}
    assert "A-seed0.json: trained on other data" in page(look.folder)
    assert look("--models", "B", "--image-size", "12", "--fit", "pad") == 0
    assert place.trained == ["B-seed0"] and records(look.folder)["B-seed0"].image_shape == (1, 12, 12)
    assert look("--models", "B") == 0
    assert place.trained == [] and records(look.folder)["B-seed0"].image_shape == (1, 8, 8)


def test_two_folders_with_the_same_images_are_one_data_set(place, look, photos):
    assert look() == 0
    shutil.copytree(photos, place.folder / "copy")
    assert place.run("--images", str(place.folder / "copy"), "--data-dir", str(place.folder / "data")) == 0
    hashes = {path.parent.name for path in place.runs.glob("images/*/tiny/cpu-fp32/A/*/seed0")}
    assert len(hashes) == 1


def test_a_folder_with_the_name_of_a_data_set_is_another_one(place, look, photos):
    """Neither its runs nor its records count as those of the real one, though models and classes may be alike."""
    plots = place.old_records("A-seed0", "B-seed0")
    photos.rename(digits := photos.with_name("digits"))
    for number in range(10 - len(COUNTS)):
        class_folders(digits, {str(number): 3}, first=1000 + 10 * number)
    assert place.run("--images", str(digits), "--data-dir", str(place.folder / "data")) == 0
    assert place.trained == MODELS and digests(place.plots) == plots
    theirs = json.loads((place.records / "A-seed0.json").read_text())["config_hash"]
    assert records(place.runs / "images/digits/tiny")["A-seed0"].config_hash != theirs


def test_broken_files_stop_the_run_or_are_left_out(place, look, photos, capsys):
    """A truncated, an empty and a text file: exit 2 with all their paths, or gone on without and told in the page."""
    good = (photos / "cat" / "1.png").read_bytes()
    for name, content in {"cut.png": good[: len(good) // 2], "empty.jpg": b"", "notes.png": b"hello"}.items():
        (photos / "cat" / name).write_bytes(content)
    assert look() == 2 and place.trained == [] and not look.folder.exists()
    told = capsys.readouterr().err
    assert told.startswith("error: 3 of 45 files") and all(f"cat/{n}" in told for n in ("cut", "empty", "notes"))
    assert look("--skip-bad") == 0
    assert "3 files left out, since they can't be used: cat/cut.png (" in page(look.folder)


def test_replot_draws_again_and_needs_the_folder(place, look, photos, capsys):
    assert look() == 0
    text = page(look.folder)
    for name in ("RESULTS.md", "samples.png"):
        (look.folder / name).unlink()
    assert look("--replot") == 0 and place.trained == []
    assert page(look.folder) == text and (look.folder / "samples.png").exists()
    photos.rename(photos.with_name("elsewhere"))
    capsys.readouterr()
    assert look("--replot") == 2
    assert capsys.readouterr().err == f"error: {photos} is not there: name a folder of images\n"


def test_a_quick_look_stays_apart(place, look):
    assert look("--epochs", "1", "--models", "A") == 0
    assert not (look.folder / "RESULTS.md").exists()
    folder = place.runs / "quick/images/my-photos-d3522f7d/tiny/epochs=1--A"
    assert list(records(folder)) == ["A-seed0"] and (folder / "samples.png").exists()


def test_looks_and_the_margin_of_one_test_image(place, look):
    assert look("--until-decided", "--max-seeds", "3", task=WITH_ABLATION) == 0
    assert place.trained == [f"{model}-seed{seed}" for seed in range(3) for model in "AB"]
    text = page(look.folder)
    assert "within 14.29 points of 0" in text and "Judged by looks" in text  # 1 of 7 test images


def test_added_models_are_compared_on_the_images_as_well(place, look, monkeypatch):
    name = f"net_of_{place.folder.name}"
    (place.folder / f"{name}.py").write_text("from models import FCN\n\nclass Net(FCN):\n    pass\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert look() == 0
    assert look("--add", str(place.folder / f"{name}.py:Net")) == 0
    assert place.trained == ["Net-seed0"]
    assert list(records(place.runs / "added/images/my-photos-d3522f7d/tiny")) == [*MODELS, "Net-seed0"]
    assert list(records(look.folder)) == MODELS


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--image-size", "8"], "--image-size: goes with --images"),
        (["--fit", "pad"], "--fit: goes with --images"),
        (["--skip-bad"], "--skip-bad: goes with --images"),
        (["--images", "x", "--image-size", "1025"], "--image-size: '1025' is not a whole number of 1 to 1024"),
        (["--images", ""], "--images: an empty name"),
        (["--predict", "a.png", ""], "--predict: an empty name"),
        (["--images", "x", "--smoke"], "--images: not allowed with --smoke: these have data"),
        (["--images", "x", "--protocol", "original"], "--images: not allowed with --protocol original: these"),
    ],
)
def test_options_that_do_not_go_together(place, arguments, fault, capsys):
    with pytest.raises(SystemExit) as end:
        place.run(*arguments)
    assert end.value.code == 2 and fault in capsys.readouterr().err


def test_a_folder_that_is_not_there_or_holds_too_little(place, look, photos, tmp_path, capsys):
    """A missing folder, one class, a class of two images: one sentence and exit 2, before anything is made."""
    for root, sentence in {
        tmp_path / "nowhere": "nowhere is not there: name a folder of images",
        class_folders(tmp_path / "one", {"only": 3}): "holds the folder of one class only, only",
        class_folders(tmp_path / "few", {"a": 9, "b": 2}, first=500): "b has 2 of at least 3 that each class needs",
    }.items():
        assert place.run("--images", str(root), "--data-dir", str(place.folder / "data")) == 2
        assert sentence in capsys.readouterr().err
    assert not (place.runs / "images").exists()


def test_nothing_is_written_into_the_folder_or_into_plots(place, look, photos, capsys):
    """Results, weights or decoded images that should go there: exit 2, and the folder stays as it is."""
    before = snapshot(photos)
    for option in ("--output-dir", "--runs-dir", "--data-dir"):
        with pytest.raises(SystemExit) as end:
            look(option, str(photos / "out"))
        assert end.value.code == 2 and "nothing is written into a folder of images" in capsys.readouterr().err
    assert look("--output-dir", str(place.plots / "mine")) == 2
    assert "results on your own images can't go into" in capsys.readouterr().err
    assert look("--models", "A") == 0 and snapshot(photos) == before


def test_an_interruption_while_reading_says_how_to_go_on(look, monkeypatch, capsys):
    """Ctrl-C while images are decoded: exit 130."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(store.RowWriter, "write", interrupted)
    assert look() == 130 and "To resume:" in capsys.readouterr().err


def test_a_full_disk_while_reading_is_one_sentence(place, look, monkeypatch, capsys):
    """Decoded images can't be written: exit 1."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.RowWriter, "write", full)
    assert look() == 1 and place.trained == []
    assert capsys.readouterr().err == "error: [Errno 28] No space left on device\n"
