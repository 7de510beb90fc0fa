"""The command line: a whole tiny run, quick looks kept apart, bad usage, and redrawing."""

import hashlib
import re
import shutil
from functools import partial

import pytest
from checkout_folder import CHECKOUT
from made_records import make_record, make_timing

import task_1_1_mnist
import task_1_2_cifar
from models import FCN
from utils.cli import run
from utils.command import outputs, plan
from utils.command.plan import hashes_of
from utils.data.specs import DATASETS
from utils.experiment import Declared, Experiment, Task, TrainConfig, under_original_protocol
from utils.records.folder import publish, read_runs
from utils.records.record import read_record
from utils.records.timing import write_timing
from utils.report.readme import block_of

RECIPE = TrainConfig(epochs=15, batch_size=64, optimizer="adam", learning_rate=1e-3)
TASK = Task("task_1_1", "mnist", tuple(Experiment(name, partial(FCN, hidden=(8,)), RECIPE) for name in ("A", "B")))
HASHES = hashes_of(TASK.experiments, DATASETS["mnist"])
README = "before\n<!-- task_1_1: begin -->\n<!-- task_1_1: end -->\nafter\n"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text(README)
    monkeypatch.setattr(plan, "PLOTS", tmp_path / "plots")
    monkeypatch.setattr(outputs, "README", tmp_path / "README.md")
    for model in HASHES:
        publish(tmp_path / "plots/task_1_1/records/cpu-bf16", make_record(model, config_hash=HASHES[model]))
    write_timing(tmp_path / "plots/task_1_1/records/cpu-bf16", make_timing(list(HASHES)))
    return tmp_path


def digests(folder):
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def test_a_tiny_run_is_a_quick_look_and_leaves_plots_and_readme_alone(checkout, capsys):
    before = digests(checkout)
    command = ["--smoke", "--epochs", "1", "--runs-dir", str(checkout / "runs"), "--jobs", "1", "--precision", "fp32"]
    assert run(TASK, command) == 0
    assert {path: digest for path, digest in digests(checkout).items() if "/runs/" not in path} == before
    quick = checkout / "runs/quick/task_1_1/smoke,epochs=1"
    records = [read_record(path) for path in (quick / "records/cpu-fp32").glob("*-seed0.json")]
    assert {record.model for record in records} == {"A", "B"} and {r.test_total for r in records} == {360}
    for name in ("A_curves", "B_confusion_matrix", "A_mistakes", "comparison", "accuracy_vs_cost"):
        assert (quick / f"{name}.png").stat().st_size > 5000
    told = capsys.readouterr().out
    assert "A-seed0" in told and "Smoke test: digits, small embedded data, stand in for mnist." in told
    assert run(TASK, command) == 0
    assert "2 finished before" in capsys.readouterr().out


def test_replot_redraws_everything_and_twice_changes_no_byte(checkout):
    assert run(TASK, ["--replot"]) == 0
    first = digests(checkout)
    assert any(path.endswith("comparison.png") for path in first)
    assert "98" in block_of((checkout / "README.md").read_text(), "task_1_1")
    assert run(TASK, ["--replot"]) == 0
    assert digests(checkout) == first


def test_another_kind_lies_beside_and_an_unknown_one_is_named(checkout, capsys):
    assert run(TASK, ["--replot", "--kind", "cuda-bf16"]) == 2
    assert "choose from cpu-bf16" in capsys.readouterr().err


def test_a_record_replaces_its_own_cell_and_another_recipe_is_left_out(checkout):
    folder = checkout / "plots/task_1_1/records/cpu-bf16"
    before = (folder / "B-seed0.json").read_bytes()
    said = publish(folder, make_record("A", accuracy=0.9, config_hash=HASHES["A"]))
    assert "A-seed0 replaced" in said and (folder / "B-seed0.json").read_bytes() == before
    publish(folder, make_record("B", seed=1, config_hash="edited"))
    runs, _, left_out = read_runs(folder, "task_1_1", Declared(HASHES))
    assert [r.seed for r in runs["B"]] == [0] and len(left_out) == 1 and "B-seed1" in left_out[0]


def test_a_failed_run_never_replaces_a_finished_one(checkout):
    folder = checkout / "plots/task_1_1/records/cpu-bf16"
    before = digests(folder)
    assert "stays" in publish(folder, make_record("A", diverges_from=3, config_hash=HASHES["A"]))
    assert digests(folder) == before


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--models", "VGG"], "choose from"),
        (["--epochs", "0"], "1 or more"),
        (["--epochs", "-1"], "1 or more"),
        (["--batch-size", "0"], "1 or more"),
        (["--lr", "nan"], "above 0"),
        (["--lr", "inf"], "above 0"),
        (["--lr", "-0.1"], "above 0"),
        (["--seeds", "1", "1"], "names one twice"),
        (["--seeds", "-1"], "0 or more"),
        (["--limit", "0"], "1 or more"),
        (["--momentum", "0.9"], "Adam"),
        (["--kind", "cpu-fp32"], "--replot"),
        (["--jobs", "1000"], "cores"),
    ],
)
def test_bad_usage_names_the_fault_and_writes_nothing(checkout, capsys, arguments, message):
    before = digests(checkout)
    try:
        code = run(TASK, arguments)
    except SystemExit as exit:
        code = exit.code
    assert code == 2 and message in capsys.readouterr().err
    assert digests(checkout) == before


def test_cuda_without_cuda_is_refused(checkout, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert run(TASK, ["--device", "cuda"]) == 2
    assert "--device cuda: there is none here; choose from auto, cpu" in capsys.readouterr().err


def test_an_output_folder_that_is_a_file_is_refused(checkout, capsys):
    """Its bytes stay."""
    (checkout / "file").write_text("mine")
    with pytest.raises(SystemExit, match="2"):
        run(TASK, ["--output-dir", str(checkout / "file")])
    assert "is a file" in capsys.readouterr().err and (checkout / "file").read_text() == "mine"


def test_an_output_folder_that_is_a_link_to_nothing_is_refused(checkout, capsys):
    """A dangling symbolic link."""
    (checkout / "link").symlink_to(checkout / "nothing")
    with pytest.raises(SystemExit, match="2"):
        run(TASK, ["--output-dir", str(checkout / "link")])
    assert "a link to nothing" in capsys.readouterr().err


@pytest.mark.parametrize("protocol", ["holdout", "original"])
@pytest.mark.parametrize("task", [task_1_1_mnist.TASK, task_1_2_cifar.TASK], ids=lambda task: task.name)
def test_the_committed_pages_are_those_that_the_records_give(tmp_path, monkeypatch, capsys, task, protocol):
    shown = task if protocol == "holdout" else under_original_protocol(task)
    page = f"plots/{shown.name}/RESULTS.md"
    shutil.copytree(CHECKOUT / "plots" / shown.name / "records", tmp_path / "plots" / shown.name / "records")
    shutil.copy(CHECKOUT / "README.md", tmp_path / "README.md")
    monkeypatch.setattr(plan, "PLOTS", tmp_path / "plots")
    monkeypatch.setattr(outputs, "README", tmp_path / "README.md")
    monkeypatch.setattr(outputs, "draw_task", lambda *_, **__: [])
    assert run(task, ["--replot", "--protocol", protocol]) == 0
    for name in ("README.md", page):
        assert (tmp_path / name).read_bytes() == (CHECKOUT / name).read_bytes(), name
    printed, warnings = capsys.readouterr()
    assert not warnings
    if shown.name == "task_1_1":  # of which the README shows the end of a run
        example = re.search(r"```\n(Test accuracy.*?)```", (CHECKOUT / "README.md").read_text("utf-8"), re.DOTALL)[1]
        assert all(part in printed for part in example.split("...\n"))
