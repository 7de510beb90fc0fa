"""Weights that were trained on a folder of images, or of added models, are used alike; and from Python."""

import csv
import shutil
import subprocess
import sys

import numpy as np
import pytest
from checkout_folder import CHECKOUT
from made_folders import class_folders, picture, snapshot, write
from made_weights import by_hand, finished_cell
from PIL import Image
from place import TASK
from safetensors.torch import load_file

from utils.command.trained import load_trained
from utils.command.use import NoWeights
from utils.data.remembered import remembered
from utils.data.specs import DIGITS, DataError
from utils.training.model import build_model

A, B = TASK.experiments


@pytest.fixture
def photos(tmp_path):
    return class_folders(tmp_path / "my photos", {"cat": 8, "a|b": 6, "猫": 6})


@pytest.fixture
def on_photos(place, photos):
    def run(*arguments, **options):
        return place.run("--images", str(photos), "--data-dir", str(place.folder / "data"), *arguments, **options)

    run.runs = place.runs / "images" / "my-photos-d3522f7d" / "tiny"
    return run


def test_images_are_predicted_when_the_folder_and_the_data_are_gone(place, on_photos, photos, tmp_path, capsys):
    """With the normalisation and the classes of the training images, which are nowhere else any more."""
    assert on_photos("--models", "A", "--num-seeds", "2", "--image-size", "12", "--fit", "pad") == 0
    (spec, contents) = remembered(on_photos.runs)[-1]
    nets = []
    for path in sorted(on_photos.runs.glob("cpu-fp32/A/*/seed*/final.safetensors")):
        nets.append(build_model(A, (1, 12, 12), 3, 0).eval())
        nets[-1].load_state_dict(load_file(path))
    pixels = np.load(place.folder / "data" / spec.folder / "train_images.npy")
    assert spec.mean == pytest.approx([pixels.mean() / 255], abs=1e-4)
    assert spec.std == pytest.approx([(pixels / 255).std()], abs=1e-4)
    new = write(tmp_path / "new.png", picture(77, (12, 9)))
    shutil.rmtree(photos)
    shutil.rmtree(place.folder / "data")
    capsys.readouterr()
    assert on_photos("--predict", str(new), "--csv") == 0
    assert place.trained == [] and not (place.folder / "data").exists()
    padded = np.zeros((12, 12), np.uint8)
    padded[1:10] = np.asarray(Image.open(new).convert("L"))
    expected = by_hand(nets, [padded], spec)[:, 0]
    rows = list(csv.DictReader((on_photos.runs / "predictions.csv").open(encoding="utf-8", newline="")))
    assert contents.fit == "pad" and contents.class_names == ("a|b", "cat", "猫")
    for row in rows:
        of_class = expected[:, contents.class_names.index(row["class"])]
        assert float(row["probability"]) == pytest.approx(of_class.mean(), abs=1e-5)
        assert float(row["highest"]) == pytest.approx(of_class.max(), abs=1e-5)
    assert len(rows) == 3 and "trained on my photos (cpu-fp32)" in capsys.readouterr().out


def test_a_folder_that_was_never_trained_on_is_named(place, on_photos, photos, capsys, monkeypatch):
    """It isn't read: nothing is made for it."""
    monkeypatch.setattr(sys, "argv", ["t.py", "--images", str(photos), "--skip-bad", "--predict", "x.png"])
    before = snapshot(place.folder)
    assert on_photos("--predict", "x.png") == 2
    out = f"error: {on_photos.runs} has no weights from my photos; this trains them:\n"
    assert capsys.readouterr().err == f"{out}  python t.py --images '{photos}' --skip-bad\n"
    assert snapshot(place.folder) == before


def test_cells_of_an_older_version_are_found_after_the_command_that_trains_them(place, on_photos, photos):
    """They lack what the folder held; the same command writes it and trains nothing again."""
    assert on_photos("--models", "A") == 0
    (on_photos.runs / "data_sets.json").unlink()
    assert on_photos("--predict", str(photos)) == 2
    assert on_photos("--models", "A") == 0 and place.trained == []
    assert on_photos("--predict", str(photos)) == 0


@pytest.fixture
def digit_files(tmp_path):
    images = [np.random.default_rng(k).integers(0, 256, (8, 8), np.uint8) for k in range(3)]
    return [write(tmp_path / "new" / f"{k}.png", image) for k, image in enumerate(images)], images


def test_an_added_model_predicts_if_it_is_named_again(place, tmp_path, digit_files, capsys, monkeypatch):
    name = f"net_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text("from models import FCN\n\nclass Net(FCN):\n    pass\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    path, added = str(digit_files[0][0]), ["--add", str(tmp_path / f"{name}.py:Net")]
    assert place.run("--models", "A", *added) == 0
    capsys.readouterr()
    assert place.run(*added, "--predict", path) == 0
    assert "of the 2 models with weights here" in capsys.readouterr().out
    assert place.run("--predict", path) == 0
    assert capsys.readouterr().out.startswith("A, 1 seed, ")
    shutil.rmtree(place.runs / "tiny" / "cpu-fp32" / "A")
    assert place.run("--models", "A", *added, "--predict", path) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Net, 1 seed, ") and err == "without weights here: A\n"


def test_the_same_in_python(place, digit_files, tmp_path):
    paths, images = digit_files
    runs = place.runs / "tiny"
    nets = [finished_cell(runs, A, DIGITS, seed, val_accuracy=(0.9,)) for seed in range(2)]
    finished_cell(runs, B, DIGITS, 0)
    options = ["--runs-dir", str(place.runs), "--device", "cpu"]
    model = load_trained(TASK, *options)
    assert model.name == "A" and model.class_names == DIGITS.class_names
    found = model.probabilities([str(path) for path in paths])
    assert found.shape == (2, 3, 10)
    np.testing.assert_allclose(found, by_hand(nets, images, DIGITS), atol=1e-5)
    assert load_trained(TASK, *options, "--models", "B").name == "B"
    (tmp_path / "bad.png").write_bytes(b"hello")
    with pytest.raises(DataError, match="bad.png: not a PNG"):
        model.probabilities([paths[0], tmp_path / "bad.png"])
    with pytest.raises(NoWeights, match="has no weights of A and B"):
        load_trained(TASK, *options, "--epochs", "7")


@pytest.mark.slow
def test_the_whole_command_on_a_folder_that_is_deleted(tmp_path):
    """Task 1.2's script trains on a folder, which then goes with its decoded images; larger photographs are known."""
    photos = tmp_path / "my_photos"
    colours = {"red": (200, 40, 30), "green": (40, 190, 60), "blue": (30, 60, 210)}
    for number, (name, colour) in enumerate(colours.items()):
        for k in range(24):
            tinted = (picture(100 * number + k, (40, 36)) * 0.3 + np.array(colour) * 0.7).astype(np.uint8)
            write(photos / name / f"{k}.png", tinted)
            if k == 0:
                write(tmp_path / "new" / f"{name}.png", Image.fromarray(tinted).resize((640, 480)))
    common = [sys.executable, "task_1_2_cifar.py", "--images", str(photos), "--runs-dir", str(tmp_path / "runs")]
    common += ["--data-dir", str(tmp_path / "data"), "--models", "FCN", "--device", "cpu"]

    def run(*arguments):
        return subprocess.run([*common, *arguments], cwd=CHECKOUT, capture_output=True, text=True, encoding="utf-8")

    assert run("--num-seeds", "2", "--precision", "fp32").returncode == 0
    shutil.rmtree(photos)
    shutil.rmtree(tmp_path / "data")
    done = run("--predict", str(tmp_path / "new"))
    assert done.returncode == 0 and done.stderr == ""
    first, *lines = done.stdout.splitlines()
    assert first == "FCN, 2 seeds, averaged weights, trained on my_photos (cpu-fp32): named by --models."
    assert [line.split("%")[0].rsplit(" ", 1)[0] for line in lines] == [
        f"{tmp_path / 'new' / name}.png: {name}" for name in ("blue", "green", "red")
    ]
