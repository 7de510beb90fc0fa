"""`--shared`: any number of processes share the cells of a command through claims in the runs folder."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checkout_folder import CHECKOUT
from many_script import command, ended, no_orphans, published, start, times_trained, wait_for

from utils.command import claims as claiming
from utils.command.claims import ClaimLost, Claims, claims_in
from utils.files import write_atomically

pytestmark = pytest.mark.usefixtures("cleared")

# Claims every folder that has no result yet, works there for a while, and writes the result.
CLAIMER = """
import sys, time
from pathlib import Path
from utils.command import claims as claiming
from utils.command.claims import ClaimLost, Claims
from utils.files import write_atomically
claiming.TAKE_OVER_SECONDS = 1.5
left = sorted(Path(sys.argv[1]).glob("cell*"))
with Claims() as claims:
    while left := [folder for folder in left if not (folder / "result").exists()]:
        for folder in left:
            if claim := claims.take(folder):
                try:
                    with claim.kept():
                        if (folder / "result").exists():
                            continue
                        print("began", folder.name, flush=True)
                        time.sleep(0.3)
                        write_atomically(folder / "result", claim.token.encode())
                        print("wrote", folder.name, flush=True)
                except ClaimLost:
                    print("lost", folder.name, flush=True)
        time.sleep(0.05)
"""


@pytest.fixture
def quickly(monkeypatch):
    monkeypatch.setattr(claiming, "TAKE_OVER_SECONDS", 0.3)


def test_eight_processes_write_each_cell_once_though_one_is_stopped_and_one_is_killed(tmp_path):
    """SIGSTOP in the middle of a cell until that was taken over: woken, it looks, and leaves. SIGKILL of another."""
    folders = [tmp_path / f"cell{k}" for k in range(24)]
    for folder in folders:
        folder.mkdir()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        for _ in range(8)
    ]
    stopped, killed = processes[:2]
    for process in (stopped, killed):
        assert process.stdout.readline().startswith("began")
    stopped.send_signal(signal.SIGSTOP)
    killed.kill()
    others = "".join(process.communicate(timeout=60)[0] for process in processes[2:])
    stopped.send_signal(signal.SIGCONT)
    told = stopped.communicate(timeout=60)[0]
    killed.communicate()
    assert "lost" in told and others.count("wrote") == 24 and "wrote" not in told
    assert sorted(re.findall(r"wrote (\w+)", others)) == sorted(folder.name for folder in folders)
    assert not list(tmp_path.rglob("claim*")) and not list(tmp_path.rglob("*.partial"))


def test_a_claim_is_taken_over_once_and_only_without_signs_of_life(tmp_path, quickly):
    owner, watchers = Claims(), [Claims() for _ in range(8)]
    claim = owner.take(tmp_path)
    with pytest.raises(ClaimLost), claim.kept():
        started = time.monotonic()
        while time.monotonic() - started < 1:  # three times as long as it takes without a sign of life
            assert not any(watcher.take(tmp_path) for watcher in watchers)
            time.sleep(0.05)
        write_atomically(tmp_path / "ours", b"")
        (tmp_path / "claim-1.json").write_text("{}")  # another one's, that dies at once
        write_atomically(tmp_path / "theirs", b"")
    assert (tmp_path / "ours").exists() and not (tmp_path / "theirs").exists()
    assert [path.name for path in claims_in(tmp_path)] == ["claim-0.json", "claim-1.json"]
    taken: list = []
    while not taken:
        taken = [found for watcher in watchers if (found := watcher.take(tmp_path))]
    assert [found.number for found in taken] == [2] and not claim.is_held()
    taken[0].release()
    assert claims_in(tmp_path) == []


def test_a_claim_that_was_released_and_made_again_is_anothers(tmp_path, quickly):
    """The name of a deleted claim is used again: the older process neither holds it nor writes into it."""
    claim = Claims().take(tmp_path)
    with pytest.raises(ClaimLost), claim.kept():
        claim.path.unlink()
        assert (again := Claims().take(tmp_path)).path == claim.path
        time.sleep(0.2)  # in which it beats
        assert again.is_held() and json.loads(claim.path.read_text())["beats"] == 0
        claim.look()
    assert again.is_held()


def test_of_two_claims_the_newest_holds_whatever_lies_between_and_a_release_spares_it(tmp_path, monkeypatch):
    """One who saw no claim made its first while another took a fourth over; a fifth comes in the midst of a release."""
    older, newer = (Claims()._make(tmp_path, number) for number in (0, 4))
    assert newer.is_held() and not older.is_held()
    monkeypatch.setattr(claiming.Claim, "is_held", lambda self: True)  # as it was a moment ago
    fifth = Claims()._make(tmp_path, 5)
    newer.release()
    assert claims_in(tmp_path) == [fifth.path]


def test_signs_of_life_go_on_after_one_that_failed(tmp_path, quickly, monkeypatch):
    """Such as on a disk that was full for a moment."""
    flush, failures = os.fsync, [OSError("full")] * 5

    def failing(handle: int) -> None:
        if failures:
            raise failures.pop()
        flush(handle)

    monkeypatch.setattr(os, "fsync", failing)
    claim = Claims().take(tmp_path)
    with claim.kept():
        wait_for(lambda: json.loads(claim.path.read_text())["beats"] > 6, seconds=20)


def test_two_processes_train_each_cell_once_and_one_draws(tmp_path, alone):
    told = [ended(process) for process in (shared(tmp_path), shared(tmp_path))]
    assert [code for code, _, _ in told] == [0, 0]
    assert published(tmp_path) == {stem: alone[stem] for stem in ("A-seed0", "B-seed0")}
    assert times_trained(told[0][2] + told[1][2]) == {"A-seed0": 1, "B-seed0": 1}
    assert sum("In short:" in out for _, out, _ in told) == 1
    assert not list(tmp_path.rglob("claim*"))


@pytest.mark.slow
def test_four_processes_of_which_one_is_killed_one_stopped_and_one_late(tmp_path, alone):
    """SIGKILL in the middle of a cell; SIGSTOP of a command and its cell until both were taken over; one after all."""
    environment = {"TAKE_OVER": "8", "SLOWLY": "1"}
    first = [shared(tmp_path, "--num-seeds", "3", **environment) for _ in range(3)]
    wait_for(lambda: len(list(tmp_path.rglob("epoch1.json"))) >= 3)
    first[0].kill()
    stopped = [first[1].pid, *children_of(first[1].pid)]
    for process in stopped:
        os.kill(process, signal.SIGSTOP)
    fourth = shared(tmp_path, "--num-seeds", "3", **environment)
    told = [ended(process, 400) for process in (first[2], fourth)]
    assert [code for code, _, _ in told] == [0, 0] and published(tmp_path) == alone
    drawn = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    for process in stopped:
        os.kill(process, signal.SIGCONT)
    assert ended(first[1])[0] == 0 and ended(first[0])[0] == -signal.SIGKILL
    code, out, _ = ended(shared(tmp_path, "--num-seeds", "3"))
    assert code == 0 and "Nothing left" in out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == drawn
    assert not list(tmp_path.rglob("claim*")) and no_orphans(tmp_path)


@pytest.mark.slow
def test_a_terminated_process_releases_its_cell_and_one_that_cannot_follow_says_why(tmp_path, alone):
    """SIGTERM, as a time limit sends it to all of a job's processes; another precision; again, it resumes at once."""
    process = shared(tmp_path, SLOWLY="60")
    wait_for(lambda: list(tmp_path.rglob("epoch1.json")))
    code, out, err = ended(start(tmp_path, *command()))
    assert code == 2 and re.search(r"error: [AB]-seed0 is claimed by another process, .*\(\S+claim-0.json\)", err)
    for child in children_of(process.pid):
        os.kill(child, signal.SIGTERM)
    time.sleep(0.5)
    process.terminate()
    assert ended(process)[0] == 143 and not list(tmp_path.rglob("claim*")) and list(tmp_path.rglob("epoch*.json"))
    assert not list(tmp_path.rglob("*-seed0.json"))  # that of a cell that failed
    code, _, err = ended(shared(tmp_path, "--precision", "bf16"))
    fits = "error: cpu and bf16 don't fit cpu and fp32 of " in err and "shared-digits-quick-with.json" in err
    assert code == 2 and (fits or "cpu has no units for it" in err)
    assert ended(shared(tmp_path))[0] == 0 and published(tmp_path).items() <= alone.items()


@pytest.mark.slow
def test_a_model_that_fails_is_tried_once_by_each_command(tmp_path, alone):
    """The closing table of who draws says what failed, and its exit code is 1."""
    told = [ended(process) for process in (shared(tmp_path, RAISES="B"), shared(tmp_path, RAISES="B"))]
    assert 1 in [code for code, _, _ in told] and published(tmp_path) == {"A-seed0": alone["A-seed0"]}
    assert any("failed: RuntimeError: a fault of this model" in out for _, out, _ in told)


def test_options_that_concern_all_processes_are_refused(place, capsys):
    """--fresh and its like, one of which each process would do again."""
    for option in ("--fresh", "--no-resume", "--until-decided", "--replot", "--time-only"):
        with pytest.raises(SystemExit, match="2"):
            place.run("--shared", option)
        assert f"--shared: not allowed with {option}" in capsys.readouterr().err


def shared(folder: Path, *options: str, **environment: str) -> subprocess.Popen:
    return start(folder, *command("--shared", *options), OMP_NUM_THREADS="1", **environment)


def children_of(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
