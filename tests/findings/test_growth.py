"""Thousands of records: a page reads each record's arrays a fixed number of times, and keeps almost none of them."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
from made_page import MODELS, TASK
from made_records import make_record

from utils.experiment import Declared
from utils.findings.results import read_results
from utils.records import arrays
from utils.records.record import RecordError, read_record, write_record
from utils.report.conclusions import conclusions
from utils.report.page import results_text
from utils.stats.overfitting import overfitting

DECLARED = Declared(dict.fromkeys(MODELS, "0123456789ab"))
TEST_IMAGES = 5_000


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """{seeds: a folder of records of three models with so many}."""
    found = {seeds: tmp_path_factory.mktemp(f"records{seeds}") for seeds in (11, 25)}
    made = [make_record(model, 0, test_total=TEST_IMAGES) for model in MODELS]
    for seeds, folder in found.items():
        for record in made:
            for seed in range(seeds):
                # Other curves than those of seed 0, so that something varies; the arrays matter by their size alone.
                history = [{**epoch, "val_loss": epoch["val_loss"] * (1 + 0.001 * seed)} for epoch in record.history]
                write_record(folder, dataclasses.replace(record, seed=seed, history=history))
    return found


def page(folder) -> str:
    results = read_results(folder, TASK, DECLARED)
    assert not results.left_out
    return results_text(results) + conclusions(results)


def test_each_record_is_read_a_fixed_number_of_times(folders, monkeypatch):
    read = []
    open_arrays = arrays.open_arrays

    def counted(stem, content, expected):
        read.append(stem)
        return open_arrays(stem, content, expected)

    monkeypatch.setattr(arrays, "open_arrays", counted)
    times = {}
    for seeds, folder in folders.items():
        arrays._opened.cache_clear()
        read.clear()
        assert f"{seeds} seeds" in page(folder)
        times[seeds] = len(read) / (3 * seeds)
    # For predictions of a model and of its two contrasts, and for gradients; few records stay in memory.
    assert 1 <= times[11] <= times[25] <= 4


def test_memory_does_not_grow_with_the_arrays(folders):
    """Kept, those of each further record would take at least a byte for each of three predictions of an image."""
    peaks = {}
    for seeds, folder in folders.items():
        arrays._opened.cache_clear()
        tracemalloc.start()
        page(folder)
        peaks[seeds] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    record = read_record(folders[11] / "FCN-seed0.json")
    of_arrays = sum(array.nbytes for array in record.arrays.values())
    assert of_arrays > 3 * TEST_IMAGES
    assert (peaks[25] - peaks[11]) / (3 * 14) < of_arrays


def test_overfitting_of_very_many_seeds_takes_memory_in_proportion():
    peaks = {}
    for seeds in (100, 400):
        rng = np.random.default_rng(seeds)
        val, fit = (rng.lognormal(0, 0.05, (seeds, 15)) for _ in range(2))
        tracemalloc.start()
        assert overfitting(val, fit).seeds == seeds
        peaks[seeds] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[400] < 6 * peaks[100]  # by pairs of seeds it would be 16 times as much


def test_arrays_that_were_replaced_after_reading_are_refused(tmp_path):
    path = write_record(tmp_path, make_record(accuracy=0.9))
    record = read_record(path)
    arrays._opened.cache_clear()
    write_record(tmp_path, make_record(accuracy=0.98))
    with pytest.raises(RecordError, match="FCN-seed0.*SHA-256"):
        _ = record.arrays["test_labels"]
    path.with_suffix(".npz").unlink()
    with pytest.raises(RecordError, match="FCN-seed0.npz can't be read any more"):
        _ = record.arrays["test_labels"]
    assert "test_labels" in record.arrays and "flow" not in record.arrays
    with pytest.raises(KeyError):
        _ = record.arrays["flow"]


def test_arrays_that_were_read_cannot_be_written_to(tmp_path):
    record = read_record(write_record(tmp_path, make_record()))
    with pytest.raises(ValueError, match="read-only"):
        record.arrays["test_predictions"][0] = 1
