"""The git checkout that the suite runs in: its folder, and what git says about it. Never loads torch."""

import os
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def shown(path: Path) -> str:
    """`path` for a message: relative to the checkout if it lies inside it."""
    return str(path.relative_to(CHECKOUT) if path.is_relative_to(CHECKOUT) else path)


def git(*arguments: str) -> str:
    """The output of a git command in the checkout; "" if the command fails or there is no git."""
    answer = _run_git(*arguments)
    return answer.stdout.strip() if answer and answer.returncode == 0 else ""


def git_distrusts_owner() -> bool:
    """Whether git refuses to work in the checkout because another user owns it, as in a container or on a mount."""
    answer = _run_git("rev-parse", "HEAD")
    return answer is not None and "dubious ownership" in answer.stderr


def _run_git(*arguments: str) -> subprocess.CompletedProcess | None:
    plain = {**os.environ, "LC_ALL": "C"}  # else git would translate its messages
    try:
        return subprocess.run(["git", *arguments], cwd=CHECKOUT, env=plain, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
