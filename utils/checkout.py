"""The git checkout that the suite runs in: its folder, and what git says about it. Never loads torch."""

import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def shown(path: Path) -> str:
    """`path` for a message: relative to the checkout if it lies inside it."""
    return str(path.relative_to(CHECKOUT) if path.is_relative_to(CHECKOUT) else path)


def git(*arguments: str) -> str:
    """The output of a git command in the checkout; "" if the command fails or there is no git."""
    try:
        answer = subprocess.run(["git", *arguments], cwd=CHECKOUT, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
