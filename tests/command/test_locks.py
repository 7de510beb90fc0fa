"""One writer at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from checkout_folder import CHECKOUT
from place import RECIPE, TASK, digests

from models import FCN
from utils.command.locks import FolderInUse, sole_writer
from utils.experiment import Experiment, Task

HOLDER = """
import sys, time
from pathlib import Path
from utils.command.locks import sole_writer
with sole_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def hold():
    """Has another process hold the lock of a folder; returns that process."""
    processes = []

    def start(folder: Path) -> subprocess.Popen:
        command = [sys.executable, "-c", HOLDER, str(folder)]
        process = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": str(CHECKOUT)}, stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize("folder", ["plots/tiny", "runs/tiny"])
def test_a_second_run_says_who_holds_the_folder_and_changes_nothing(place, hold, capsys, folder):
    """Another process holds the output folder, or the runs folder."""
    place.old_records("A-seed0", task=TASK)
    before = digests(place.folder)
    holder = hold(place.folder / folder)
    assert place.run() == 2 and place.trained == []
    told = capsys.readouterr().err
    assert f"{place.folder / folder} is being written by process {holder.pid} since 20" in told
    assert "choose another folder" in told
    assert digests(place.folder) == before


def test_the_lock_of_a_killed_process_is_taken_over(place, hold):
    """SIGKILL to the holder."""
    holder = hold(place.folder / "runs/tiny")
    holder.kill()
    holder.wait()
    assert place.run("--models", "A") == 0


def test_redrawing_waits_for_nobody_either(place, hold, capsys):
    """--replot while another process holds the output folder."""
    place.old_records("A-seed0", "B-seed0")
    hold(place.plots)
    assert place.run("--replot") == 2 and "is being written by process" in capsys.readouterr().err


def test_two_names_of_one_folder_are_one_lock(tmp_path):
    """A symbolic link."""
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with sole_writer(tmp_path / "a"), pytest.raises(FolderInUse), sole_writer(tmp_path / "link"):
        pass
    with (
        sole_writer(tmp_path / "a", tmp_path / "a"),
        pytest.raises(FolderInUse, match="process"),
        sole_writer(tmp_path / "b", tmp_path / "a"),
    ):
        pass
    with sole_writer(tmp_path / "a"), sole_writer(tmp_path / "b"):
        pass


class Headless(FCN):
    def forward(self, images):
        return super().forward(images)[:, :3]


def test_a_refused_command_leaves_no_folder_behind(place):
    """Nor a parent that it made; what was there before stays, empty or not."""
    (place.folder / "mine").mkdir()
    task = Task("tiny", "digits", [Experiment("A", Headless, RECIPE)])
    for folder in ("new/deep", "mine/deep"):
        assert place.run("--output-dir", str(place.folder / folder), task=task) == 2
    assert sorted(path.name for path in place.folder.iterdir()) == ["README.md", "mine"]
    assert list((place.folder / "mine").iterdir()) == []
