"""report.html of whole runs: at the end, on --replot, and with --live while a run goes on."""

import pytest
from checkout_folder import CHECKOUT
from made_html import Page

from utils.command import live, one_page, outputs
from utils.command.one_page import write_report
from utils.report.html import LIVE


@pytest.fixture
def pages(place, monkeypatch):
    """The versions of report.html in `place`, in their order."""
    versions = []
    monkeypatch.setattr(outputs, "write_report", write_report)
    monkeypatch.setattr(live, "write_report", write_report)
    monkeypatch.setattr(live, "SECONDS_BETWEEN", 0)
    monkeypatch.setattr(live, "PART_OF_A_RUN", 1000)
    for module in (live, one_page):
        write = module.write_atomically

        def kept(path, content, write=write):
            versions.append(content)
            write(path, content)

        monkeypatch.setattr(module, "write_atomically", kept)
    return versions


def test_a_run_leaves_the_page_and_replot_the_same_bytes(place, pages):
    assert place.run("--models", "A", "--seeds", "1", "3") == 0
    path = place.plots / "report.html"
    first, text = path.read_bytes(), Page(path.read_bytes()).text
    assert "--models A --seeds 1 3 --device cpu --precision fp32" in text and b'id="atlas"' in first
    assert "train images: 1,437 x 8 x 8" not in text and "no checksum is declared" in text
    assert place.run("--models", "A", "--replot") == 0
    assert path.read_bytes() == first and LIVE not in first


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


def test_with_live_the_page_tells_the_progress_and_ends_as_it_does_without(place, pages):
    assert place.run("--models", "A", "--live") == 0
    *during, last = pages
    assert len(during) == 3 and all(LIVE in version for version in during)  # after both epochs, and before the pictures
    assert "1 of 2 epochs" in Page(during[0]).text and "2 of 2 epochs" in Page(during[1]).text
    assert LIVE not in last and "Confusion matrix" in Page(last).text
    assert place.run("--models", "A", "--replot") == 0 and pages[-1] == last


def test_an_interruption_leaves_a_page_that_does_not_load_itself_again(place, pages):
    def stop(job):
        if job.experiment.name == "B":
            raise KeyboardInterrupt

    place.before_cell = stop
    assert place.run("--live") == 130
    assert LIVE in pages[0] and LIVE not in pages[-1] and "Confusion matrix" in Page(pages[-1]).text


def test_a_run_without_any_result_ends_the_page_too(place, pages, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    tell = live.LivePage.epoch_done
    monkeypatch.setattr(live.LivePage, "epoch_done", lambda *of: (tell(*of), stop()))
    assert place.run("--models", "A", "--live") == 130
    assert LIVE in pages[0] and "ended before a model was trained" in Page(pages[-1]).text and LIVE not in pages[-1]


def test_a_page_that_cannot_be_written_is_told_once_and_ends_nothing(place, monkeypatch, capsys):
    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(live, "draw_curves", full)
    monkeypatch.setattr(live, "SECONDS_BETWEEN", 0)
    assert place.run("--models", "A", "--live") == 0
    assert capsys.readouterr().err.count("report.html is not kept up to date (OSError: no space left)") == 1


def test_it_is_not_written_so_often_that_training_waits_for_it(place, monkeypatch, pages):
    monkeypatch.setattr(live, "SECONDS_BETWEEN", 1000)
    assert place.run("--models", "A", "--epochs", "4", "--live") == 0
    assert len(pages) == 1 + 1 + 1  # the first epoch, the end of training, the last


@pytest.mark.parametrize("other", [["--replot"], ["--time-only"], ["--protocol", "original"]])
def test_live_goes_with_training_alone(place, other, capsys):
    with pytest.raises(SystemExit) as end:
        place.run("--live", *other)
    assert end.value.code == 2 and "--live: not allowed with" in capsys.readouterr().err


def test_git_ignores_the_page():
    assert "/plots/**/report.html" in (CHECKOUT / ".gitignore").read_text().splitlines()
