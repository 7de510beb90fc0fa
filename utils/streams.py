"""What a person sees on the terminal: lines on stdout and stderr that never end a run. Never loads torch.

A reader that has gone, a log on a full disk, no standard error at all, or an encoding without the letters of a path:
none of these may cost an hour of training.
"""

import os
import sys
from contextlib import suppress

UNWRITABLE = (OSError, ValueError, AttributeError)  # full or gone; closed; sys.stdout or sys.stderr is None


def on_terminal() -> bool:
    """Whether standard error is a terminal, on which a progress bar can move."""
    try:
        return sys.stderr.isatty()
    except UNWRITABLE:
        return False


def say(text: str) -> None:
    """Print a line on standard output."""
    with suppress(*UNWRITABLE):
        print(text, flush=True)


def warn(text: str) -> None:
    """Print a line on standard error."""
    with suppress(*UNWRITABLE):
        print(text, file=sys.stderr, flush=True)


def prepare_streams() -> None:
    """Have letters that the terminal's encoding lacks escaped instead of raising UnicodeEncodeError."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(*UNWRITABLE):
            stream.reconfigure(errors="backslashreplace")


def close_streams() -> None:
    """Write what is buffered; where that fails, drop it, else Python would end with an exit code of its own."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except UNWRITABLE:
            with suppress(*UNWRITABLE):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
