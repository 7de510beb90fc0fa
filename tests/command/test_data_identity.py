"""Data of one's own: a record belongs to the bytes that it was trained on, and so does a checkpoint."""

import dataclasses

import numpy as np
import pytest
from data_files import npz
from place import RECIPE, digests, task_of

from utils.data import specs as datasets
from utils.data.images import load_splits
from utils.data.sources import load_arrays
from utils.data.specs import DIGITS
from utils.records.record import read_record
from utils.training import cell as cells
from utils.training import checkpoint
from utils.training.fit import fit

OWN = dataclasses.replace(DIGITS, name="own")  # any bytes are accepted
TASK = task_of("own", A=RECIPE)


class Own:
    """A data set of one's own, in the file `data/own.npz`."""

    def __init__(self, place):
        self.place, self.folder = place, place.folder / "data"
        self.folder.mkdir()
        self.arrays = load_arrays(DIGITS, self.folder)
        self.put(self.arrays)

    def put(self, arrays):
        (self.folder / "own.npz").write_bytes(npz(**arrays))

    def run(self, *arguments: str) -> int:
        return self.place.run("--data-dir", str(self.folder), *arguments, task=TASK)


@pytest.fixture
def own(place, monkeypatch):
    monkeypatch.setitem(datasets.DATASETS, "own", OWN)
    return Own(place)


def inverted(arrays):
    return arrays | {"train_images": 255 - arrays["train_images"]}


def shuffled_labels(arrays):
    return arrays | {"train_labels": np.random.default_rng(0).permutation(arrays["train_labels"])}


def other_test_images(arrays):
    return arrays | {"test_images": np.flip(arrays["test_images"], axis=2)}


CHANGES = [inverted, shuffled_labels, other_test_images]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_records_of_other_data_are_named_and_never_pooled(place, own, change):
    """A training image or label, or a test image, is changed between two seeds; all shapes stay."""
    assert own.run() == 0
    first = read_record(place.records / "A-seed0.json").data_sha256
    own.put(change(own.arrays))
    assert own.run("--seeds", "1") == 0 and place.trained == ["A-seed1"]
    second = read_record(place.records / "A-seed1.json").data_sha256
    assert len(first) == 64 and first != second
    assert place.drawn[-1] == {"A": [1]}
    named = f"A-seed0.json: trained on other data (SHA-256 {first[:12]}, in the latest run {second[:12]})"
    assert named in place.page()
    assert own.run("--replot") == 0 and place.drawn == [{"A": [1]}] and named in place.page()
    assert own.run("--num-seeds", "2") == 0 and place.trained == ["A-seed0"]  # again, on the new data
    assert place.drawn[-1] == {"A": [0, 1]} and "other data" not in place.page()


def test_the_data_of_the_latest_run_are_shown(place, own):
    """The data are changed and put back: the older records count again, and nothing is trained."""
    assert own.run() == 0
    own.put(inverted(own.arrays))
    assert own.run("--seeds", "1") == 0
    own.put(own.arrays)
    assert own.run() == 0 and place.trained == []
    assert place.drawn[-1] == {"A": [0]} and "A-seed1.json: trained on other data" in place.page()


def test_a_mark_of_data_that_vanishes_is_written_again_with_the_next_record(place, own):
    """The output folder is deleted between two cells."""
    mark = place.records / "data_sha256.txt"
    place.before_cell = lambda job: mark.unlink(missing_ok=True)
    assert own.run("--num-seeds", "2") == 0
    assert mark.read_text().strip() == read_record(place.records / "A-seed1.json").data_sha256


def test_a_checkpoint_of_other_data_starts_again_and_says_so(place, own, monkeypatch, capsys):
    """The data are changed while a run is interrupted."""
    monkeypatch.setattr(checkpoint, "LEAST_SECONDS", 0.0)

    def stop(model, config, seed, data, execution, on_epoch, checkpoints):
        fit(model, dataclasses.replace(config, epochs=1), seed, data, execution, on_epoch, checkpoints)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(cells, "fit", stop)
        assert own.run() == 130
    own.put(inverted(own.arrays))
    capsys.readouterr()
    assert own.run() == 0
    told = capsys.readouterr().out
    assert "A-seed0 was interrupted, but the data have changed since: it starts again" in told
    assert "Resuming" not in told
    (mixed,) = place.runs.rglob("final.safetensors")
    assert own.run("--runs-dir", str(place.folder / "new")) == 0
    (whole,) = (place.folder / "new").rglob("final.safetensors")
    assert mixed.read_bytes() == whole.read_bytes()


def test_data_that_change_while_a_run_goes_on_fail_the_cells_to_come(place, own):
    """The file is replaced between two cells."""

    def change(job):
        if job.seed == 1:
            own.put(inverted(own.arrays))

    place.before_cell = change
    assert own.run("--num-seeds", "2") == 1
    assert place.drawn[-1] == {"A": [0]}
    assert "own was changed while the run went on; start it again" in place.page()


def by_class(arrays):
    order = np.argsort(arrays["train_labels"], kind="stable")
    return arrays | {name: arrays[name][order] for name in ("train_images", "train_labels")}


@pytest.mark.parametrize("limit", [10, 100, 333])
def test_a_limit_takes_every_class_in_proportion_of_data_sorted_by_class(own, limit):
    own.put(by_class(own.arrays))
    whole, part = (load_splits(OWN, own.folder, limit=size) for size in (None, limit))
    shares = np.bincount(whole.train.labels) / len(whole.train)
    assert len(part.train) == limit
    assert np.abs(np.bincount(part.train.labels, minlength=10) - limit * shares).max() < 1
    held_out = np.bincount(part.val.labels, minlength=10)
    assert held_out.min() >= 1 and held_out.sum() == max(10, round(len(whole.val) * limit / len(whole.train)))
    assert len(part.test) == 360


def test_a_limit_below_the_number_of_classes_is_refused(place, own, capsys):
    """`--limit 9` with 10 classes."""
    before = digests(place.folder)
    assert own.run("--limit", "9") == 2
    told = capsys.readouterr().err
    assert told == "error: --limit 9: own has 10 classes, of each of which one example is needed\n"
    assert digests(place.folder) == before and not place.runs.exists()
    assert own.run("--limit", "10") == 0
