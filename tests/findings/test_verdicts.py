"""Verdicts on accuracy: every word of the vocabulary, and sentences without a nan."""

import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from made_counts import AB, FAMILIES, TOTAL, record_of, runs_of

from utils.experiment import Contrast
from utils.findings.sentences import accuracy_sentence
from utils.findings.verdicts import WORDS, accuracy_verdicts
from utils.stats.power import seeds_needed


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


def test_not_distinguished_says_how_many_seeds_would_decide():
    """By the level of the contrast: 0.05 over the number of declared ones."""
    counts = {"A": [9800, 9810, 9790], "B": [9810, 9811, 9805]}
    differences = np.subtract(counts["B"], counts["A"])
    told = {}
    for contrasts in (AB, FAMILIES["task 1.1"]):
        n = seeds_needed(differences.mean(), differences.std(ddof=1), 3, 0.025 / len(contrasts))
        word, sentence = only(runs_of(**counts), contrasts)
        assert word == "not distinguished" and sentence.endswith(f"); about {n} seeds would probably decide it")
        told[len(contrasts)] = n
    assert 3 < told[1] < told[3]
    more = only(runs_of(A=counts["A"], B=[9811, 9790, 9802]))[1]
    assert more.endswith("; more than 50 seeds would probably be needed to decide it")


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
    runs = {
        "A": [record_of("A", s, 9800 + s) for s in (0, 1, 2, 5)],
        "B": [record_of("B", s, 9900 - s) for s in (5, 2, 7)],
    }
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
    runs = {name: [record_of(name, seed, c) for seed, c in by_seed.items()] for name, by_seed in counts.items()}
    for verdict in accuracy_verdicts(runs, FAMILIES[family], 0.001):
        assert verdict.word in WORDS and verdict.p != 0
        sentence = accuracy_sentence(verdict)
        assert "nan" not in sentence and "inf" not in sentence.replace("interval", "") and "p = 0.000" not in sentence
