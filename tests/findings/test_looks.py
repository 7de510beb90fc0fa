"""Verdicts by looks: families worked out by hand, what a look decides stays, and the error rates by simulation."""

import numpy as np
import pytest
from made_counts import AB, FAMILIES, TOTAL, runs_of
from scipy import stats

from utils.experiment import Contrast
from utils.findings.sentences import accuracy_sentence
from utils.findings.verdicts import accuracy_verdicts, open_after
from utils.stats.looks import LOOKS
from utils.words import seeds_needed_in_words

FAMILY = FAMILIES["task 1.2"]  # A and B, B and C, C and D
LATER = [5, 15, 3, 12, 13, 6]  # undecided at 3 seeds; at 6, p lies between 5%/3/3 and 5%/3/2
WORSE = [9700, 9712, 9695, 9706, 9703, 9698, 9709, 9701, 9704, 9697, 9711, 9702]


def better_by(counts, differences):
    return [count + difference for count, difference in zip(counts, differences, strict=False)]


def looked_at(runs, contrasts=FAMILY, margin=0.0):
    return {(v.a, v.b): v for v in accuracy_verdicts(runs, contrasts, margin, by_looks=True)}


def p_of(differences):
    return stats.ttest_1samp(differences, 0).pvalue


def test_each_look_has_a_third_of_the_error_rate():
    """Of the same three seeds, p lies between 5%/3 and 5%: better by a fixed number, open at the first look."""
    differences = [20, 31, 26]
    assert 0.05 / 3 > p_of(differences) > 0.05 / 9
    runs = runs_of(A=WORSE[:3], B=better_by(WORSE, differences))
    (alone,) = looked_at(runs, AB).values()
    assert (alone.word, alone.look, alone.p) == ("better", 3, pytest.approx(3 * p_of(differences)))
    verdict = looked_at(runs)["A", "B"]
    assert (verdict.word, verdict.look, verdict.p) == ("not distinguished", 3, pytest.approx(9 * p_of(differences)))
    assert verdict.comparison.difference.level == pytest.approx(1 - 0.05 / 9)
    assert verdict.comparison.equivalence.level == pytest.approx(1 - 2 * 0.05 / 3)
    assert accuracy_verdicts(runs, FAMILY, 0.0)[0].p == pytest.approx(3 * p_of(differences))


def test_what_an_earlier_look_called_better_counts_as_rejected():
    """Of three contrasts the first is decided at 3 seeds; at 6 seeds, the second needs p <= 5%/3/2 only."""
    p = p_of(LATER)
    assert 0.05 / 9 < p < 0.05 / 6
    b = better_by(WORSE[:6], [50, 52, 48, 50, 49, 53])
    runs = runs_of(A=WORSE[:6], B=b, C=better_by(b, LATER))
    found = looked_at(runs)
    assert (found["A", "B"].word, found["A", "B"].look) == ("better", 3)
    assert (found["B", "C"].word, found["B", "C"].look, found["B", "C"].p) == ("better", 6, pytest.approx(6 * p))
    alike = runs_of(A=b, B=b, C=better_by(b, LATER))  # undefined, so that it stays in the family
    assert looked_at(alike)["B", "C"].p == pytest.approx(9 * p) and looked_at(alike)["B", "C"].word != "better"


def test_equivalent_needs_the_interval_at_its_own_level_and_stays_in_the_family():
    close = [2, -3, 1]
    wide = stats.t.interval(1 - 0.1 / 3, 2, np.mean(close), stats.sem(close))
    narrow = stats.t.interval(0.9, 2, np.mean(close), stats.sem(close))
    runs = runs_of(A=WORSE[:3], B=better_by(WORSE, close))
    between = (wide[1] + narrow[1]) / 2 / TOTAL
    assert looked_at(runs, AB, between)["A", "B"].word == "not distinguished"
    assert accuracy_verdicts(runs, AB, between)[0].word == "equivalent"
    verdict = looked_at(runs, AB, 1.01 * max(map(abs, wide)) / TOTAL)["A", "B"]
    assert verdict.word == "equivalent"
    assert (
        f"96.7% interval {100 * wide[0] / TOTAL:.2f} to {100 * wide[1] / TOTAL:.2f}; decided at the look at 3 seeds)"
        in (accuracy_sentence(verdict))
    )
    six = better_by(WORSE[:6], [*close, 0, 2, -1])
    found = looked_at(runs_of(A=WORSE[:6], B=six, C=better_by(six, LATER)), margin=0.001)
    assert (found["A", "B"].word, found["A", "B"].look, found["B", "C"].look) == ("equivalent", 3, 6)
    assert found["B", "C"].p == pytest.approx(9 * p_of(LATER))


def test_what_a_look_decides_stays_whatever_is_added_later():
    a, b = WORSE, better_by(WORSE, [50, 52, 48] + [-500, 800, -900, 700, -300, 900, -800, 20, 10])
    told = set()
    for n in range(3, 13):
        (verdict,) = looked_at(runs_of(A=a[:n], B=b[:n]), AB).values()
        told.add(accuracy_sentence(verdict))
    assert len(told) == 1 and "decided at the look at 3 seeds; adjusted p" in told.pop()


def test_a_look_sees_its_own_seeds_only_and_needs_all_of_them():
    counts = better_by(WORSE, [10, -9, 30, 20, 5, 12, -4, 9, 0, 11, 30, -20])
    looks = {}
    for n in (*range(1, 13), 20):
        more = [9000] * (n - 12)
        (verdict,) = looked_at(runs_of(A=(WORSE + more)[:n], B=(counts + more)[:n]), AB).values()
        looks[n] = verdict.look, len(verdict.seeds), verdict.word
        if n >= 12:
            told = accuracy_sentence(verdict)
    assert {looks[n] for n in (3, 4, 5)} == {(3, 3, "not distinguished")}
    assert looks[1] == (0, 1, "too few seeds") and looks[6] == looks[11] and looks[6][:2] == (6, 6)
    assert looks[12] == looks[20] and looks[12][:2] == (12, 12) and "open after the last look at 12 seeds" in told
    gap = {name: [r for r in records if r.seed != 1] for name, records in runs_of(A=WORSE, B=counts).items()}
    (verdict,) = looked_at(gap, AB).values()
    assert (verdict.word, verdict.look) == ("too few seeds", 0)
    assert "(11 in common; the first look needs seeds 0 to 2)" in accuracy_sentence(verdict)


def test_the_order_of_runs_changes_nothing_and_contrasts_keep_theirs():
    random = np.random.default_rng(3)
    runs = runs_of(**{name: random.integers(9700, 9750, n) for name, n in zip("ABCD", (12, 7, 3, 2), strict=True)})
    shuffled = {name: [runs[name][i] for i in random.permutation(len(runs[name]))] for name in "DBCA"}
    told = [
        [accuracy_sentence(v) for v in accuracy_verdicts(r, FAMILY, 0.001, by_looks=True)] for r in (runs, shuffled)
    ]
    assert told[0] == told[1]
    found = accuracy_verdicts(runs, FAMILY, 0.001, by_looks=True)
    assert [(v.a, v.b, v.look) for v in found] == [("A", "B", 6), ("B", "C", 3), ("C", "D", 0)]


def test_more_seeds_are_for_what_the_look_left_open():
    b = better_by(WORSE, [50, 52, 48, 51, 49, 50])
    c = better_by(b, [10, -9, 30, 20, -15, 12])
    runs = runs_of(A=WORSE[:6], B=b, C=c, D=c[:2])
    first = accuracy_verdicts({name: records[:3] for name, records in runs.items()}, FAMILY, 0.0, by_looks=True)
    assert [(v.a, v.b) for v in open_after(first, 3)] == [("B", "C")]  # C and D: no look could be made
    later = accuracy_verdicts(runs, FAMILY, 0.0, by_looks=True)
    assert [(v.a, v.b) for v in open_after(later, 3)] == [(v.a, v.b) for v in open_after(later, 6)] == [("B", "C")]
    assert open_after(later, 12) == []


def test_how_many_seeds_would_decide_is_told_as_a_look():
    """Looks are made at 3, 6 and 12 seeds and at no other number."""
    told = {n: seeds_needed_in_words(n, by_looks=True) for n in (4, 6, 7, 12, 13, None)}
    assert told == {4: "about 6", 6: "about 6", 7: "about 12", 12: "about 12", 13: "more than 12", None: "more than 12"}
    (verdict,) = looked_at(runs_of(A=WORSE[:3], B=better_by(WORSE, [10, 40, 22])), AB).values()
    assert verdict.seeds_needed not in (6, 12)
    assert f"; {seeds_needed_in_words(verdict.seeds_needed, True)} seeds would" in accuracy_sentence(verdict)


# Simulations

MANY = [50, pytest.param(1500, marks=pytest.mark.slow)]


def simulated(seed, means, spread):
    """12 seeds of each model."""
    random = np.random.default_rng(seed)
    return runs_of(**{name: np.rint(random.normal(mean, spread, LOOKS[-1])) for name, mean in means.items()})


def ended(every, contrasts=FAMILY, margin=0.0):
    """The verdicts where --until-decided ends, and how many seeds of each model it takes."""
    runs, going_on = {}, set(every)
    for n in LOOKS:
        runs |= {name: every[name][:n] for name in going_on}
        verdicts = accuracy_verdicts(runs, contrasts, margin, by_looks=True)
        going_on = {name for verdict in open_after(verdicts, n) for name in (verdict.a, verdict.b)}
    return verdicts, [len(records) for records in runs.values()]


def assert_at_most_5_percent(errors, repetitions):
    """And three standard errors of the simulation."""
    assert errors / repetitions <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / repetitions)


@pytest.mark.parametrize("repetitions", MANY)
def test_families_of_equal_models_end_with_a_false_better_in_at_most_5_percent(repetitions):
    errors = 0
    for i in range(repetitions):
        verdicts = accuracy_verdicts(simulated([5, i], dict.fromkeys("ABCD", 8700), 40), FAMILY, 0.0, by_looks=True)
        errors += any(verdict.word == "better" for verdict in verdicts)
    print(f"{errors / repetitions:.1%} false better")
    assert_at_most_5_percent(errors, repetitions)


@pytest.mark.parametrize("repetitions", MANY)
@pytest.mark.parametrize("spread", [12, 30])
def test_differences_at_the_margin_end_with_a_false_equivalent_in_at_most_5_percent(spread, repetitions):
    """In a large family, in which "better" seldom comes first; 5% at each look would make 8% and 11% of it."""
    errors, family = 0, [*AB, *(Contrast(f"C{i}", f"D{i}") for i in range(299))]
    for i in range(repetitions):
        runs = simulated([6, spread, i], {"A": 8700, "B": 8750}, spread)
        (verdict,) = accuracy_verdicts(runs, family, 0.005, by_looks=True)
        errors += verdict.word == "equivalent"
    print(f"{errors / repetitions:.1%} false equivalent")
    assert_at_most_5_percent(errors, repetitions)


@pytest.mark.parametrize("repetitions", [5, pytest.param(200, marks=pytest.mark.slow)])
def test_clear_differences_take_fewer_seeds_than_a_fixed_12_with_the_same_verdicts(repetitions):
    seeds = {}
    for gap in (0, 100, 400):
        used = []
        for i in range(repetitions):
            every = simulated([7, gap, i], dict(zip("ABCD", range(8000, 9600, gap or 1), strict=False)), 40)
            verdicts, of_models = ended(every)
            used.append(np.mean(of_models))
            of_all = accuracy_verdicts(every, FAMILY, 0.0, by_looks=True)
            assert [(v.word, v.look, v.p) for v in verdicts] == [(v.word, v.look, v.p) for v in of_all]
        seeds[gap] = np.mean(used)
    print({gap: f"{mean:.1f} of 12 seeds" for gap, mean in seeds.items()})
    assert seeds[400] < 8 and seeds[400] < seeds[100] < seeds[0] <= 12
