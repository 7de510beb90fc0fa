"""How tests spoil files that were whole."""

import json
import os
from pathlib import Path


def rewrite(path: Path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def cut(name):
    return lambda folder: os.truncate(folder / name, os.path.getsize(folder / name) * 2 // 3)
