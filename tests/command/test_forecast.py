"""How long a run will take: the estimate before it, the time left while it goes on, and how often it draws."""

import io
import re
import sys
import time
from types import SimpleNamespace

import pytest
from place import HASHES

from utils.command import outcome, progress, schedule, steps
from utils.command.progress import Progress
from utils.command.schedule import START_SECONDS, Forecast
from utils.records.timing import read_timing
from utils.timing.clock import benchmark, expected_seconds


def job_of(stem, epochs, restored=0):
    name, seed = stem.split("-seed")
    experiment = SimpleNamespace(name=name, config=SimpleNamespace(epochs=epochs))
    return SimpleNamespace(
        stem=stem, seed=int(seed), experiment=experiment, checkpoints=SimpleNamespace(epoch=lambda: restored)
    )


ENTRY = {"train_loss": 1, "val_loss": 1, "val_accuracy": 0.5, "train_seconds": 1, "eval_seconds": 1}


def test_a_cell_loads_trains_evaluates_every_epoch_and_makes_four_readings(place, monkeypatch):
    found = []
    monkeypatch.setattr(schedule, "seconds_per_step", lambda *_: 0.1)
    monkeypatch.setattr(schedule, "seconds_per_image", lambda *_: 0.001)
    real = steps.forecast
    monkeypatch.setattr(steps, "forecast", lambda *arguments: found.append(real(*arguments)) or found[-1])
    assert place.run() == 0
    loading = 1437 * 64 * schedule.SECONDS_A_BYTE
    epochs = 2 * (18 * 0.1 + (1150 + 287) * 0.001)  # 18 batches of at most 64
    one = loading + epochs + (2 * 1150 + 4 * 360 + 287) * 0.001  # statistics twice, the test set four times
    assert found[0].cells == pytest.approx({"A-seed0": one, "B-seed0": one})
    assert found[0].drawing > 1 and 24 < found[0].timing < 96  # about 30 + 6 + 3 + 9 s and the warm-up
    assert place.run() == 0 and found[1].cells == {} and found[1].timing == 0  # nothing to do


def test_cells_side_by_side_end_when_the_last_process_does():
    expected = Forecast({"A": 10.0, "B": 6.0, "C": 5.0}, drawing=2.0, timing=1.0)
    assert expected.in_all(1) == 10 + 6 + 5 + START_SECONDS + 3
    assert expected.in_all(2) == 6 + 5 + START_SECONDS + 3
    assert expected.in_all(8) == 10 + START_SECONDS + 3


@pytest.mark.parametrize("seconds, max_calls", [(0, 20), (1.0, 20), (1.0, 3)])
def test_a_benchmark_takes_about_what_was_expected(seconds, max_calls):
    naps = {"short": 0.002, "long": 0.15}
    actions = {name: lambda nap=nap: time.sleep(nap) for name, nap in naps.items()}
    started = time.perf_counter()
    benchmark(actions, lambda: None, 2, seconds, max_calls)
    took = time.perf_counter() - started
    assert took == pytest.approx(expected_seconds(list(naps.values()), 2, seconds, max_calls), rel=0.5)


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now.seconds)
    return now


def test_the_time_left_weighs_an_epoch_by_its_model_and_follows_the_pace(clock, capsys):
    slow, fast = job_of("Slow-seed0", 2), job_of("Fast-seed0", 2)
    shown = Progress([slow, fast], Forecast({"Slow-seed0": 100.0, "Fast-seed0": 2.0}, drawing=5.0, timing=10.0), False)
    clock.seconds = 75.0  # for what was expected to take 50
    shown.epoch_done(slow, ENTRY)
    assert shown.time_left() == f"{1.5 * 52 + 15:.0f} s left" and "2.0 s, 93 s left" in capsys.readouterr().err
    clock.seconds = 150.0
    shown.epoch_done(slow, ENTRY)
    assert shown.time_left() == "18 s left"
    shown.epoch_done(fast, ENTRY)
    shown.cell_done("Fast-seed0")  # it stopped early
    assert shown.time_left() == "15 s left"


def test_restored_epochs_take_no_time_and_say_nothing_of_the_pace(clock):
    job = job_of("A-seed0", 10, restored=8)
    shown = Progress([job], Forecast({"A-seed0": 20.0}, drawing=0.0, timing=0.0), True)
    for _ in range(8):
        shown.epoch_done(job, ENTRY)
    assert shown.time_left() == ""
    clock.seconds = 30.0
    shown.epoch_done(job, ENTRY)
    assert shown.time_left() == "30 s left"


def test_a_terminal_shows_the_time_left(place, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    assert place.run() == 0
    assert re.search(r"4/4 epochs \[[^]]*, \d+ (s|min) left\]", sys.stderr.getvalue())


def test_a_short_run_draws_once_when_all_is_done(place, monkeypatch):
    monkeypatch.setattr(outcome, "SECONDS_BETWEEN_DRAWINGS", 60)
    assert place.run() == 0
    assert place.drawn == [{"A": [0], "B": [0]}] and read_timing(place.records, HASHES) is not None
    assert place.run("--models", "A", "--seeds", "1") == 0 and place.drawn == [{"A": [0, 1], "B": [0]}]

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(steps, "timing_pass", interrupted)
    assert place.run("--seeds", "2") == 130 and place.drawn == [{"A": [0, 1, 2], "B": [0, 2]}]


def test_a_limit_and_embedded_data_are_said(place, capsys):
    assert place.run("--limit", "230", "--epochs", "1") == 0
    told = capsys.readouterr().out
    assert "Limited to 230 training images and as large a part of the images held out for validation; the test" in told
    assert place.run("--limit", "230", "--epochs", "1", "--protocol", "original") == 0
    assert "Limited to 230 training images; the test set is whole" in capsys.readouterr().out
