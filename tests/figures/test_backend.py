"""Pictures are drawn whatever backend the environment names."""

import os
import subprocess
import sys

from checkout_folder import CHECKOUT

CODE = """
import sys
from pathlib import Path
from utils import cli

def run(task):
    from utils.figures.canvas import new_figure, save
    save(new_figure(1.0, "title"), Path(sys.argv[1]))
    return 7

cli.run = run
cli.main(None)
"""


def test_a_backend_that_is_not_installed_ends_no_command(tmp_path):
    """A notebook server names its own one to every process."""
    path = tmp_path / "picture.png"
    command = [sys.executable, "-c", CODE, path]
    environment = os.environ | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True)
    assert done.returncode == 7, done.stderr
    assert path.read_bytes().startswith(b"\x89PNG")
