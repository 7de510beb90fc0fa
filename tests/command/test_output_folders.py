"""Folders with odd names, behind links, that vanish or have no room; two runs that start at the same time."""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from checkout_folder import CHECKOUT
from data_files import assert_same, tiny_mnist
from made_records import make_record, make_timing
from matplotlib.figure import Figure
from place import TASK, digests
from scripts import SCRIPT

from utils.data.sources import SOURCES, Source, load_arrays
from utils.figures import canvas
from utils.records.record import read_record, write_record
from utils.records.timing import write_timing
from utils.report.readme import update_block
from utils.training import cell as cells
from utils.training.checkpoint import Checkpoints

ODD_NAMES = ["with spaces", "сравнение", "-begins-with-a-dash", "x" * 200, 'quote\'s "and" 100%']


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_of_a_folder_will_do(place, name):
    """Spaces, Cyrillic, a leading dash, 200 characters, quotes and a percent sign."""
    output, runs = place.folder / name, place.folder / "runs" / name / name
    assert place.run(f"--output-dir={output}", f"--runs-dir={runs}") == 0
    assert read_record(output / "records/cpu-fp32/A-seed0.json").status == "finished"
    assert place.run(f"--output-dir={output}", f"--runs-dir={runs}") == 0 and place.trained == []
    assert {path.name for path in output.glob(".*")} == {".writer.lock", ".holder.lock"}
    assert not list(place.folder.glob(".*"))  # the folder above may be read-only


def test_an_output_folder_behind_a_link_is_written_through_it(place):
    """A symbolic link to a folder."""
    (place.folder / "elsewhere").mkdir()
    (place.folder / "link").symlink_to(place.folder / "elsewhere")
    assert place.run("--output-dir", str(place.folder / "link")) == 0
    assert (place.folder / "link").is_symlink() and (place.folder / "elsewhere/RESULTS.md").exists()


@pytest.mark.parametrize("which", ["plots", "runs"])
def test_a_folder_that_vanishes_while_a_run_goes_on_is_made_again(place, which):
    """The output folder, or the runs folder, deleted between two cells."""

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
            monkeypatch.setattr("utils.command.outputs.draw_task", press_ctrl_c)
            raise KeyboardInterrupt
        return fit(*arguments)

    def press_ctrl_c(*arguments, **options):
        draw_task(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(cells, "fit", interrupted)
    assert place.run() == 130 and len(place.drawn) == 2
    assert capsys.readouterr().err.count("To resume:") == 1
    assert read_record(place.records / "A-seed0.json").status == "finished"


@pytest.fixture
def disk(tmp_path):
    """Makes a file system of so many KiB, where this process may mount one."""
    folder = tmp_path / "disk"

    def mount(kib: int) -> Path:
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("nothing can be mounted here")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", str(folder)], check=True)


def test_a_really_full_disk_fails_the_cells_that_it_has_no_room_for(place, disk, capsys):
    """Output on a file system of 48 KiB."""
    output = disk(48) / "out"
    assert place.run("--output-dir", str(output), "--num-seeds", "4") == 1 and len(place.trained) == 8
    told = capsys.readouterr()
    assert "No space left on device" in told.out
    records = {path.stem: read_record(path).status for path in (output / "records/cpu-fp32").glob("*-seed*.json")}
    assert 0 < len(records) < 8 and set(records.values()) == {"finished"}  # whole ones, and no parts
    assert not list(output.rglob(".*.partial"))


def draw(number: int) -> Figure:
    figure = Figure()
    figure.subplots().plot([number, 2])
    return figure


# Each writes another content for another number, to files that the first call makes.
WRITERS = {
    "a record and its arrays": lambda folder, number: write_record(folder, make_record(accuracy=number / 10)),
    "a timing pass": lambda folder, number: write_timing(folder, make_timing([f"model {number}"])),
    "a picture": lambda folder, number: canvas.save(draw(number), folder / "picture.png"),
    "a block of the README": lambda folder, number: update_block(
        folder / "README.md", "tiny", f"text {number}", "plots/any"
    ),
    "a checkpoint": lambda folder, number: Checkpoints(folder, {}).save(
        number, {"weight": torch.full((1000,), float(number))}, {"history": [{}] * number}
    ),
}


def fill_up(folder: Path) -> None:
    with open(folder / "filler", "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(512))


@pytest.mark.parametrize("writer", WRITERS)
def test_on_a_really_full_disk_each_writer_leaves_the_older_file_whole(disk, writer):
    """A record and its arrays, a timing pass, a picture, a block of the README, a checkpoint."""
    folder, write = disk(256), WRITERS[writer]
    (folder / "README.md").write_text("before\n<!-- tiny: begin -->\n<!-- tiny: end -->\nafter\n")
    write(folder, 8)
    fill_up(folder)
    before = digests(folder)
    with pytest.raises(OSError, match="No space left on device"):
        write(folder, 9)
    assert digests(folder) == before
    (folder / "filler").unlink()
    write(folder, 9)
    after = digests(folder)  # all of the new content, and nothing else
    del before["filler"]
    assert after != before and not [name for name in after if name.endswith(".partial")]
    write(folder, 9)
    assert digests(folder) == after


def test_on_a_really_full_disk_the_data_are_used_and_not_kept(disk, monkeypatch, capsys):
    """A data folder without a byte left."""
    folder = disk(48)
    spec, arrays = tiny_mnist()
    monkeypatch.setitem(SOURCES, "mnist", [Source("a source", lambda *_: arrays)])
    fill_up(folder)
    assert_same(load_arrays(spec, folder), arrays)
    assert "mnist.npz could not be written ([Errno 28] No space left on device)" in capsys.readouterr().err
    assert list(digests(folder)) == ["filler"]


def test_runs_on_a_disk_too_small_for_the_plan_are_refused(place, disk, capsys):
    """Runs on a file system of 48 KiB."""
    before = digests(place.folder / "plots")
    assert place.run("--runs-dir", str(disk(48) / "runs"), task=TASK) == 1 and place.trained == []
    assert "0 MiB are free, and this run may need" in capsys.readouterr().err
    assert digests(place.folder / "plots") == before


BARRIER = """
import os, time
from pathlib import Path
from utils import cli
if __name__ == "__main__":
    Path(f"ready{os.getpid()}").touch()
    while len(list(Path().glob("ready*"))) < 2:
        time.sleep(0.001)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="starts two processes at once")
def test_of_two_runs_that_start_together_one_goes_on_and_the_other_says_so(tmp_path):
    """Two processes behind a barrier on the same folders."""
    (tmp_path / "task_tiny.py").write_text(BARRIER + SCRIPT)
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
