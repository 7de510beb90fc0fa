"""The results as tidy tables in CSV files, for pandas, R or a spreadsheet: a row an observation. Never loads torch.

UTF-8 with a header, commas and quotes as in RFC 4180, lines that end with a line feed. Fractions, seconds and names are
those of the records; what is undefined is an empty cell.
"""

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from utils.files import write_atomically
from utils.findings.results import Results
from utils.findings.runs import balanced_accuracy
from utils.findings.sentences import accuracy_sentence
from utils.findings.verdicts import Verdict
from utils.records.record import RunRecord

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the beginning of one
READING = "last epoch"  # that of the pages
RUN = ("task", "platform", "model", "seed")
EPOCH = (
    *(f"{part}_{what}" for part in ("train", "fit", "val") for what in ("loss", "accuracy")),
    *("train_seconds", "eval_seconds"),
)
OF_RECORD = (
    *("test_total", "test_loss"),
    *("averaged_test_accuracy", "averaged_test_loss", "averaged_val_loss", "final_epochs"),
    *("reestimated_test_accuracy", "reestimated_test_loss", "best_test_accuracy", "best_test_loss", "best_epoch"),
    *("train_total", "val_total", "parameters", "flops_per_image", "config_hash"),
)
# {name of a file: its columns}
COLUMNS = {
    "runs": (*RUN, "reading", "accuracy", "balanced_accuracy", "epochs", *OF_RECORD),
    "epochs": (*RUN, "epoch", *EPOCH),
    "comparisons": (
        *("task", "platform", "measure", "a", "b", "verdict", "better", "difference", "low", "high", "level"),
        *("p", "p_adjusted", "comparisons", "seeds", "analysis"),
        *("equivalence_low", "equivalence_high", "equivalence_level", "margin", "within_margin", "sentence"),
    ),
}
PREDICTIONS = ("model", "seed", "reading", "image", "label", "prediction", "correct")
Row = Mapping[str, object]


def write_csv(results: Results, folder: Path) -> None:
    """Write all tables into `folder`, also those that have no row. Raises OSError."""
    rows = {"runs": runs, "epochs": epochs, "comparisons": comparisons}
    for name, path in csv_files(folder).items():
        _write(path, COLUMNS[name], rows[name](results))


def write_predictions(results: Results, folder: Path) -> None:
    """Write a table for each run into `folder`, a row for each test image. Raises OSError."""
    for record in _all_runs(results):
        _write(folder / f"{record.stem}.csv", PREDICTIONS, predictions(record))


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


def _write(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row[column]) for column in columns] for row in rows)
    write_atomically(path, text.getvalue().encode())


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


def _all_runs(results: Results) -> list[RunRecord]:
    """Those that count for the page, those of the ablation among them."""
    return [record for records in {**results.runs, **results.ablation}.values() for record in records]


def _of_run(record: RunRecord) -> dict[str, object]:
    return {"task": record.task, "platform": record.kind, "model": record.model, "seed": record.seed}


def runs(results: Results) -> Iterator[Row]:
    """A row for each run: `accuracy` is that of the pages' reading, each other reading has a column."""
    for record in _all_runs(results):
        yield {
            **_of_run(record),
            "reading": READING,
            "accuracy": record.test_accuracy,
            "balanced_accuracy": balanced_accuracy(record),
            "epochs": len(record.history),
            **{field: getattr(record, field) for field in OF_RECORD},
        }


def epochs(results: Results) -> Iterator[Row]:
    """A row for each epoch of each run."""
    for record in _all_runs(results):
        for epoch, entry in enumerate(record.history, start=1):
            yield {**_of_run(record), "epoch": epoch, **entry}


def predictions(record: RunRecord) -> Iterator[Row]:
    """A row for each test image, counted from 0: its class, the predicted one, and whether they are the same."""
    pairs = zip(record.arrays["test_labels"].tolist(), record.arrays["test_predictions"].tolist(), strict=True)
    for image, (label, predicted) in enumerate(pairs):
        yield {
            "model": record.model,
            "seed": record.seed,
            "reading": READING,
            "image": image,
            "label": record.class_names[label],
            "prediction": record.class_names[predicted],
            "correct": int(label == predicted),
        }


def comparisons(results: Results) -> Iterator[Row]:
    """A row for each planned comparison, `b` minus `a`."""
    return (_of_verdict(results, verdict) for verdict in results.accuracy_verdicts)


def _of_verdict(results: Results, verdict: Verdict) -> Row:
    difference, equivalence = verdict.comparison.difference, verdict.comparison.equivalence
    return {
        "task": results.task.name,
        "platform": _all_runs(results)[0].kind,
        "measure": results.measure,
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
        "comparisons": verdict.m,
        "seeds": len(verdict.seeds),
        "analysis": verdict.look,
        "equivalence_low": equivalence.low,
        "equivalence_high": equivalence.high,
        "equivalence_level": equivalence.level,
        "margin": verdict.margin,
        "within_margin": verdict.within,
        "sentence": accuracy_sentence(verdict),
    }
