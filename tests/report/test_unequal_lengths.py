"""Runs that stopped after different numbers of epochs: no verdict from their curves, and that is said."""

from made_page import MODELS, make_runs, rows_of, text_of
from made_records import make_record

from utils.findings.overfitting import overfitting_of, overfitting_sentence


def test_curves_of_unequal_length_give_no_verdict():
    runs = make_runs(3, overfits_from=6)
    runs["FCN"][1] = make_record("FCN", 1, accuracy=0.95, overfits_from=6, epochs=12)
    told = overfitting_sentence("FCN", overfitting_of(runs["FCN"]))
    assert told == "FCN: no verdict, since runs stopped after 12 to 15 epochs"
    text = text_of(runs)
    assert told in text
    assert rows_of(text, "test accuracy").keys() == set(MODELS)  # accuracy is judged all the same
    assert f"{MODELS[1]} is better than FCN" in text
