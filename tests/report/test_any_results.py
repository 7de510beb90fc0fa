"""Whatever the results are, the page has no NaN, and models that are alike are seldom called better."""

import dataclasses
import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_counts import FAMILIES, TOTAL, runs_of
from made_records import make_record, make_timing

from docs.original_claims import examine
from docs.original_report import read_original
from models import FCN
from utils.experiment import Contrast, Experiment, Task, TrainConfig
from utils.findings.results import Results
from utils.report.conclusions import conclusions
from utils.report.page import results_text

CLAIMS = [claim for task in ("task_1_1", "task_1_2") for claim in read_original(task).claims]
LOSS = st.just(0.0) | st.floats(1e-6, 10)


@settings(deadline=None, max_examples=40)
@given(st.data(), st.integers(1, 12), st.sampled_from(list(FAMILIES)))
def test_any_small_results_give_a_report_without_nan(data, epochs, family):
    """Ties and zeros among losses and accuracies, seeds that differ between models, times that are equal."""

    def run(model, seed):
        accuracy = data.draw(st.sampled_from([0.5, 0.9]))
        record = make_record(model, seed, epochs=epochs, accuracy=accuracy, test_total=40)
        losses = data.draw(st.lists(LOSS, min_size=epochs, max_size=epochs) | st.just([0.5] * epochs))
        history = [e | {"val_loss": x, "fit_loss": x / 2} for e, x in zip(record.history, losses, strict=True)]
        ratio = data.draw(st.sampled_from([0.0, 1e-5, 0.5, 1e5, np.inf, np.nan]))  # norms may be 0 or overflow
        arrays = record.arrays | {"flow_first_epoch_ratio": np.array(ratio)}
        if data.draw(st.booleans()):
            arrays["flow_epoch_norms"] = np.zeros_like(arrays["flow_epoch_norms"])
        return dataclasses.replace(record, history=history, arrays=arrays)

    names = ["FCN", "CIFARCNN", "CNNWithResidual", "CNNWithResidual-Regularized"]  # the claims are about these
    models = data.draw(st.sets(st.sampled_from(names), min_size=1))
    seeds = st.sets(st.integers(0, 4), min_size=1)
    runs = {model: [run(model, seed) for seed in sorted(data.draw(seeds))] for model in sorted(models)}
    timing = make_timing(list(runs))
    if data.draw(st.booleans()):
        timing = dataclasses.replace(timing, models=dict.fromkeys(runs, timing.models[min(runs)]))
    experiments = [Experiment(name, FCN, TrainConfig(epochs, 64, "adam", 1e-3)) for name in names]
    contrasts = [Contrast(*(names["ABCD".index(letter)] for letter in (c.a, c.b))) for c in FAMILIES[family]]
    task = Task("tiny", "mnist", experiments, contrasts, equivalence_margin=0.001)
    results = Results(task, runs, diverged={"FCN": [9]}, timing=timing)
    claims = [" ".join(examine(claim, results)) for claim in CLAIMS]
    text = results_text(results) + conclusions(results) + "".join(claims)
    assert re.search(r"\b(nan|None|inf)\b", text) is None and "p = 0.000" not in text


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_models_that_are_alike_are_seldom_called_better(family):
    """A/A: at least one false "better" in at most 5% of tasks, and three standard errors of the simulation.

    For each number of seeds and spread, and over all of them, where a Holm correction for 2 contrasts would be found.
    """
    experiments = [Experiment(name, FCN, TrainConfig(3, 64, "adam", 1e-3)) for name in "ABCD"]
    task = Task("tiny", "mnist", experiments, FAMILIES[family], equivalence_margin=0.005)
    repetitions, rates = 400, []
    for seeds, spread in itertools.product([3, 6, 10], [0.002, 0.004, 0.009]):
        random = np.random.default_rng([seeds, int(1000 * spread)])
        false = 0
        for _ in range(repetitions):
            counts = np.rint(TOTAL * random.normal(0.87, spread, (4, seeds)))
            text = conclusions(Results(task, runs_of(**dict(zip("ABCD", counts, strict=True)))))
            assert "3 planned contrasts" in text
            false += " is better than " in text
        rates.append(false / repetitions)
        assert rates[-1] <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / repetitions)
    assert np.mean(rates) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / repetitions / len(rates))
    assert np.mean(rates) > 0.02  # the test is not empty
