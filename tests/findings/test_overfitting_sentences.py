"""Overfitting in words: a sentence for every word of the verdict, and what the committed records say."""

import dataclasses
import math

import numpy as np
import pytest
from checkout_folder import CHECKOUT
from made_records import make_record, with_losses

from task_1_2_cifar import TASK
from utils.findings.overfitting import (
    gap_growth_in_words,
    overfitting_by_looks,
    overfitting_in_short,
    overfitting_of,
    overfitting_sentence,
)
from utils.findings.results import Results
from utils.records.record import read_record
from utils.stats.intervals import Interval
from utils.stats.overfitting import WORDS, Overfitting


def found(word, low=0.09, estimate=0.119, high=0.156, **changes):
    made = Overfitting(word, 3, (15, 15), Interval(estimate, low, high, 3), 0.018, 0.025, 9, (8, 9, 10, 11))
    return dataclasses.replace(made, **changes)


SENTENCES = [
    (
        found("overfits"),
        "M overfits: validation loss is lowest around epoch 9 (8 to 11 possible) and ends 11.9% higher (9.0 to 15.6%), "
        "while the fit loss falls; 3 seeds",
    ),
    (
        found("overfits", kept=(9,)),
        "M overfits: validation loss is lowest around epoch 9 (only 9 possible) and ends 11.9% higher (9.0 to 15.6%), "
        "while the fit loss falls; 3 seeds",
    ),
    (
        found("overfits", kept=()),
        "M overfits: validation loss is lowest around epoch 9 and ends 11.9% higher (9.0 to 15.6%), while the fit loss "
        "falls; 3 seeds",
    ),
    (
        found("rises"),
        "M: validation loss rises, though the fit loss isn't shown to fall: it is lowest around epoch 9 (8 to 11 "
        "possible) and ends 11.9% higher (9.0 to 15.6%); 3 seeds",
    ),
    (
        found("none", low=-0.028, estimate=-0.014, high=-0.0084),
        "M: none within 15 epochs: at the end validation loss lies at least 0.8% below every earlier stretch; 3 seeds",
    ),
    (
        found("none", low=-0.02, estimate=0.002, high=0.0181),
        "M: none within 15 epochs: at the end validation loss lies at most 1.8% above every earlier stretch; 3 seeds",
    ),
    (
        found("not decided", low=0.0054, estimate=0.0651, high=0.184),
        "M: not decided: at the end validation loss lies between 0.5% and 18.4% above its lowest earlier stretch; "
        "about 5 seeds would probably decide it",
    ),
    (
        found("not decided", low=-0.035, estimate=0.015, high=0.14),
        "M: not decided: at the end validation loss lies between 3.5% below and 14.0% above its lowest earlier "
        "stretch; more than 50 seeds would probably be needed to decide it",
    ),
    (
        found("too few epochs", rise=Interval(math.nan, math.nan, math.nan, 3), lengths=(9, 9)),
        "M: no verdict, too few epochs (9; it takes 10)",
    ),
    (
        found("unequal lengths", rise=Interval(math.nan, math.nan, math.nan, 3), lengths=(12, 15)),
        "M: no verdict, since runs stopped after 12 to 15 epochs",
    ),
    (
        found("undefined", rise=Interval(math.nan, math.nan, math.nan, 3)),
        "M: undefined, since a loss isn't a positive number or the rise is the same in all of 3 seeds",
    ),
]


@pytest.mark.parametrize(("verdict", "sentence"), SENTENCES)
def test_every_word_has_its_sentence(verdict, sentence):
    assert overfitting_sentence("M", verdict) == sentence
    in_short = overfitting_in_short(verdict)
    assert sentence.startswith((f"M {in_short}", f"M: {in_short}")) and "nan" not in sentence


def test_no_word_was_forgotten():
    assert {verdict.word for verdict, _ in SENTENCES} | {"too few seeds"} == set(WORDS)


def run_of(seed, val_loss, fit_loss):
    return with_losses(make_record(seed=seed), val_loss=val_loss, fit_loss=fit_loss)


def test_one_or_two_seeds_tell_what_they_did():
    t = np.arange(1, 16)
    rising, falling = np.exp(0.02 * abs(t - 8)), np.exp(-t / 5)
    one = overfitting_of([run_of(0, rising, falling)])
    rise = math.exp(0.02 * 6 - 0.02 * 2 / 3) - 1  # epochs 13 to 15 against 7 to 9
    told = f"validation loss was lowest around epoch 8 and ended {rise:.1%} higher, while the fit loss"
    assert overfitting_sentence("M", one) == f"M: {told} fell; 1 seed, and it takes 3 to judge"
    two = overfitting_of([run_of(seed, rising, 1 / falling) for seed in range(2)])
    assert overfitting_sentence("M", two) == f"M: {told} didn't fall; 2 seeds, and it takes 3 to judge"
    calm = overfitting_of([run_of(0, falling, falling)])
    assert (
        overfitting_sentence("M", calm) == "M: validation loss was lowest at the end; 1 seed, and it takes 3 to judge"
    )
    lost = overfitting_of([run_of(0, np.where(t == 3, math.nan, rising), falling)])
    assert overfitting_sentence("M", lost) == "M: 1 seed, and it takes 3 to judge"


def test_the_growth_of_the_gap_is_the_sum_of_both_losses_changes():
    verdict = found("overfits", val_changes=(0.1, 0.2, 0.15), fit_changes=(-0.3, -0.5, -0.4))
    assert gap_growth_in_words(verdict) == "0.5500 (0.1774 to 0.9226) = 0.1500 + 0.4000"  # sd 0.15, t = 4.303
    one = found("too few seeds", val_changes=(0.1,), fit_changes=(0.3,))
    assert gap_growth_in_words(one) == "-0.2000 = 0.1000 − 0.3000"
    assert gap_growth_in_words(found("too few epochs")) == "–"


def runs_that_rise(rises):
    """One seed for each of `rises`, the log rise of validation loss from epoch 9 to the end, with little noise."""
    random, t = np.random.default_rng(0), np.arange(15)
    return [
        run_of(seed, np.exp(rise / 6 * abs(t - 8) + 0.004 * random.normal(size=15)), np.exp(-t / 5 - 0.1 * seed))
        for seed, rise in enumerate(rises)
    ]


def test_a_look_has_a_third_of_the_error_rate_and_sees_its_own_seeds():
    records = runs_that_rise([0.08, 0.16, 0.12, 0.3, 0.2])
    fixed, looks = (Results(TASK, {"M": records[:3]}, by_looks=by_looks).overfitting["M"] for by_looks in (False, True))
    assert fixed == overfitting_of(records[:3]) and looks == overfitting_of(records[:3], 0.025 / 3)
    assert looks.rise.low < fixed.rise.low and overfitting_by_looks(records) == looks
    assert "; open after the look at 3 seeds; about " in overfitting_sentence("M", looks)
    assert fixed.word == "overfits" and overfitting_sentence("M", fixed).endswith("; 3 seeds")


def test_what_a_look_decides_of_overfitting_stays():
    records = runs_that_rise([0.12, 0.125, 0.13] + [-0.2] * 9)
    first = overfitting_by_looks(records[:3])
    told = overfitting_sentence("M", first)
    assert first.word == "overfits" and told.endswith("; decided at the look at 3 seeds")
    assert overfitting_by_looks(records) == first and overfitting_of(records).word != "overfits"
    later = runs_that_rise([0.08, 0.16, 0.12, 0.13, 0.11, 0.14])
    assert [overfitting_by_looks(later[:n]).seeds for n in (5, 6)] == [3, 6]
    assert overfitting_by_looks(later).word == "overfits"


def test_before_the_first_look_it_is_told_what_runs_did():
    records = runs_that_rise([0.12, 0.125, 0.13, 0.12])
    for some in (records[:2], [records[0], *records[2:]]):
        found = overfitting_by_looks(some)
        assert found.word == "too few seeds" and "; 2 seeds, and it takes 3" in overfitting_sentence("M", found)


@pytest.mark.parametrize(
    ("task", "model", "seeds", "told"),
    [
        ("task_1_2", "CIFARCNN", 3, "overfits: validation loss is lowest around epoch 9 (8 to 11 possible) and ends "
         "11.9% higher (9.0 to 15.6%), while the fit loss falls"),
        ("task_1_2", "FCN", 3, "none within 15 epochs: at the end validation loss lies at least 0.1% below every "
         "earlier stretch"),
        ("task_1_2", "CNNWithResidual", 3, "not decided: at the end validation loss lies between 0.5% and 18.4% above "
         "its lowest earlier stretch"),
        *(("task_1_1", model, 6, "not decided: ") for model in ("FCN", "SimpleCNN", "CNNWithResidual")),
    ],
)  # fmt: skip
def test_the_committed_records(task, model, seeds, told):
    """The first seeds alone, whatever came later."""
    folder = CHECKOUT / "plots" / task / "records/cpu-bf16"
    records = [read_record(folder / f"{model}-seed{seed}.json") for seed in range(seeds)]
    assert overfitting_in_short(overfitting_of(records)).startswith(told)
