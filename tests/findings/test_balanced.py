"""Where there are far more images of some classes, models are judged on balanced accuracy, and all words say so."""

import dataclasses

import numpy as np
import pytest
from made_records import make_record
from sklearn.metrics import balanced_accuracy_score

from models import FCN
from utils.contents import Contents
from utils.experiment import Contrast, Experiment, Task, TrainConfig
from utils.figures.task import figures_of
from utils.findings.ranking import rank
from utils.findings.results import Results
from utils.findings.runs import balanced_accuracy
from utils.report.conclusions import conclusions
from utils.report.page import results_text
from utils.report.short import in_short

RECIPE = TrainConfig(epochs=15, batch_size=64, optimizer="sgd", learning_rate=0.1)
TASK = Task("t", "mnist", [Experiment(m, FCN, RECIPE) for m in "AB"], [Contrast("A", "B")], equivalence_margin=0.001)
LABELS = np.repeat([0, 1, 2], [80, 15, 5]).astype(np.uint8)
CONTENTS = Contents(
    name="photos", class_names=("x", "y", "z"), given=(), size=28, channels=1, fit="crop", smallest=(9, 9),
    largest=(9, 9), sizes=1, enlarged=0, skipped={},
    images={"train": (320, 60, 20), "val": (80, 15, 5), "test": (80, 15, 5)},
)  # fmt: skip
# How many of each class are right, by seed: A takes most images for the largest class, B is even.
RIGHT = {"A": [(80, 3, 0), (79, 2, 1), (80, 1, 0)], "B": [(60, 12, 4), (62, 11, 4), (61, 13, 3)]}


def record_of(model, seed, right):
    predictions = LABELS.copy()
    for label, count in enumerate(right):
        predictions[np.flatnonzero(LABELS == label)[count:]] = (label + 1) % 3
    correct = sum(right)
    counts = {"test_correct": correct, "test_accuracy": correct / 100}
    counts |= {f"best_{name}": value for name, value in counts.items()}
    made = make_record(model, seed, class_names=("x", "y", "z"), test_total=100)
    arrays = {"test_labels": LABELS, "test_predictions": predictions, "best_test_predictions": predictions}
    return dataclasses.replace(made, arrays=made.arrays | arrays, test_total=100, **counts)


@pytest.fixture
def results():
    runs = {model: [record_of(model, seed, of) for seed, of in enumerate(seeds)] for model, seeds in RIGHT.items()}
    return Results(TASK, runs, contents=CONTENTS)


def plain(results):
    return dataclasses.replace(results, contents=None)


def test_it_is_that_of_scikit_learn(results):
    for record in (*results.runs["A"], *results.runs["B"]):
        found = record.arrays["test_labels"], record.arrays["test_predictions"]
        assert balanced_accuracy(record) == pytest.approx(balanced_accuracy_score(*found), abs=1e-12)


def test_the_other_model_is_better(results):
    (verdict,), (unbalanced,) = results.accuracy_verdicts, plain(results).accuracy_verdicts
    assert (verdict.word, verdict.higher) == ("better", "B") and (unbalanced.word, unbalanced.higher) == ("better", "A")
    expected = [balanced_accuracy(b) - balanced_accuracy(a) for a, b in zip(*results.runs.values(), strict=True)]
    np.testing.assert_allclose(verdict.differences, expected)
    assert (rank(results).top, rank(plain(results)).top) == ("B", "A")


def test_equal_numbers_show_no_spread():
    """3 of 5 images, and 3 of 15 with 2 of 5, have the same mean, but their sums differ in the last bits."""
    right = {"A": [(0, 0, 3), (0, 3, 2), (0, 1, 3)], "B": [(0, 3, 2), (0, 0, 3), (0, 4, 2)]}
    runs = {model: [record_of(model, seed, of) for seed, of in enumerate(seeds)] for model, seeds in right.items()}
    assert Results(TASK, runs, contents=CONTENTS).accuracy_verdicts[0].word == "undefined"


def test_words_and_pictures_say_so(results):
    text = results_text(results) + conclusions(results)
    assert "Verdicts on balanced accuracy" in text and "Verdicts on test accuracy" not in text
    assert "B is the most accurate model: it reaches a balanced accuracy of" in text
    assert "differ in plain accuracy on new test images too?" in text
    figure = dict(figures_of(results))["contrasts"]
    assert figure.axes[0].get_xlabel() == "difference of balanced accuracy, points"
    assert "balanced" not in results_text(plain(results)) + conclusions(plain(results))


@pytest.mark.parametrize(
    ("right", "told"),
    [
        ([(80, 0, 0)], "no better than"),
        ([(80, 0, 0), (79, 0, 0), (78, 0, 0)], "no better than"),
        ([(60, 9, 3)], ""),  # one seed shows no spread, but it is better
        ([(60, 9, 3), (59, 9, 3), (61, 9, 3)], ""),
        ([(40, 5, 3), (40, 0, 0), (20, 10, 5)], "not shown to be better than"),  # 48, 17 and 64 percent
    ],
)
def test_a_model_that_beats_no_guess_is_told(right, told):
    runs = {"A": [record_of("A", seed, of) for seed, of in enumerate(right)]}
    texts = [text for text, _ in in_short(Results(TASK, runs, contents=CONTENTS)) if "always" in text]
    expected = f"A is {told} always answering the largest class, which gives 33.3 percent"
    assert texts == ([expected] if told else [])
