"""The CSV files, read back: the records and verdicts in full, whatever the names, and the same bytes each time."""

import csv
import dataclasses

import numpy as np
import pytest
from made_ablation import ABLATION, ablation_runs
from made_page import MODELS, TASK, make_runs
from made_records import make_record, make_timing
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, precision_recall_fscore_support

from models import FCN
from utils.experiment import Contrast, Experiment
from utils.findings.results import Results
from utils.report.csv_tables import COLUMNS, csv_files, has_csv, write_csv

NAMES = ("=1+1", 'a, "b"', "图像 ½", "-x")
CLASSES = ("@home", "zwei\nZeilen", "狗", "'quoted'")


def table_in(folder, name: str) -> list[dict[str, str]]:
    with open(folder / f"{name}.csv", encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        rows = list(reader)
    assert tuple(reader.fieldnames) == COLUMNS[name] and all(None not in row.values() for row in rows)
    return rows


def plain(text: str) -> str:
    """As docs/running.md says: without the apostrophe before what would be a formula."""
    return text[1:] if text[:2] in ("'=", "'+", "'-", "'@") else text


def test_every_epoch_and_every_run_comes_back_in_full(tmp_path):
    runs = make_runs(3)
    runs["FCN"][1].history[2]["val_loss"] = None  # was not finite
    write_csv(Results(TASK, runs), tmp_path)
    records = [record for of_model in runs.values() for record in of_model]
    rows = table_in(tmp_path, "histories")
    assert len(rows) == 9 * 15
    for row, (record, epoch) in zip(rows, [(r, e) for r in records for e in range(15)], strict=True):
        assert (row["task"], row["kind"], row["model"]) == ("task_1_1", "cpu-bf16", record.model)
        assert (int(row["seed"]), int(row["epoch"])) == (record.seed, epoch + 1)
        for name, value in record.history[epoch].items():
            assert row[name] == "" if value is None else float(row[name]) == value, name
    rows = table_in(tmp_path, "accuracies")
    for row, record in zip(rows, records, strict=True):
        found = record.arrays["test_labels"], record.arrays["test_predictions"]
        assert float(row["balanced_accuracy"]) == pytest.approx(balanced_accuracy_score(*found), abs=1e-11)
        assert int(row["test_correct"]) == (found[0] == found[1]).sum() and row["test_total"] == "2000"
        for name in set(row) - {"kind", "balanced_accuracy"}:
            assert row[name] == str(getattr(record, name)), name


def test_classes_are_those_of_scikit_learn(tmp_path):
    records = [make_record("FCN", seed, class_names=tuple("abcd"), accuracy=0.8) for seed in range(2)]
    del records[1].per_class["f1"]
    records[1] = dataclasses.replace(records[1], per_class=None)  # as of older versions
    write_csv(Results(TASK, {"FCN": records}), tmp_path)
    rows = table_in(tmp_path, "per_class")
    assert [(row["seed"], row["class_index"], row["class_name"]) for row in rows] == [
        (str(seed), str(index), name) for seed in range(2) for index, name in enumerate("abcd")
    ]
    for record, of_record in zip(records, (rows[:4], rows[4:]), strict=True):
        labels, predictions = record.arrays["test_labels"], record.arrays["test_predictions"]
        precision, recall, f1, images = precision_recall_fscore_support(labels, predictions)
        for index, row in enumerate(of_record):
            assert int(row["test_images"]) == images[index] and int(row["predicted"]) == (predictions == index).sum()
            assert int(row["correct"]) / int(row["test_images"]) == pytest.approx(recall[index])
            if record.per_class:
                scores = (float(row[name]) for name in ("precision", "recall", "f1"))
                assert tuple(scores) == pytest.approx((precision[index], recall[index], f1[index]))
    assert {row["f1"] for row in rows[4:]} == {""}


def test_verdicts_have_the_numbers_of_a_paired_test(tmp_path):
    runs = make_runs(6)
    results = Results(TASK, runs, timing=make_timing(list(MODELS)))
    write_csv(results, tmp_path)
    rows = table_in(tmp_path, "verdicts")
    assert [row["measure"] for row in rows] == ["test accuracy"] * 3 + ["log roughness of validation loss"] * 3
    for row, contrast in zip(rows[:3], TASK.contrasts, strict=True):
        assert (row["a"], row["b"]) == (contrast.a, contrast.b)
        a, b = (np.array([record.test_accuracy for record in runs[model]]) for model in (row["a"], row["b"]))
        test = stats.ttest_rel(b, a)
        low, high = test.confidence_interval(1 - 0.05 / 3)
        assert float(row["difference"]) == pytest.approx((b - a).mean()) and row["seeds"] == "6" and row["look"] == ""
        assert (float(row["low"]), float(row["high"])) == pytest.approx((low, high))
        assert float(row["p"]) == pytest.approx(test.pvalue) and float(row["p"]) <= float(row["p_adjusted"]) <= 1
        assert (row["verdict"], row["better"]) == ("better", contrast.b) and row["within_margin"] == "False"
        assert row["sentence"].startswith(f"{contrast.b} is better than {contrast.a} by ")
        assert float(row["level"]) == pytest.approx(1 - 0.05 / 3) and row["contrasts"] == "3"
    of_overfitting = table_in(tmp_path, "overfitting")
    assert [row["model"] for row in of_overfitting] == list(MODELS)
    for row in of_overfitting:
        found = results.overfitting[row["model"]]
        assert (row["verdict"], row["seeds"], row["most_epochs"]) == (found.word, "6", "15")
        assert float(row["rise"]) == found.rise.estimate and float(row["high"]) == found.rise.high
        assert row["sentence"].startswith(row["model"])
    times = table_in(tmp_path, "times")
    assert len(times) == 3 * 7
    for row in times:
        of_model = results.timing.models[row["model"]]
        assert float(row["train_step_seconds"]) == of_model["train_step_seconds"][int(row["round"]) - 1]


def test_few_seeds_leave_cells_empty_and_tables_without_rows(tmp_path):
    write_csv(Results(TASK, make_runs(1)), tmp_path)
    assert {row["low"] + row["p_adjusted"] + row["better"] for row in table_in(tmp_path, "verdicts")} == {""}
    assert table_in(tmp_path, "times") == []
    text = "".join(path.read_text() for path in csv_files(tmp_path).values()).casefold()
    assert "nan" not in text and "none" not in text and "np." not in text


def test_variants_of_an_ablation_are_told_once(tmp_path):
    runs = ablation_runs(2)
    own = {experiment.name for experiment in ABLATION.experiments}
    results = Results(ABLATION, {name: records for name, records in runs.items() if name in own}, ablation=runs)
    write_csv(results, tmp_path)
    cells = [(row["model"], int(row["seed"])) for row in table_in(tmp_path, "accuracies")]
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
    assert [plain(row["model"]) for row in table_in(tmp_path, "accuracies")] == [n for n in NAMES for _ in range(3)]
    assert [plain(row["class_name"]) for row in table_in(tmp_path, "per_class")] == [*CLASSES] * 12
    assert {(plain(row["a"]), plain(row["b"])) for row in table_in(tmp_path, "verdicts")} == {NAMES[:2], NAMES[:1:-1]}


def test_pandas_reads_them_without_options(tmp_path):
    pandas = pytest.importorskip("pandas")
    results = hostile_results()
    write_csv(results, tmp_path)
    tables = {name: pandas.read_csv(path) for name, path in csv_files(tmp_path).items()}
    accuracies = tables["accuracies"]
    assert accuracies["test_accuracy"].tolist() == [r.test_accuracy for of in results.runs.values() for r in of]
    assert accuracies["model"].map(plain).tolist() == [name for name in NAMES for _ in range(3)]
    assert tables["verdicts"]["difference"].dtype == float and tables["verdicts"]["look"].isna().all()
    assert tables["histories"].groupby(["model", "seed"]).size().tolist() == [15] * 12
    assert tables["per_class"]["class_name"].map(plain).tolist() == [*CLASSES] * 12


def test_writing_again_changes_no_byte_and_a_file_of_somebody_else_is_not_ours(tmp_path):
    assert not has_csv(tmp_path)
    write_csv(hostile_results(), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert has_csv(tmp_path) and before.keys() == {f"{name}.csv" for name in COLUMNS}
    write_csv(hostile_results(), tmp_path)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert not any(b"\r" in content for content in before.values()) and before["verdicts.csv"].endswith(b"\n")
    (tmp_path / "times.csv").write_text("my,own\n1,2\n")
    assert not has_csv(tmp_path)
