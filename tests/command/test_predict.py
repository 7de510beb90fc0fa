"""`--predict`: which weights are used, what is said of each image, and what is not an image."""

import csv
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from made_folders import picture, write
from made_weights import by_hand, finished_cell, net_of
from PIL import Image
from place import TASK, digests

from models import FCN
from utils.command import predict as predicting
from utils.command.predict import in_words, percent
from utils.data import specs as datasets
from utils.data.specs import DIGITS, ArraySpec
from utils.experiment import Experiment
from utils.training.checkpoint import tensor_bytes
from utils.training.model import build_model
from utils.training.sources import source_hash

A, B = TASK.experiments


@pytest.fixture
def digit_files(tmp_path):
    """Five grey images of the size that the nets take, written so that no resampling changes them."""
    rng = np.random.default_rng(3)
    images = [rng.integers(0, 256, (8, 8), np.uint8) for _ in range(5)]
    return [write(tmp_path / "new" / f"{k}.png", image) for k, image in enumerate(images)], images


@pytest.fixture
def cell(place):
    """Leaves the weights of a cell of the task; returns its net."""

    def leave(experiment, seed, **options):
        return finished_cell(place.runs / "tiny", experiment, DIGITS, seed, **options)

    return leave


def predicted(place, capsys, *arguments, code=0, **options):
    """The lines of a command, and what it said on standard error."""
    capsys.readouterr()
    assert place.run("--predict", *map(str, arguments), **options) == code
    out, err = capsys.readouterr()
    return out.splitlines(), err


def table(place):
    """{(image, model): {class: (probability, lowest, highest)}} of the table."""
    found = {}
    for row in csv.DictReader((place.runs / "tiny" / "predictions.csv").open(encoding="utf-8", newline="")):
        numbers = tuple(float(row[name] or "nan") for name in ("probability", "lowest", "highest"))
        found.setdefault((row["image"], row["model"]), {})[row["class"]] = numbers
    return found


def test_probabilities_are_those_of_plain_torch(place, cell, digit_files, capsys):
    """By class, image and seed: a permutation of any of them would be seen."""
    paths, images = digit_files
    nets = [cell(A, seed) for seed in (10, 2, 0)]
    lines, _ = predicted(place, capsys, *paths, "--csv")
    expected = by_hand(nets, images, DIGITS)  # (seeds, images, classes)
    assert len(set(expected.mean(0).argmax(1))) > 2 and np.ptp(expected, axis=0).max() > 0.2  # they do differ
    found = table(place)
    assert list(found) == [(str(path), "A") for path in paths]
    for k, path in enumerate(paths):
        rows = found[str(path), "A"]
        numbers = np.array([rows[name] for name in DIGITS.class_names])
        of_seeds = expected[:, k]
        np.testing.assert_allclose(numbers.T, [of_seeds.mean(0), of_seeds.min(0), of_seeds.max(0)], atol=2e-6)
        first, second = sorted(rows, key=lambda name: rows[name], reverse=True)[:2]
        low, high = (percent(bound) for bound in rows[first][1:])
        over = f"{low} to {high}% over 3 seeds" if low != high else f"{low}% with each of 3 seeds"
        (line,) = [line for line in lines if line.startswith(f"{path}: ")]
        assert line == (
            f"{path}: {first} {percent(rows[first][0])}% ({over}), then {second} {percent(rows[second][0])}%"
        )
    assert lines[0] == (
        "A, 3 seeds, averaged weights, trained on scikit-learn's digits (cpu-fp32): the only model with weights here."
    )
    assert lines[-1].startswith("All probabilities: ") and lines[-1].endswith("runs/tiny/predictions.csv")


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        ([[0.88, 0.02, 0.10], [0.96, 0.01, 0.03], [0.95, 0.02, 0.03]], "a 93% (88 to 96% over 3 seeds), then c 5%"),
        ([[0.1, 0.7, 0.2]], "b 70%, then c 20%"),
        ([[0.001, 0.002, 0.997], [0.002, 0.001, 0.997]], "c >99% (>99% with each of 2 seeds), then a <1%"),
        ([[0.02, 0.98, 0.0], [0.0, 1.0, 0.0]], "b 99% (98 to >99% over 2 seeds), then a 1%"),
        ([[0.5, 0.5]], "a 50%, then b 50%"),
    ],
)
def test_a_line_says_class_probability_range_and_the_next_class(seeds, words):
    assert in_words("abc", np.array(seeds)) == words


def test_the_best_model_is_that_of_the_highest_mean_validation_accuracy(place, cell, digit_files, capsys):
    """By weights of one sort for all models. Not of the highest test accuracy, nor of the best seed.

    A is first by its last weights, B by its averaged ones, and A again by those of its best epoch.
    """
    for seed, averaged in enumerate((0.70, 0.80)):
        cell(A, seed, val_accuracy=(0.95, 0.6), averaged_accuracy=averaged, test_accuracy=0.95, best_epoch=1)
    for seed, averaged in enumerate((0.77, 0.78)):
        cell(B, seed, val_accuracy=(0.5, 0.59), averaged_accuracy=averaged, best_epoch=2)
    image = digit_files[0][0]
    trained = "trained on scikit-learn's digits (cpu-fp32): the highest mean validation accuracy"
    (first, line), _ = predicted(place, capsys, image)
    assert first == (f"B, 2 seeds, averaged weights, {trained}, 77.50%, of the 2 models with weights here.")
    assert "by" not in line.partition(": ")[2]
    (first, _), _ = predicted(place, capsys, image, "--weights", "last")
    assert first.startswith(f"A, 2 seeds, last weights, {trained}, 60.00%, of ")
    (first, _), _ = predicted(place, capsys, image, "--weights", "best")
    assert first.startswith(f"A, 2 seeds, weights of the lowest validation loss, {trained}, 95.00%, of ")


@pytest.mark.parametrize("weights", ["averaged", "last", "best"])
def test_the_weights_that_are_named_answer(place, cell, digit_files, capsys, weights):
    """Of every seed; each sort gives other probabilities."""
    paths, images = digit_files
    for seed in (0, 4):
        cell(A, seed)
    predicted(place, capsys, *paths, "--csv", "--weights", weights)
    expected = by_hand([net_of(A, DIGITS, seed, weights) for seed in (0, 4)], images, DIGITS).mean(0)
    found = [[table(place)[str(path), "A"][c][0] for c in DIGITS.class_names] for path in paths]
    np.testing.assert_allclose(found, expected, atol=2e-6)
    rows = csv.DictReader((place.runs / "tiny" / "predictions.csv").open(encoding="utf-8", newline=""))
    assert {row["weights"] for row in rows} == {weights}


@pytest.mark.parametrize("missing", ["from an older version", "its file"])
def test_where_a_run_has_no_averaged_weights_the_last_of_all_are_used(place, cell, digit_files, capsys, missing):
    """One of three seeds; and the models are compared by their last weights then, also B, which has averaged ones."""
    paths, images = digit_files
    for seed in (0, 1, 2):
        cell(A, seed, val_accuracy=(0.5, 0.7), old=missing == "from an older version" and seed == 1)
    if missing == "its file":
        next(place.runs.glob("tiny/cpu-fp32/A/*/seed1/averaged.safetensors")).unlink()
    cell(B, 0, val_accuracy=(0.5, 0.6), averaged_accuracy=0.9)
    lines, _ = predicted(place, capsys, *paths, "--csv")
    assert lines[0].startswith("A, 3 seeds, last weights, since not every run here has averaged ones, trained on ")
    compared = "of the 2 models with weights here, compared by their last weights, since not all have averaged ones."
    assert lines[0].endswith(f"70.00%, {compared}")
    expected = by_hand([net_of(A, DIGITS, seed, "last") for seed in (0, 1, 2)], images, DIGITS).mean(0)
    found = [[table(place)[str(path), "A"][c][0] for c in DIGITS.class_names] for path in paths]
    np.testing.assert_allclose(found, expected, atol=2e-6)
    _, err = predicted(place, capsys, paths[0], "--weights", "averaged", "--models", "A", code=2)
    if missing == "its file":
        assert "seed1/averaged.safetensors can't be used" in err and "delete its folder and train again" in err
    else:
        assert "A-seed1 of an older version: no averaged weights here; this trains them:" in err
    lines, _ = predicted(place, capsys, paths[0], "--models", "A", "--seeds", "0", "2")  # which have them
    assert lines[0].startswith("A, 2 seeds, averaged weights, trained on ")
    cell(B, 0, val_accuracy=(0.5, 0.8), averaged_accuracy=0.1)  # the best by last weights answers by its averaged ones
    (first, *_), _ = predicted(place, capsys, *paths)
    assert first.startswith("B, 1 seed, averaged weights, trained on ") and first.endswith(f"80.00%, {compared}")


def test_each_model_that_is_named_is_asked(place, cell, digit_files, capsys):
    (path, *_), images = digit_files
    nets = {"A": cell(A, 0, val_accuracy=(0.1, 0.2)), "B": cell(B, 0)}
    lines, _ = predicted(place, capsys, path, "--models", "B", "A", "--csv")
    assert [line.partition(",")[0] for line in lines[:2]] == ["A", "B"] and "named by --models." in lines[0]
    assert [line.partition(":")[0] for line in lines[2:4]] == [f"{path}, by A", f"{path}, by B"]
    for name, net in nets.items():
        rows = table(place)[str(path), name]
        np.testing.assert_allclose(
            [rows[k][0] for k in "0123456789"], by_hand([net], images[:1], DIGITS)[0, 0], atol=1e-5
        )
        assert np.isnan([rows[k][1:] for k in "0123456789"]).all()  # one seed has no range
    _, err = predicted(place, capsys, path, "--models", "A", "B", "--seeds", "1", code=2)
    assert "has no weights of A and B by this recipe; this trains them:" in err


def test_seeds_can_be_chosen(place, cell, digit_files, capsys):
    nets = [cell(A, seed) for seed in range(3)]
    predicted(place, capsys, digit_files[0][0], "--seeds", "2", "7", "--csv")
    rows = table(place)[str(digit_files[0][0]), "A"]
    expected = by_hand(nets[2:], digit_files[1][:1], DIGITS)[0, 0]
    np.testing.assert_allclose([rows[k][0] for k in DIGITS.class_names], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"environment": {"model_hash": "0" * 12}}, "A-seed0.json: trained with other code of the model (000000000000"),
        ({"without": ("model_hash",)}, "A-seed0.json: from an older version, which doesn't name the model's code"),
        ({"status": "failed", "message": "power cut"}, "A-seed0.json: failed (power cut)"),
        ({"task": "other"}, "A-seed0.json: a record of other, not of tiny"),
        ({"config_hash": "0" * 12}, "A-seed0.json: from another recipe"),
    ],
)
def test_weights_of_other_code_or_an_unfinished_run_are_not_used(place, cell, digit_files, capsys, options, reason):
    """Their shapes would fit: exit 2, and the reason."""
    cell(A, 0, **options)
    lines, err = predicted(place, capsys, digit_files[0][0], code=2)
    assert lines == [] and f"has no weights of A and B by this recipe ({reason}" in err


def test_weights_of_a_version_that_named_only_all_code_are_used_while_that_stays(place, cell, digit_files, capsys):
    cell(A, 0, without=("model_hash",), environment={"source_hash": source_hash(A)})
    assert len(predicted(place, capsys, digit_files[0][0])[0]) == 2


def test_weights_trained_on_other_data_of_the_same_name_are_not_used(place, cell, digit_files, capsys):
    """A data set without checksums was changed between two seeds: those of the latest data count."""
    place.old_records("A-seed1")  # and with it the mark of the latest data
    cell(A, 0, data_sha256="0" * 64)
    _, err = predicted(place, capsys, digit_files[0][0], code=2)
    assert "A-seed0.json: trained on other data" in err


def test_a_run_whose_weights_were_deleted_does_not_count(place, cell, digit_files, capsys):
    cell(A, 0, val_accuracy=(0.9, 0.9))
    cell(B, 0)
    next((place.runs / "tiny/cpu-fp32/A").rglob("final.safetensors")).unlink()
    assert predicted(place, capsys, digit_files[0][0])[0][0].startswith("B, 1 seed, ")


def test_damaged_weights_are_one_sentence(place, cell, digit_files, capsys):
    """Truncated, and of another shape: exit 2 with the path."""
    cell(A, 0)
    path = next((place.runs / "tiny/cpu-fp32/A").rglob("averaged.safetensors"))
    content = path.read_bytes()
    wide = build_model(Experiment("A", partial(FCN, hidden=(9,)), A.config), DIGITS.image_shape, 10, 0)
    for damaged in (content[: len(content) // 2], tensor_bytes(wide.state_dict())):
        path.write_bytes(damaged)
        lines, err = predicted(place, capsys, digit_files[0][0], code=2)
        assert lines == [] and err.startswith(f"error: {path} can't be used (") and err.count("\n") == 1


def test_the_kind_is_that_of_the_pages_unless_another_is_named(place, cell, digit_files, capsys):
    """Kinds are never mixed; without weights of the kind that is shown, it is the one with the most."""
    path = digit_files[0][0]
    cell(A, 0, kind="cpu-bf16")
    cell(A, 1, kind="cuda-tf32")
    cell(A, 2, kind="cuda-tf32")
    (line, _), _ = predicted(place, capsys, path)
    assert line.startswith("A, 2 seeds, averaged weights, trained on scikit-learn's digits (cuda-tf32)")
    place.old_records("A-seed0", kind="cpu-bf16")
    (line, _), _ = predicted(place, capsys, path)
    assert line.startswith("A, 1 seed, averaged weights, trained on scikit-learn's digits (cpu-bf16)")
    assert "(cuda-tf32)" in predicted(place, capsys, path, "--kind", "cuda-tf32")[0][0]
    _, err = predicted(place, capsys, path, "--kind", "mps-fp32", code=2)
    assert "has no weights of the kind mps-fp32 of A and B by this recipe" in err


def test_what_cannot_be_read_is_named_and_the_others_go_on(place, cell, digit_files, tmp_path, capsys, monkeypatch):
    """A truncated, an empty and a text file, a missing one, an empty folder: reasons on stderr, exit 1."""
    monkeypatch.setattr(predicting, "EVAL_BATCH_SIZE", 2)  # some batches have one image, some none
    cell(A, 0)
    paths, images = digit_files
    new = tmp_path / "new"
    whole = paths[0].read_bytes()
    for name, content in {
        "0a.png": whole[: len(whole) // 2],
        "3a.png": b"",
        "3b.jpg": b"hello",
        ".no.png": b"",
    }.items():
        (new / name).write_bytes(content)
    write(new / "z" / "猫.gif", Image.fromarray(images[4]), save_all=True, append_images=[Image.fromarray(images[3])])
    (new / "z" / "nothing").mkdir()
    (tmp_path / "void").mkdir()
    lines, err = predicted(place, capsys, new, tmp_path / "gone.png", tmp_path / "void", "--csv", code=1)
    names = [line.partition(": ")[0] for line in lines[1:-1]]
    assert names == [str(new / name) for name in ("0.png", "1.png", "2.png", "3.png", "4.png", "z/猫.gif")]
    assert lines[-2].endswith(" (the first of its frames)")
    assert [line.partition(": ")[0] for line in err.splitlines()] == [
        str(path) for path in (tmp_path / "gone.png", tmp_path / "void", new / "0a.png", new / "3a.png", new / "3b.jpg")
    ]
    assert "gone.png: there is no such file or folder" in err and "void: an empty folder" in err
    found, net = table(place), cell(A, 0)
    for k, path in enumerate(paths):
        expected = by_hand([net], images[k : k + 1], DIGITS)[0, 0]
        np.testing.assert_allclose([found[str(path), "A"][c][0] for c in DIGITS.class_names], expected, atol=1e-5)


def test_other_files_in_a_folder_are_counted(place, cell, digit_files, tmp_path, capsys):
    """Notes beside the images, as in a folder to train on; not if named themselves, or alone."""
    cell(A, 0)
    notes = tmp_path / "new" / "notes.txt"
    notes.write_text("taken in May")
    lines, err = predicted(place, capsys, tmp_path / "new")
    assert err == "" and len(lines) == 1 + len(digit_files[0]) + 1
    assert lines[-1] == "Left out, since they are no images: 1 other file in the folders"
    _, err = predicted(place, capsys, notes, code=1)
    assert err.startswith(f"{notes}: not a PNG")
    for path in digit_files[0]:
        path.unlink()
    _, err = predicted(place, capsys, tmp_path / "new", code=1)
    assert err == "there are no images in the folders\n"


def test_with_nothing_to_read_there_is_an_empty_table(place, cell, tmp_path, capsys):
    cell(A, 0)
    predicted(place, capsys, tmp_path / "gone.png", "--csv", code=1)
    header = (place.runs / "tiny" / "predictions.csv").read_text()
    assert header == "image,model,seeds,weights,class,probability,lowest,highest\n"


def test_a_colour_photograph_becomes_grey_and_square_as_for_training(place, cell, tmp_path, capsys):
    net = cell(A, 0)
    photo = write(tmp_path / "photo.png", picture(5, (16, 8)))
    expected = Image.open(photo).crop((4, 0, 12, 8)).convert("L")
    predicted(place, capsys, photo, "--csv")
    rows = table(place)[str(photo), "A"]
    of_hand = by_hand([net], [np.asarray(expected)], DIGITS)[0, 0]
    np.testing.assert_allclose([rows[k][0] for k in DIGITS.class_names], of_hand, atol=1e-5)


def test_nothing_is_written_without_a_table(place, cell, digit_files, capsys):
    cell(A, 0)
    before = digests(place.folder)
    predicted(place, capsys, *digit_files[0])
    assert digests(place.folder) == before
    predicted(place, capsys, *digit_files[0], "--csv", "--quiet")
    assert digests(place.folder).keys() - before.keys() == {"runs/tiny/predictions.csv"}


def test_quiet_prints_the_answers_only(place, cell, digit_files, capsys):
    cell(A, 0)
    assert len(predicted(place, capsys, *digit_files[0], "--csv", "--quiet")[0]) == 5


def test_the_options_of_a_quick_look_name_its_cells(place, cell, digit_files, capsys):
    cell(replace(A, config=replace(A.config, epochs=1)), 0)
    assert predicted(place, capsys, digit_files[0][0], "--epochs", "1")[0][0].startswith("A, 1 seed, ")
    predicted(place, capsys, digit_files[0][0], code=2)


def test_without_weights_the_command_that_trains_them_is_named(place, capsys, monkeypatch):
    """With the options that say what to train, quoted for a shell."""
    words = "t.py --predict a.png b.png --weights last --epochs 1 --kind cpu-fp32 --csv --output-dir".split()
    monkeypatch.setattr(sys, "argv", [*words, "my photos", "--export", "--predict=c.png"])
    _, err = predicted(place, capsys, "x.png", code=2)
    assert err.startswith(f"error: {place.runs / 'tiny'} has no weights of A and B by this recipe; this trains them:\n")
    assert err.endswith("\n  python t.py --epochs 1 --output-dir 'my photos'\n")


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--predict", "x", "--replot"], "--predict: not allowed with --replot"),
        (["--predict", "x", "--fresh", "--jobs", "1"], "--predict: not allowed with --fresh, --jobs"),
        (["--predict", "x", "--precision", "bf16"], "--predict: not allowed with --precision bf16"),
        (["--predict", "x", "--protocol", "original"], "--predict: not allowed with --protocol original"),
        (["--predict", "x", "--export"], "--predict: not allowed with --export"),
        (["--export", "--no-resume"], "--export: not allowed with --no-resume"),
        (["--export", "--csv"], "--export: not allowed with --csv"),
        (["--weights", "best"], "--weights: goes with --predict or --export"),
        (["--kind", "cpu-fp32"], "--kind: goes with --replot or --predict or --export"),
    ],
)
def test_options_that_do_not_go_with_weights(place, arguments, fault, capsys):
    with pytest.raises(SystemExit) as end:
        place.run(*arguments)
    assert end.value.code == 2 and fault in capsys.readouterr().err


def test_images_that_are_not_square_are_refused(place, monkeypatch, capsys):
    shapes = {"train_images": (1437, 8, 6), "test_images": (360, 8, 6)}
    wide = replace(DIGITS, arrays=DIGITS.arrays | {name: ArraySpec(shape) for name, shape in shapes.items()})
    monkeypatch.setitem(datasets.DATASETS, "digits", wide)
    finished_cell(place.runs / "tiny", A, wide, 0)
    _, err = predicted(place, capsys, "x.png", code=2)
    assert "are 6 x 8 pixels" in err
