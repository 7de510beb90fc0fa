"""The checkout that the suite runs in: where it lies, and what git says of it. Never loads torch."""

import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def shown(path: Path) -> str:
    """`path` as a person in the checkout would name it."""
    return str(path.relative_to(CHECKOUT) if path.is_relative_to(CHECKOUT) else path)


def git(*arguments: str) -> str:
    """What git answers about the checkout; "" where there is no git or no checkout."""
    try:
        answer = subprocess.run(["git", *arguments], cwd=CHECKOUT, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
