"""A terminal that is full, closed, gone or without letters ends no run."""

import io
import subprocess
import sys

import pytest
from checkout_folder import CHECKOUT

from utils.streams import close_streams, prepare_streams, say, warn


class Full(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


class Gone(io.StringIO):
    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


STREAMS = {"full": Full, "gone": Gone, "closed": closed, "none": lambda: None}


@pytest.mark.parametrize("kind", STREAMS)
def test_a_line_that_cannot_be_written_is_dropped(monkeypatch, kind):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, STREAMS[kind]())
    say("a line")
    warn("a warning")
    prepare_streams()
    close_streams()


def test_a_line_that_can_be_written_is(capsys):
    say("a line")
    warn("a warning")
    close_streams()
    assert capsys.readouterr() == ("a line\n", "a warning\n")


def test_letters_that_the_terminal_lacks_are_escaped(monkeypatch):
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="ascii"))
    with pytest.raises(UnicodeEncodeError):
        print("Müll → ±", flush=True)
    prepare_streams()
    say("Müll → ±")
    assert buffer.getvalue() == b"M\\xfcll \\u2192 \\xb1\n"


@pytest.mark.parametrize("redirection", [">/dev/full", "2>/dev/full", ">&-", "2>&-", ">&- 2>&-", "| true"])
def test_the_exit_code_is_the_runs_own_whatever_the_streams_are(redirection):
    """In a shell; what is left in a buffer at the end would else give Python's exit code 120."""
    code = "import sys, time; from utils import streams; time.sleep(0.1); streams.prepare_streams()"
    code += "; streams.say('a'); sys.stdout and sys.stdout.isatty(); streams.warn('b'); streams.close_streams()"
    script = f"set -o pipefail; '{sys.executable}' -c \"{code}; sys.exit(7)\" {redirection}"
    done = subprocess.run(["bash", "-c", script], cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 7, done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
