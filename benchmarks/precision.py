"""Whether bf16 changes the answers: test accuracy of the same seeds in two precisions, from the committed records.

python benchmarks/precision.py      # prints each model's paired difference and a verdict as a Markdown table
"""

import argparse
from collections.abc import Sequence

import numpy as np
from common import CASES, progress

from utils.command.plan import PLOTS, hashes_of
from utils.data.specs import CIFAR10, MNIST, DatasetSpec
from utils.experiment import Declared
from utils.records.folder import read_runs
from utils.records.record import RunRecord
from utils.stats.paired import equivalent, paired_comparison
from utils.words import plural, table

# The task of each data set, and the largest difference in test accuracy that counts as none.
TASKS = (("task_1_1", MNIST, 0.0015), ("task_1_2", CIFAR10, 0.007))
VERDICTS = {True: "equivalent", False: "a defect", None: "not shown"}

Pair = tuple[RunRecord, RunRecord]  # one seed of a model in both kinds


def paired_records(task: str, spec: DatasetSpec, kinds: Sequence[str]) -> dict[str, list[Pair]]:
    """Each model's pairs of records that count as evidence, by seed; says which records don't count."""
    declared = hashes_of([case.experiment for case in CASES.values() if case.spec == spec], spec)
    by_cell = []
    for kind in kinds:
        runs, _, left_out = read_runs(PLOTS / task / "records" / kind, task, Declared(declared))
        by_cell.append({(name, record.seed): record for name, records in runs.items() for record in records})
        for reason in left_out:
            progress(f"{kind}: left out {reason}")
    reference, other = by_cell
    pairs: dict[str, list[Pair]] = {}
    for cell in reference:
        if cell in other:
            pairs.setdefault(cell[0], []).append((reference[cell], other[cell]))
    return pairs


def row(model: str, pairs: Sequence[Pair], margin: float) -> list[str]:
    """A line of the table: accuracies in percent, differences in points."""
    reference, other = np.array([[record.test_correct for record in pair] for pair in pairs]).T
    total = pairs[0][0].test_total
    interval = paired_comparison(reference, other, total, m=1).interval90
    bounds = "none" if np.isnan(interval.low) else f"{100 * interval.low:+z.3f} to {100 * interval.high:+z.3f}"
    accuracies = [f"{counts.mean() / total:.2%}" for counts in (reference, other)]
    difference = [f"{100 * interval.estimate:+z.3f}", bounds, f"{100 * margin:g}"]
    return [model, str(interval.n), *accuracies, *difference, VERDICTS[equivalent(interval, margin)]]


def machine(record: RunRecord) -> str:
    facts = record.environment
    return f"{facts['device_name']}, {plural(facts['threads'], 'thread')}, torch {facts['torch']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    kinds = ("cpu-fp32", "cpu-bf16")
    names = ("REFERENCE", "OTHER")
    parser.add_argument("--kinds", nargs=2, default=kinds, metavar=names, help=f"default: {' '.join(kinds)}")
    kinds = parser.parse_args().kinds
    rows, machines = [], set()
    for task, spec, margin in TASKS:
        for model, pairs in paired_records(task, spec, kinds).items():
            rows.append(row(f"{model}-{spec.name}", pairs, margin))
            machines |= {f"{record.kind} on {machine(record)}" for pair in pairs for record in pair}
    if not rows:
        raise SystemExit(f"no model has records of the same seed in {' and in '.join(kinds)}")
    print(f"Trained: {'; '.join(sorted(machines))}.\n")
    columns = ["mean difference, points", "90% interval", "margin", "verdict"]
    print(table(["model", "seeds", *(f"test accuracy, {kind}" for kind in kinds), *columns], rows))


if __name__ == "__main__":
    main()
