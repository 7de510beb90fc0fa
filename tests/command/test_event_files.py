"""`--tensorboard`: event files as TensorBoard itself reads them."""

import dataclasses
import math
from importlib import util

import pytest
from place import RECIPE, task_of

from utils.command import event_files
from utils.command.event_files import learning_rates
from utils.experiment import TrainConfig
from utils.records.record import read_record
from utils.training import checkpoint

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
COSINE = dataclasses.replace(RECIPE, epochs=4, schedule="cosine")


def scalars(folder) -> dict[str, dict[int, float]]:
    """{tag: {epoch: value}}, without what TensorBoard hides."""
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def test_they_hold_the_curves_and_the_learning_rate_of_each_run(place, capsys):
    assert place.run("--tensorboard", "--seeds", "0", "3", "--models", "A", task=task_of(A=COSINE, B=RECIPE)) == 0
    assert f"To watch: tensorboard --logdir {place.runs / 'tiny'}" in capsys.readouterr().out
    for seed in (0, 3):
        (folder,) = place.runs.glob(f"tiny/cpu-fp32/A/*/seed{seed}")
        found, history = scalars(folder), read_record(folder / f"A-seed{seed}.json").history
        names = {f"{what}/{part}" for what in ("loss", "accuracy") for part in ("train", "fit", "val")}
        assert found.keys() == names | {"learning rate"}
        for name in names:
            what, part = name.split("/")
            expected = {epoch: entry[f"{part}_{what}"] for epoch, entry in enumerate(history, 1)}
            assert found[name] == pytest.approx(expected, rel=1e-6)
        steps = -(-1150 // 64)
        rates = {k: 0.05 * (1 + math.cos(math.pi * (k * steps - 1) / (4 * steps))) / 2 for k in range(1, 5)}
        assert found["learning rate"] == pytest.approx(rates, rel=1e-5)


def test_a_run_that_goes_on_has_each_epoch_once(place, monkeypatch):
    monkeypatch.setattr(checkpoint, "LEAST_SECONDS", 0.0)
    task, write = task_of(A=COSINE), event_files.EventFiles.epoch_done

    def stop(self, job, entry):
        write(self, job, entry)
        if len(self.rates[job.stem]) == 1:  # after the third of four epochs
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(event_files.EventFiles, "epoch_done", stop)
        assert place.run("--tensorboard", task=task) == 130
    assert place.run("--tensorboard", task=task) == 0
    (folder,) = place.runs.glob("tiny/cpu-fp32/A/*/seed0")
    expected = {k: entry["val_loss"] for k, entry in enumerate(read_record(folder / "A-seed0.json").history, 1)}
    assert len(expected) == 4 and scalars(folder)["loss/val"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "one-cycle"])
def test_learning_rates_are_those_of_the_last_step_of_each_epoch(schedule):
    config = TrainConfig(3, 64, "sgd", 0.1, schedule=schedule, warmup=1.0)
    rates = learning_rates(config, 10)
    assert len(rates) == 3
    if schedule == "constant":
        assert rates == pytest.approx([0.1, 0.1, 0.1])
    else:
        assert max(rates) == rates[0] > 0.09 and rates[2] < 0.001


def test_what_cannot_be_written_is_said_once_and_ends_nothing(place, monkeypatch, capsys):
    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(event_files.SummaryWriter, "add_scalar", full)
    assert place.run("--tensorboard") == 0
    assert capsys.readouterr().err.count("nothing more is written for TensorBoard (OSError: no space left)") == 1


@pytest.mark.parametrize("other", ["--replot", "--time-only", "--shared"])
def test_it_goes_with_training_alone(place, other, capsys):
    with pytest.raises(SystemExit) as end:
        place.run("--tensorboard", other)
    assert end.value.code == 2 and "not allowed with" in capsys.readouterr().err


def test_without_the_package_one_sentence_says_what_to_install(place, monkeypatch, capsys):
    find_spec = util.find_spec
    monkeypatch.setattr(
        "utils.command.rules.find_spec", lambda name: None if name == "tensorboard" else find_spec(name)
    )
    with pytest.raises(SystemExit) as end:
        place.run("--tensorboard")
    assert (
        end.value.code == 2 and "--tensorboard: needs the package tensorboard: pip install" in capsys.readouterr().err
    )
    assert place.trained == []
