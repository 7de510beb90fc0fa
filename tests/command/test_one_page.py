"""report.html of whole runs: at the end, and on --replot."""

from checkout_folder import CHECKOUT
from made_html import Page

from utils.command import one_page, outputs
from utils.command.one_page import write_report


def test_a_run_leaves_the_page_and_replot_the_same_bytes(place, monkeypatch):
    monkeypatch.setattr(outputs, "write_report", write_report)
    assert place.run("--models", "A", "--seeds", "1", "3") == 0
    path = place.plots / "report.html"
    first, text = path.read_bytes(), Page(path.read_bytes()).text
    assert "--models A --seeds 1 3 --device cpu --precision fp32" in text and b'id="atlas"' in first
    assert "train images: 1,437 x 8 x 8" not in text and "no checksum is declared" in text
    assert place.run("--models", "A", "--replot") == 0
    assert path.read_bytes() == first


def test_a_quick_looks_command_names_its_recipe(place, monkeypatch):
    told = []
    monkeypatch.setattr(outputs, "write_report", lambda plan, results, *_: told.append((plan, results)))
    assert place.run("--epochs", "1", "--lr", "0.01", "--num-seeds", "2") == 0
    command = one_page.command_in_words(*told[-1])
    assert command.endswith("--epochs 1 --lr 0.01 --num-seeds 2 --device cpu --precision fp32")


def test_other_data_than_those_of_the_records_are_not_shown(place, monkeypatch):
    told = []
    monkeypatch.setattr(outputs, "write_report", lambda plan, results, *_: told.append((plan, results)))
    place.old_records("A-seed0")  # its labels are made up
    assert place.run("--replot") == 0
    assert one_page.images_of(*told[-1]) is None
    assert place.run("--models", "A", "--fresh") == 0
    assert one_page.images_of(*told[-1]).shape == (360, 8, 8)


def test_git_ignores_the_page():
    assert "/plots/**/report.html" in (CHECKOUT / ".gitignore").read_text().splitlines()
