"""The original report's claims: every one has a rule, and each rule can confirm, refute and leave open."""

import dataclasses
import inspect
import json
import math
import re
import statistics

import numpy as np
import pytest
from checkout_folder import CHECKOUT
from made_page import make_runs, rows_of, text_of
from made_records import CIFAR_CLASSES, make_record, make_timing, wavy_record, with_losses

from docs.original_claims import RULES, Claim, Finding, examine, outcome, roughness
from docs.original_report import (
    ORIGINAL_REPORT,
    Original,
    blocks_of,
    figures_table,
    protocol_table,
    read_original,
    results_of,
)
from task_1_1_mnist import TASK as TASK_1_1
from task_1_2_cifar import TASK as TASK_1_2
from utils.experiment import under_original_protocol
from utils.findings.results import Results
from utils.report.readme import block_of

CIFAR = {"task": "task_1_2", "dataset": "cifar10", "image_shape": (3, 32, 32), "class_names": CIFAR_CLASSES}
RESIDUAL, REGULARIZED = "CNNWithResidual", "CNNWithResidual-Regularized"


def claim(start, task):
    (found,) = [claim for claim in read_original(task.name).claims if claim.text.startswith(start)]
    return found


def verdict(start, runs, timing=None, task=TASK_1_1, diverged=None):
    _, word, numbers, _ = examine(claim(start, task), Results(task, runs, diverged=diverged or {}, timing=timing))
    assert "nan" not in numbers
    return re.match(r"\*\*(.*)\*\*", word)[1]


def runs_of(task_1_2=False, seeds=4, **accuracies):
    options = CIFAR if task_1_2 else {}
    return {
        model: [make_record(model, seed, accuracy=accuracy, **options) for seed in range(seeds)]
        for model, accuracy in ((name.replace("_", "-"), value) for name, value in accuracies.items())
    }


def test_every_claim_has_a_rule_and_every_rule_a_claim():
    report = json.loads(ORIGINAL_REPORT.read_text(encoding="utf-8"))
    assert {entry["rule"] for entry in report["claims"]} == set(RULES)
    read = [claim for task in (TASK_1_1, TASK_1_2) for claim in read_original(task.name).claims]
    assert [claim.rule for claim in read] == [entry["rule"] for entry in report["claims"]]  # none is of another task
    for claim, entry in zip(read, report["claims"], strict=True):
        inspect.signature(RULES[claim.rule].find).bind(None, **claim.arguments)
        for model, epoch in entry["arguments"].get("epochs", {}).items():
            assert f" {epoch or 'not at all'} ({model})" in claim.text


@pytest.mark.parametrize(
    "task, rule, epochs",
    [
        (TASK_1_1, "overfits", {"FCN": 7, "SimpleCNN": 4, RESIDUAL: 12}),
        (TASK_1_2, "overfits", {"CIFARCNN": 9, RESIDUAL: 4, REGULARIZED: None}),
        (TASK_1_2, "stagnates", {"CIFARCNN": 9, RESIDUAL: 11, REGULARIZED: 5}),
    ],
)
def test_the_epochs_that_the_report_claims_are_of_models_by_our_names(task, rule, epochs):
    (claim,) = [claim for claim in read_original(task.name).claims if claim.rule == rule]
    assert claim.arguments == {"epochs": epochs}


def test_one_refuted_statement_refutes_and_one_open_leaves_open():
    states = {True: Finding(True, ""), False: Finding(False, ""), None: Finding(None, "")}
    assert outcome([states[True], states[None], states[False]]) == "refuted"
    assert outcome([states[True], states[None]]) == outcome([]) == "not decided"
    assert outcome([states[True], states[True]]) == "confirmed"


def test_most_accurate():
    start = "accuracy differences"
    assert verdict(start, runs_of(FCN=0.95, SimpleCNN=0.97, CNNWithResidual=0.99)) == "confirmed"
    assert verdict(start, runs_of(FCN=0.95, SimpleCNN=0.99, CNNWithResidual=0.97)) == "refuted"
    assert verdict(start, runs_of(FCN=0.95, SimpleCNN=0.97, CNNWithResidual=0.99, seeds=1)) == "not decided"
    assert verdict(start, runs_of(FCN=0.95)) == "not decided"


@pytest.mark.parametrize("order, word", [([0, 1, 2], "confirmed"), ([2, 1, 0], "refuted")])
def test_trains_fastest(order, word):
    models = np.array(["FCN", "SimpleCNN", RESIDUAL])[order].tolist()
    assert verdict("FCN trains fastest", {}, make_timing(models)) == word
    assert verdict("FCN trains fastest", {}) == "not decided"


def test_an_outcome_names_what_it_holds_for():
    results = Results(TASK_1_1, runs_of(FCN=0.9))
    claims = [claim for task in (TASK_1_1, TASK_1_2) for claim in read_original(task.name).claims]
    words = {row[0][:12]: row[1] for row in (examine(claim, results) for claim in claims)}
    assert words["FCN trains f"] == words["CIFARCNN tra"] == "**not decided** (on this machine)"
    assert words["accuracy dif"] == "**not decided** (the order)" and words["accuracy sta"] == "**not decided**"


def test_a_batch_is_timed_by_inference():
    timing = make_timing([RESIDUAL, "FCN", "SimpleCNN"])
    assert verdict("CNNWithResidual processes", {}, timing) == "confirmed"
    assert verdict("FCN trains fastest", {}, timing) == "refuted"


def test_steadiest():
    def runs(*sizes):
        return {
            model: [wavy_record(model, seed, size) for seed in range(6)]
            for model, size in zip(("FCN", "SimpleCNN", RESIDUAL), sizes, strict=True)
        }

    assert verdict("CNNWithResidual trains most stably", runs(0.3, 0.3, 0.02)) == "confirmed"
    assert verdict("CNNWithResidual trains most stably", runs(0.02, 0.3, 0.3)) == "refuted"
    steadiest = runs(0.3, 0.3, 0.02)  # but for the runs that diverged
    assert verdict("CNNWithResidual trains most stably", steadiest, diverged={RESIDUAL: [7]}) == "not decided"


def with_lowest(model, seed, epoch, epochs=15, noise=0.002, fit_falls=True):
    """A run whose log validation loss falls to `epoch` and then rises, by 0.05 an epoch; to the end for None."""
    random, t = np.random.default_rng([seed, len(model)]), np.arange(1, epochs + 1)
    val_loss = np.exp(0.05 * abs(t - (epoch or epochs)) + noise * random.normal(size=epochs))
    fit_loss = (1 / t if fit_falls else t) * (1 + 0.01 * seed)
    return with_losses(make_record(model, seed, epochs=epochs, **CIFAR), val_loss=val_loss, fit_loss=fit_loss)


def test_overfitting_epochs():
    def told(*epochs, seeds=3, **options):
        runs = {
            model: [with_lowest(model, seed, epoch, **options) for seed in range(seeds)]
            for model, epoch in zip(("CIFARCNN", RESIDUAL, REGULARIZED), epochs, strict=True)
        }
        return verdict("overfitting starts after epoch 9", runs, task=TASK_1_2)

    assert told(9, 4, None) == "confirmed"
    assert told(9, 4, 4) == "refuted"  # the regularised net does overfit
    assert told(9, 11, None) == told(10, 4, None) == "refuted"  # their epoch is another one
    assert told(9, None, None) == "refuted"
    assert told(10, 4, None, noise=0.02) == "confirmed"  # 9 is among the possible epochs, and 10 too
    assert told(9, 4, None, noise=0.02) == "confirmed"
    assert told(9, 4, None, noise=0.3) == "not decided"
    assert told(9, 4, None, fit_falls=False) == "not decided"
    assert told(9, 4, None, seeds=2) == told(9, 4, 4, seeds=2) == "not decided"
    assert told(4, 4, None, epochs=9) == "not decided"  # too few epochs refute nothing


@pytest.mark.parametrize("shift, word", [(-1, "refuted"), (0, "confirmed"), (1, "refuted")])
@pytest.mark.parametrize(
    "start, task, claimed",
    [
        ("overfitting starts after epoch 7", TASK_1_1, {"FCN": 7, "SimpleCNN": 4, RESIDUAL: 12}),
        ("overfitting starts after epoch 9", TASK_1_2, {"CIFARCNN": 9, RESIDUAL: 4, REGULARIZED: None}),
    ],
)
def test_the_epochs_of_each_model_are_compared_with_those_claimed(start, task, claimed, shift, word):
    runs = {
        model: [with_lowest(model, seed, epoch and epoch + shift, epochs=18) for seed in range(3)]
        for model, epoch in claimed.items()
    }
    assert verdict(start, runs, task=task) == word


def test_runs_of_unequal_length_leave_the_claim_open():
    runs = {
        model: [with_lowest(model, seed, epoch, epochs=15 - seed % 2) for seed in range(3)]
        for model, epoch in (("CIFARCNN", 5), (RESIDUAL, 9), (REGULARIZED, 4))
    }
    assert verdict("overfitting starts after epoch 9", runs, task=TASK_1_2) == "not decided"


def test_accuracy_that_stagnates():
    def told(*plateaus, diverged=None, epochs=15, claimed=(9, 11)):
        """Runs whose accuracy rises by a point an epoch up to a plateau; those of the other two are as claimed."""
        found = {"CIFARCNN": [claimed[0]] * 3, RESIDUAL: [claimed[1]] * 3, REGULARIZED: plateaus}
        runs = {
            model: [
                with_losses(
                    make_record(model, seed, epochs=epochs, **CIFAR),
                    val_accuracy=np.minimum(np.arange(1, epochs + 1), epoch) / 100,
                )
                for seed, epoch in enumerate(of_seeds)
            ]
            for model, of_seeds in found.items()
        }
        return verdict("accuracy stagnates", runs, task=TASK_1_2, diverged=diverged)

    assert told(5, 5, 9) == told(4, 5, 6, 11) == "confirmed"
    assert told(8, 9, 9) == told(1, 1, 2) == told(15, 15, 15) == "refuted"  # later, earlier, not within 15 epochs
    assert told(7, 8, 9) == told(8, 8, 8) == told(5, 15, 15) == told(5, 5) == "not decided"
    assert told(5, 5, 9, diverged={"CIFARCNN": [7]}) == "not decided"
    assert told(5, 5, 5, epochs=13) == "not decided"  # too few epochs to find the one from 11
    for shift in (-1, 1):
        assert told(*[5 + shift] * 3, claimed=(9 + shift, 11 + shift)) == "confirmed"
    assert verdict("accuracy stagnates", {}, task=TASK_1_2) == "not decided"


def test_a_diverged_run_leaves_open_what_the_others_decide():
    runs = {
        model: [with_lowest(model, seed, epoch) for seed in range(3)]
        for model, epoch in (("CIFARCNN", 9), (RESIDUAL, 4), (REGULARIZED, None))
    }
    decided = {"overfitting starts after epoch 9": ("confirmed", REGULARIZED), "gradients": ("refuted", "CIFARCNN")}
    for start, (word, model) in decided.items():
        assert verdict(start, runs, task=TASK_1_2) == word
        assert verdict(start, runs, task=TASK_1_2, diverged={model: [7]}) == "not decided"
        assert verdict(start, runs, task=TASK_1_2, diverged={"FCN": [7]}) == word  # of which it says nothing


def with_confusions(model, seed, wrong):
    """A record in which `wrong` maps (true, predicted) to a count, and 100 images of each class are right."""
    true, predicted = np.repeat(np.arange(10), 100).tolist(), np.repeat(np.arange(10), 100).tolist()
    for (a, b), count in wrong.items():
        true += [a] * (count + seed % 2)
        predicted += [b] * (count + seed % 2)
    record = make_record(model, seed, **CIFAR)
    arrays = record.arrays | {"test_labels": np.array(true), "test_predictions": np.array(predicted)}
    return dataclasses.replace(record, arrays=arrays)


def test_cats_and_dogs():
    def runs(plain, residual, regularised):
        chosen = {"CIFARCNN": plain, RESIDUAL: residual, REGULARIZED: regularised}
        return {
            model: [with_confusions(model, s, wrong if s or model != RESIDUAL else wrong | {(0, 1): 1, (3, 5): 11})
                    for s in range(3)]
            for model, wrong in chosen.items()
        }  # fmt: skip

    cats = {(3, 5): 40, (5, 3): 45, (3, 6): 20, (0, 8): 30}
    fewer = {(3, 5): 10, (5, 3): 12, (0, 8): 5}
    assert verdict("cats and dogs", runs(cats, fewer, cats), task=TASK_1_2) == "confirmed"
    assert verdict("cats and dogs", runs(fewer, cats, cats), task=TASK_1_2) == "refuted"
    assert verdict("cats and dogs", runs(cats, fewer, {(3, 2): 30, (3, 5): 20, (3, 6): 10}), task=TASK_1_2) == "refuted"
    assert verdict("cats and dogs", {}, task=TASK_1_2) == "not decided"
    for model in ("CIFARCNN", RESIDUAL, REGULARIZED):
        assert verdict("cats and dogs", runs(cats, fewer, cats), task=TASK_1_2, diverged={model: [5]}) == "not decided"
    for missing in ("CIFARCNN", RESIDUAL, REGULARIZED):
        partly = {model: records for model, records in runs(cats, fewer, cats).items() if model != missing}
        assert verdict("cats and dogs", partly, task=TASK_1_2) == "not decided"


@pytest.mark.parametrize(
    "first, last, word",
    [
        ([1e-5, 1.1e-5, 1.2e-5], 1e-5, "confirmed"),
        ([1e-5, 1.1e-5, 1.2e-5], 0.1, "not decided"),
        ([0.5, 0.55, 0.6], 0.1, "refuted"),
        ([0.5, 0.55, 0.6], 1e-5, "not decided"),
        ([1e-6, 1e-2, 1e2], 0.1, "not decided"),
    ],
)
def test_vanishing_gradients(first, last, word):
    """`first` and `last` are ratios of the first layer's norm over the last's in those epochs."""
    records = []
    for seed, ratio in enumerate(first):
        record = make_record("CIFARCNN", seed, **CIFAR)  # in its made-up flow norms rise with depth
        norms = record.arrays["flow_epoch_norms"].copy()
        norms[-1, 0] = last * norms[-1, -1] * (1 + 0.01 * seed)
        arrays = record.arrays | {"flow_first_epoch_ratio": np.array(ratio), "flow_epoch_norms": norms}
        records.append(dataclasses.replace(record, arrays=arrays))
    assert verdict("gradients of CIFARCNN", {"CIFARCNN": records}, task=TASK_1_2) == word
    assert verdict("gradients of CIFARCNN", {"CIFARCNN": records[:2]}, task=TASK_1_2) == "not decided"
    assert verdict("gradients of CIFARCNN", {}, task=TASK_1_2) == "not decided"


def original_runs(*accuracies):
    records = [make_record("FCN", seed, task="original_protocol/task_1_1") for seed in range(len(accuracies))]
    for record, accuracy in zip(records, accuracies, strict=True):
        record.history[-1]["val_accuracy"] = accuracy
    return {"FCN": records, "Ours": [make_record("Ours")]}


ORIGINAL = Original({"FCN": {"val_accuracy": [90.0, 98.16]}})


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


def test_the_report_stands_beside_ours():
    accuracies = {"FCN": [90.0, 98.16], "SimpleCNN": [99.12], "VGG": [1.0]}
    figures = {model: {"val_accuracy": values} for model, values in accuracies.items()}
    original = Original(figures, [Claim("FCN overfits", "overfits", {"epochs": {"FCN": 7, "SimpleCNN": None}})])
    runs = make_runs(2)
    rows = rows_of(figures_table(Results(TASK_1_1, runs), original), "original: overfitting")
    assert list(rows) == ["FCN", "SimpleCNN"]
    assert rows["FCN"]["original: last accuracy on the test set"] == "98.16%"
    assert rows["FCN"]["original: overfitting"] == "from epoch 7"
    assert rows["SimpleCNN"]["original: overfitting"] == "none"
    ours = rows_of(text_of(runs), "test accuracy")["FCN"]["test accuracy, final weights"]
    assert rows["FCN"]["ours: test accuracy"] == ours


@pytest.mark.parametrize("task", [TASK_1_1, TASK_1_2], ids=lambda task: task.name)
@pytest.mark.parametrize("of", [lambda task: task, under_original_protocol], ids=["holdout", "original"])
def test_the_committed_page_is_what_the_records_give(task, of):
    page = (CHECKOUT / "docs/original-report.md").read_text(encoding="utf-8")
    ((name, text),) = blocks_of(results_of(of(task)), read_original(task.name)).items()
    assert block_of(page, name) == text


@pytest.mark.parametrize("task", ["task_1_1", "task_1_2"])
def test_the_original_accuracies_are_those_that_the_report_gives(task):
    runs = read_original(task).runs
    last = {name: run["val_accuracy"][-1] for name, run in runs.items()}
    assert (
        last
        == {
            "task_1_1": {"FCN": 98.16, "SimpleCNN": 99.12, "CNNWithResidual": 99.48},
            "task_1_2": {"CIFARCNN": 76.25, "CNNWithResidual": 82.53, "CNNWithResidual-Regularized": 80.02},
        }[task]
    )


def test_roughness_by_hand():
    # Second differences of the logs are 6, -2, 2, -2; without the first their sd is sqrt(16 / 3).
    assert roughness(np.exp([5, 0, 1, 0, 1, 0])) == pytest.approx(math.log(16 / 3) / 2)


def test_roughness_ignores_scale_and_trend():
    rng = np.random.default_rng(5)
    t = np.arange(15)
    smooth, rough = (np.exp(0.4 * np.exp(-t / 3) + sd * rng.normal(size=15)) for sd in (0.01, 0.2))
    logs = [math.log(value) for value in rough]
    second = [logs[i] - 2 * logs[i + 1] + logs[i + 2] for i in range(1, 13)]
    assert roughness(rough) == pytest.approx(math.log(statistics.stdev(second)))
    assert roughness(rough) > roughness(smooth)
    assert roughness(37 * rough) == pytest.approx(roughness(rough))
    assert roughness(rough * np.exp(-0.3 * t)) == pytest.approx(roughness(rough))


@pytest.mark.parametrize(
    "val_loss",
    [[], [1.0, 2.0, 1.5, 1.8], [0.7] * 9, 0.3 ** np.arange(12), [1, 2, 3, 2, 0, 1], [1, 2, -3, 2, 1, 1],
     [1, 2, math.nan, 2, 1, 1], [1, 2, math.inf, 2, 1, 1], [None] * 8],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_roughness_where_it_is_undefined(val_loss):
    assert math.isnan(roughness(val_loss))
