"""Which kind of records the pages show: that of the first finished run, until somebody chooses another."""

import json

import pytest
from place import digests

from utils.command import outputs
from utils.records.kinds import mark_kind


def draw_a_picture_of_each_model(results, folder):
    paths = [folder / f"{model}_curves.png" for model in results.runs]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str([record.seed for record in results.runs[path.stem.removesuffix("_curves")]]))
    return paths


@pytest.fixture
def shown(place, monkeypatch):
    """`place` with three runs of cuda-bf16, of A with seeds 0 and 1 and of B with seed 0, which the pages show."""
    monkeypatch.setattr(outputs, "draw_task", draw_a_picture_of_each_model)
    place.old_records("A-seed0", "A-seed1", "B-seed0", kind="cuda-bf16")
    assert place.run("--replot") == 0 and "2 seeds (0, 1)" in place.page()
    return place


def pages(place):
    """What the README and the task's own pages show."""
    return {place.readme.name: place.readme.read_bytes()} | {
        path.name: path.read_bytes() for path in place.plots.iterdir() if path.suffix in (".md", ".png")
    }


def test_the_pages_of_another_kind_lie_in_a_folder_of_their_own(shown, capsys):
    before = digests(shown.plots) | pages(shown)
    assert shown.run() == 0
    after = digests(shown.plots) | pages(shown)
    assert {name: after[name] for name in before} == before
    assert "1 seed (0)" in (shown.plots / "cpu-fp32/RESULTS.md").read_text()
    assert (shown.plots / "cpu-fp32/B_curves.png").read_text() == "[0]"
    told = capsys.readouterr().out
    assert "still show cuda-bf16. To show cpu-fp32: the same command with --replot --kind cpu-fp32" in told
    assert shown.run("--replot") == 0 and pages(shown) == {name: before[name] for name in pages(shown)}


def test_more_runs_of_another_kind_change_nothing(shown, capsys):
    before = pages(shown)
    assert shown.run("--num-seeds", "5") == 0
    assert pages(shown) == before and "5 seeds" in (shown.plots / "cpu-fp32/RESULTS.md").read_text()
    assert "still show cuda-bf16." in capsys.readouterr().out


def test_a_run_of_fewer_models_of_the_kind_shown_leaves_the_others_there(shown):
    assert shown.run("--models", "A", "--seeds", "2") == 0 and "cuda-bf16" not in shown.page()[:60]
    mark_kind(shown.plots / "records", "cpu-fp32")
    assert shown.run() == 0
    assert shown.run("--models", "B", "--seeds", "7") == 0
    assert (shown.plots / "A_curves.png").read_text() == "[0, 2]" and "3 seeds (0, 2, 7)" in shown.page()


def test_a_chosen_kind_stays_whatever_runs_until_another_is_chosen(shown, capsys):
    assert shown.run("--models", "A") == 0
    assert shown.run("--replot", "--kind", "cpu-fp32") == 0
    assert "1 seed (0)" in shown.page() and not (shown.plots / "cpu-fp32").exists()
    assert "2 seeds" in (shown.plots / "cuda-bf16/RESULTS.md").read_text()
    assert not (shown.plots / "B_curves.png").exists()  # it was of the other kind, where it is now
    assert (shown.plots / "cuda-bf16/B_curves.png").exists()
    capsys.readouterr()
    before = pages(shown)
    assert shown.run("--precision", "bf16", "--num-seeds", "4") == 0 and pages(shown) == before
    assert "still show cpu-fp32." in capsys.readouterr().out
    assert shown.run("--models", "A", "--seeds", "1") == 0 and "2 seeds (0, 1)" in shown.page()
    assert shown.run("--replot") == 0 and "2 seeds (0, 1)" in shown.page()
    assert shown.run("--precision", "bf16", "--seeds", "4") == 0 and "2 seeds (0, 1)" in shown.page()
    assert (
        shown.run("--models", "B") == 0
    )  # no model is lacking, and cpu-bf16 has more runs: it is the choice that holds
    assert shown.run("--precision", "bf16", "--seeds", "5") == 0 and "cpu-fp32" in shown.page()
    assert shown.run("--replot", "--kind", "cpu-bf16") == 0 and "6 seeds" in shown.page()
    assert shown.run("--replot", "--kind", "mps-fp32") == 2
    assert "choose from cpu-bf16, cpu-fp32, cuda-bf16" in capsys.readouterr().err


def test_a_folder_without_a_choice_shows_the_kind_of_its_first_finished_run(place):
    """Also if a kind whose name sorts before it comes later."""
    assert place.run("--precision", "fp32") == 0 and "cpu-fp32" in place.page()
    assert (place.plots / "records/shown_kind.txt").read_text() == "cpu-fp32\n"
    before = pages(place)
    assert place.run("--precision", "bf16", "--num-seeds", "2") == 0 and pages(place) == before


def test_a_choice_of_records_that_are_gone_is_none(shown):
    (shown.plots / "records/shown_kind.txt").write_text("mps-fp32\n")
    assert shown.run("--replot") == 0 and "2 seeds" in shown.page()
    assert json.loads((shown.plots / "A_curves.png").read_text()) == [0, 1]


@pytest.mark.parametrize(
    "words", ["--output-dir out", "--epochs 1", "--epochs 1 --output-dir out", "--protocol original"]
)
def test_it_holds_in_every_folder_of_results(shown, monkeypatch, words):
    monkeypatch.chdir(shown.folder)
    assert shown.run(*words.split(), "--num-seeds", "2") == 0
    paths = [path for path in shown.folder.rglob("RESULTS.md") if path.parent != shown.plots]
    before = shown.readme.read_bytes(), [path.read_bytes() for path in paths]
    assert len(paths) == 1
    assert shown.run(*words.split(), "--precision", "bf16") == 0
    assert (shown.readme.read_bytes(), [path.read_bytes() for path in paths]) == before
    assert "1 seed (0)" in (paths[0].parent / "cpu-bf16/RESULTS.md").read_text()
    assert shown.run(*words.split(), "--replot", "--kind", "cpu-bf16") == 0
    assert "cpu-bf16" in paths[0].read_text() and (paths[0].parent / "cpu-fp32/RESULTS.md").exists()
