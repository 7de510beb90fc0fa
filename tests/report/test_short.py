"""In short: each word of a verdict has its sentence, and each sentence follows from the verdicts."""

import dataclasses
import re
from functools import partial

import numpy as np
import pytest
from made_counts import TOTAL, runs_of
from made_page import TASK, make_runs, text_of
from made_records import make_record, make_timing, with_losses

from models import FCN
from utils.experiment import Contrast, Experiment, Task, TrainConfig
from utils.findings.ranking import RELATIONS, rank
from utils.findings.results import Results
from utils.findings.verdicts import WORDS
from utils.report import short
from utils.report.blocks import readme_blocks
from utils.report.short import in_short
from utils.stats import overfitting

RECIPE = TrainConfig(15, 64, "adam", 1e-3)


def task_of(*pairs, names="ABCD", margin=0.005):
    experiments = [Experiment(name, FCN, RECIPE) for name in names]
    return Task("t", "mnist", experiments, [Contrast(*pair) for pair in pairs], equivalence_margin=margin)


def told(task, section=None, timing=None, diverged=None, **counts) -> list[str]:
    """The sentences of a section, of models with these counts of correct images; records of 15 equal epochs."""
    results = Results(task, runs_of(**counts), diverged=diverged or {}, timing=timing)
    return [sentence.text for sentence in in_short(results) if section in (None, sentence.section)]


HIGH, MIDDLE, LOW = [9000, 9007, 9003], [8800, 8805, 8809], [8000, 8011, 8002]
UNSURE = [9500, 8400, 8900]  # beside HIGH
VARIED = [9001, 9004, 9007]  # equivalent to HIGH within 0.5 points


def test_the_best_model_is_named_with_its_lead():
    found = told(task_of("AB", "BC", names="ABC"), "Test accuracy", A=LOW, B=MIDDLE, C=HIGH)
    assert TOTAL == 10_000
    assert found == [
        "C is the most accurate model: it classifies 90.0 percent of the test images correctly on average over 3 "
        "seeds, 2.0 points more than B, the next best"
    ]


def test_a_chain_of_verdicts_orders_models_that_no_contrast_compares():
    """C is better than B and B than A: so C is better than A, but of D, which beats only A, nothing is known."""
    counts = {"A": LOW, "B": MIDDLE, "C": HIGH, "D": [8500, 8511, 8504]}
    results = Results(task_of("AB", "BC", "AD"), runs_of(**counts))
    ranking = rank(results)
    assert ranking.top == "C" and ranking.next == "B"
    assert ranking.relations == {"B": "better", "D": "not compared", "A": "better"}
    (best,) = told(results.task, "Test accuracy", **counts)
    assert best.endswith(
        "which model is best is not decided: C is better than B by 2.0 points and than A, and not compared with D"
    )


def test_the_best_model_is_never_one_that_a_verdict_calls_worse():
    """B's mean is raised by a seed that A lacks; on the common seeds A is better."""
    task = task_of("AB", names="AB")
    runs = runs_of(A=[9000, 9007, 9003], B=[8900, 8905, 8904, 9900])
    assert rank(Results(task, runs)).top == "A"


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ({"A": HIGH}, "A classifies 90.0 percent of the test images correctly on average over 3 seeds"),
        ({"A": HIGH[:1]}, "A classifies 90.0 percent of the test images correctly with 1 seed"),
        (
            {"A": VARIED, "B": HIGH},
            "No model is better than A, which classifies 90.0 percent of the test images correctly on average over 3 "
            "seeds: it is equivalent to B within 0.50 points",
        ),
        (
            {"A": UNSURE, "B": HIGH},
            "B has the highest accuracy, 90.0 percent of the test images on average over 3 seeds, but which "
            "model is best is not decided: B is "
            "not distinguished from A",
        ),
        (
            {"A": [9000, 9010, 9020], "B": [8900, 8910, 8920]},
            "A has the highest accuracy, 90.1 percent of the test images on average over 3 seeds, but which "
            "model is best is not decided: A is "
            "apart from B by the same in every seed, which gives no verdict",
        ),
        (
            {"A": HIGH[:2], "B": [8000, 8000]},
            "It takes 3 seeds to say which model is best; so far A has the highest accuracy, 90.0 percent of the test "
            "images, before B with 80.0 percent",
        ),
        (
            {"A": [9000], "B": [9000]},
            "It takes 3 seeds to say which model is best; so far A and B have the highest accuracy, 90.0 percent of "
            "the test images",
        ),
        (
            {"A": HIGH, "C": LOW},
            "A has the highest accuracy, 90.0 percent of the test images on average over 3 seeds; no planned "
            "comparison says whether that is more than luck",
        ),
    ],
)
def test_the_first_sentence_in_each_case(counts, sentence):
    assert told(task_of("AB", "BC", names="ABC"), "Test accuracy", **counts) == [sentence]


def test_a_proven_lead_within_the_margin_is_called_small():
    (best,) = told(task_of("AB", names="AB"), "Test accuracy", A=[9000, 9001, 9002], B=[9010, 9012, 9011])
    assert best.endswith("0.10 points more than A, the next best, a difference that this task counts as small")


def test_diverged_runs_are_told():
    found = told(task_of("AB", names="AB"), "Test accuracy", A=HIGH, B=LOW, diverged={"B": [4]})
    assert found[1] == "B diverged with seed 4, which is not counted"


# Costs


def timed(rounds=7, **seconds):
    """A timing pass in which an epoch of each model takes so many seconds, but for a thousandth."""
    timing = make_timing(list(seconds), rounds=rounds)
    for i, (model, epoch) in enumerate(seconds.items()):
        noise = 1 + 0.001 * np.cos(np.arange(rounds) + i)
        timing.models[model]["train_epoch_seconds"] = (epoch * noise).tolist()
        timing.models[model]["train_step_seconds"] = (epoch * noise / 100).tolist()
    return timing


@pytest.mark.parametrize(
    ("timing", "sentence"),
    [
        (timed(A=12, B=2), "An epoch of A takes 6.0 times as long as one of B on the machine that timed both"),
        (timed(A=2, B=8), "An epoch of A takes 25 percent of the time of one of B on the machine that timed both"),
        (timed(A=2, B=2.02), "A and B are not distinguished in training time"),
        (timed(2, A=2, B=8), "Times were measured too briefly to compare A and B"),
        (None, "Training times have not been measured"),
    ],
    ids=["slower", "faster", "not distinguished", "too few rounds", "not measured"],
)
def test_what_the_best_model_costs_beside_the_next(timing, sentence):
    found = told(task_of("AB", names="AB"), "Costs", A=HIGH, B=LOW, timing=timing)
    assert found == [f"{sentence}; both have 160,906 parameters"]


def test_parameters_are_those_of_the_records():
    results = Results(TASK, make_runs(1))
    costs = next(text for text, section in in_short(results) if section == "Costs")
    assert costs.endswith("; CNNWithResidual has 160,906 parameters, SimpleCNN 421,642")
    assert told(task_of(names="A"), "Costs", A=HIGH) == ["A has 160,906 parameters"]


# Two variants


def of_variants(plain, changed, config=RECIPE, **options):
    experiments = [Experiment("A", FCN, RECIPE), Experiment("B", partial(FCN, **options), config)]
    contrast = Contrast("A", "B", differs=(*options, *(["weight_decay"] if config != RECIPE else [])))
    task = Task("t", "mnist", experiments, [contrast], equivalence_margin=0.005)
    return told(task, "Verdicts", A=plain, B=changed)[0]


WHAT = "egularisation by weight decay and dropout"


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (LOW, f"R{WHAT} lowered test accuracy by 10.0 points: A is better than B"),
        ([9700, 9705, 9704], f"R{WHAT} raised test accuracy by 7.0 points: B is better than A"),
        (VARIED, f"R{WHAT} changes test accuracy by less than 0.50 points: A and B are equivalent"),
        (
            UNSURE,
            f"What r{WHAT} does to test accuracy is not decided: it fell by 0.70 points on average over 3 seeds, "
            "which chance could explain",
        ),
        ([9100], f"It takes 3 seeds to say what r{WHAT} does to test accuracy; so far it rose by 1.0 points"),
        (HIGH[:1], f"It takes 3 seeds to say what r{WHAT} does to test accuracy; so far it stayed the same"),
        (
            [n - 100 for n in HIGH],
            f"What r{WHAT} does to test accuracy is undefined: it fell by 1.0 points in every seed alike",
        ),
    ],
)
def test_what_regularisation_did(changed, sentence):
    assert of_variants(HIGH, changed, dataclasses.replace(RECIPE, weight_decay=0.01), dropout=0.5) == sentence


def test_variants_that_differ_in_something_else_are_not_called_regularised():
    assert of_variants(HIGH, LOW, hidden=(8,)).startswith("The change of hidden from A to B lowered test accuracy by ")
    assert of_variants(HIGH, LOW, dropout=0.1).startswith("The change of dropout from A to B lowered ")  # it was 0.25


# Overfitting


def curves(seeds, rise, noise=0.002, epochs=15, fit=-0.1):
    """Runs whose validation loss falls to epoch 8 and then rises by `rise` in all."""
    t = np.arange(epochs)
    shape = np.where(t < 8, 0.1 * (8 - t), rise / 7 * (t - 8))
    random = np.random.default_rng([seeds, epochs])
    return [
        with_losses(
            make_record("A", seed, epochs=epochs),
            val_loss=np.exp(shape + noise * random.normal(size=epochs)),
            fit_loss=np.exp(fit * t + 0.001 * random.normal(size=epochs)),
        )
        for seed in range(seeds)
    ]


def of_curves(**runs) -> str:
    return next(s.text for s in in_short(Results(task_of(), runs)) if s.section == "Overfitting")


def named(model, records):
    return [dataclasses.replace(record, model=model) for record in records]


def test_who_overfits_and_who_does_not():
    rising, flat = curves(4, 0.3), named("B", curves(4, -0.3))
    sentence = of_curves(A=rising, B=flat, C=named("C", flat))
    pattern = (
        r"A overfits: validation loss is lowest around epoch (\d+) and ends (\d+\.\d) percent higher, while the loss "
    )
    pattern += "on training images keeps falling; B and C do not overfit within 15 epochs"
    epoch, rise = re.fullmatch(pattern, sentence).groups()
    logs = np.log([record.curve("val_loss") for record in rising])
    lowest, last = logs[:, 7:10].mean(), logs[:, -3:].mean()  # the plain difference, near the rule's soft one
    assert abs(int(epoch) - 9) <= 1 and abs(float(rise) - 100 * np.expm1(last - lowest)) < 1


ZERO_LOSS = [with_losses(record, val_loss=np.zeros(15)) for record in curves(3, 0)]


@pytest.mark.parametrize(
    ("records", "sentence"),
    [
        (curves(4, 0.3, fit=0.1), "Validation loss of A rises, though the loss on training images isn't shown to fall"),
        (curves(3, -0.3), "A does not overfit within 15 epochs"),
        (curves(3, 0.02, noise=0.2), "A has neither been shown to overfit nor cleared of it"),
        (curves(3, 0.3, epochs=9), "Overfitting is judged from 10 epochs up, and A ran for 9 epochs"),
        (
            curves(1, -0.3, noise=0),
            "It takes 3 seeds to judge overfitting; so far validation loss ends above its lowest by 0.0 percent for A",
        ),
        (
            [*curves(2, 0.3), *curves(1, 0.3, epochs=12)],
            "Overfitting of A is not judged, since runs stopped at different epochs",
        ),
        (
            ZERO_LOSS,
            "Overfitting of A is undefined, since a loss isn't a positive number or rises alike in all seeds",
        ),
    ],
)
def test_every_other_word_on_overfitting(records, sentence):
    assert of_curves(A=records) == sentence


def test_nothing_is_said_of_losses_that_are_not_numbers():
    assert of_curves(A=ZERO_LOSS[:1]) == "It takes 3 seeds to judge overfitting"


# What is open


def of_open(task, runs) -> str:
    return [s.text for s in in_short(Results(task, runs)) if "pen" in s.text and s.section == "Verdicts"][-1]


def test_what_is_open_and_what_it_would_take():
    runs = runs_of(A=UNSURE, B=HIGH)
    runs |= {"C": named("C", curves(3, 0.02, noise=0.2))}
    text = of_open(task_of("AB", "AD"), runs)
    pairs = r"Still open: whether A or B is more accurate, which (about \d+|more than 50) seeds would probably decide"
    model = r"; whether C overfits, which (about \d+|more than 50) seeds would probably decide"
    assert re.fullmatch(pairs + model + "; 1 planned comparison of models without a common seed", text)
    alone = in_short(Results(task_of(), {"C": runs["C"]}))
    assert [s.section for s in alone if s.text.startswith("Still open: whether C overfits")] == ["Overfitting"]


def test_few_seeds_leave_all_open_that_takes_more_and_nothing_may_be_open():
    few = of_open(task_of("AB"), runs_of(A=HIGH[:1], B=LOW[:1]))
    assert few == "Still open: all that takes 3 seeds, which `--num-seeds 3` runs"
    decided = {"A": curves(3, 0.3), "B": named("B", curves(3, -0.3))}
    decided = {
        model: [dataclasses.replace(r, test_correct=c, test_total=TOTAL) for r, c in zip(records, counts, strict=True)]
        for (model, records), counts in zip(decided.items(), (HIGH, LOW), strict=True)
    }
    assert of_open(task_of("AB"), decided) == "Nothing that was planned is still open"


def test_the_other_verdicts_are_told_and_a_long_list_is_cut():
    task = task_of("AB", "BC", names="ABC")
    assert told(task, "Verdicts", A=LOW, B=MIDDLE, C=HIGH)[0] == "B is better than A by 8.0 points"
    names = [chr(ord("A") + i) for i in range(9)]
    counts = {name: [8000 + 100 * i, 8003 + 101 * i, 8005 + 102 * i] for i, name in enumerate(names)}
    many = told(task_of(*zip(names, names[1:], strict=False), names=names), "Verdicts", **counts)
    assert many[0].startswith("B is better than A by 1.0 points, ") and many[0].endswith(" and 4 more")


# The vocabulary, and the pages


def test_every_word_of_every_verdict_has_a_sentence():
    assert set(RELATIONS) == {*WORDS, "worse", "not compared"} == short.RELATION.keys()
    assert short.CHANGE.keys() == set(WORDS)
    assert short.OVERFITS.keys() == set(overfitting.WORDS)


@pytest.mark.parametrize("seeds", [1, 2, 3, 6])
@pytest.mark.parametrize("models", [1, 2, 3])
def test_a_sentence_has_no_symbol_and_its_numbers_a_section(seeds, models):
    names = ("FCN", "SimpleCNN", "CNNWithResidual")[:models]
    results = Results(TASK, make_runs(seeds, names), timing=make_timing(list(names)))
    sentences = in_short(results)
    assert 3 <= len(sentences) <= 8
    page = text_of(results.runs, timing=results.timing)
    for text, section in sentences:
        assert not re.search(r"[%±→()=<>]|nan|None|\bp\b", text), text
        assert text[0].isupper() and f"\n## {section}\n" in page and f"- {text} ([numbers](#" in page
    headings = {heading.lower().replace("'", "").replace(" ", "-") for heading in re.findall("^## (.+)$", page, re.M)}
    assert set(re.findall(r"\(#([^)]+)\)", page)) <= headings


def test_a_models_name_keeps_its_letters():
    assert told(task_of(names=["resnet_18"]), "Costs", resnet_18=HIGH) == ["resnet_18 has 160,906 parameters"]


def test_the_readme_shows_three_sentences_and_apart_from_them_a_table_with_a_picture():
    results = Results(TASK, make_runs(3), timing=make_timing(list(make_runs(1))))
    sentences, numbers = readme_blocks(results).values()
    assert sentences.count("\n- ") == 2 and "](RESULTS.md#test-accuracy)" in sentences
    assert numbers.count("\n| ") == 4 and numbers.endswith("(accuracy_vs_cost.png)")
    assert list(readme_blocks(Results(TASK, {}))) == ["task_1_1", "task_1_1_numbers"]


def test_without_a_run_nothing_is_said():
    assert in_short(Results(TASK, {})) == []


def test_records_of_many_models_stay_readable():
    """--add may compare a dozen."""
    names = [f"net{i}" for i in range(12)]
    runs = {name: [make_record(name, 0, accuracy=0.9)] for name in names}
    task = task_of(*((names[0], name) for name in names[1:]), names=names)
    assert max(len(text) for text, _ in in_short(Results(task, runs))) < 400
