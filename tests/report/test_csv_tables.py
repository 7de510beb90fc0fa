"""The CSV files, read back: the records and verdicts in full, whatever the names, and the same bytes each time."""

import csv
import dataclasses

import numpy as np
import pytest
from made_ablation import ABLATION, ablation_runs
from made_page import MODELS, TASK, make_runs
from made_records import make_record, make_timing, older
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from models import FCN
from utils.experiment import Contrast, Experiment
from utils.findings.results import Results
from utils.report.csv_tables import COLUMNS, PREDICTIONS, csv_files, has_csv, write_csv, write_predictions

NAMES = ("=1+1", 'a, "b"', "图像 ½", "-x")
CLASSES = ("@home", "zwei\nZeilen", "狗", "'quoted'")


def table_in(folder, name: str, columns: tuple[str, ...] = ()) -> list[dict[str, str]]:
    with open(folder / f"{name}.csv", encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        rows = list(reader)
    assert tuple(reader.fieldnames) == (columns or COLUMNS[name]) and all(None not in row.values() for row in rows)
    return rows


def plain(text: str) -> str:
    """As docs/running.md says: without the apostrophe before what would be a formula."""
    return text[1:] if text[:2] in ("'=", "'+", "'-", "'@") else text


def test_every_epoch_and_every_run_comes_back_in_full(tmp_path):
    runs = make_runs(3)
    runs["FCN"][1].history[2]["val_loss"] = None  # was not finite
    write_csv(Results(TASK, runs), tmp_path)
    records = [record for of_model in runs.values() for record in of_model]
    rows = table_in(tmp_path, "epochs")
    assert len(rows) == 9 * 15
    for row, (record, epoch) in zip(rows, [(r, e) for r in records for e in range(15)], strict=True):
        assert (row["task"], row["platform"], row["model"]) == ("task_1_1", "cpu-bf16", record.model)
        assert (int(row["seed"]), int(row["epoch"])) == (record.seed, epoch + 1)
        for name, value in record.history[epoch].items():
            assert row[name] == "" if value is None else float(row[name]) == value, name
    rows = table_in(tmp_path, "runs")
    for row, record in zip(rows, records, strict=True):
        found = record.arrays["test_labels"], record.arrays["test_predictions"]
        assert float(row["balanced_accuracy"]) == pytest.approx(balanced_accuracy_score(*found), abs=1e-11)
        assert float(row["accuracy"]) == accuracy_score(*found) and row["reading"] == "last epoch"
        averaged = record.arrays["test_labels"], record.arrays["averaged_test_predictions"]
        assert float(row["averaged_test_accuracy"]) == accuracy_score(*averaged) != float(row["accuracy"])
        assert (row["platform"], row["epochs"], row["test_total"]) == ("cpu-bf16", "15", "2000")
        for name in set(row) - {"platform", "reading", "accuracy", "balanced_accuracy", "epochs"}:
            assert row[name] == str(getattr(record, name)), name


def test_the_predictions_of_a_run_are_one_table(tmp_path):
    """With the names of classes; an image that is right has 1."""
    records = [make_record("FCN", seed, class_names=CLASSES, accuracy=0.8) for seed in range(2)]
    write_predictions(Results(TASK, {"FCN": records}), tmp_path / "predictions")
    assert sorted(path.name for path in (tmp_path / "predictions").iterdir()) == ["FCN-seed0.csv", "FCN-seed1.csv"]
    for record in records:
        rows = table_in(tmp_path / "predictions", record.stem, PREDICTIONS)
        assert [int(row["image"]) for row in rows] == list(range(2000))
        for column, array in (("label", "test_labels"), ("prediction", "test_predictions")):
            assert [plain(row[column]) for row in rows] == [CLASSES[k] for k in record.arrays[array]]
        assert sum(int(row["correct"]) for row in rows) == record.test_correct
        assert {(row["model"], row["seed"], row["reading"]) for row in rows} == {
            ("FCN", str(record.seed), "last epoch")
        }


def test_a_record_of_an_older_version_has_empty_cells(tmp_path):
    write_csv(Results(TASK, {"FCN": [make_record("FCN", 0), older(make_record("FCN", 1))]}), tmp_path)
    new, old = table_in(tmp_path, "runs")
    assert old["averaged_test_accuracy"] == old["train_total"] == "" and new["averaged_test_accuracy"] != ""


def test_verdicts_have_the_numbers_of_a_paired_test(tmp_path):
    runs = make_runs(6)
    results = Results(TASK, runs, timing=make_timing(list(MODELS)))
    write_csv(results, tmp_path)
    rows = table_in(tmp_path, "comparisons")
    assert [row["measure"] for row in rows] == ["test accuracy"] * 3
    for row, contrast in zip(rows[:3], TASK.contrasts, strict=True):
        assert (row["a"], row["b"]) == (contrast.a, contrast.b)
        a, b = (np.array([record.test_accuracy for record in runs[model]]) for model in (row["a"], row["b"]))
        test = stats.ttest_rel(b, a)
        low, high = test.confidence_interval(1 - 0.05 / 3)
        assert (
            float(row["difference"]) == pytest.approx((b - a).mean()) and row["seeds"] == "6" and row["analysis"] == ""
        )
        assert (float(row["low"]), float(row["high"])) == pytest.approx((low, high))
        assert float(row["p"]) == pytest.approx(test.pvalue) and float(row["p"]) <= float(row["p_adjusted"]) <= 1
        assert (row["verdict"], row["better"]) == ("better", contrast.b) and row["within_margin"] == "False"
        assert row["sentence"].startswith(f"{contrast.b} is better than {contrast.a} by ")
        assert float(row["level"]) == pytest.approx(1 - 0.05 / 3) and row["comparisons"] == "3"


def test_few_seeds_leave_cells_empty(tmp_path):
    write_csv(Results(TASK, make_runs(1)), tmp_path)
    assert {row["low"] + row["p_adjusted"] + row["better"] for row in table_in(tmp_path, "comparisons")} == {""}
    text = "".join(path.read_text() for path in csv_files(tmp_path).values()).casefold()
    assert "nan" not in text and "none" not in text and "np." not in text


def test_variants_of_an_ablation_are_told_once(tmp_path):
    runs = ablation_runs(2)
    own = {experiment.name for experiment in ABLATION.experiments}
    results = Results(ABLATION, {name: records for name, records in runs.items() if name in own}, ablation=runs)
    write_csv(results, tmp_path)
    cells = [(row["model"], int(row["seed"])) for row in table_in(tmp_path, "runs")]
    assert sorted(cells) == sorted((name, seed) for name in runs for seed in range(2))


def hostile_results() -> Results:
    runs = {name: [make_record(name, seed, class_names=CLASSES) for seed in range(3)] for name in NAMES}
    task = dataclasses.replace(
        TASK,
        experiments=[Experiment(name, FCN, TASK.experiments[0].config) for name in NAMES],
        contrasts=[Contrast(NAMES[0], NAMES[1]), Contrast(NAMES[3], NAMES[2])],
    )
    return Results(task, runs, timing=make_timing(list(NAMES)))


def test_any_name_comes_back_and_none_is_a_formula(tmp_path):
    """A comma, quotes, a line break, Chinese; =, - and @ at the beginning."""
    write_csv(hostile_results(), tmp_path)
    for name in COLUMNS:
        for row in table_in(tmp_path, name):
            for column, cell in row.items():
                number = cell.replace("-", "", 1).replace(".", "", 1).replace("e-", "", 1).isdigit()
                assert number or not cell.startswith(("=", "+", "-", "@")), (name, column, cell)
            if "model" in row:
                assert plain(row["model"]) in NAMES
    assert [plain(row["model"]) for row in table_in(tmp_path, "runs")] == [n for n in NAMES for _ in range(3)]
    assert {(plain(row["a"]), plain(row["b"])) for row in table_in(tmp_path, "comparisons")} == {
        NAMES[:2],
        NAMES[:1:-1],
    }


def test_pandas_reads_them_without_options(tmp_path):
    pandas = pytest.importorskip("pandas")
    results = hostile_results()
    write_csv(results, tmp_path)
    tables = {name: pandas.read_csv(path) for name, path in csv_files(tmp_path).items()}
    table = tables["runs"]
    assert table["accuracy"].tolist() == [r.test_accuracy for of in results.runs.values() for r in of]
    assert table["model"].map(plain).tolist() == [name for name in NAMES for _ in range(3)]
    assert tables["comparisons"]["difference"].dtype == float and tables["comparisons"]["analysis"].isna().all()
    assert tables["epochs"].groupby(["model", "seed"]).size().tolist() == [15] * 12


def test_writing_again_changes_no_byte_and_a_file_of_somebody_else_is_not_ours(tmp_path):
    assert not has_csv(tmp_path)
    write_csv(hostile_results(), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert has_csv(tmp_path) and before.keys() == {f"{name}.csv" for name in COLUMNS}
    write_csv(hostile_results(), tmp_path)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert not any(b"\r" in content for content in before.values()) and before["comparisons.csv"].endswith(b"\n")
    (tmp_path / "epochs.csv").write_text("my,own\n1,2\n")
    assert not has_csv(tmp_path)
