"""`--ablation`: whole runs on small data."""

import dataclasses
from functools import partial

import pytest
from made_page import rows_of
from place import RECIPE, SMALL, WITH_ABLATION, digests

from models import FCN
from utils.experiment import Contrast, Experiment, Task
from utils.records.record import read_record


def test_an_ablation_is_declared_evidence_with_a_table_of_its_own(place, capsys):
    assert place.run(task=WITH_ABLATION) == 0 and place.trained == ["A-seed0", "B-seed0"]
    before = place.page()
    assert "Which regulariser" not in before
    assert place.run("--ablation", task=WITH_ABLATION) == 0
    assert place.trained == ["A-Decay-seed0", "A-Moved-seed0"]
    assert "Nothing else in the checkout" not in capsys.readouterr().out
    block = place.page()
    assert set(rows_of(block, "best-validation weights")) == {"A", "B"}
    rows = rows_of(block, "differs from A in")
    assert [row["differs from A in"] for row in rows.values()] == [
        "nothing", "weight decay 0.01, dropout 0.5", "weight decay 0.01", "augmentation",
    ]  # fmt: skip
    assert place.ablation_drawn == ["A", "B", "A-Decay", "A-Moved"]
    records = {name: read_record(place.records / f"{name}-seed0.json") for name in ("A", "A-Moved")}
    moved = rows["A-Moved (1 seed)"]
    assert moved["test accuracy"] == f"{records['A-Moved'].test_accuracy:.2%}"
    points = 100 * (records["A-Moved"].test_correct - records["A"].test_correct) / 360
    assert moved["minus A, points (same seeds)"] == f"{points:.2f}"
    assert records["A-Moved"].config["augmentation"] is True and "augmentation" not in records["A"].config
    assert place.run("--replot", task=WITH_ABLATION) == 0 and place.page() == block


def test_what_is_told_of_a_quick_look_is_what_was_run(place):
    assert place.run("--ablation", "--weight-decay", "0.05", "--epochs", "1", task=WITH_ABLATION) == 0
    text = (place.runs / "quick/tiny/epochs=1,weight-decay=0.05--A,B,A-Decay,A-Moved/RESULTS.md").read_text()
    rows = rows_of(text, "differs from A in")
    assert [row["differs from A in"] for row in rows.values()] == ["nothing", "dropout 0.5", "nothing", "augmentation"]
    assert "- A and B: dropout 0.25 and 0.5." in text


def test_a_variant_whose_models_are_not_there_yet_is_told(place, capsys):
    assert place.run("--models", "A-Decay", task=WITH_ABLATION) == 0
    assert "only models of the ablation have records that count" in capsys.readouterr().err
    assert place.run("--models", "B", task=WITH_ABLATION) == 0
    rows = rows_of(place.page(), "differs from A in")
    assert [row["minus A, points (same seeds)"] for row in rows.values()] == ["no common seed"] * 2


def test_one_variant_can_be_run_alone_and_no_timing_pass_is_due(place, capsys):
    assert place.run("--models", "A", "A-Decay", task=WITH_ABLATION) == 0 and place.trained == [
        "A-seed0",
        "A-Decay-seed0",
    ]
    assert "A-Decay" in place.page() and not (place.records / "timing.json").exists()
    assert place.run("--time-only", task=WITH_ABLATION) == 0
    assert "A-Decay" not in (place.records / "timing.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ablation", "--models", "A"], "not allowed with --models: it adds to all models"),
        (["--protocol", "original", "--ablation"], "has no ablation; choose from A, B"),
        (["--protocol", "original", "--models", "A-Decay"], "has no ablation; choose from A, B"),
        (["--protocol", "original", "--time-only"], "not allowed with --protocol original"),
        (["--protocol", "other"], "choose from"),
    ],
)
def test_what_does_not_go_together_is_refused(place, capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        place.run(*arguments, task=WITH_ABLATION)
    assert message in capsys.readouterr().err and place.trained == []


def test_contrasts_whose_recipes_differ_in_other_than_they_declare_stop_the_run_before_training(place, capsys):
    slower = dataclasses.replace(RECIPE, learning_rate=RECIPE.learning_rate / 2)
    experiments = [Experiment("A", SMALL, RECIPE), Experiment("B", partial(FCN, hidden=(9,)), slower)]
    faults = {
        Contrast(
            "A", "B", differs=("hidden",)
        ): "A and B differ in learning_rate (0.05 and 0.025), which their contrast",
        Contrast("A", "B"): "A and B differ in hidden ((8,) and (9,)), learning_rate (0.05 and 0.025), which",
        Contrast(
            "A", "B", differs=("hidden", "learning_rate", "dropuot")
        ): "don't differ in dropuot, as their contrast",
        Contrast("A", "C"): "a contrast names C: choose from A, B",
    }
    before = digests(place.folder)
    for contrast, message in faults.items():
        assert place.run(task=Task("tiny", "digits", experiments, [contrast])) == 2
        assert message in capsys.readouterr().err
    assert place.trained == [] and digests(place.folder) == before
    declared = Contrast("A", "B", differs=("hidden", "learning_rate"))
    assert place.run(task=Task("tiny", "digits", experiments, [declared])) == 0
