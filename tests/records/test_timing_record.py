"""Timing passes: one comes back only if it is whole and has all models."""

import dataclasses

import pytest
from damage import cut, rewrite
from made_records import make_timing

from utils.records.timing import read_timing, write_timing


def test_a_timing_pass_comes_back_if_it_has_all_models(tmp_path):
    assert read_timing(tmp_path, {"FCN": "aa"}) is None
    timing = make_timing(["FCN", "CNN"])
    write_timing(tmp_path, timing)
    assert read_timing(tmp_path, {"CNN": "bb", "FCN": "aa"}) == read_timing(tmp_path, {"CNN": "bb"}) == timing
    assert read_timing(tmp_path, {"FCN": "aa", "CNN": "bb", "VGG": "cc"}) is None


def test_a_timing_pass_by_another_recipe_is_none(tmp_path):
    """A model was changed since, and the times are those of the older one."""
    hashes = {"FCN": "aa", "CNN": "bb"}
    write_timing(tmp_path, dataclasses.replace(make_timing(["FCN", "CNN"]), config_hashes=hashes))
    assert read_timing(tmp_path, hashes).config_hashes == hashes
    assert read_timing(tmp_path, {"FCN": "aa"}) is not None
    assert read_timing(tmp_path, {"FCN": "aa", "CNN": "other"}) is None
    rewrite(tmp_path / "timing.json", config_hashes=None)
    assert read_timing(tmp_path, hashes) is None


@pytest.mark.parametrize(
    "spoil",
    [
        cut("timing.json"),
        lambda folder: rewrite(folder / "timing.json", schema_version=0),
        lambda folder: rewrite(folder / "timing.json", colour="red"),
        lambda folder: (folder / "timing.json").write_text("[]"),
        lambda folder: rewrite(folder / "timing.json", models=None),
        lambda folder: (folder / "timing.json").write_text("[" * 100_000),
    ],
    ids=["truncated", "older schema", "a field too many", "foreign", "no models", "nested"],
)
def test_a_timing_pass_that_is_not_whole_is_none(tmp_path, spoil):
    """Truncated, of an older schema, with a field too many, foreign, without models, nested without end."""
    write_timing(tmp_path, make_timing(["FCN"]))
    spoil(tmp_path)
    assert read_timing(tmp_path, {"FCN": "aa"}) is None
