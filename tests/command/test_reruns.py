"""Runs after runs: what is trained again, where results go, and what is said of it."""

import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from made_records import make_timing, older
from place import RECIPE, TASK, digests, task_of

from models import FCN
from utils import checkout
from utils.command import outputs, schedule, steps
from utils.command.arguments import parse
from utils.command.plan import make_plan
from utils.experiment import Experiment, Task
from utils.records.record import read_record, write_record
from utils.timing import choices
from utils.training.device import Execution

# What is trained again


def test_what_has_finished_is_not_trained_again_unless_asked(place, capsys):
    assert place.run() == 0
    shutil.rmtree(place.plots)  # the runs folder is enough
    capsys.readouterr()
    assert place.run() == 0
    assert place.trained == [] and place.drawn[-1] == {"A": [0], "B": [0]}
    assert "2 finished before" in capsys.readouterr().out
    assert place.run("--num-seeds", "2") == 0 and place.trained == ["A-seed1", "B-seed1"]
    assert place.run("--no-resume") == 0 and place.trained == ["A-seed0", "B-seed0"]


def test_a_damaged_record_in_the_runs_folder_is_trained_again(place):
    assert place.run() == 0
    (path,) = place.runs.glob("tiny/cpu-fp32/B/*/seed0/B-seed0.npz")
    path.write_bytes(path.read_bytes()[:-9])
    assert place.run() == 0 and place.trained == ["B-seed0"]


def test_changed_sources_are_trained_again_and_that_is_said(place, monkeypatch, capsys):
    assert place.run() == 0
    monkeypatch.setattr(schedule, "source_hash", lambda experiment: f"changed {experiment.name}")
    capsys.readouterr()
    assert place.run() == 0 and place.trained == ["A-seed0", "B-seed0"]
    told = capsys.readouterr().out
    for model in "AB":
        assert f"{model}-seed0 had finished, but the code that trains it has changed since" in told
    assert place.run() == 0 and place.trained == []


def test_a_run_without_averaged_weights_is_trained_again_and_that_is_said(place, capsys):
    """A record of an older version: it counts until then."""
    assert place.run() == 0
    (path,) = place.runs.glob("tiny/cpu-fp32/B/*/seed0/B-seed0.json")
    write_record(path.parent, older(read_record(path)))
    write_record(place.records, older(read_record(place.records / "B-seed0.json")))
    capsys.readouterr()
    assert place.run("--models", "A") == 0 and place.trained == [] and place.drawn[-1] == {"A": [0], "B": [0]}
    assert place.run() == 0 and place.trained == ["B-seed0"]
    told = capsys.readouterr().out
    assert "B-seed0 had finished, but an older version kept no averaged weights: it is trained again" in told
    assert read_record(place.records / "B-seed0.json").has_average
    assert place.run() == 0 and place.trained == []


def test_only_a_pass_over_all_models_times_them(place, monkeypatch):
    passes = []

    def timing_pass(experiments, *_):
        passes.append([e.name for e in experiments])
        return make_timing(passes[-1], first_epoch_seconds=len(passes))

    monkeypatch.setattr(steps, "timing_pass", timing_pass)
    assert place.run("--models", "B") == 0 and passes == []
    assert place.run() == 0 and passes == [["A", "B"]]
    assert place.run() == 0 and len(passes) == 1  # nothing was trained
    before = digests(place.records)
    assert place.run("--time-only") == 0 and len(passes) == 2 and place.trained == []
    after = digests(place.records)
    assert {name for name in after if after[name] != before[name]} == {"timing.json"}
    assert place.drawn == [{"A": [0], "B": [0]}]


def test_the_process_that_forecasts_is_prepared_for_the_precision_that_trains(place, monkeypatch):
    prepared = []
    monkeypatch.setattr(Execution, "prepare_process", lambda self: prepared.append(self.precision))
    assert place.run("--precision", "bf16", "--models", "A") == 0 and prepared == ["bf16"]


def test_precision_is_probed_once_for_all_runs_of_a_machine(place, monkeypatch):
    probes = []
    monkeypatch.setattr(schedule, "choose_precision", lambda *_, shown: probes.append(1) or ("bf16", "faster"))
    for arguments in (["--models", "A"], ["--models", "B"], ["--models", "A", "--seeds", "1"]):
        assert place.run("--precision", "auto", *arguments) == 0
    assert len(probes) == 1 and len(list((place.plots / "records/cpu-bf16").glob("*.npz"))) == 3
    remembered = place.runs / "tiny/precision-digits.json"
    remembered.write_text(remembered.read_text().replace(torch.__version__, "1.0"))
    assert place.run("--precision", "auto", "--models", "A") == 0 and len(probes) == 2
    remembered.write_text("[1]")
    assert place.run("--precision", "auto", "--models", "A") == 0 and len(probes) == 3


def test_a_model_that_cannot_be_probed_fails_in_its_own_cell(place, monkeypatch, capsys):
    """Its forward pass raises an error after some steps; precision is chosen without it, and remembered."""
    monkeypatch.setattr(choices, "has_bf16_units", lambda device: True)
    monkeypatch.setattr(choices, "_convolution_seconds", lambda execution: 1.0)
    task = Task("tiny", "digits", [*TASK.experiments, Experiment("C", Broken, RECIPE)])
    assert place.run("--precision", "auto", task=task) == 1
    assert place.trained == ["A-seed0", "B-seed0", "C-seed0"]
    told = capsys.readouterr().out
    assert "C could not be measured (RuntimeError: no forward)" in told
    kinds = {path.name: read_record(path).status for path in (place.plots / "records").glob("*/*-seed0.json")}
    assert kinds == {"A-seed0.json": "finished", "B-seed0.json": "finished", "C-seed0.json": "failed"}
    assert f"C-seed0{' ' * 26}failed: RuntimeError: no forward" in told
    assert list(place.runs.rglob("precision*"))


class Broken(FCN):
    def __init__(self, image_shape, num_classes):
        super().__init__(image_shape, num_classes, hidden=(8,))
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        if self.calls > 5:  # so it passes the check of what a model must do, which is quicker
            raise RuntimeError("no forward")
        return super().forward(images)


# Where it goes, and what it says


@pytest.mark.parametrize(
    "look, arguments",
    [
        ("", ""),
        ("", "--epochs 2 --batch-size 64 --lr 0.05 --momentum 0 --weight-decay 0"),
        ("", "--models B --seeds 3 5 --runs-dir r --data-dir d --jobs 1 --device cpu --precision bf16 --fresh"),
        ("", "--output-dir elsewhere"),
        ("epochs=3", "--epochs 3"),
        ("epochs=3", "--lr 0.05 --epochs 3 --seeds 1 2 --precision bf16 --jobs 1"),
        ("epochs=3", "--epochs 3 --models B A"),
        ("epochs=3--B", "--epochs 3 --models B"),
        ("batch-size=32", "--batch-size 32"),
        ("epochs=3,lr=0.06,momentum=0.9,nesterov", "--nesterov --lr 6e-2 --momentum 0.90 --epochs 3"),
        ("weight-decay=1e-05--A", "--weight-decay 0.00001 --models A"),
        ("limit=100", "--limit 100"),
        ("epochs=3", "--epochs 3 --output-dir elsewhere"),
    ],
)
def test_a_quick_look_is_what_changes_a_recipe_and_has_a_folder_of_its_own(place, look, arguments):
    options = parse(TASK, arguments.split())
    made = make_plan(TASK, options)
    assert made.quick is bool(look) and made.updates_readme is not (bool(look) or "elsewhere" in arguments)
    folder = options.runs_dir / "quick" / "tiny" / look if look else place.plots
    assert made.output == (Path("elsewhere") if "elsewhere" in arguments else folder)


def test_the_name_of_a_quick_look_is_safe_and_never_too_long(place):
    task = task_of(**{f"Größe/{i}: a model with a long name" if i else "net": RECIPE for i in range(5)})
    names = [experiment.name for experiment in task.experiments]
    every = "--epochs 3 --batch-size 32 --lr 0.06 --momentum 0.9 --weight-decay 0.1 --limit 100 --label-smoothing 0.1"
    looks = [
        make_plan(task, parse(task, [*words.split(), "--models", *models])).output.name
        for words in ("--epochs 3", every, f"{every} --clip 1", f"{every} --clip 2")
        for models in (["net"], names[:2], names[1:3], names[2:])
    ]
    assert looks[0] == "epochs=3--net" and len(set(looks)) == len(looks)
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._=,-]{,99}", name) and name[-1] != "." for name in looks)


def test_a_quick_look_keeps_out_of_plots_and_deletes_nothing_elsewhere(place, capsys):
    place.old_records("A-seed0")
    before = digests(place.folder)
    assert place.run("--epochs", "1", "--output-dir", str(place.plots)) == 2
    assert "choose another folder" in capsys.readouterr().err and digests(place.folder) == before
    out = place.folder / "out"
    assert place.run("--output-dir", str(out)) == 0
    kept = (out / "records/cpu-fp32/B-seed0.json").read_bytes()
    assert place.run("--epochs", "1", "--models", "A", "--output-dir", str(out)) == 0
    assert (out / "records/cpu-fp32/B-seed0.json").read_bytes() == kept


def test_another_output_folder_leaves_plots_and_readme_alone(place):
    place.old_records("A-seed0")
    before = digests(place.folder)
    assert place.run("--output-dir", str(place.folder / "out")) == 0
    after = digests(place.folder)
    assert {name: after[name] for name in before} == before
    assert {name for name in set(after) - set(before) if not name.startswith("runs/")} == {
        "out/RESULTS.md", "out/records/shown_kind.txt", "out/records/cpu-fp32/timing.json",
        "out/records/cpu-fp32/data_sha256.txt",
        *(f"out/records/cpu-fp32/{model}-seed0.{suffix}" for model in "AB" for suffix in ("json", "npz")),
    }  # fmt: skip


def test_a_quick_look_is_kept_from_every_other_and_goes_on_with_its_own(place):
    assert place.run("--epochs", "1", "--models", "A") == 0
    assert place.run("--epochs", "3", "--models", "A") == 0
    assert place.run("--epochs", "1") == 0 and place.trained == ["B-seed0"]
    assert place.run("--epochs", "1", "--models", "A", "--seeds", "1") == 0 and place.drawn[-1] == {"A": [0, 1]}
    looks = {path.name: sorted(p.stem for p in path.glob("records/*/*-seed*.json")) for path in quick_looks(place)}
    assert looks == {
        "epochs=1--A": ["A-seed0", "A-seed1"], "epochs=3--A": ["A-seed0"], "epochs=1": ["A-seed0", "B-seed0"],
    }  # fmt: skip
    assert len(read_record(place.runs / "quick/tiny/epochs=3--A/records/cpu-fp32/A-seed0.json").history) == 3
    assert not place.plots.exists() and place.block() == ""


def quick_looks(place):
    return (place.runs / "quick" / "tiny").iterdir()


def test_a_quick_look_at_fewer_models_in_the_same_folder_leaves_the_others_there(place):
    out = ["--epochs", "1", "--output-dir", str(place.folder / "out")]
    assert place.run(*out) == 0 and place.run(*out, "--models", "A", "--seeds", "1") == 0
    assert place.drawn[-1] == {"A": [0, 1], "B": [0]}
    assert "declares no model" not in (place.folder / "out/RESULTS.md").read_text()
    assert place.run(*out, "--models", "A", task=task_of(A=RECIPE)) == 0  # B was taken out of the task
    assert "B-seed0.json: tiny declares no model B" in (place.folder / "out/RESULTS.md").read_text()


def test_a_missing_marker_is_a_warning(place, capsys):
    place.readme.write_text("a page of my own\n")
    assert place.run("--models", "A") == 0
    assert "warning: README.md has no markers for tiny" in capsys.readouterr().err
    assert place.readme.read_text() == "a page of my own\n" and (place.plots / "RESULTS.md").exists()


def test_quiet_prints_the_closing_lines_only(place, capsys):
    assert place.run("--quiet") == 0
    told = capsys.readouterr()
    assert told.err == "" and [line.split()[0] for line in told.out.splitlines()[:2]] == ["A-seed0", "B-seed0"]
    assert len(told.out.splitlines()) == 4


def test_a_terminal_shows_one_bar_over_all_epochs(place, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    assert place.run() == 0
    bar = sys.stderr.getvalue().rpartition("\r")[2]
    assert "B seed 0 epoch 2/2 train " in bar and " 4/4 " in bar and "A-seed0 added" in sys.stderr.getvalue()


def test_replot_touches_neither_data_nor_training(place, monkeypatch, capsys):
    assert place.run("--replot") == 2 and "no records to draw from; run the task first" in capsys.readouterr().err
    place.old_records("A-seed0", "B-seed0")
    before = digests(place.records)
    monkeypatch.setattr(steps, "load_splits", None)
    monkeypatch.setattr(steps, "train_and_draw", None)
    assert place.run("--replot") == 0
    assert digests(place.records) == before and place.drawn == [{"A": [0], "B": [0]}]
    assert not place.runs.exists()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize("committed", [True, False], ids=["records committed before", "a first run"])
def test_the_last_line_says_how_to_undo_and_that_undoes_it(place, monkeypatch, capsys, committed):
    def git(*arguments):
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.invalid", "-c", "commit.gpgsign=false"]
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=place.folder, check=True, capture_output=True, text=True).stdout

    for module in (checkout, outputs):
        monkeypatch.setattr(module, "CHECKOUT", place.folder)
    (place.folder / ".gitignore").write_text("runs/\n.*.lock\n")
    if committed:
        place.old_records("A-seed0", "A-seed1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "all")
    before = digests(place.folder / "plots"), place.readme.read_bytes()
    assert place.run("--models", "A") == 0
    last = [line for line in capsys.readouterr().out.splitlines() if "To undo: " in line][-1]
    assert "README.md" in last and "plots/tiny" in last and git("status", "--porcelain")
    subprocess.run(last.partition("To undo: ")[2], shell=True, cwd=place.folder, check=True)
    assert git("status", "--porcelain") == ""
    assert (digests(place.folder / "plots"), place.readme.read_bytes()) == before
