"""Verdicts: every word of the vocabulary, whole records judged without false findings, and sentences without a nan."""

import dataclasses
import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import make_record, make_timing, wavy_record
from scipy import stats

from models import FCN
from utils.experiment import Contrast, Experiment, Task, TrainConfig
from utils.findings.depth import DepthVerdict
from utils.findings.sentences import (
    accuracy_sentence,
    depth_sentence,
    secondary_sentence,
    stability_sentence,
    time_sentence,
)
from utils.findings.verdicts import WORDS, accuracy_verdicts, stability_verdicts
from utils.report.claims import RULES
from utils.report.page import conclusions, results_text
from utils.stats.intervals import Interval
from utils.stats.paired import detectable_difference

TOTAL = 10_000
AB = [Contrast("A", "B")]
FAMILIES = {
    "task 1.1": [Contrast("A", "B"), Contrast("A", "C"), Contrast("B", "C")],
    "task 1.2": [Contrast("A", "B"), Contrast("B", "C"), Contrast("C", "D")],
}
TEMPLATE = make_record("A", epochs=3, test_total=200)


def record(model, seed, correct):
    return dataclasses.replace(TEMPLATE, model=model, seed=seed, test_correct=int(correct), test_total=TOTAL)


def runs_of(**counts):
    return {name: [record(name, seed, c) for seed, c in enumerate(values)] for name, values in counts.items()}


def only(runs, contrasts=AB, margin=0.001):
    (verdict,) = accuracy_verdicts(runs, contrasts, margin)
    return verdict.word, accuracy_sentence(verdict)


def test_better_names_the_winner_with_its_numbers():
    word, sentence = only(runs_of(A=[9800, 9810, 9790, 9805], B=[9850, 9862, 9838, 9857]))
    assert word == "better" and sentence.startswith("B is better than A by 0.51 points (interval 0.")
    word, mirrored = only(runs_of(A=[9850, 9862, 9838, 9857], B=[9800, 9810, 9790, 9805]))
    assert mirrored == sentence.replace("B is", "x").replace("than A", "than B").replace("x", "A is")


def test_a_small_difference_may_be_better_and_within_the_margin():
    word, sentence = only(runs_of(A=[9800, 9810, 9790, 9805], B=[9802, 9813, 9792, 9808]), margin=0.002)
    assert word == "better" and "within the margin of 0.20 points" in sentence


def test_equivalent_needs_the_whole_interval_inside_the_margin():
    runs = runs_of(A=[9800, 9810, 9790, 9805], B=[9803, 9808, 9791, 9803])
    assert only(runs, margin=0.001)[0] == "equivalent" and only(runs, margin=0.0002)[0] == "not distinguished"


def test_not_distinguished_says_from_five_seeds_what_would_have_been_found():
    counts = {"A": [9800, 9810, 9790, 9805, 9799], "B": [9810, 9790, 9805, 9799, 9811]}
    word, sentence = only(runs_of(**counts))
    assert word == "not distinguished"
    assert re.search(r"with this spread, 5 seeds find a difference of \d\.\d\d points in 80% of repetitions$", sentence)
    assert "with this spread" not in only(runs_of(**{name: values[:4] for name, values in counts.items()}))[1]


def test_too_few_seeds_and_undefined():
    assert only(runs_of(A=[9800, 9810], B=[9850, 9870]))[0] == "too few seeds"
    word, sentence = only(runs_of(A=[9800, 9810, 9790], B=[9801, 9811, 9791]))
    assert word == "undefined" and "0.01 points in each of 3 seeds" in sentence


def test_the_same_runs_differ_by_nothing():
    word, sentence = only(runs_of(A=[9800, 9810, 9790], B=[9800, 9810, 9790]))
    assert word == "undefined" and "is 0.00 points" in sentence


def test_where_the_adjusted_p_and_the_interval_disagree_the_text_says_so():
    """Holm's second step is at 0.05/2, the interval at 1 - 0.05/3."""
    a = np.array([9800] * 6)
    clear, close = a + [50, 52, 48, 51, 49, 50], a + [1, 9, 2, 8, 5, 0]
    runs = runs_of(A=a, B=clear, C=close)
    verdicts = {(v.a, v.b): v for v in accuracy_verdicts(runs, FAMILIES["task 1.1"], 0.0)}
    verdict = verdicts["A", "C"]
    assert verdict.word == "better" and verdict.comparison.difference.low <= 0
    assert verdict.in_short == "C better\nby the adjusted p" and verdicts["A", "B"].in_short == "B better"
    pattern = r"C is better than A by 0.04 points \(interval (-0.\d\d) to (0.\d\d);.*: the interval includes equality"
    low, high = re.match(pattern, accuracy_sentence(verdict)).groups()
    (mirrored,) = (
        v for v in accuracy_verdicts(runs, [Contrast(c.b, c.a) for c in FAMILIES["task 1.1"]], 0.0) if v.a == "C"
        and v.b == "A"
    )  # fmt: skip
    assert accuracy_sentence(mirrored) == accuracy_sentence(verdict) and float(low) < 0 < float(high)


def test_two_seeds_of_one_pair_change_nothing_for_the_others():
    """A pair without a verdict counts in Holm's family as if its p-value were 1."""
    a, c = np.array([9800, 9810, 9790, 9805]), np.array([9811, 9825, 9793, 9822])
    with_two, without = runs_of(A=a, C=c, B=[9900, 9911]), runs_of(A=a, C=c)
    told = [
        [accuracy_sentence(v) for v in accuracy_verdicts(runs, FAMILIES["task 1.1"], 0.0) if v.b == "C" and v.a == "A"]
        for runs in (with_two, without)
    ]
    assert told[0] == told[1] != []


def test_a_bound_above_0_is_not_told_as_0():
    sentence = only(runs_of(A=[9800, 9810, 9790, 9805, 9800, 9803], B=[9801, 9812, 9791, 9807, 9801, 9805]))[1]
    low = re.search(r"\(interval (0\.\d+) to", sentence)[1]
    assert float(low) > 0


def test_only_seeds_of_both_models_are_paired():
    runs = {"A": [record("A", s, 9800 + s) for s in (0, 1, 2, 5)], "B": [record("B", s, 9900 - s) for s in (5, 2, 7)]}
    (verdict,) = accuracy_verdicts(runs, AB, 0.001)
    assert verdict.seeds == (2, 5) and verdict.differences.tolist() == [0.0096, 0.009]
    assert accuracy_verdicts({"A": runs["A"]}, AB, 0.001) == []


def test_order_of_seeds_and_models_changes_nothing_and_a_name_only_itself():
    random = np.random.default_rng(0)
    runs = runs_of(**{name: random.integers(9700, 9900, 6) for name in "ABC"})
    sentences = [accuracy_sentence(v) for v in accuracy_verdicts(runs, FAMILIES["task 1.1"], 0.001)]
    shuffled = {name: [runs[name][i] for i in random.permutation(6)] for name in "CAB"}
    assert [accuracy_sentence(v) for v in accuracy_verdicts(shuffled, FAMILIES["task 1.1"], 0.001)] == sentences
    renamed = {name.replace("B", "Net"): records for name, records in runs.items()}
    contrasts = [Contrast(c.a.replace("B", "Net"), c.b.replace("B", "Net")) for c in FAMILIES["task 1.1"]]
    said = [accuracy_sentence(v) for v in accuracy_verdicts(renamed, contrasts, 0.001)]
    assert said == [re.sub(r"\bB\b", "Net", sentence) for sentence in sentences]


def test_steadiness_that_is_not_distinguished_says_what_would_have_been_found():
    runs = {"A": [wavy_record("A", s, 0.3) for s in range(6)], "BB": [wavy_record("BB", s, 0.31) for s in range(6)]}
    (verdict,) = stability_verdicts(runs, [Contrast("A", "BB")])
    ratio = float(re.search(r"with this spread, 6 seeds find a ratio of (\S+) in 80%", stability_sentence(verdict))[1])
    found = detectable_difference(verdict.differences.std(ddof=1), 6, 1)
    assert ratio == pytest.approx(np.exp(found), rel=0.01) and ratio > 1


def test_steadiness_with_too_few_seeds_or_without_spread():
    few = {"A": [wavy_record("A", s, 0.3) for s in range(2)], "BB": [wavy_record("BB", s, 0.03) for s in range(2)]}
    (verdict,) = stability_verdicts(few, [Contrast("A", "BB")])
    start = r"A and BB, steadiness: too few seeds \(2 seeds in common; roughness of BB over that of A: 0\.\d+\)$"
    assert re.match(start, stability_sentence(verdict))
    same = [wavy_record("A", s, 0.3) for s in range(3)]
    alike = {"A": same, "B": [dataclasses.replace(record, model="B") for record in same]}
    (verdict,) = stability_verdicts(alike, AB)
    told = "A and B, steadiness: undefined (3 seeds in common; roughness of B over that of A: 1.00)"
    assert stability_sentence(verdict) == told


def test_steadier_is_the_smaller_roughness_told_as_a_ratio():
    runs = {"A": [wavy_record("A", s, 0.3) for s in range(6)], "BB": [wavy_record("BB", s, 0.03) for s in range(6)]}
    (verdict,) = stability_verdicts(runs, [Contrast("A", "BB")])
    sentence = stability_sentence(verdict)
    ratio = float(re.match(r"BB trains more steadily than A: (0\.\d+) times the roughness", sentence)[1])
    assert 0.05 < ratio < 0.2
    (mirrored,) = stability_verdicts(runs, [Contrast("BB", "A")])
    assert stability_sentence(mirrored) == sentence


def test_faster_only_beyond_two_percent():
    timing = make_timing(["A", "B"])
    assert time_sentence(timing, "B", "A").startswith("A trains faster: an epoch takes 0.3")
    alike = dict.fromkeys(("A", "B"), timing.models["A"])
    alike["B"] = alike["A"] | {"train_epoch_seconds": [1.01 * s for s in alike["A"]["train_epoch_seconds"]]}
    assert "not distinguished" in time_sentence(dataclasses.replace(timing, models=alike), "A", "B")


def test_two_rounds_are_too_few_to_call_a_model_faster():
    timing = make_timing(["A", "B"])
    few = {name: {measure: s[:2] for measure, s in measured.items()} for name, measured in timing.models.items()}
    sentence = time_sentence(dataclasses.replace(timing, models=few), "A", "B")
    assert sentence.startswith("A and B: too few rounds (2; a verdict needs 3); an epoch of A takes 0.")


def test_times_that_are_equal_in_all_rounds_have_no_interval():
    timing = make_timing(["A", "B"])
    same = dataclasses.replace(timing, models=dict.fromkeys(("A", "B"), timing.models["A"]))
    assert time_sentence(same, "A", "B").endswith("an epoch of A takes 1.00 times B's time")


def test_mcnemar_is_told_for_a_single_seed_only():
    runs = {m: [make_record(m, s, accuracy=a, test_total=500) for s in range(2)] for m, a in (("A", 0.9), ("B", 0.95))}
    assert "McNemar" not in secondary_sentence(runs, AB[0])
    assert "McNemar" in secondary_sentence({m: records[:1] for m, records in runs.items()}, AB[0])


def test_over_test_images_is_b_minus_a_over_the_seeds_of_both():
    """Seed 9 of A, which B lacks, must not count; image by image against scipy."""
    runs = {"A": [make_record("A", s, accuracy=0.8, test_total=500) for s in (9, 2, 0)]}
    runs["B"] = [make_record("B", s, accuracy=0.95, test_total=500) for s in (0, 2, 5)]
    right = {
        name: np.mean(
            [r.arrays["test_predictions"] == r.arrays["test_labels"] for r in records if r.seed in (0, 2)], axis=0
        )
        for name, records in runs.items()
    }
    change = 100 * (right["B"] - right["A"])
    low, high = stats.t.interval(0.95, 499, change.mean(), stats.sem(change))
    assert secondary_sentence(runs, AB[0]) == (
        f"B minus A over test images: {change.mean():.2f} points ({low:.2f} to {high:.2f})"
    )


@settings(deadline=None, max_examples=200)
@given(
    st.dictionaries(
        st.sampled_from("ABCD"),
        st.dictionaries(st.integers(0, 7), st.integers(0, TOTAL), min_size=1, max_size=8),
        min_size=1,
    ),
    st.sampled_from(list(FAMILIES)),
)
def test_any_results_give_sentences_without_nan_or_a_p_of_0(counts, family):
    runs = {name: [record(name, seed, c) for seed, c in by_seed.items()] for name, by_seed in counts.items()}
    for verdict in accuracy_verdicts(runs, FAMILIES[family], 0.001):
        assert verdict.word in WORDS and verdict.p != 0
        sentence = accuracy_sentence(verdict)
        assert "nan" not in sentence and "inf" not in sentence.replace("interval", "") and "p = 0.000" not in sentence


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
    text = results_text(runs, {}, {"FCN": [9]}, [], timing, {}, list(RULES), "", task)
    text += conclusions(runs, {}, timing, task)
    assert re.search(r"\b(nan|None|inf)\b", text) is None and "p = 0.000" not in text


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_models_that_are_alike_are_seldom_called_better(family):
    """A/A: at least one false "better" in at most 5% of tasks, and three standard errors of the simulation.

    For each number of seeds and spread, and over all of them, where a Holm correction for 2 contrasts would be found.
    """
    task = Task("tiny", "mnist", [], FAMILIES[family], equivalence_margin=0.005)
    repetitions, rates = 400, []
    for seeds, spread in itertools.product([3, 6, 10], [0.002, 0.004, 0.009]):
        random = np.random.default_rng([seeds, int(1000 * spread)])
        false = 0
        for _ in range(repetitions):
            counts = np.rint(TOTAL * random.normal(0.87, spread, (4, seeds)))
            text = conclusions(runs_of(**dict(zip("ABCD", counts, strict=True))), {}, None, task)
            assert "3 planned contrasts" in text
            false += " is better than " in text
        rates.append(false / repetitions)
        assert rates[-1] <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / repetitions)
    assert np.mean(rates) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / repetitions / len(rates))
    assert np.mean(rates) > 0.02  # the test is not empty


@pytest.mark.parametrize(
    ("ratio", "told"),
    [
        (Interval(0.8784, 0.853, 0.90004, 5), "0.878, 0.853 to 0.900; 5 seeds"),
        (Interval(124.4, 99.96, 155.5, 3), "124, 100 to 156; 3 seeds"),
        (Interval(1234, 999.4, 12_345, 3), "1,234, 999 to 12,345; 3 seeds"),
        (Interval(3e-5, 2.04e-5, 4.4e-5, 3), "3.00e-05, 2.04e-05 to 4.40e-05; 3 seeds"),
        (Interval(2.31, np.nan, np.nan, 1), "2.31; 1 seed"),
    ],
)
def test_the_sentence_on_depth_has_three_digits_of_each_ratio(ratio, told):
    assert depth_sentence(DepthVerdict("neither", ratio, ratio.n)) == (
        f"neither (norm of the first layer over that of the last {told})"
    )
