"""How long it takes, and how much memory, to read, judge, draw and report very many records: is it linear?

python benchmarks/growth.py                             # 1,000 to 10,000 records, made up; takes 2 GB of disk
python benchmarks/growth.py --sizes 4x2500 --keep DIR   # models x seeds; records in DIR are made once and used again
"""

import argparse
import dataclasses
import re
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from common import in_fresh_process, progress
from memory import RSS_UNIT

from task_1_2_cifar import TASK
from utils.checkout import CHECKOUT
from utils.experiment import Contrast, Declared, Task
from utils.figures.interactive import draw_charts
from utils.figures.task import draw_task
from utils.findings.results import read_results
from utils.records.record import RunRecord, read_record, write_record
from utils.report.conclusions import conclusions
from utils.report.html import Setting, report_page
from utils.report.page import results_text
from utils.report.short import in_short
from utils.words import table

TEMPLATES = CHECKOUT / "plots/task_1_2/records/cpu-bf16"  # four models, each with seeds 0, 1, ...
SEEDS_OF_TEMPLATES = 3
SIZES = ["4x250", "4x750", "4x2500", "10x100", "30x100", "100x100"]


def made_up(models: int, seeds: int) -> Iterator[RunRecord]:
    """Records as large as real ones: committed ones with noise in their curves, predictions and gradients."""
    random = np.random.default_rng(0)
    for i in range(models):
        name = TASK.experiments[i % len(TASK.experiments)].name
        templates = [read_record(TEMPLATES / f"{name}-seed{seed}.json") for seed in range(SEEDS_OF_TEMPLATES)]
        for seed in range(seeds):
            yield varied(templates[seed % SEEDS_OF_TEMPLATES], f"Model{i + 1:03}", seed, 0.002 * i, random)


def varied(record: RunRecord, model: str, seed: int, worse: float, random: np.random.Generator) -> RunRecord:
    """The record under another name, with 1% of its test predictions, and `worse` more, drawn anew."""
    arrays = dict(record.arrays)
    for name in ("test_predictions", "best_test_predictions"):
        arrays[name] = arrays[name].copy()
        again = random.random(record.test_total) < 0.01 + worse
        again[arrays["mistake_indices"]] = False  # they stay mistakes
        arrays[name][again] = random.integers(0, len(record.class_names), again.sum())
    for name in ("flow_norms", "flow_update_ratios", "flow_epoch_norms", "flow_first_epoch_ratio"):
        arrays[name] = (arrays[name] * random.lognormal(0, 0.05, arrays[name].shape)).astype(arrays[name].dtype)
    correct, best = (
        int((arrays[name] == arrays["test_labels"]).sum()) for name in ("test_predictions", "best_test_predictions")
    )
    return dataclasses.replace(
        record,
        model=model,
        seed=seed,
        config_hash=model,
        history=[
            {name: value * float(random.lognormal(0, 0.01)) for name, value in epoch.items()}
            for epoch in record.history
        ],
        test_correct=correct,
        test_accuracy=correct / record.test_total,
        best_test_correct=best,
        best_test_accuracy=best / record.test_total,
        arrays=arrays,
    )


def task_of(models: int) -> Task:
    """A task of so many models, each contrasted with the next."""
    names = [f"Model{i + 1:03}" for i in range(models)]
    experiments = [dataclasses.replace(TASK.experiments[0], name=name) for name in names]
    contrasts = [Contrast(a, b) for a, b in zip(names, names[1:], strict=False)]
    return dataclasses.replace(TASK, experiments=experiments, contrasts=contrasts, ablation=())


def measured(folder: Path, models: int) -> dict[str, tuple[float, float]]:
    """{step: (seconds, GiB of the process at most so far)}; the steps of --replot."""
    task, taken = task_of(models), {}
    declared = Declared({experiment.name: experiment.name for experiment in task.experiments})

    def step(name: str, function: Callable) -> object:
        started = time.process_time()
        result = function()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT / 2**30
        taken[name] = time.process_time() - started, peak
        return result

    step("start", lambda: None)
    results = step("read", lambda: read_results(folder, task, declared))
    step("judge", lambda: (results.accuracy_verdicts, results.stability_verdicts, results.overfitting))
    pictures = step("draw", lambda: draw_task(results, folder.parent / "pictures"))
    step("report", lambda: (results_text(results), in_short(results), conclusions(results)))
    step("html", lambda: report_page(results, *draw_charts(results), Setting("")))
    assert all(len(records) == len(results.runs["Model001"]) for records in results.runs.values()), results.left_out
    return {**taken, "pictures": (len(pictures), 0)}


def size(text: str) -> tuple[int, int]:
    """An argparse type: models x seeds."""
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of models x a number of seeds, such as 4x250")
    models, seeds = map(int, text.split("x"))
    return models, seeds


def rows(sizes: Sequence[tuple[int, int]], folder: Path) -> Iterator[list[str]]:
    """A row of the table for each size."""
    for models, seeds in sizes:
        records = folder / f"{models}x{seeds}" / "records"
        if not records.exists():
            progress(f"{models} models x {seeds} seeds: making records")
            for record in made_up(models, seeds):
                write_record(records, record)
        progress(f"{models} models x {seeds} seeds: measuring")
        taken = in_fresh_process(measured, records, models)
        seconds = [taken[name][0] for name in ("read", "judge", "draw", "report", "html")]
        yield [
            f"{models} x {seeds:,}",
            *(f"{each:.1f}" for each in seconds),
            f"{sum(seconds):.1f}",
            f"{1000 * sum(seconds) / (models * seeds):.1f}",
            f"{taken['pictures'][0]}",
            f"{taken['start'][1]:.2f}",
            f"{taken['html'][1]:.2f}",
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--sizes", nargs="+", type=size, default=[size(text) for text in SIZES], metavar="MxS")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the made-up records there")
    options = parser.parse_args()
    steps = [f"{name}, s" for name in ("read", "judge", "draw", "report", "html", "in all")]
    header = ["models x seeds", *steps, "ms a record", "pictures"]
    with TemporaryDirectory() as temporary:
        lines = list(rows(options.sizes, options.keep or Path(temporary)))
    print(table([*header, "GiB at start", "GiB at most"], lines))


if __name__ == "__main__":
    main()
