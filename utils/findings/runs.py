"""What a model's runs say by themselves: accuracies, plateaus, onsets. Never loads torch."""

from collections.abc import Sequence

import numpy as np

from utils.records.record import RunRecord
from utils.stats.curves import accuracy_plateau
from utils.stats.intervals import Interval, mean_interval


def accuracies_of(records: Sequence[RunRecord], weights: str = "") -> np.ndarray:
    """Test accuracy of each seed, shape (n,), from the integer counts; `weights` is "best_" for those of `best_epoch`
    instead of the final ones."""
    return np.array([getattr(record, f"{weights}test_correct") / record.test_total for record in records])


def plateau_epochs(records: Sequence[RunRecord]) -> list[int]:
    """The epochs from which validation accuracy stagnates, of those runs in which it does."""
    plateaus = [accuracy_plateau(record.curve("val_accuracy")) for record in records]
    return [epoch for epoch in plateaus if epoch is not None]


def onset_epochs(records: Sequence[RunRecord]) -> list[int]:
    """The epochs from which those of the runs overfit that do."""
    return [record.onset.epoch for record in records if record.onset.epoch is not None]


def accuracy_over_seeds(records: Sequence[RunRecord], weights: str = "") -> Interval:
    """Mean test accuracy and its interval, fractions; `weights` as in `accuracies_of`."""
    return mean_interval(accuracies_of(records, weights))
