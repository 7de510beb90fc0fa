"""Peak memory of each task in one process: an epoch on few images, then the timing pass. Not for Windows.

python benchmarks/memory.py [--data-dir DIR]      # prints a line a task; other options go to the tasks as well
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

TARGETS = {"task_1_1_mnist.py": 1.5, "task_1_2_cifar.py": 3.0}  # GiB
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes


def main() -> None:
    for script, target in TARGETS.items():
        with TemporaryDirectory() as runs:
            command = [sys.executable, str(Path(__file__).parents[1] / script), "--jobs", "1", "--quiet"]
            few = ["--epochs", "1", "--limit", "2560", "--runs-dir", runs]
            process = subprocess.Popen([*command, *few, *sys.argv[1:]], stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
        peak = usage.ru_maxrss * RSS_UNIT / 2**30
        print(f"{script}: {peak:.2f} GiB at most, target {target} GiB; exit code {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
