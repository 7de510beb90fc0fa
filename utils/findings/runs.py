"""Findings on the runs of a single model: accuracies and plateaus. Never loads torch."""

from collections.abc import Sequence

import numpy as np

from utils.records.record import RunRecord
from utils.stats.curves import accuracy_plateau
from utils.stats.intervals import Interval, as_share, mean_interval


def lengths_in_words(*models: Sequence[RunRecord]) -> str:
    """Such as "4 to 9 epochs" where runs stopped at different ones, so that their curves can't be compared; else ""."""
    lengths = {len(record.history) for records in models for record in records}
    return f"{min(lengths)} to {max(lengths)} epochs" if len(lengths) > 1 else ""


def of_look(records: Sequence[RunRecord], n: int) -> list[RunRecord]:
    """What the look at `n` seeds sees of a model: its runs with seeds 0 to n - 1, or nothing if one of them is missing.

    See `utils.stats.looks`.
    """
    seen = [record for record in records if record.seed < n]
    return seen if len(seen) == n else []


def accuracies_of(records: Sequence[RunRecord], weights: str = "") -> np.ndarray:
    """The test accuracy of each seed, shape (n,), from the integer counts.

    `weights` is "" for the final weights, or "best_" for those of `best_epoch`.
    """
    return np.array([getattr(record, f"{weights}test_correct") / record.test_total for record in records])


def plateau_epochs(records: Sequence[RunRecord]) -> list[int]:
    """The first epochs of the plateaus of validation accuracy, one for each run that has a plateau."""
    plateaus = [accuracy_plateau(record.curve("val_accuracy")) for record in records]
    return [epoch for epoch in plateaus if epoch is not None]


def accuracy_over_seeds(records: Sequence[RunRecord], weights: str = "") -> Interval:
    """The mean test accuracy over seeds with its interval, fractions from 0 to 1; `weights` as in `accuracies_of`."""
    return as_share(mean_interval(accuracies_of(records, weights)))


def balanced_accuracy(record: RunRecord) -> float:
    """The mean over classes of the share of a class's test images that are classified correctly, final weights.

    A class without test images is left out, as in scikit-learn's `balanced_accuracy_score`.
    """
    counts = record.counts_by_class
    there = counts.sum(axis=1) > 0
    # Rounded, since equal numbers that differ in their last bit would look like a spread over seeds.
    return round(float(np.mean(counts.diagonal()[there] / counts.sum(axis=1)[there])), 12)


def balanced_over_seeds(records: Sequence[RunRecord]) -> Interval:
    """The mean balanced accuracy over seeds with its interval, fractions from 0 to 1."""
    return as_share(mean_interval([balanced_accuracy(record) for record in records]))
