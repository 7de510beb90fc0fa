"""Any machine: its threads, its precision, its terminal, its folders, and the files that other programs leave."""

import dataclasses
import io
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections import Counter
from contextlib import suppress
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from damage import rewrite
from made_records import make_timing
from place import HASHES, RECIPE, SMALL, TASK, digests, task_of

from models import FCN
from utils import checkout, cli
from utils.command import devices, outputs, processes, schedule, steps
from utils.command.arguments import parse
from utils.command.plan import make_plan
from utils.experiment import Contrast, Experiment, Task
from utils.records.record import read_record
from utils.training import cell as cells
from utils.training import checkpoint, sources
from utils.training.cell import failed_record
from utils.training.device import Execution
from utils.training.fit import fit

CPU = torch.device("cpu")


def folders(place) -> list[str]:
    return sorted(str(path.relative_to(place.folder)) for path in place.folder.rglob("*") if path.is_dir())


# Threads


def planned(*arguments: str, task: Task = TASK):
    return make_plan(task, parse(task, ["--device", "cpu", "--precision", "fp32", *arguments]))


@pytest.mark.parametrize(
    "variable, arguments, threads, processes, measured",
    [
        (None, "", 2, 2, True),  # four cores, shared by the two cells of the task
        (None, "--models A", 4, 1, True),
        (None, "--jobs 1", 4, 1, True),
        (None, "--threads 3", 3, 1, False),
        (None, "--threads 1 --num-seeds 3", 1, 4, False),
        ("1", "", 1, 2, False),
        ("1", "--threads 4", 4, 1, False),
        ("3", "--models A", 3, 1, False),
        ("4,2", "", 4, 1, False),  # of nested regions: the first counts
        ("64", "", 4, 1, False),
        ("0", "", 2, 2, True),
        ("many", "", 2, 2, True),
    ],
)
def test_threads_are_those_asked_for_or_else_measured(
    place, monkeypatch, variable, arguments, threads, processes, measured
):
    monkeypatch.setattr(devices, "physical_cores", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    made = planned(*arguments.split())
    assert (made.execution.threads, made.processes, made.chooses_threads) == (threads, processes, measured)


def test_a_smoke_run_takes_one_thread_and_measures_none(place, monkeypatch):
    monkeypatch.setattr(devices, "physical_cores", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    made = planned("--smoke", task=task_of("mnist", A=RECIPE))
    assert made.execution.threads == 1 and not made.chooses_threads


@pytest.mark.parametrize(
    "seconds, threads, told",
    [
        ((0.013, 0.0105), 1, "Threads for each run: 1 (a training step takes 13.0 ms with 1 and 10.5 ms with 4"),
        ((0.013, 0.0099), 4, "Threads for each run: 4 (a training step takes 13.0 ms with 1 and 9.9 ms with 4"),
        ((0.013, 0.5), 1, "500.0 ms with 4"),  # what two busy cores make of two threads
        (RuntimeError("no forward"), 1, "One thread for each run: 4 could not be measured (no forward)."),
    ],
)
def test_more_threads_only_if_clearly_faster_now(place, data, monkeypatch, seconds, threads, told):
    def measured(*_):
        if isinstance(seconds, Exception):
            raise seconds
        return seconds

    monkeypatch.setattr(devices, "physical_cores", lambda: 4)
    monkeypatch.setattr(schedule, "TINY_RUN", 0)
    monkeypatch.setattr(schedule, "seconds_by_threads", measured)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    execution, why = schedule.chosen_execution(planned("--models", "A"), data)
    assert execution.threads == threads and told in why


def test_a_tiny_run_takes_one_thread_unmeasured(place, data, monkeypatch):
    monkeypatch.setattr(devices, "physical_cores", lambda: 4)
    monkeypatch.setattr(schedule, "seconds_by_threads", None)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    execution, why = schedule.chosen_execution(planned("--models", "A"), data)
    assert (execution.threads, why) == (1, "")


def test_a_resumed_cell_keeps_its_threads_and_its_bits(place, monkeypatch):
    """Stopped with two threads and started again with one."""
    monkeypatch.setattr(checkpoint, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(devices, "physical_cores", lambda: 2)

    def stop(model, config, seed, data, execution, on_epoch, checkpoints):
        fit(model, dataclasses.replace(config, epochs=1), seed, data, execution, on_epoch, checkpoints)
        raise KeyboardInterrupt

    large = dataclasses.replace(RECIPE, batch_size=575)  # few steps: two threads on one core are slow
    run = partial(place.run, task=task_of(A=large, B=large))
    with monkeypatch.context() as patched:
        patched.setattr(cells, "fit", stop)
        assert run("--models", "A", "--threads", "2") == 130
    seen = []
    place.before_cell = lambda job: seen.append((job.experiment.name, torch.get_num_threads()))
    try:
        assert run("--models", "A", "B", "--threads", "1") == 0
        whole = place.folder / "whole"
        assert run("--models", "A", "--threads", "2", "--runs-dir", str(whole)) == 0
    finally:
        torch.set_num_threads(1)
    assert sorted(seen[:2]) == [("A", 2), ("B", 1)] and seen[2:] == [("A", 2)]
    (resumed,) = place.runs.rglob("A/*/seed0/final.safetensors")
    (uninterrupted,) = whole.rglob("final.safetensors")
    assert resumed.read_bytes() == uninterrupted.read_bytes()
    assert read_record(resumed.parent / "A-seed0.json").environment["threads"] == 2
    (other,) = place.runs.rglob("B-seed0.json")
    assert read_record(other).environment["threads"] == 1


# Processes


class FakeProcess:
    """A thread in the place of a process; a model named "dies" ends it."""

    exitcode = 9

    def __init__(self, connection, started):
        self.connection = connection
        self.thread = threading.Thread(target=self.work, args=(started,), daemon=True)
        self.thread.start()

    def work(self, number):
        with suppress(EOFError, OSError):
            while True:
                job, _ = self.connection.recv()
                if job.experiment.name == "dies":
                    break
                fails = job.experiment.name == "fails"
                record = failed_record(job, "an error" if fails else "")
                self.connection.send({"started": number})
                self.connection.send(record if fails else dataclasses.replace(record, status="finished"))
        self.connection.close()

    def join(self, timeout=None):
        self.thread.join(10)

    def is_alive(self):
        return False

    def terminate(self):
        pass


@pytest.mark.parametrize("bad, message", [("dies", "its process died (exit code 9)"), ("fails", "an error")])
def test_a_cell_that_fails_takes_its_process_along_and_no_other_cell(place, monkeypatch, bad, message):
    """Its process dies, or it ends with an error; the next cell gets a new process."""
    started = Counter()

    def start(execution):
        ours, theirs = processes.multiprocessing.Pipe()
        started["processes"] += 1
        return processes.Worker(FakeProcess(theirs, started["processes"]), ours, execution)

    monkeypatch.setattr(processes, "_start", start)
    task = Task("tiny", "digits", [Experiment(name, SMALL, RECIPE) for name in ("A", "B", bad, "C", "D")])
    jobs = schedule.make_jobs(planned("--runs-dir", str(place.runs), task=task), Execution(CPU, "fp32", 1), "")
    by = {}
    told = processes.run_side_by_side(jobs, [CPU], lambda job, entry: by.setdefault(job.stem, entry["started"]))
    records = {record.stem: record for record in told}
    statuses = {stem: record.status for stem, record in records.items()}
    assert statuses == {f"{e.name}-seed0": "failed" if e.name == bad else "finished" for e in task.experiments}
    assert records[f"{bad}-seed0"].message == message
    assert {stem: by[f"{stem}-seed0"] for stem in "ABCD"} == {"A": 1, "B": 1, "C": 2, "D": 2}


def test_a_model_that_cannot_be_pickled_runs_in_this_process(place, monkeypatch, capsys):
    """A class inside a function, as in a notebook."""

    class Local(FCN):
        def __init__(self, image_shape, num_classes):
            super().__init__(image_shape, num_classes, hidden=(8,))

    monkeypatch.setattr(steps, "why_not_apart", processes.why_not_apart)
    monkeypatch.setattr(steps, "run_side_by_side", None)
    monkeypatch.setattr(steps, "run_in_turn", processes.run_in_turn)
    assert place.run(task=Task("tiny", "digits", [Experiment("Own", Local, RECIPE)])) == 0
    told = capsys.readouterr().err
    assert "Own can't be sent to another process (" in told and "one after another in this process" in told
    assert read_record(place.records / "Own-seed0.json").status == "finished"


def test_without_a_script_runs_stay_in_this_process(place, monkeypatch, capsys):
    """`python -c`, or a notebook: there is no file that another process could load."""
    monkeypatch.setattr(steps, "why_not_apart", processes.why_not_apart)
    monkeypatch.setattr(steps, "run_side_by_side", None)
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace())
    assert place.run("--models", "A") == 0
    assert "there is no script that another process could load" in capsys.readouterr().err


def test_main_can_be_called_from_a_thread(place, monkeypatch):
    """Only the main thread may handle signals."""
    monkeypatch.setattr(
        sys, "argv", ["task.py", *"--device cpu --precision fp32 --models A --runs-dir".split(), str(place.runs)]
    )
    codes = []

    def call():
        try:
            cli.main(TASK)
        except BaseException as end:
            codes.append(end.code if isinstance(end, SystemExit) else end)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert codes == [0] and place.trained == ["A-seed0"]


# The terminal


def full_stream():
    return open("/dev/full", "w", buffering=1)


def closed_stream():
    stream = io.StringIO()
    stream.close()
    return stream


STREAMS = {"full": full_stream, "closed": closed_stream, "missing": lambda: None}


@pytest.mark.parametrize("name", ["stdout", "stderr"])
@pytest.mark.parametrize("state", STREAMS)
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_terminal_that_takes_nothing_ends_no_training(place, monkeypatch, name, state):
    """Standard output or standard error is full, closed or None."""
    stream = STREAMS[state]()
    try:
        with monkeypatch.context() as patched:
            patched.setattr(sys, name, stream)
            code = place.run()
    finally:
        if stream is not None:
            with suppress(OSError):
                stream.close()
    assert code == 0 and place.trained == ["A-seed0", "B-seed0"] and place.drawn[-1] == {"A": [0], "B": [0]}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_standard_output_changes_no_exit_code(place, monkeypatch):
    """Python itself would end with code 120 when it can't flush."""
    monkeypatch.setattr(
        sys, "argv", ["task.py", *"--device cpu --precision fp32 --models A --runs-dir".split(), str(place.runs)]
    )
    full = open("/dev/full", "w")  # buffered: the fault shows when it is flushed
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as end:
            cli.main(TASK)
    assert end.value.code == 0
    full.close()  # nothing is left that could not be written


def test_a_terminal_without_the_letters_of_a_path_shows_them_escaped(place, monkeypatch):
    """ASCII, and an output folder with a Cyrillic name."""
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding="ascii") for name in ("stdout", "stderr")}
    with monkeypatch.context() as patched:
        for name, stream in streams.items():
            patched.setattr(sys, name, stream)
        assert place.run("--output-dir", str(place.folder / "сравнение"), "--models", "A") == 0
        assert place.run("--output-dir", str(place.folder / "вид"), "--replot") == 2
    for stream in streams.values():
        stream.flush()
    told, warned = (stream.buffer.getvalue().decode("ascii") for stream in streams.values())
    assert "\\u0441\\u0440\\u0430\\u0432\\u043d\\u0435\\u043d\\u0438\\u0435" in told
    assert "\\u0432\\u0438\\u0434" in warned and "no records to draw from" in warned
    assert (place.folder / "сравнение" / "RESULTS.md").exists()


# Folders


def test_a_folder_in_a_read_only_one_is_enough(place):
    """The folders that hold the output and the runs are read-only; nothing is put there, not even a lock."""
    output, runs = place.folder / "a" / "out", place.folder / "b" / "tiny"
    for folder in (output, runs):
        folder.mkdir(parents=True)
        folder.parent.chmod(0o555)
    try:
        assert place.run("--output-dir", str(output), "--runs-dir", str(runs.parent)) == 0
    finally:
        for folder in (output, runs):
            folder.parent.chmod(0o755)
    for folder in (output, runs):
        assert list(folder.parent.iterdir()) == [folder]  # also where root may write anywhere


def test_a_tilde_is_the_home_folder(place, monkeypatch):
    """A shell leaves it as it is after an equals sign."""
    monkeypatch.setenv("HOME", str(place.folder / "home"))
    monkeypatch.setenv("USERPROFILE", str(place.folder / "home"))
    assert place.run("--output-dir=~/out", "--runs-dir=~/runs", "--models", "A") == 0
    assert (place.folder / "home/out/RESULTS.md").exists() and (place.folder / "home/runs/tiny").is_dir()


@pytest.mark.parametrize(
    "arguments, code", [("--no-download --data-dir data", 1), ("--device cuda", 2), ("--device cuda:7", 2)]
)
def test_a_command_that_fails_makes_no_folder(place, monkeypatch, capsys, arguments, code):
    """No data, or no such device."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.chdir(place.folder)
    before = folders(place), digests(place.folder)
    assert place.run(*arguments.split(), task=task_of("mnist", A=RECIPE)) == code
    assert (folders(place), digests(place.folder)) == before
    assert capsys.readouterr().err.startswith("error: ")


# Wrong values in a task script


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"optimizer": "adamm"}, "A: unknown optimizer 'adamm': choose adam or adamw or sgd"),
        ({"epochs": 0}, "A: epochs is 0, not a whole number of at least 1"),
        ({"epochs": -1}, "A: epochs is -1, not a whole number of at least 1"),
        ({"epochs": 1.5}, "A: epochs is 1.5, not a whole number of at least 1"),
        ({"batch_size": 0}, "A: batch_size is 0, not a whole number of at least 1"),
        ({"learning_rate": -0.1}, "A: learning_rate is -0.1, not a number of at least 0"),
        ({"learning_rate": float("nan")}, "A: learning_rate is nan, not a number of at least 0"),
        ({"protocol": "mine"}, "A: unknown protocol 'mine': choose holdout or original"),
    ],
)
def test_a_wrong_value_in_a_task_script_is_one_sentence(place, capsys, changes, message):
    before = folders(place)
    assert place.run(task=task_of(A=dataclasses.replace(RECIPE, **changes))) == 2
    assert capsys.readouterr().err == f"error: {message}\n" and folders(place) == before


def test_an_unknown_data_set_in_a_task_script_is_one_sentence(place, capsys):
    before = folders(place)
    assert place.run(task=task_of("mnits", A=RECIPE)) == 2
    told = capsys.readouterr().err
    assert told == "error: unknown data set 'mnits': choose from mnist, cifar10, digits\n" and folders(place) == before


def test_an_undeclared_difference_says_how_to_declare_it(place, capsys):
    slower = dataclasses.replace(RECIPE, learning_rate=RECIPE.learning_rate / 2)
    experiments = [Experiment("A", SMALL, RECIPE), Experiment("B", partial(FCN, hidden=(9,)), slower)]
    assert place.run(task=Task("tiny", "digits", experiments, [Contrast("A", "B")])) == 2
    line = capsys.readouterr().err.partition("declare it: ")[2].strip()
    assert line == "Contrast('A', 'B', differs=('hidden', 'learning_rate'))"
    assert place.run(task=Task("tiny", "digits", experiments, [eval(line)])) == 0  # as it says


# Files of other programs, and older ones


def test_hidden_files_of_other_programs_are_ignored_and_kept(place, monkeypatch):
    """`._` beside a record, as a Mac leaves it, a notebook's `.ipynb_checkpoints`, an editor's dangling `.#` link."""
    place.old_records("A-seed0", "B-seed0")
    (place.records / "._A-seed0.json").write_bytes(b"\x00\x05\x16\x07")
    for folder in (place.plots / "records", place.records):
        (folder / ".ipynb_checkpoints").mkdir()
        (folder / ".ipynb_checkpoints" / "A-seed0-checkpoint.json").write_text("{}")
    hidden = {name: content for name, content in digests(place.plots).items() if "/." in name}
    assert len(hidden) == 3
    (place.plots / "records/shown_kind.txt").unlink(missing_ok=True)
    assert place.run("--replot") == 0 and place.drawn == [{"A": [0], "B": [0]}]
    assert "Left out" not in place.page()
    assert place.run("--fresh") == 0 and place.drawn[-1] == {"A": [0], "B": [0]}
    assert {name: content for name, content in digests(place.plots).items() if name in hidden} == hidden


def test_a_dangling_link_beside_the_sources_is_ignored(tmp_path, monkeypatch):
    """An editor's `.#fit.py`, a symbolic link to nothing, while a file has unsaved changes."""
    for name in ("training/fit.py", "data/specs.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    monkeypatch.setattr(sources, "UTILS", tmp_path)
    before = sources.source_hash(TASK.experiments[0])
    (tmp_path / "training/.#fit.py").symlink_to("me@host.1234")
    assert sources.source_hash(TASK.experiments[0]) == before


def test_a_timing_pass_of_another_recipe_does_not_count(place, monkeypatch):
    """The hash of one of the models in it is another."""
    passes = []

    def timing_pass(experiments, hashes, *_):
        passes.append(dict(hashes))
        return dataclasses.replace(make_timing([e.name for e in experiments]), config_hashes=dict(hashes))

    monkeypatch.setattr(steps, "timing_pass", timing_pass)
    assert place.run() == 0 and passes == [HASHES]
    assert place.run() == 0 and len(passes) == 1
    assert "training step, ms" in place.page()
    rewrite(place.records / "timing.json", config_hashes=HASHES | {"B": "0" * 12})
    assert place.run("--replot") == 0
    assert "training step, ms" not in place.page()
    assert place.run() == 0 and len(passes) == 2 and place.trained == []


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_checkout_of_another_owner_is_named_with_the_way_out(place, monkeypatch, capsys):
    """git refuses to work in it: "dubious ownership", as in a container or on a mount."""
    for module in (checkout, outputs):
        monkeypatch.setattr(module, "CHECKOUT", place.folder)
    subprocess.run(["git", "init", "-q"], cwd=place.folder, check=True)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own tests do so
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    assert place.run("--models", "A") == 0
    told = capsys.readouterr().out
    assert "another user owns the checkout (dubious ownership)" in told
    assert f"git config --global --add safe.directory {shlex.quote(str(place.folder))}" in told
