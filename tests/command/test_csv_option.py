"""`--csv`: written where it is asked for, kept up to date from then on, and left alone where the file isn't ours."""

import csv

from utils.records.record import read_record
from utils.report.csv_tables import COLUMNS


def cells(path) -> list[tuple[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return [(row["model"], row["seed"]) for row in csv.DictReader(file)]


def test_predictions_are_written_on_request(place):
    """A file for each run, beside the tables; only where they are asked for."""
    assert place.run("--csv", "predictions") == 0
    output = place.records.parents[1]
    assert sorted(path.name for path in (output / "predictions").iterdir()) == ["A-seed0.csv", "B-seed0.csv"]
    record = read_record(place.records / "A-seed0.json")
    with open(output / "predictions/A-seed0.csv", encoding="utf-8", newline="") as file:
        assert sum(int(row["correct"]) for row in csv.DictReader(file)) == record.test_correct
    assert {path.stem for path in output.glob("*.csv")} == COLUMNS.keys()


def test_csv_files_follow_the_page_once_they_are_there(place):
    assert place.run() == 0
    output = place.records.parents[1]
    assert not list(output.rglob("*.csv"))
    assert place.run("--replot", "--csv") == 0
    assert {path.stem for path in output.glob("*.csv")} == COLUMNS.keys()
    assert cells(output / "runs.csv") == [("A", "0"), ("B", "0")]
    assert place.run("--seeds", "1") == 0  # not asked for again, yet no longer what the page says
    assert cells(output / "runs.csv") == [("A", "0"), ("A", "1"), ("B", "0"), ("B", "1")]
    (output / "runs.csv").write_text("mine\n")
    assert place.run("--replot") == 0 and (output / "runs.csv").read_text() == "mine\n"
    assert place.run("--csv", "--seeds", "0") == 0 and len(cells(output / "runs.csv")) == 4
