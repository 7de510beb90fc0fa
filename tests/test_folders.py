"""Folders with odd names, behind links, that vanish or have no room; two runs that start at the same time."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from place import TASK, digests
from test_faults import CHECKOUT, SCRIPT

from utils import cells
from utils.results import read_record

ODD_NAMES = ["with spaces", "сравнение", "-begins-with-a-dash", "x" * 200, 'quote\'s "and" 100%']


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_of_a_folder_will_do(place, name):
    output, runs = place.folder / name / "out", place.folder / name / "runs"
    assert place.run(f"--output-dir={output}", f"--runs-dir={runs}") == 0
    assert read_record(output / "records/cpu-fp32/A-seed0.json").status == "finished"
    assert place.run(f"--output-dir={output}", f"--runs-dir={runs}") == 0 and place.trained == []


def test_an_output_folder_behind_a_link_is_written_through_it(place):
    (place.folder / "elsewhere").mkdir()
    (place.folder / "link").symlink_to(place.folder / "elsewhere")
    assert place.run("--output-dir", str(place.folder / "link")) == 0
    assert (place.folder / "link").is_symlink() and (place.folder / "elsewhere/RESULTS.md").exists()


@pytest.mark.parametrize("which", ["plots", "runs"])
def test_a_folder_that_vanishes_while_a_run_goes_on_is_made_again(place, which):
    def remove(job):
        if job.experiment.name == "B":
            shutil.rmtree(getattr(place, which))

    place.before_cell = remove
    assert place.run() == 0
    assert read_record(place.records / "B-seed0.json").status == "finished"


def test_a_second_ctrl_c_ends_at_once(place, monkeypatch, capsys):
    """The first one while B trains, the second while what had finished is drawn."""
    fit, draw_task = cells.fit, place.draw_task

    def interrupted(*arguments):
        if place.trained[-1] == "B-seed0":
            monkeypatch.setattr("utils.outputs.draw_task", press_ctrl_c)
            raise KeyboardInterrupt
        return fit(*arguments)

    def press_ctrl_c(*arguments, **options):
        draw_task(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(cells, "fit", interrupted)
    assert place.run() == 130 and len(place.drawn) == 2
    assert capsys.readouterr().err.count("this goes on from there") == 1
    assert read_record(place.records / "A-seed0.json").status == "finished"


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 48 KiB, where this process may mount one."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_really_full_disk_fails_the_cells_that_it_has_no_room_for(place, tiny_disk, capsys):
    output = tiny_disk / "out"
    assert place.run("--output-dir", str(output), "--num-seeds", "4") == 1 and len(place.trained) == 8
    told = capsys.readouterr()
    assert "No space left on device" in told.out
    records = {path.stem: read_record(path).status for path in (output / "records/cpu-fp32").glob("*-seed*.json")}
    assert 0 < len(records) < 8 and set(records.values()) == {"finished"}  # whole ones, and no parts
    assert not list(output.rglob(".*.partial"))


def test_runs_on_a_disk_too_small_for_the_plan_are_refused(place, tiny_disk, capsys):
    before = digests(place.folder / "plots")
    assert place.run("--runs-dir", str(tiny_disk / "runs"), task=TASK) == 1 and place.trained == []
    assert "0 MiB are free, and this run may need" in capsys.readouterr().err
    assert digests(place.folder / "plots") == before


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="starts two processes at once")
def test_of_two_runs_that_start_together_one_goes_on_and_the_other_says_so(tmp_path):
    (tmp_path / "task_tiny.py").write_text(SCRIPT)
    command = [sys.executable, "task_tiny.py", *"--smoke --epochs 60 --jobs 1 --precision fp32 --device cpu".split()]
    command += ["--runs-dir", "runs", "--output-dir", "out", "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    processes = [subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes) for _ in range(2)]
    told = [process.communicate(timeout=200)[0] for process in processes]
    codes = [process.returncode for process in processes]
    assert sorted(codes) == [0, 2], told
    assert "is being written by process" in told[codes.index(2)]
    records = list(Path(tmp_path).glob("out/records/*/*-seed0.json"))
    assert len(records) == 2 and all(read_record(path).status == "finished" for path in records)
