"""`--until-decided`: which models get how many seeds, what is said of it, and that a killed run keeps the plan."""

import dataclasses
import json
import shutil
import sys

import numpy as np
import pytest
from made_records import make_record
from place import RECIPE, SMALL, TASK, WITH_ABLATION, digests

from utils.command import outcome, processes, schedule, steps
from utils.experiment import Contrast, Experiment, Task
from utils.records.record import READINGS, write_record

THREE = Task(
    "tiny",
    "digits",
    [Experiment(name, SMALL, RECIPE) for name in "ABC"],
    [Contrast("A", "B"), Contrast("B", "C")],
    equivalence_margin=0.01,
)
# Correct test images of 360 by seed. B is clearly better than A at 3 seeds, C than B only at 6.
COUNTS = {
    "A": [300, 303, 299, 301, 304, 300, 302, 301, 299, 300, 303, 302],
    "B": [320, 324, 318, 322, 325, 319, 321, 323, 320, 322, 324, 321],
    "C": [321, 336, 320, 333, 338, 327, 330, 329, 333, 335, 336, 330],
}
AT_3 = [f"{model}-seed{seed}" for seed in range(3) for model in "ABC"]
AT_6 = [f"{model}-seed{seed}" for seed in range(3, 6) for model in "BC"]


@pytest.fixture
def made(place, monkeypatch):
    """A place in which cells are made up: their test accuracy by `place.counts`, or None for one that diverges."""
    place.counts = {name: list(counts) for name, counts in COUNTS.items()}

    def run_cell(job, on_epoch):
        place.before_cell(job)
        name, seed = job.experiment.name, job.seed
        place.trained.append(job.stem)
        correct = place.counts[name][seed]
        record = make_record(
            name, seed, task="tiny", dataset="digits", image_shape=(1, 8, 8), test_total=360, epochs=2,
            config_hash=job.config_hash, diverges_from=1 if correct is None else None,
        )  # fmt: skip
        if correct is not None:
            labels, predictions = np.zeros(360, np.uint8), (np.arange(360) >= correct).astype(np.uint8)
            arrays = {"test_labels": labels} | {f"{reading}test_predictions": predictions for reading in READINGS}
            right = {f"{reading}test_correct": correct for reading in READINGS}
            right |= {f"{reading}test_accuracy": correct / 360 for reading in READINGS}
            record = dataclasses.replace(record, arrays=record.arrays | arrays, **right)
        record = dataclasses.replace(record, data_sha256=job.data_sha256, environment=dict(job.environment))
        write_record(job.folder, record)
        return record

    monkeypatch.setattr(processes, "run_cell", run_cell)
    return place


def decide(place, *arguments, task=THREE):
    return place.run("--until-decided", *arguments, task=task)


def page_of(place):
    return (place.plots / "RESULTS.md").read_text()


def verdicts_in(place):
    return page_of(place).partition("Verdicts on test accuracy")[2].partition("\n\n![")[0]


def test_only_models_of_open_contrasts_get_more_seeds(made, capsys):
    assert decide(made) == 0
    assert made.trained == [*AT_3, *AT_6]
    told = capsys.readouterr().out
    order = [
        "9 runs (A-seed0",
        "It will take about",
        "The look at 3 seeds: 1 of 2 contrasts decided.\n- B is better than A by ",
        "; decided at the look at 3 seeds; adjusted p = ",
        "- B and C are not distinguished",
        "open after the look at 3 seeds",
        "The next look is at 6 seeds of B, C.",
        "6 runs (B-seed3",
        "It will take about",
        "Timing pass",
        "Judged by looks at 3, 6 and 12 seeds",
        "B is better than A",
        "C is better than B by ",
        "decided at the look at 6 seeds",
    ]
    for part in order:
        assert part in told, part
        told = told.partition(part)[2]
    assert "Timing pass" not in told and "look at 3 seeds:" not in told
    assert json.loads((made.records / "looks.json").read_text()) == {"looks": [3, 6, 12]}
    block = verdicts_in(made)
    assert "decided at the look at 3 seeds" in block and "decided at the look at 6 seeds" in block
    assert "Judged by looks at 3, 6 and 12 seeds" in page_of(made) and "Fewer than 6 seeds: A (3)" in page_of(made)


def test_results_are_drawn_at_each_look_however_short_the_run(made, monkeypatch):
    """An interruption may come before the next run ends."""
    monkeypatch.setattr(outcome, "SECONDS_BETWEEN_DRAWINGS", 60)
    assert decide(made) == 0
    assert made.drawn == [{name: [0, 1, 2] for name in "ABC"}, {"A": [0, 1, 2], "B": [*range(6)], "C": [*range(6)]}]


def test_the_estimate_of_every_look_counts_the_timing_pass_at_the_end(made, monkeypatch):
    forecasts = []

    def forecast(*arguments):
        forecasts.append(schedule.forecast(*arguments))
        return forecasts[-1]

    monkeypatch.setattr(steps, "forecast", forecast)
    assert decide(made) == 0
    assert [len(found.cells) for found in forecasts] == [9, 6] and all(found.timing > 0 for found in forecasts)


def test_what_is_decided_at_the_first_look_takes_no_more(made, capsys):
    made.counts["C"] = [count + 25 for count in COUNTS["B"]]
    made.counts["C"][0] += 2
    assert decide(made) == 0 and made.trained == AT_3
    assert "next look" not in capsys.readouterr().out


@pytest.mark.parametrize("last", [3, 6, 12])
def test_max_seeds_stops_earlier_and_a_later_command_goes_on(made, capsys, last):
    made.counts["C"] = [count + change for count, change in zip(COUNTS["B"], [9, -9, 5, -6] * 3, strict=True)]
    assert decide(made, "--max-seeds", str(last)) == 0
    seeds_of_c = sorted(int(stem[6:]) for stem in made.trained if stem.startswith("C"))
    assert seeds_of_c == list(range(last)) and "A-seed3" not in made.trained
    which = "last look at 12 seeds" if last == 12 else f"look at {last} seeds"
    assert "B and C are not distinguished" in capsys.readouterr().out and f"open after the {which}" in verdicts_in(made)
    assert decide(made) == 0 and len(made.trained) == 2 * (12 - last)
    assert "open after the last look at 12 seeds" in verdicts_in(made)


@pytest.mark.parametrize("runs", ["kept", "lost"])
@pytest.mark.parametrize(
    "cell", [2, 10, *(pytest.param(i, marks=pytest.mark.slow) for i in (0, 1, *range(3, 15)) if i != 10)]
)
def test_stopped_before_any_cell_and_started_again_the_plan_is_the_same(made, cell, runs):
    """Ctrl-C before each of the 15 cells; started again, with and without the runs folder."""
    started = []

    def stop(job):
        if len(started) == cell:
            raise KeyboardInterrupt
        started.append(job.stem)

    made.before_cell = stop
    assert decide(made) == 130
    made.before_cell = lambda job: None
    if runs == "lost":
        shutil.rmtree(made.runs, ignore_errors=True)  # then the published records are enough
    assert decide(made) == 0
    assert started + made.trained == [*AT_3, *AT_6]
    assert [word for word in ("decided at the look at 3", "decided at the look at 6") if word in verdicts_in(made)]


def test_a_folder_with_a_fixed_number_of_seeds_is_refused(made, capsys):
    assert made.run("--num-seeds", "2", task=THREE) == 0
    assert made.run("--models", "A", "B", "--seeds", "2", task=THREE) == 0
    before, plots = digests(made.folder), digests(made.plots)
    assert decide(made) == 2 and made.trained == []
    told = capsys.readouterr().err
    assert "has 3 seeds of A and B, a number that was fixed beforehand" in told
    assert "--fresh" in told and "--output-dir" in told and digests(made.folder) == before
    assert decide(made, "--output-dir", str(made.folder / "out")) == 0
    assert digests(made.plots) == plots
    assert decide(made, "--fresh") == 0 and (made.records / "looks.json").exists()
    assert "decided at the look at 3 seeds" in verdicts_in(made)


def test_two_fixed_seeds_are_no_verdict_so_that_looks_may_follow(made):
    assert made.run("--num-seeds", "2", task=THREE) == 0
    assert "beforehand" not in page_of(made) and not (made.records / "looks.json").exists()
    assert decide(made) == 0
    assert made.trained == [*AT_3[6:], *AT_6]


def test_seeds_that_are_added_later_change_no_verdict(made, capsys):
    assert decide(made) == 0
    decided, table = verdicts_in(made), page_of(made).partition("Judged")[0]
    made.counts = {name: counts[:6] + counts[:3] * 2 for name, counts in made.counts.items()}
    assert made.run("--num-seeds", "12", task=THREE) == 0
    assert verdicts_in(made) == decided and page_of(made).partition("Judged")[0] != table
    assert decide(made) == 0 and made.trained == []
    assert (made.records / "looks.json").exists()


def test_fresh_with_a_fixed_number_ends_the_looks(made):
    assert decide(made) == 0
    assert made.run("--num-seeds", "3", "--fresh", task=THREE) == 0
    assert not (made.records / "looks.json").exists()
    assert "Verdicts take all seeds, whose number was fixed beforehand" in page_of(made) and "look" not in verdicts_in(
        made
    )


def test_fresh_keeps_the_mark_and_drops_once(made):
    """A killed `--fresh --until-decided` that is started again has lost nothing of its own."""
    assert made.run("--num-seeds", "7", "--runs-dir", str(made.folder / "older"), task=THREE) == 0
    made.trained.clear()

    def stop(job):
        if len(made.trained) == 11:
            raise KeyboardInterrupt

    made.before_cell = stop
    assert decide(made, "--fresh") == 130
    assert not (made.records / "A-seed3.json").exists() and (made.records / "looks.json").exists()
    made.before_cell = lambda job: None
    assert decide(made, "--fresh") == 0 and made.trained == AT_6[2:]
    assert sorted(path.stem for path in made.records.glob("*-seed*.json")) == sorted([*AT_3, *AT_6])


def test_fresh_that_finishes_nothing_leaves_the_fixed_number(made):
    """Every new run diverges, so that the older records stay, and with them the way in which they are judged."""
    assert made.run("--num-seeds", "3", "--runs-dir", str(made.folder / "older"), task=THREE) == 0
    before = verdicts_in(made)
    made.counts = {name: [None] * 12 for name in "ABC"}
    assert decide(made, "--fresh") == 1 and made.trained == [*AT_3]
    assert verdicts_in(made) == before and not (made.records / "looks.json").exists()


def test_a_contrast_without_its_seeds_gets_no_look_and_no_more_seeds(made):
    """C diverges with seed 1."""
    made.counts["C"][1] = None
    assert decide(made) == 1
    assert made.trained == AT_3
    assert "B and C: too few seeds (2 in common; the first look needs seeds 0 to 2)" in verdicts_in(made)


def test_of_some_models_only_their_own_contrasts_are_decided(made):
    assert decide(made, "--models", "A", "B") == 0 and made.trained == [s for s in AT_3 if s[0] != "C"]
    assert decide(made, "--models", "C", "B", "--max-seeds", "3") == 0 and made.trained == [
        "C-seed0",
        "C-seed1",
        "C-seed2",
    ]
    assert decide(made, "--models", "A", "B") == 0 and made.trained == []  # though B and C are open
    assert decide(made, "--models", "B", "C", "--max-seeds", "6") == 0 and sorted(made.trained) == sorted(AT_6)


def test_an_ablation_gets_the_seeds_of_the_first_look(made):
    made.counts = {"A": COUNTS["B"], "B": COUNTS["C"], "A-Decay": COUNTS["A"], "A-Moved": COUNTS["A"]}
    assert decide(made, "--ablation", task=WITH_ABLATION) == 0
    counts = {name: sum(stem.startswith(f"{name}-seed") for stem in made.trained) for name in made.counts}
    assert counts == {"A": 6, "B": 6, "A-Decay": 3, "A-Moved": 3}


def test_an_added_model_is_judged_by_looks_in_the_folder_of_the_added(made, monkeypatch):
    path = made.folder / "nets_until_decided.py"
    path.write_text("from models import FCN\n\nclass Net(FCN):\n    pass\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    made.counts = {"A": COUNTS["A"], "B": COUNTS["B"], "Net": COUNTS["C"]}
    assert decide(made, "--add", f"{path}:Net", task=TASK) == 0
    counts = {name: sum(stem.startswith(f"{name}-seed") for stem in made.trained) for name in made.counts}
    assert counts == {"A": 3, "B": 6, "Net": 6} and not made.plots.exists()
    added = made.runs / "added" / "tiny"
    assert (added / "records/cpu-fp32/looks.json").exists()
    assert "Net is better than B" in (added / "RESULTS.md").read_text()


def test_a_quick_look_may_use_looks_in_its_own_folder(made, monkeypatch):
    drawn = []
    monkeypatch.setattr(steps, "mark_looks", lambda folder, mark=steps.mark_looks: (drawn.append(folder), mark(folder)))
    assert decide(made, "--epochs", "1") == 0 and made.trained == [*AT_3, *AT_6]
    assert drawn and all(made.runs in folder.parents for folder in drawn) and not made.plots.exists()
    assert decide(made, "--epochs", "1") == 0 and made.trained == []


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--until-decided", "--seeds", "0"], "not allowed with argument"),
        (["--until-decided", "--num-seeds", "3"], "not allowed with argument"),
        (["--max-seeds", "6"], "--max-seeds: goes with --until-decided"),
        (["--until-decided", "--max-seeds", "5"], "choose from 3, 6, 12"),
        (["--until-decided", "--replot"], "not allowed with --replot: it trains"),
        (["--until-decided", "--time-only"], "not allowed with --time-only: it trains"),
        (["--until-decided", "--protocol", "original"], "not allowed with --protocol original"),
        (["--until-decided", "--models", "A", "C"], "needs both models of a planned contrast (A and B, B and C)"),
    ],
)
def test_what_does_not_go_together_is_refused(made, capsys, arguments, message):
    try:
        code = made.run(*arguments, task=THREE)
    except SystemExit as end:
        code = end.code
    assert code == 2 and message in capsys.readouterr().err.replace("'", "") and made.trained == []
    assert not made.plots.exists() and not made.runs.exists()


def test_without_a_planned_contrast_there_is_nothing_to_decide(made, capsys):
    assert decide(made, task=TASK) == 2
    assert "--until-decided: needs both models of a planned contrast (none)" in capsys.readouterr().err


def test_a_damaged_mark_stops_every_run_before_training(made, capsys):
    """looks.json truncated."""
    assert decide(made, "--max-seeds", "3") == 0
    (made.records / "looks.json").write_text('{"looks": [3')
    for arguments in (["--until-decided"], ["--num-seeds", "4"], ["--replot"]):
        assert made.run(*arguments, task=THREE) == 2 and made.trained == []
        assert "looks.json: not a list of looks" in capsys.readouterr().err
