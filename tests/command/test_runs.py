"""Whole runs of the command line on small data: what they leave, keep, replace and drop."""

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from made_records import without_times
from place import HASHES, RECIPE, RUNAWAY, SMALL, TASK, digests, task_of
from safetensors.torch import load_file
from sklearn.metrics import confusion_matrix
from torch.optim.swa_utils import update_bn

from models import FCN, CNNWithResidual
from utils.data import images as data
from utils.data.specs import DIGITS, SPLIT_SEED
from utils.experiment import Experiment, Task
from utils.records.folder import read_runs
from utils.records.record import read_record
from utils.records.timing import read_timing
from utils.training import cell as cells
from utils.training import fit as train
from utils.training.device import Execution
from utils.training.predict import loss_and_correct, predict

# What a run leaves


def test_a_run_leaves_records_weights_text_and_pictures(place, capsys):
    assert place.run() == 0
    assert place.trained == ["A-seed0", "B-seed0"]
    assert place.drawn[0] == {"A": [0]} and place.drawn[-1] == {"A": [0], "B": [0]}  # after each model
    assert (place.plots / "RESULTS.md").read_text() and "| A | " in place.page() and "| B | " in place.page()
    assert place.readme.read_text().startswith("before\n") and place.readme.read_text().endswith("after\n")
    assert list(read_timing(place.records, HASHES).models) == ["A", "B"]
    record = read_record(place.records / "A-seed0.json")
    assert (record.status, record.config_hash, record.recipe_version) == ("finished", HASHES["A"], 1)
    assert record.config == {"epochs": 2, "batch_size": 64, "optimizer": "sgd", "learning_rate": 0.05}
    assert record.model_options == {"class": "FCN", "hidden": [8]}
    assert record.environment.items() >= {
        "device": "cpu", "precision": "fp32", "threads": 1, "torch": torch.__version__,
    }.items()  # fmt: skip
    assert record.environment["device_name"] and "commit" in record.environment
    parts = {f"{part}_{what}" for part in ("train", "fit", "val") for what in ("loss", "accuracy")}
    assert [set(epoch) for epoch in record.history] == [parts | {"train_seconds", "eval_seconds"}] * 2
    assert (record.arrays["test_predictions"] == record.arrays["test_labels"]).sum() == record.test_correct > 100

    told = capsys.readouterr()
    assert told.out.index("2 runs (A-seed0, B-seed0), 0 finished before") < told.out.index("It will take about")
    accuracies = (
        f"test: last epoch {record.test_accuracy:.2%}, last weights, statistics re-estimated {record.test_accuracy:.2%}"
    )
    assert f"  {'A-seed0':<32} {accuracies}, best-validation weights (epoch " in told.out
    assert "A seed 0 epoch 2/2 train " in told.err and " val " in told.err and "A-seed0 added (finished)" in told.err
    assert {path.name for path in place.folder.iterdir()} >= {"README.md", "plots", "runs"}


def test_the_saved_weights_give_the_recorded_predictions(place, tmp_path):
    assert place.run("--models", "A", "--epochs", "3", "--lr", "2") == 0
    (folder,) = place.runs.glob("tiny/cpu-fp32/A/*/seed0")
    record, test = read_record(folder / "A-seed0.json"), data.load_splits(DIGITS, tmp_path).test
    assert record.best_epoch < 3 and record.best_test_loss != pytest.approx(record.test_loss)  # lr too high
    for weights, correct, loss in (
        ("averaged", record.averaged_test_correct, record.averaged_test_loss),
        ("final", record.test_correct, record.test_loss),
        ("best", record.best_test_correct, record.best_test_loss),
    ):
        model = SMALL((1, 8, 8), 10)
        model.load_state_dict(load_file(folder / f"{weights}.safetensors"))
        logits = predict(model, test, Execution(torch.device("cpu"), "fp32", 1))
        assert loss_and_correct(logits, test.labels) == (pytest.approx(loss), correct)


def test_the_test_set_is_predicted_once_with_each_weights_and_never_while_training(place, monkeypatch):
    sizes = {"training": [], "testing": []}

    def counted(phase):
        def count(model, images, execution):
            sizes[phase].append(len(images))
            return predict(model, images, execution)

        return count

    monkeypatch.setattr(train, "predict", counted("training"))
    monkeypatch.setattr(cells, "predict", counted("testing"))
    assert place.run("--models", "A") == 0
    assert sizes == {"training": [1150, 287] * 2, "testing": [360, 360, 287, 360]}  # fit and val each epoch


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_record_holds_every_reading_of_a_net_with_batch_norm(place, tmp_path, precision):
    """By the saved weights, scikit-learn's confusion matrix, and PyTorch's `update_bn` on a copy of the last net."""
    net = partial(CNNWithResidual, widths=(8, 12), strides=(1, 2), blocks_per_stage=1)
    task = Task("tiny", "digits", [Experiment("Residual", net, dataclasses.replace(RECIPE, epochs=7))])
    assert place.run("--precision", precision, task=task) == 0
    (folder,) = place.runs.glob(f"tiny/cpu-{precision}/Residual/*/seed0")
    record, splits = read_record(folder / "Residual-seed0.json"), data.load_splits(DIGITS, tmp_path)
    execution = Execution(torch.device("cpu"), precision, 1)
    model = execution.place(net((1, 8, 8), 10))
    assert record.final_epochs == 2
    assert record.reestimated_batch_norms == sum(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules()) > 3

    order = torch.randperm(len(splits.fit), generator=torch.Generator().manual_seed(SPLIT_SEED))
    batches = [next(splits.fit.batches(len(rows), rows)) for rows in order.tensor_split(-(-len(order) // 500))]
    averaged, final = (load_file(folder / f"{name}.safetensors") for name in ("averaged", "final"))
    assert not any(torch.equal(averaged[name], final[name]) for name in averaged)
    model.load_state_dict(averaged)
    with execution.autocast():
        update_bn(batches, model)
    assert all(torch.equal(tensor, averaged[name]) for name, tensor in model.state_dict().items())
    logits = predict(model, splits.test, execution)
    confidences, predictions = logits.softmax(1).max(1)
    np.testing.assert_array_equal(record.arrays["averaged_test_predictions"], predictions)
    np.testing.assert_array_equal(record.arrays["averaged_test_confidences"], (255 * confidences.numpy()).round())
    assert (record.averaged_test_loss, record.averaged_test_correct) == loss_and_correct(logits, splits.test.labels)
    wrong = record.arrays["averaged_mistake_indices"]
    assert len(wrong) and (predictions[wrong] != splits.test.labels[wrong]).all()
    assert not np.array_equal(record.arrays["averaged_test_predictions"], record.arrays["test_predictions"])
    logits = predict(model, splits.val, execution)
    matrix = confusion_matrix(splits.val.labels, logits.argmax(1))
    assert record.averaged_val_correct_by_class == matrix.diagonal().tolist()
    assert record.val_total_by_class == matrix.sum(axis=1).tolist()
    assert (record.averaged_val_loss, record.averaged_val_correct) == loss_and_correct(logits, splits.val.labels)
    assert record.train_total_by_class == np.bincount(splits.train.labels).tolist()
    sizes = (len(splits.train), len(splits.fit), len(splits.val), len(splits.test))
    assert (record.train_total, record.fit_total, record.val_total, record.test_total) == sizes

    new = sum(value.nbytes for name, value in record.arrays.items() if name.startswith(("averaged_", "reestimated_")))
    assert new - record.arrays["averaged_mistake_images"].nbytes < 4 * record.test_total  # 40 kB for 10,000 images

    model.load_state_dict(final)
    with execution.autocast():
        update_bn(batches, model)
    logits = predict(model, splits.test, execution)
    np.testing.assert_array_equal(record.arrays["reestimated_test_predictions"], logits.argmax(1))
    expected = loss_and_correct(logits, splits.test.labels)
    assert (record.reestimated_test_loss, record.reestimated_test_correct) == expected
    assert record.reestimated_test_loss != record.test_loss


def test_a_run_that_stops_early_records_how_many_epochs_it_averaged(place):
    assert place.run("--models", "A", "--epochs", "30", "--lr", "2", "--patience", "3") == 0
    (record,) = [read_record(path) for path in place.runs.glob("tiny/cpu-fp32/A/*/seed0/A-seed0.json")]
    trained = len(record.history)
    assert 3 < trained < 30 and record.final_epochs == max(1, min(3, trained // 3))


def timeless(record):
    return dataclasses.replace(record, history=without_times(record.history))


def test_the_same_seed_gives_the_same_record_twice(place):
    assert place.run("--models", "A", "--seeds", "0", "1") == 0
    first, other = (read_record(place.records / f"A-seed{seed}.json") for seed in (0, 1))
    assert place.run("--models", "A", "--no-resume") == 0 and place.trained == ["A-seed0"]
    second = read_record(place.records / "A-seed0.json")
    assert timeless(second) == timeless(first)
    for name, array in first.arrays.items():
        np.testing.assert_array_equal(second.arrays[name], array, strict=True)
    assert timeless(other) != timeless(first)


def test_no_step_of_training_waits_for_the_device(place):
    """One transfer of losses an epoch, whatever the number of steps: `.item()` and the like are counted."""

    class Scalars(torch.utils._python_dispatch.TorchDispatchMode):
        calls = 0

        def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
            self.calls += operator is torch.ops.aten._local_scalar_dense.default
            return operator(*args, **(kwargs or {}))

    counts = []
    for batch_size in ("575", "23"):  # 2 and 50 steps an epoch
        with Scalars() as scalars:
            assert place.run("--models", "A", "--batch-size", batch_size) == 0
        counts.append(scalars.calls)
    assert counts[0] == counts[1] > 0


# What it keeps


def test_a_run_replaces_its_own_cell_and_keeps_the_others(place, capsys):
    before = place.old_records("A-seed0", "A-seed1", "B-seed0")
    old = read_record(place.records / "A-seed0.json")
    assert place.run("--models", "A") == 0 and place.trained == ["A-seed0"]
    after, new = digests(place.plots), read_record(place.records / "A-seed0.json")
    changed = {name for name, content in before.items() if after[name] != content}
    assert changed == {"records/cpu-fp32/A-seed0.json", "records/cpu-fp32/A-seed0.npz"}
    told = capsys.readouterr()
    assert f"A-seed0 replaced: test accuracy {old.test_accuracy:.2%} -> {new.test_accuracy:.2%}" in told.err
    assert "No timing pass" in told.out  # nor is the old one dropped
    assert place.drawn[-1] == {"A": [0, 1], "B": [0]} and "2 seeds (0, 1)" in place.page()


def test_fresh_drops_old_records_once_the_first_new_cell_has_finished(place, capsys):
    other = place.old_records("A-seed0", kind="cuda-bf16")
    old = set(place.old_records("A-seed0", "A-seed1", "B-seed0", "B-seed2")) - set(other)
    seen = []
    place.before_cell = lambda job: seen.append(set(digests(place.records)))
    assert place.run("--fresh") == 0
    names = {name.rpartition("/")[2] for name in old}
    assert "--fresh deletes the older records: A-seed1, B-seed2\n" in capsys.readouterr().out
    assert seen == [names, {"A-seed0.json", "A-seed0.npz", "data_sha256.txt"}]
    assert set(digests(place.records)) == {
        "A-seed0.json", "A-seed0.npz", "B-seed0.json", "B-seed0.npz", "timing.json",
        "data_sha256.txt",
    }  # fmt: skip
    assert read_record(place.records / "A-seed0.json").environment["torch"] == torch.__version__
    after = digests(place.plots)
    assert {name: after[name] for name in other} == other


def test_fresh_drops_nothing_for_a_cell_that_diverges(place):
    task = task_of(A=RUNAWAY, B=RECIPE)
    place.old_records("A-seed1", "B-seed0", "B-seed1", task=task)
    before = digests(place.records)
    assert place.run("--fresh", "--models", "A", task=task) == 1
    after = digests(place.records)
    assert {name: after[name] for name in before} == before
    assert place.run("--fresh", "--no-resume", task=task) == 1
    assert read_record(place.records / "B-seed0.json").environment["torch"] == torch.__version__
    assert not (place.records / "B-seed1.json").exists() and not (place.records / "A-seed1.json").exists()


def test_a_quick_look_tells_of_a_model_that_diverged_before_another_finished(place):
    assert place.run("--epochs", "1", task=task_of(A=RUNAWAY, B=RECIPE)) == 1
    assert "A-seed0.json: diverged" in (place.runs / "quick/tiny/epochs=1/RESULTS.md").read_text()


def test_nothing_that_counts_is_said_and_draws_nothing(place, capsys):
    place.old_records("A-seed0", task=task_of(A=RUNAWAY, B=RECIPE))
    before = digests(place.folder)
    assert place.run("--replot") == 2
    told = capsys.readouterr().err
    assert "from another recipe" in told and "no record that counts" in told
    assert digests(place.folder) == before


def test_a_diverged_model_is_told_and_the_others_finish(place, capsys):
    assert place.run(task=task_of(A=RUNAWAY, B=RECIPE)) == 1
    record = read_record(place.records / "A-seed0.json")
    assert record.status == "diverged" and record.message == "not finite at step 2" and len(record.history) == 1
    assert record.test_accuracy is None
    assert read_record(place.records / "B-seed0.json").status == "finished"
    assert place.drawn[-1] == {"B": [0]}
    assert "- A-seed0.json: diverged (not finite at step 2)" in place.page()
    assert f"  {'A-seed0':<32} diverged: not finite at step 2" in capsys.readouterr().out
    place.run(task=task_of(A=RUNAWAY, B=RECIPE))
    assert place.trained == ["A-seed0"]  # it hasn't finished


def test_a_model_that_runs_away_in_its_very_last_step_has_diverged(place):
    """Its losses and gradients were finite, but the weights that the last step left are not."""
    assert place.run("--limit", "64", "--epochs", "1", task=task_of(A=RUNAWAY)) == 1
    record = read_record(place.runs / "quick/tiny/epochs=1,limit=64/records/cpu-fp32/A-seed0.json")
    assert record.status == "diverged" and "step 1" in record.message


def test_an_error_ends_its_own_cell_only(place, monkeypatch):
    fit = cells.fit

    def fails_with_seed_1(model, config, seed, *rest):
        if seed == 1:
            raise RuntimeError("out of memory")
        return fit(model, config, seed, *rest)

    monkeypatch.setattr(cells, "fit", fails_with_seed_1)
    assert place.run("--models", "A", "--seeds", "0", "1", "2") == 1
    assert place.drawn[-1] == {"A": [0, 2]}
    assert "- A-seed1.json: failed (RuntimeError: out of memory)" in place.page()


def test_a_diverged_run_leaves_the_finished_record_in_its_place(place, capsys):
    task = task_of(A=RUNAWAY)
    before = place.old_records("A-seed0", task=task)
    assert place.run(task=task) == 1
    after = digests(place.plots)
    assert {name: after[name] for name in before} == before
    assert "A-seed0 diverged; the older record stays" in capsys.readouterr().err


def test_foreign_and_older_records_are_named_and_left_out(place):
    place.old_records("A-seed0", "B-seed0", "B-seed1")
    (place.records / "A-seed3.json").write_text('{"a": "foreign"}')
    older = place.records / "B-seed1.json"
    older.write_text(older.read_text().replace('"schema_version": 1', '"schema_version": 0'))
    assert place.run("--replot") == 0
    assert place.drawn == [{"A": [0], "B": [0]}]
    left_out = place.page().partition("Left out of these results:")[2]
    assert "A-seed3.json: not a record of this suite" in left_out
    assert "B-seed1.json: schema 0, this version reads 1" in left_out


def test_the_record_of_an_edited_model_is_named_and_left_out(place):
    place.old_records("A-seed0", "B-seed0")
    edited = dataclasses.replace(TASK.experiments[0], model=partial(FCN, hidden=(9,)))
    assert place.run("--replot", task=dataclasses.replace(TASK, experiments=[edited, TASK.experiments[1]])) == 0
    assert place.drawn == [{"B": [0]}] and f"- A-seed0.json: from another recipe ({HASHES['A']}, now " in place.page()


def test_the_records_are_read_once_for_each_drawing_and_not_again_for_what_is_said(place, monkeypatch, capsys):
    reads = []

    def counted(*arguments):
        reads.append(arguments)
        return read_runs(*arguments)

    monkeypatch.setattr("utils.findings.results.read_runs", counted)
    task = task_of(A=RECIPE)
    assert place.run(task=task) == 0
    assert len(place.drawn) == len(reads) == 2  # when the cell is done, and when it has been timed
    assert "Test accuracy, final weights:" in capsys.readouterr().out
    reads.clear()
    assert place.run("--replot", task=task) == 0
    assert len(place.drawn) == len(reads) == 1
    assert "Test accuracy, final weights:" in capsys.readouterr().out
