"""The results as tidy tables in CSV files, for pandas, R or a spreadsheet: a row an observation. Never loads torch.

UTF-8 with a header, commas and quotes as in RFC 4180, lines that end with a line feed. Fractions, seconds and names are
those of the records; what is undefined is an empty cell.
"""

import csv
import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from utils.files import write_atomically
from utils.findings.overfitting import overfitting_sentence
from utils.findings.results import Results
from utils.findings.runs import balanced_accuracy
from utils.findings.sentences import accuracy_sentence, stability_sentence
from utils.findings.verdicts import Verdict
from utils.records.record import RunRecord, Runs
from utils.records.timing import MEASURES

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the beginning of one
RUN = ("task", "kind", "model", "seed")
HISTORY = tuple(f"{part}_{what}" for part in ("train", "fit", "val") for what in ("loss", "accuracy"))
TEST = ("test_accuracy", "test_correct", "test_total", "test_loss")
SCORES = ("precision", "recall", "f1")
BEST = ("best_epoch", "best_test_accuracy", "best_test_correct", "best_test_loss")
# {name of a file: its columns}
COLUMNS = {
    "histories": (*RUN, "epoch", *HISTORY, "train_seconds", "eval_seconds"),
    "accuracies": (*RUN, *TEST, *BEST, "balanced_accuracy", "parameters", "flops_per_image"),
    "per_class": (*RUN, "class_index", "class_name", "test_images", "predicted", "correct", *SCORES),
    "verdicts": (
        *("task", "kind", "measure", "a", "b", "verdict", "better", "difference", "low", "high", "level"),
        *("p", "p_adjusted", "contrasts", "seeds", "look"),
        *("equivalence_low", "equivalence_high", "equivalence_level", "margin", "within_margin", "sentence"),
    ),
    "overfitting": (
        *("task", "kind", "model", "seeds", "fewest_epochs", "most_epochs", "verdict", "rise", "low", "high", "level"),
        *("lowest_epoch", "earliest_possible", "latest_possible", "gap_growth", "gap_growth_low", "gap_growth_high"),
        "sentence",
    ),
    "times": (
        *("task", "kind", "model", "round", *sorted(MEASURES), "batch_size", "throughput_batch_size"),
        *("device_name", "threads", "torch"),
    ),
}
Row = Mapping[str, object]


def write_csv(results: Results, folder: Path) -> None:
    """Write all tables into `folder`, also those that have no row. Raises OSError."""
    rows = {
        "histories": histories,
        "accuracies": accuracies,
        "per_class": per_class,
        "verdicts": verdicts,
        "overfitting": overfitting,
        "times": times,
    }
    for name, path in csv_files(folder).items():
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS[name])
        writer.writerows([_cell(row[column]) for column in COLUMNS[name]] for row in rows[name](results))
        write_atomically(path, text.getvalue().encode())


def csv_files(folder: Path) -> dict[str, Path]:
    """{name of a table: its file in `folder`}."""
    return {name: folder / f"{name}.csv" for name in COLUMNS}


def has_csv(folder: Path) -> bool:
    """Whether the tables were written into `folder` before; a file of the same name that isn't ours doesn't count."""
    for name, path in csv_files(folder).items():
        header = ",".join(COLUMNS[name]).encode() + b"\n"
        if not path.is_file() or not path.read_bytes()[: len(header)] == header:
            return False
    return True


def _cell(value: object) -> object:
    """The value as the csv module writes it in full; nothing for None and NaN.

    An apostrophe stands before a text that a spreadsheet would run as a formula: names may come from a folder of images
    that somebody else made.
    """
    if value is None or isinstance(value, float) and math.isnan(value):
        return ""
    if isinstance(value, float):
        return float(value)  # of NumPy's floats, csv would write the type as well
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _all_runs(results: Results) -> Runs:
    return {**results.runs, **results.ablation}


def _of_task(results: Results) -> dict[str, str]:
    records = next(iter(_all_runs(results).values()))
    return {"task": results.task.name, "kind": records[0].kind}


def _of_run(record: RunRecord) -> dict[str, object]:
    return {"task": record.task, "kind": record.kind, "model": record.model, "seed": record.seed}


def histories(results: Results) -> Iterator[Row]:
    """A row for each epoch of each finished run that counts."""
    for records in _all_runs(results).values():
        for record in records:
            for epoch, entry in enumerate(record.history, start=1):
                yield {**_of_run(record), "epoch": epoch, **entry}


def accuracies(results: Results) -> Iterator[Row]:
    """A row for each run: accuracy and loss on the test set with the final and the best-validation weights, costs."""
    fields = (*TEST, *BEST, "parameters", "flops_per_image")
    for records in _all_runs(results).values():
        for record in records:
            values = {field: getattr(record, field) for field in fields}
            yield {**_of_run(record), **values, "balanced_accuracy": balanced_accuracy(record)}


def per_class(results: Results) -> Iterator[Row]:
    """A row for each class of each run, with the final weights; undefined scores as in `RunRecord.per_class`."""
    for records in _all_runs(results).values():
        for record in records:
            counts, scores = record.counts_by_class, record.per_class or {}
            for index, name in enumerate(record.class_names):
                yield {
                    **_of_run(record),
                    "class_index": index,
                    "class_name": name,
                    "test_images": int(counts[index].sum()),
                    "predicted": int(counts[:, index].sum()),
                    "correct": int(counts[index, index]),
                    **{score: scores[score][index] if scores else None for score in SCORES},
                }


def verdicts(results: Results) -> Iterator[Row]:
    """A row for each verdict on a planned contrast, `b` minus `a`; roughness is a logarithm, see docs/statistics.md."""
    for verdict in results.accuracy_verdicts:
        yield {**_of_verdict(results, verdict), "measure": results.measure, "sentence": accuracy_sentence(verdict)}
    for verdict in results.stability_verdicts:
        better = verdict.lower if verdict.word == "better" else None
        sentence = stability_sentence(verdict)
        row = _of_verdict(results, verdict) | {"margin": None, "within_margin": None, "better": better}
        yield {**row, "measure": "log roughness of validation loss", "sentence": sentence}


def _of_verdict(results: Results, verdict: Verdict) -> Row:
    difference, equivalence = verdict.comparison.difference, verdict.comparison.equivalence
    return {
        **_of_task(results),
        "a": verdict.a,
        "b": verdict.b,
        "verdict": verdict.word,
        "better": verdict.higher if verdict.word == "better" else None,
        "difference": difference.estimate,
        "low": difference.low,
        "high": difference.high,
        "level": difference.level,
        "p": verdict.comparison.p,
        "p_adjusted": verdict.p,
        "contrasts": verdict.m,
        "seeds": len(verdict.seeds),
        "look": verdict.look,
        "equivalence_low": equivalence.low,
        "equivalence_high": equivalence.high,
        "equivalence_level": equivalence.level,
        "margin": verdict.margin,
        "within_margin": verdict.within,
    }


def overfitting(results: Results) -> Iterator[Row]:
    """A row for each model; nothing by the original protocol, whose validation images are those of the test."""
    for model in _all_runs(results) if results.task.protocol == "holdout" else ():
        found = results.overfitting[model]
        shortest, longest = found.lengths
        yield {
            **_of_task(results),
            "model": model,
            "seeds": found.seeds,
            "fewest_epochs": shortest,
            "most_epochs": longest,
            "verdict": found.word,
            "rise": found.rise.estimate,
            "low": found.rise.low,
            "high": found.rise.high,
            "level": found.rise.level,
            "lowest_epoch": found.lowest,
            "earliest_possible": found.kept[0] if found.kept else None,
            "latest_possible": found.kept[-1] if found.kept else None,
            "gap_growth": found.gap_growth.estimate,
            "gap_growth_low": found.gap_growth.low,
            "gap_growth_high": found.gap_growth.high,
            "sentence": overfitting_sentence(model, found),
        }


def times(results: Results) -> Iterator[Row]:
    """A row for each model and round of the timing pass, of models that have runs."""
    timing = results.timing
    for model in results.runs if timing else ():
        for index in range(timing.rounds):
            yield {
                **_of_task(results),
                "model": model,
                "round": index + 1,
                **{measure: timing.models[model][measure][index] for measure in MEASURES},
                "batch_size": timing.batch_size,
                "throughput_batch_size": timing.throughput_batch_size,
                **{name: timing.environment[name] for name in ("device_name", "threads", "torch")},
            }
