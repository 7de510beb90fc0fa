"""How much sooner two processes train the same cells than one, by each way of sharing them (docs/many-machines.md).

python benchmarks/many_processes.py --cells 8 --epochs 3

Whole commands are timed, start-up, loading and drawing included, on real data and with one thread for each cell. Prints
a Markdown table. Needs two free cores.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import default_data_dir
from tqdm import tqdm

from utils.checkout import CHECKOUT
from utils.records.record import read_record

SCRIPT = str(CHECKOUT / "task_1_1_mnist.py")
RANKS = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
# {what is printed: what Python runs, in so many processes}
WAYS = {
    "one process, `--jobs 1`": ([SCRIPT, "--jobs", "1"], 1),
    "one command, `--jobs 2`": ([SCRIPT, "--jobs", "2"], 1),
    "`torchrun`, two ranks": ([*RANKS, SCRIPT], 1),
    "two processes, `--shared`": ([SCRIPT, "--shared"], 2),
}


def seconds_of(words: list[str], processes: int, options: list[str]) -> tuple[float, float]:
    """Seconds from the start to the end of the last process, and the sum of the cells' own."""
    with tempfile.TemporaryDirectory() as folder:
        where = ["--runs-dir", f"{folder}/runs", "--output-dir", f"{folder}/out", "--quiet"]
        started = time.perf_counter()
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        running = [subprocess.Popen([sys.executable, *words, *options, *where], **quiet) for _ in range(processes)]
        if any(process.wait() for process in running):
            raise SystemExit(f"failed: {' '.join(words)}")
        took = time.perf_counter() - started
        records = map(read_record, Path(folder).glob("out/records/*/*-seed*.json"))
        return took, sum(e["train_seconds"] + e["eval_seconds"] for record in records for e in record.history)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cells", type=int, default=8, help="seeds of FCN on MNIST; default: %(default)s")
    parser.add_argument("--epochs", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--data-dir", type=Path, default=default_data_dir())
    given = parser.parse_args()
    options = (
        f"--models FCN --num-seeds {given.cells} --epochs {given.epochs} --threads 1 --precision fp32 --device cpu"
    )
    options = [*options.split(), "--data-dir", str(given.data_dir)]
    rows = {way: seconds_of(*command, options) for way, command in tqdm(WAYS.items(), disable=None)}
    alone = next(iter(rows.values()))[0]
    print(f"{given.cells} cells of FCN on MNIST, {given.epochs} epochs each, one thread:\n")
    print("| way | seconds | of these, cells one after another | as fast as one process |\n| --- | --- | --- | --- |")
    for way, (took, in_cells) in rows.items():
        print(f"| {way} | {took:.1f} | {in_cells:.1f} | {alone / took:.2f} times |")


if __name__ == "__main__":
    main()
