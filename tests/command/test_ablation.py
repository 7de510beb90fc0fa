"""`--ablation` and `--protocol original`: whole runs on small data, and their tables and pictures."""

import dataclasses
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from pictures import CIFAR, assert_nothing_overlaps, by_label, text_of
from place import RECIPE, SMALL, digests
from made_records import CIFAR_CLASSES, make_record
from scipy import stats
from test_report import rows_of

import task_1_2_cifar
from models import FCN
from utils.command import outputs
from utils.contrasts import audit
from utils.data.images import load_splits
from utils.data.specs import DIGITS
from utils.experiment import Contrast, Experiment, Task, TrainConfig, config_hash, under_original_protocol
from utils.figures import panels as plots
from utils.figures import task as figures
from utils.figures.canvas import MARKERS, model_styles
from utils.findings.confusion import most_confused
from utils.records.record import read_record
from utils.report.page import original_protocol_text, results_text
from utils.report.readme import block_of
from utils.report.tables import ablation_table, confused_pairs_table, protocol_table
from utils.stats.intervals import Interval
from utils.words import setting

DECAYED = dataclasses.replace(RECIPE, weight_decay=0.01)
TASK = Task(
    "tiny",
    "digits",
    [Experiment("A", SMALL, RECIPE), Experiment("B", partial(FCN, hidden=(8,), dropout=0.5), DECAYED)],
    [Contrast("A", "B", differs=("dropout", "weight_decay"))],
    ablation=[
        Experiment("A-Decay", SMALL, DECAYED),
        Experiment("A-Moved", SMALL, dataclasses.replace(RECIPE, augmentation=True)),
    ],
)
ABLATION = task_1_2_cifar.TASK

# Which regulariser does it?


def test_an_ablation_is_declared_evidence_with_a_table_of_its_own(place, capsys):
    assert place.run(task=TASK) == 0 and place.trained == ["A-seed0", "B-seed0"]
    before = place.block()
    assert "Which regulariser" not in before
    assert place.run("--ablation", task=TASK) == 0
    assert place.trained == ["A-Decay-seed0", "A-Moved-seed0"]
    assert "Nothing else in the checkout" not in capsys.readouterr().out
    block = place.block()
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
    assert place.run("--replot", task=TASK) == 0 and place.block() == block


def test_what_is_told_of_a_quick_look_is_what_was_run(place):
    assert place.run("--ablation", "--weight-decay", "0.05", "--epochs", "1", task=TASK) == 0
    text = (place.runs / "quick/tiny/RESULTS.md").read_text()
    rows = rows_of(text, "differs from A in")
    assert [row["differs from A in"] for row in rows.values()] == ["nothing", "dropout 0.5", "nothing", "augmentation"]
    assert "- A and B: dropout 0.25 and 0.5." in text


def test_a_variant_whose_models_are_not_there_yet_is_told(place, capsys):
    assert place.run("--models", "A-Decay", task=TASK) == 0
    assert "only models of the ablation have records that count" in capsys.readouterr().err
    assert place.run("--models", "B", task=TASK) == 0
    rows = rows_of(place.block(), "differs from A in")
    assert [row["minus A, points (same seeds)"] for row in rows.values()] == ["no common seed"] * 2


def test_records_of_another_protocol_are_never_replaced(place, capsys):
    assert place.run("--output-dir", str(place.folder / "mine"), task=TASK) == 0
    before = digests(place.folder / "mine")
    assert place.run("--protocol", "original", "--output-dir", str(place.folder / "mine"), task=TASK) == 2
    assert "holds records of tiny; choose another --output-dir" in capsys.readouterr().err
    other = Task("other", "digits", [Experiment("C", SMALL, RECIPE)])  # none of its records has such a name
    assert place.run("--fresh", "--output-dir", str(place.folder / "mine"), task=other) == 2
    assert digests(place.folder / "mine") == before and place.trained == []


def test_settings_of_any_type_are_told():
    told = [setting(*item) for item in (("widths", (1, 2)), ("limit", None), ("optimizer", "adam"), ("dropout", 0.0))]
    assert told == ["widths (1, 2)", "limit None", "optimizer adam", "dropout 0"]


def test_one_variant_can_be_run_alone_and_no_timing_pass_is_due(place, capsys):
    assert place.run("--models", "A", "A-Decay", task=TASK) == 0 and place.trained == ["A-seed0", "A-Decay-seed0"]
    assert "A-Decay" in place.block() and not (place.records / "timing.json").exists()
    assert place.run("--time-only", task=TASK) == 0
    assert "A-Decay" not in (place.records / "timing.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ablation", "--models", "A"], "adds to all models"),
        (["--protocol", "original", "--ablation"], "has no ablation; choose from A, B"),
        (["--protocol", "original", "--models", "A-Decay"], "has no ablation; choose from A, B"),
        (["--protocol", "original", "--time-only"], "not allowed with --protocol original"),
        (["--protocol", "other"], "choose from"),
    ],
)
def test_what_does_not_go_together_is_refused(place, capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        place.run(*arguments, task=TASK)
    assert message in capsys.readouterr().err and place.trained == []


def test_an_ablation_needs_a_contrast_that_says_what_it_takes_apart():
    with pytest.raises(ValueError, match="an ablation needs a contrast of two variants"):
        audit(dataclasses.replace(TASK, contrasts=[]))
    with pytest.raises(ValueError, match="two experiments have the same name: A, B, A"):
        audit(dataclasses.replace(TASK, ablation=TASK.experiments[:1]))


@pytest.mark.parametrize(
    "model", [lambda image_shape, num_classes: FCN(image_shape, num_classes), partial(FCN, (1, 8, 8))]
)
def test_a_model_that_hides_its_options_is_refused(model):
    """Two of them could differ in dropout, and count as one recipe."""
    with pytest.raises(ValueError, match="A-Hidden: its model must be a class or a partial of one with keywords"):
        audit(dataclasses.replace(TASK, ablation=[*TASK.ablation, Experiment("A-Hidden", model, RECIPE)]))


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


def test_the_two_residual_nets_of_task_1_2_differ_in_dropout_and_weight_decay_alone():
    audit(ABLATION)
    assert [sorted(c.differs) for c in ABLATION.contrasts if c.differs] == [["dropout", "weight_decay"]]
    table = ablation_table({e.name: [make_record(e.name, **CIFAR)] for e in residual_nets()}, ABLATION)
    assert [row["differs from CNNWithResidual in"] for row in rows_of(table, "overfitting").values()] == [
        "nothing", "weight decay 0.01, dropout 0.5", "dropout 0.5", "weight decay 0.01", "augmentation",
        "weight decay 0.01, augmentation, dropout 0.5",
    ]  # fmt: skip


def residual_nets():
    return [*ABLATION.experiments[2:], *ABLATION.ablation]


def ablation_runs(seeds):
    names = [experiment.name for experiment in residual_nets()]
    return {name: [make_record(name, seed, accuracy=0.8, **CIFAR) for seed in range(seeds)] for name in names}


def test_differences_of_the_ablation_are_paired_by_seed():
    runs = ablation_runs(4)
    plain, dropped = runs["CNNWithResidual"], runs["CNNWithResidual-Dropout"]
    correct = np.array([[r.test_correct for r in records[1:]] for records in (plain, dropped)])
    difference = 100 * (correct[1] - correct[0]) / 2000
    low, high = stats.t.interval(0.95, 2, difference.mean(), stats.sem(difference))
    runs["CNNWithResidual-Dropout"] = dropped[1:]
    rows = rows_of(ablation_table(runs, ABLATION), "overfitting")
    title = "minus CNNWithResidual, points (same seeds)"
    found = rows["CNNWithResidual-Dropout (3 seeds)"][title]
    assert found == f"{difference.mean():.2f} ({low:.2f} to {high:.2f}), 3 seeds"  # of 4 and 3
    runs["CNNWithResidual-Dropout"] = [make_record("CNNWithResidual-Dropout", 9, **CIFAR)]
    rows = rows_of(ablation_table(runs, ABLATION), "overfitting")
    assert rows["CNNWithResidual-Dropout (1 seed)"][title] == "no common seed"
    runs["CNNWithResidual-Dropout"] += dropped[3:]
    rows = rows_of(ablation_table(runs, ABLATION), "overfitting")
    one = 100 * (dropped[3].test_correct - plain[3].test_correct) / 2000
    assert rows["CNNWithResidual-Dropout (2 seeds)"][title] == f"{one:.2f}, 1 seed"


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_picture_of_the_ablation_shows_accuracy_and_gap(seeds):
    runs = ablation_runs(seeds)
    figure = figures.regularisation_ablation(runs, model_styles([*ABLATION_NAMES]))
    assert_nothing_overlaps("ablation", figure)
    accuracy_ax, gap_ax = figure.axes
    gaps = [[r.history[-1]["val_loss"] - r.history[-1]["fit_loss"] for r in records] for records in runs.values()]
    for row, (records, gap) in enumerate(zip(runs.values(), gaps, strict=True)):
        for ax, values in ((accuracy_ax, [r.test_correct / r.test_total for r in records]), (gap_ax, gap)):
            lines = [line for line in ax.get_lines() if line.get_ydata()[0] == row]
            (marker,) = [line for line in lines if line.get_marker() in MARKERS and len(line.get_xdata()) == 1]
            assert marker.get_xdata()[0] == pytest.approx(np.mean(values))
    assert "which regulariser" in text_of(figure) and not by_label(gap_ax)
    assert ("Accuracy and gap: mean over seeds" in text_of(figure)) == (seeds > 1)


def test_the_pictures_of_task_1_2_are_those_that_its_text_shows(monkeypatch):
    monkeypatch.setattr(figures, "save", lambda figure, path: path)
    ablation = ablation_runs(1)
    names = [experiment.name for experiment in ABLATION.experiments]
    runs = {name: [make_record(name, **CIFAR)] for name in names[:2]} | {name: ablation[name] for name in names[2:]}
    pair = ("CNNWithResidual", "CNNWithResidual-Regularized")
    rows = [plots.Difference("any", Interval(0.01, np.nan, np.nan, 1), [0.01], "too few seeds")]
    drawn = figures.draw_task(
        runs, None, Path("p"), ABLATION_NAMES, differences=rows, confused_pair=pair, ablation=ablation
    )
    text = results_text(runs, ablation, {}, [], None, {}, [], "p/", ABLATION)
    shown = re.findall(r"!\[(.+?)\]\((.+?)\)", text)
    assert sorted(path for _, path in shown) == sorted(map(str, drawn)) and "p/regularisation_ablation.png" in text
    assert len({alt for alt, _ in shown}) == len(shown)
    told = "nothing, one recipe for both; of the options that both classes have: dropout 0.25 and 0."
    assert f"CNNWithResidual: {told}" in text


ABLATION_NAMES = [e.name for e in (*ABLATION.experiments, *ABLATION.ablation)]


# The original report's protocol


def test_the_original_protocol_trains_on_everything_and_validates_on_the_test_set(place, capsys):
    assert place.run(task=TASK) == 0
    before, ours = digests(place.folder / "plots" / "tiny"), place.block()
    with place.readme.open("a") as file:
        file.write("<!-- original_protocol/tiny: begin -->\n<!-- original_protocol/tiny: end -->\n")
    assert place.run("--protocol", "original", task=TASK) == 0
    assert place.trained == ["A-seed0", "B-seed0"] and place.drawn == []
    assert digests(place.folder / "plots" / "tiny") == before and place.block() == ours
    folder = place.folder / "plots/original_protocol/tiny"
    assert sorted(path.name for path in folder.iterdir()) == ["RESULTS.md", "records"]
    record = read_record(folder / "records/cpu-fp32/A-seed0.json")
    assert record.config["protocol"] == "original" and record.task == "original_protocol/tiny"
    assert record.history[-1]["val_accuracy"] == record.test_accuracy
    assert read_record(place.records / "A-seed0.json").config_hash != record.config_hash
    block = block_of(place.readme.read_text(), "original_protocol/tiny")
    assert "test set was the validation set" in block and "| A | – | " in block
    told = capsys.readouterr().out
    assert "No timing pass" in told and "best-validation weights" not in told.partition("No timing pass")[2]
    assert place.run("--protocol", "original", "--epochs", "1", task=TASK) == 0  # a quick look
    assert (place.runs / "quick/original_protocol/tiny/RESULTS.md").exists()


def test_the_splits_of_both_protocols(tmp_path):
    ours, theirs = (load_splits(DIGITS, tmp_path, protocol=protocol) for protocol in ("holdout", "original"))
    assert (len(ours.train), len(ours.val), len(ours.test)) == (1150, 287, 360)
    assert (len(theirs.train), len(theirs.val), len(theirs.test)) == (1437, 360, 360)
    assert theirs.val.labels.equal(theirs.test.labels) and theirs.val.images.equal(ours.test.images)
    assert len(load_splits(DIGITS, tmp_path, limit=100, protocol="original").train) == 100


def test_a_task_by_the_original_protocol_has_other_hashes_and_no_verdicts():
    theirs = under_original_protocol(TASK)
    assert theirs.protocol == "original" and not theirs.contrasts and not theirs.ablation
    hashes = [config_hash(task.experiments[0], "digits", {}) for task in (TASK, theirs)]
    assert hashes[0] != hashes[1]
    with pytest.raises(ValueError, match="unknown protocol 'other': choose holdout or original"):
        TrainConfig(1, 1, "sgd", 0.1, protocol="other")


def original_runs(*accuracies):
    records = [make_record("FCN", seed, task="original_protocol/task_1_1") for seed in range(len(accuracies))]
    for record, accuracy in zip(records, accuracies, strict=True):
        record.history[-1]["val_accuracy"] = accuracy
    return {"FCN": records, "Ours": [make_record("Ours")]}


ORIGINAL = {"FCN": {"val_accuracy": [90.0, 98.16]}}


@pytest.mark.parametrize(
    ("accuracies", "verdict"),
    [
        ([0.981], "can't be said (1 seed)"),
        ([0.981, 0.982], "can't be said (2 seeds)"),
        ([0.98, 0.981, 0.982], "no: one more run is expected at 97.60% to 98.60% (3 seeds)"),
        ([0.9700, 0.9701, 0.9702], "**yes**: one more run is expected at 96.96% to 97.06% (3 seeds)"),
        ([0.97, 0.97, 0.97], "can't be said (3 seeds)"),
    ],
)
def test_what_seeds_explain_of_the_original_figures(accuracies, verdict):
    row, ours = rows_of(protocol_table(original_runs(*accuracies), ORIGINAL), "original").values()
    assert ours["original"] == "–" and "no such model" in ours["more than seeds explain?"]
    assert row["more than seeds explain?"] == verdict
    assert row["original"] == "98.16%" and row["ours"].startswith(f"{np.mean(accuracies):.2%}")
    assert row["original minus ours, points"] == f"{98.16 - 100 * np.mean(accuracies):.2f}"


def test_the_original_protocols_text_is_labelled_and_names_what_is_left_out():
    text = original_protocol_text(original_runs(0.98, 0.981), ["B-seed0.json: failed (out of memory)"], ORIGINAL)
    assert "2 seeds (0, 1)" in text and "only to check its figures" in text and "- B-seed0.json: failed" in text
    assert "No finished run" in original_protocol_text({}, [], ORIGINAL)


@pytest.mark.parametrize("task", ["task_1_1", "task_1_2"])
def test_the_original_accuracies_are_those_that_the_report_gives(task):
    runs, _ = outputs.original_report(task)
    last = {name: run["val_accuracy"][-1] for name, run in runs.items()}
    assert (
        last
        == {
            "task_1_1": {"FCN": 98.16, "SimpleCNN": 99.12, "CNNWithResidual": 99.48},
            "task_1_2": {"CIFARCNN": 76.25, "CNNWithResidual": 82.53, "CNNWithResidual-Regularized": 80.02},
        }[task]
    )


# Confused pairs


def test_the_most_confused_pairs_are_shares_of_the_true_class_summed_over_seeds():
    records = [make_record("FCN", seed, accuracy=0.7, class_names=CIFAR_CLASSES) for seed in range(2)]
    labels, predictions = (
        np.concatenate([r.arrays[name] for r in records]) for name in ("test_labels", "test_predictions")
    )
    expected = {
        (true, predicted): np.mean(predictions[labels == i] == j)
        for i, true in enumerate(CIFAR_CLASSES)
        for j, predicted in enumerate(CIFAR_CLASSES)
        if i != j
    }
    best = sorted(expected, key=expected.get, reverse=True)[:5]
    found = most_confused(records, 5)
    assert [pair[:2] for pair in found] == best
    np.testing.assert_allclose([pair[2] for pair in found], [expected[pair] for pair in best])
    (row,) = rows_of(confused_pairs_table({"FCN": records}), "1").values()
    assert row["model"] == "FCN (2 seeds)" and row["1"] == f"{best[0][0]} → {best[0][1]} ({expected[best[0]]:.1%})"


def test_fewer_confused_pairs_than_places():
    record = make_record("FCN", class_names=("a", "b"), accuracy=0.9)
    assert len(most_confused([record], 5)) == 2
    record.arrays["test_predictions"][:] = record.arrays["test_labels"]
    assert most_confused([record], 5) == []
    assert "FCN (1 seed)" in confused_pairs_table({"FCN": [record]})
