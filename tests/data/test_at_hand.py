"""The test images that a page may show: from the data folder alone, and only if they are what they should be."""

import dataclasses

import numpy as np
import pytest

from utils.data import sources
from utils.data.at_hand import test_set_at_hand as at_hand  # pytest would take it for a test
from utils.data.specs import DIGITS, ArraySpec
from utils.files import sha256


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A data set in a cache, with checksums; nothing else may be asked for it."""
    random = np.random.default_rng(3)
    arrays = {f"{part}_images": random.integers(0, 256, (6, 8, 8), np.uint8) for part in ("train", "test")}
    arrays |= {f"{part}_labels": random.integers(0, 10, 6).astype(np.uint8) for part in ("train", "test")}
    specs = {name: ArraySpec(array.shape, sha256(array.tobytes())) for name, array in arrays.items()}
    monkeypatch.setattr(sources, "SOURCES", {})
    np.savez(tmp_path / "tiny.npz", **arrays)
    return dataclasses.replace(DIGITS, name="tiny", arrays=specs), arrays


def test_it_is_read_from_the_cache(tiny, tmp_path):
    spec, arrays = tiny
    images, labels = at_hand(spec, tmp_path)
    assert (images == arrays["test_images"]).all() and (labels == arrays["test_labels"]).all()


def test_what_is_missing_damaged_or_of_other_bytes_is_not_at_hand(tiny, tmp_path):
    spec, arrays = tiny
    assert at_hand(spec, tmp_path / "elsewhere") is None
    np.savez(tmp_path / "tiny.npz", **arrays | {"test_images": arrays["train_images"]})
    assert at_hand(spec, tmp_path) is None
    np.savez(tmp_path / "tiny.npz", **arrays | {"test_labels": arrays["test_labels"][:-1]})
    assert at_hand(spec, tmp_path) is None
    (tmp_path / "tiny.npz").write_bytes(b"no archive")
    assert at_hand(spec, tmp_path) is None


def test_embedded_data_are_always_at_hand(tmp_path):
    images, labels = at_hand(DIGITS, tmp_path / "nowhere")
    assert images.shape == (360, 8, 8) and len(labels) == 360
