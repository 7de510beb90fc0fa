"""Runs that differ in nothing but how many test images they got right, and families of contrasts of them."""

import dataclasses

from made_records import make_record

from utils.experiment import Contrast

TOTAL = 10_000
AB = [Contrast("A", "B")]
FAMILIES = {
    "task 1.1": [Contrast("A", "B"), Contrast("A", "C"), Contrast("B", "C")],
    "task 1.2": [Contrast("A", "B"), Contrast("B", "C"), Contrast("C", "D")],
}
TEMPLATE = make_record("A", epochs=3, test_total=200)


def record_of(model, seed, correct):
    return dataclasses.replace(TEMPLATE, model=model, seed=seed, test_correct=int(correct), test_total=TOTAL)


def runs_of(**counts):
    return {name: [record_of(name, seed, c) for seed, c in enumerate(values)] for name, values in counts.items()}
