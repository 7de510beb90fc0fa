"""Runs that stopped after different numbers of epochs: no verdict from their curves, and that is said."""

from made_page import MODELS, TASK, make_runs, rows_of, text_of
from made_records import make_record

from utils.findings.overfitting import overfitting_of, overfitting_sentence
from utils.findings.results import Results
from utils.findings.verdicts import stability_verdicts
from utils.report.conclusions import conclusions


def test_curves_of_unequal_length_give_no_verdict():
    runs = make_runs(3, overfits_from=6)
    assert {(v.a, v.b) for v in stability_verdicts(runs, TASK.contrasts)} == {(c.a, c.b) for c in TASK.contrasts}
    runs["FCN"][1] = make_record("FCN", 1, accuracy=0.95, overfits_from=6, epochs=12)
    told = overfitting_sentence("FCN", overfitting_of(runs["FCN"]))
    assert told == "FCN: no verdict, since runs stopped after 12 to 15 epochs"
    (verdict,) = stability_verdicts(runs, TASK.contrasts)
    assert (verdict.a, verdict.b, verdict.m) == (MODELS[1], MODELS[2], 3)  # the family stays as declared
    text = text_of(runs)
    for other in MODELS[1:]:
        assert f"FCN and {other}, steadiness: no verdict, since runs stopped after 12 to 15 epochs" in text
    assert "FCN: no verdict, since runs stopped after 12 to 15 epochs" in text
    assert rows_of(text, "test accuracy").keys() == set(MODELS)  # accuracy is judged all the same
    assert f"{MODELS[1]} is better than FCN" in text


def test_a_later_run_that_stops_earlier_takes_no_verdict_from_a_look():
    runs = make_runs(3)
    runs["FCN"].append(make_record("FCN", 3, accuracy=0.95, epochs=12))
    runs["SimpleCNN"].append(make_record("SimpleCNN", 3, accuracy=0.96))
    text = conclusions(Results(TASK, runs, by_looks=True))
    lines = [line for line in text.splitlines() if "steadi" in line and "FCN" in line and "SimpleCNN" in line]
    assert len(lines) == 1 and "look at 3 seeds" in lines[0] and "stopped after" not in text
