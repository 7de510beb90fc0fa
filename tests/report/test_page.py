"""Results in words: intervals against SciPy, and what a few seeds can't carry is said."""

import dataclasses
import re

import numpy as np
import pytest
from made_page import MODELS, make_runs, rows_of, text_of
from made_records import make_record, make_timing, with_losses
from scipy import stats

from utils.experiment import Declared
from utils.records.folder import read_runs
from utils.records.record import write_record

FEW_SEEDS = "Fewer than 3 seeds show no spread to rely on: they can't say which model is more accurate"


# Accuracy


def test_one_seed_has_no_interval_and_what_it_cannot_carry_is_said():
    runs = make_runs(1)
    text = text_of(runs, timing=make_timing(list(MODELS)))
    assert FEW_SEEDS in text and "overfit" in text and "95% t-intervals" not in text
    assert text.startswith("# Results on MNIST\n\n## In short\n\n- ")
    assert "\n\nMNIST, 1 seed (0), 15 epochs, batches of 64, Adam with learning rate 0.001." in text
    for model, row in rows_of(text, "test accuracy").items():
        assert row["test accuracy, final weights"] == f"{runs[model][0].test_correct / 2000:.2%}"
        assert row["best-validation weights"] == f"{runs[model][0].best_test_correct / 2000:.2%}"
        assert row["parameters"] == f"{runs[model][0].parameters:,}"
        assert row["MFLOPs per image"] == f"{runs[model][0].parameters * 2 / 1e6:.2f}"


def test_intervals_over_seeds_are_those_of_scipy():
    runs = make_runs(4)
    runs["FCN"] = runs["FCN"][:3]
    text = text_of(runs)
    assert FEW_SEEDS not in text and "two-sided 95% t-intervals over seeds. Fewer than 4 seeds: FCN (3)." in text
    assert "MNIST, 4 seeds (0, 1, 2, 3)" in text
    for model, row in rows_of(text, "test accuracy").items():
        columns = {"test accuracy, final weights": "test_correct", "best-validation weights": "best_test_correct"}
        for column, field in columns.items():
            values = [getattr(record, field) / record.test_total for record in runs[model]]
            low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
            assert low < high and row[column] == f"{np.mean(values):.2%} ({low:.2%} to {high:.2%})"


@pytest.mark.parametrize("seeds", [1, 2])
def test_one_model_with_few_seeds_is_enough_to_say_so(seeds):
    runs = make_runs(3)
    runs["FCN"] = runs["FCN"][:seeds]
    text = text_of(runs)
    assert FEW_SEEDS in text
    assert "to" not in rows_of(text, "test accuracy")["FCN"]["test accuracy, final weights"]


def test_seeds_that_agree_to_the_last_image_have_no_interval():
    same = [dataclasses.replace(make_record(seed=seed), test_correct=1900) for seed in range(3)]
    assert rows_of(text_of({"FCN": same}), "test accuracy")["FCN"]["test accuracy, final weights"] == "95.00%"


def test_no_run_at_all():
    assert text_of({}) == "No finished run of the current recipes yet.\n"


def no_nan(text: str) -> bool:
    return re.search(r"\b(nan|none|inf)\b(?! within| taken for)", text, re.IGNORECASE) is None


@pytest.mark.parametrize("epochs", [1, 2, 4])
@pytest.mark.parametrize("seeds", [1, 3])
def test_short_runs_say_that_they_are_short(epochs, seeds):
    text = text_of(make_runs(seeds, epochs=epochs), timing=make_timing(list(MODELS)))
    assert no_nan(text)
    assert f"- FCN: no verdict, too few epochs ({epochs}; it takes 10)." in text


def test_diverged_runs_are_named_and_leave_no_nan(tmp_path):
    for record in (make_record(seed=0), make_record(seed=1, diverges_from=3), make_record("CNN", diverges_from=1)):
        write_record(tmp_path, record)
    runs, _, left_out = read_runs(tmp_path, "task_1_1", Declared({"FCN": "0123456789ab", "CNN": "0123456789ab"}))
    text = text_of(runs, left_out)
    assert no_nan(text) and FEW_SEEDS in text
    assert "Left out of these results:\n\n- CNN-seed0.json: diverged (loss not finite at step 100).\n" in text
    assert "- FCN-seed1.json: diverged (loss not finite at step 300).\n" in text


def test_a_diverged_run_is_counted_in_the_verdicts_of_its_model(tmp_path):
    records = [make_record(model, seed) for model in ("FCN", "SimpleCNN") for seed in range(3)]
    for record in [*records, *(make_record("SimpleCNN", seed, diverges_from=3) for seed in (4, 7))]:
        write_record(tmp_path, record)
    runs, diverged, left_out = read_runs(tmp_path, "task_1_1", Declared(dict.fromkeys(MODELS, "0123456789ab")))
    assert diverged == {"SimpleCNN": [4, 7]}
    text = text_of(runs, left_out, diverged=diverged)
    sentences = [line for line in text.splitlines() if "; not counted: " in line]
    assert len(sentences) == 1
    for sentence in sentences:
        assert sentence.endswith("; not counted: SimpleCNN diverged with seeds 4, 7.") and "3 seeds" in sentence
    assert " Not counted: SimpleCNN diverged with seeds 4, 7.\n" in text
    assert "diverged" not in text_of(runs)


def test_a_model_that_always_diverged_keeps_its_contrasts():
    runs = {"FCN": [make_record("FCN", seed) for seed in range(3)]}
    text = text_of(runs, timing=make_timing(list(MODELS)), diverged={"SimpleCNN": [0, 1, 2]})
    told = "no seed with which both have finished; not counted: SimpleCNN diverged with seeds 0, 1, 2.\n"
    assert f"- FCN and SimpleCNN: {told}" in text


def test_two_models_without_a_common_seed_are_told():
    runs = {"FCN": [make_record("FCN", seed) for seed in (0, 1)], "SimpleCNN": [make_record("SimpleCNN", 2)]}
    assert "- FCN and SimpleCNN: no seed with which both have finished.\n" in text_of(runs)


def test_the_training_table_by_hand():
    epochs = np.arange(1, 16)
    records = [
        with_losses(
            make_record(seed=best),
            val_loss=1 + 0.1 * abs(epochs - best),
            fit_loss=best / epochs,
            val_accuracy=np.minimum(epochs, best + 2) / 20,
        )
        for best in (3, 4, 6)
    ]
    records = [dataclasses.replace(record, best_epoch=best) for record, best in zip(records, (3, 4, 6), strict=True)]
    row = rows_of(text_of({"FCN": records}), "last fit loss")["FCN"]
    assert row["last fit loss"] == f"{(3 + 4 + 6) / 15 / 3:.4f}"
    assert row["last validation loss"] == f"{1 + (1.2 + 1.1 + 0.9) / 3:.4f}"
    assert row["lowest validation loss (epoch)"] == "1.0000 (4, 3 to 6)"
    assert row["accuracy plateau from"] == "epoch 6, 5 to 8"
    rising = with_losses(make_record(seed=9), val_accuracy=epochs / 20)
    for seeds, told in (([rising], "not reached"), ([*records, rising], "epoch 6, 5 to 8 (3 of 4 seeds)")):
        assert rows_of(text_of({"FCN": seeds}), "last fit loss")["FCN"]["accuracy plateau from"] == told


def test_the_page_has_each_models_verdict_on_overfitting_and_the_growth_of_its_gap():
    epochs, random = np.arange(1, 16), np.random.default_rng(0)

    def run(seed, turn):
        logs = 0.05 * abs(epochs - turn) + 0.002 * random.normal(size=15)
        return with_losses(make_record(seed=seed), val_loss=np.exp(logs), fit_loss=np.exp(-epochs / (5 + 0.1 * seed)))

    runs = {"FCN": [run(seed, 9) for seed in range(3)], "SimpleCNN": [run(seed, 15) for seed in range(3)]}
    text = text_of(runs)
    assert "- FCN overfits: validation loss is lowest around epoch 9 (only 9 possible) and ends " in text
    assert "- SimpleCNN: none within 15 epochs: at the end validation loss lies at least " in text
    curves = {part: np.array([record.curve(f"{part}_loss") for record in runs["FCN"]]) for part in ("val", "fit")}
    changes = {part: of[:, 12:].mean(axis=1) - of[:, 7:10].mean(axis=1) for part, of in curves.items()}
    growth = changes["val"] - changes["fit"]
    low, high = stats.t.interval(0.95, 2, growth.mean(), stats.sem(growth))
    cell = rows_of(text, "last fit loss")["FCN"]["gap growth = validation risen + fit fallen"]
    assert cell == (
        f"{growth.mean():.4f} ({low:.4f} to {high:.4f}) = {changes['val'].mean():.4f} + {-changes['fit'].mean():.4f}"
    )


# Machines


def test_runs_of_another_machine_are_named():
    def on(name, record):
        return dataclasses.replace(record, environment={**record.environment, "device_name": name})

    runs = make_runs(3)
    told = "(cpu-bf16, 2 threads a run, PyTorch 2.14.1)"
    assert f"Trained on Test CPU 9000 {told}.\n" in text_of(runs)
    runs["FCN"] = [on("Other", record) for record in runs["FCN"][:2]] + runs["FCN"][2:]
    runs["SimpleCNN"] = [*runs["SimpleCNN"][:2], on("Other", runs["SimpleCNN"][2])]
    assert (
        f"Trained on Test CPU 9000 {told}; FCN with seeds 0, 1 and SimpleCNN with seed 2 on Other {told}.\n"
        in text_of(runs)
    )


# Times


def test_times_are_medians_and_their_ratios_have_intervals():
    timing = make_timing(list(MODELS))
    text = text_of(make_runs(1), timing=timing)
    rows, costs = rows_of(text, "latency"), rows_of(text, "training, s per epoch")
    reference = np.log(timing.models["FCN"]["train_epoch_seconds"])
    for model, measures in timing.models.items():
        row, steps = rows[model], 1e3 * np.array(measures["train_step_seconds"])
        low, median, high = np.percentile(steps, [25, 50, 75])
        assert row["training step, ms"] == f"{median:.2f} ({low:.2f} to {high:.2f})"
        latency, p95 = (1e3 * np.median(measures[name]) for name in ("latency_seconds", "latency_p95_seconds"))
        assert row["latency of one image, ms (p95)"] == f"{latency:.2f} ({p95:.2f})"
        throughput = np.median(512 / np.array(measures["throughput_batch_seconds"]))
        assert row["throughput at batch 512, images per s"] == f"{throughput:,.0f}"
        assert costs[model]["training, s per epoch"] == f"{np.median(measures['train_epoch_seconds']):.2f}"
        batch = 1e3 * np.median(measures["inference_batch_seconds"])
        assert costs[model]["inference, ms per batch"] == f"{batch:.2f}"
        logs = np.log(measures["train_epoch_seconds"]) - reference
        if model == "FCN":
            assert row["epoch time relative to FCN"] == "1"
        else:
            low, high = np.exp(stats.t.interval(0.95, 6, logs.mean(), stats.sem(logs)))
            assert row["epoch time relative to FCN"] == f"{np.exp(logs.mean()):.2f} ({low:.2f} to {high:.2f})"
    assert "On this machine, in this session (Test CPU 9000, 2 threads, bf16, PyTorch 2.14.1)" in text
    assert "7 shuffled rounds" in text and "busy" not in text
    assert "PyTorch 2.14.1; 95% intervals over 7 rounds, unadjusted; faster: beyond 2%):\n\n- FCN trains faster" in text


def test_a_busy_machine_is_told():
    timing = make_timing(list(MODELS))
    timing.models["SimpleCNN"]["train_step_seconds"] = [1.0, 1.0, 1.0, 1.2, 1.3, 1.3, 1.3]  # quartiles 1 and 1.3
    text = text_of(make_runs(1), timing=timing)
    assert "**The machine was busy:** between rounds the training step of SimpleCNN varied by 25%" in text


def test_times_that_were_not_measured():
    text = text_of(make_runs(1))
    assert "Times have not been measured for this kind of machine yet." in text
    assert "s per epoch" not in text and no_nan(text)


# What stands beside the numbers
