"""The pictures that are drawn are those that the text shows, and both say the same."""

import dataclasses
import re
from pathlib import Path

from made_ablation import ABLATION, ablation_runs
from made_page import TASK, make_runs, rows_of, text_of
from made_records import make_record
from pictures import CIFAR

from utils.figures import panels as plots
from utils.figures import task as figures
from utils.findings.results import Results
from utils.findings.runs import accuracies_of
from utils.report.page import results_text
from utils.stats.intervals import mean_interval


def test_a_table_and_a_picture_round_a_mean_alike():
    """Counts with a mean of 8230.5 of 10,000: 82.30% and 82.31% are both near."""
    counts = (8201, 8260)
    runs = {
        "FCN": [
            dataclasses.replace(make_record(seed=s), test_correct=c, test_total=10_000) for s, c in enumerate(counts)
        ]
    }
    told = rows_of(text_of(runs), "test accuracy")["FCN"]["test accuracy, final weights"]
    assert plots.accuracy_in_words(mean_interval(accuracies_of(runs["FCN"]))) == told


def test_every_picture_that_the_text_shows_is_drawn_and_has_alt_text(monkeypatch):
    runs = make_runs(2)
    monkeypatch.setattr(figures, "save", lambda figure, path: path)
    drawn = figures.draw_task(Results(TASK, runs), Path("plots/task"))
    shown = re.findall(r"!\[(.+?)\]\((.+?)\)", text_of(runs))
    assert sorted(path for _, path in shown) == sorted(path.name for path in drawn)
    assert len({alt for alt, _ in shown}) == len(shown)


def test_the_pictures_of_task_1_2_are_those_that_its_text_shows(monkeypatch):
    monkeypatch.setattr(figures, "save", lambda figure, path: path)
    ablation = ablation_runs(1)
    names = [experiment.name for experiment in ABLATION.experiments]
    runs = {name: [make_record(name, **CIFAR)] for name in names[:2]} | {name: ablation[name] for name in names[2:]}
    results = Results(ABLATION, runs, ablation)
    assert results.confused_pair == ("CNNWithResidual", "CNNWithResidual-Regularized")
    drawn = figures.draw_task(results, Path("p"))
    text = results_text(results)
    shown = re.findall(r"!\[(.+?)\]\((.+?)\)", text)
    assert sorted(path for _, path in shown) == sorted(path.name for path in drawn)
    assert "(regularisation_ablation.png)" in text
    assert len({alt for alt, _ in shown}) == len(shown)
    told = "nothing, one recipe for both; of the options that both classes have: dropout 0.25 and 0."
    assert f"CNNWithResidual: {told}" in text
