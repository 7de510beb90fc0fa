"""What git says of the checkout, also where it refuses to say anything."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from utils import checkout
from utils.checkout import git, git_distrusts_owner
from utils.command import outputs
from utils.experiment import Declared, TrainConfig

DUBIOUS = "fatal: detected dubious ownership in repository at '/somewhere'\nTo add an exception ... call:\n"


@pytest.fixture
def answer(monkeypatch):
    """`answer(code, stdout, stderr)` is what git then says to everything; `answer(error)` what is raised."""

    def stand_in(code, stdout="", stderr=""):
        def run(command, **options):
            assert command[0] == "git" and options["env"]["LC_ALL"] == "C" and "PATH" in options["env"]
            if isinstance(code, Exception):
                raise code
            return SimpleNamespace(returncode=code, stdout=stdout, stderr=stderr)

        monkeypatch.setattr(checkout.subprocess, "run", run)

    return stand_in


def closing(task="task_1_1") -> str:
    """The last line of a command that rewrote the README."""
    recipe = SimpleNamespace(name=task, protocol="holdout", config=TrainConfig(1, 1, "sgd", 0.1))
    plan = SimpleNamespace(
        task=recipe, output=checkout.CHECKOUT / "plots" / task, updates_readme=True, declared=Declared({})
    )
    return outputs.closing_lines(plan, "cpu-bf16", []).splitlines()[-1]


def test_gits_answer_is_stripped_and_a_failure_is_nothing(answer):
    answer(0, " abc \n")
    assert git("rev-parse", "HEAD") == "abc" and not git_distrusts_owner()
    for failure in ((128, "half", "fatal: not a git repository"), (FileNotFoundError("git"),)):
        answer(*failure)
        assert git("rev-parse", "HEAD") == "" and not git_distrusts_owner()
        rewritten = "README.md and plots/task_1_1 were rewritten"
        assert closing() == f"{rewritten}; without git there is no undo."
    answer(subprocess.TimeoutExpired("git", 10))
    assert git("status") == "" and not git_distrusts_owner()


def test_dubious_ownership_is_named_with_gits_own_way_out(answer, monkeypatch):
    answer(128, "", DUBIOUS)
    assert git("rev-parse", "HEAD") == "" and git_distrusts_owner()  # the record's "commit" stays empty
    monkeypatch.setattr(outputs, "CHECKOUT", Path("/some where/suite"))
    told = closing()
    assert "another user owns the checkout (dubious ownership)" in told and "without git" not in told
    assert told.endswith("git config --global --add safe.directory '/some where/suite'")


def test_gits_real_refusal_is_recognised_in_any_language(tmp_path, monkeypatch):
    """A repository that git is made to take for another user's."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    monkeypatch.setattr(checkout, "CHECKOUT", tmp_path)
    assert not git_distrusts_owner()
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    assert git_distrusts_owner()
