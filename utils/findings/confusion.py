"""Which classes are confused, in numbers: shares, the most frequent confusions, the change between two models.

Never loads torch. Matrices have the true classes in rows and the predicted ones in columns.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from utils.records.record import RunRecord, paired
from utils.stats.intervals import FEWEST_SEEDS, ROUNDING, mean_interval


def shares_of_rows(counts: np.ndarray) -> np.ndarray:
    """Each cell of `counts` (K, K) as a fraction of its row's sum; 0 in the row of a class without images."""
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def off_diagonal(matrix: np.ndarray) -> np.ndarray:
    """`matrix` (K, K) with zeros on the diagonal, which holds the correct predictions."""
    return np.where(np.eye(len(matrix), dtype=bool), 0, matrix)


def largest_cells(matrix: np.ndarray, count: int) -> list[tuple[int, int]]:
    """(row, column) of the `count` largest cells, the largest first; fewer if fewer cells are above 0."""
    # A stable sort, so that equal cells always come in the same order.
    order = np.argsort(-matrix, axis=None, kind="stable")[:count]
    places = np.transpose(np.unravel_index(order, matrix.shape))
    return [(row, column) for row, column in places.tolist() if matrix[row, column] > ROUNDING]


def most_confused(records: Sequence[RunRecord], count: int) -> list[tuple[str, str, float]]:
    """The `count` most frequent confusions, over all seeds together, the most frequent first; fewer if there are fewer.

    Each is (true class, predicted class, share of the true class's images).
    """
    counts = sum(record.counts_by_class for record in records)
    shares = off_diagonal(shares_of_rows(counts))
    names = records[0].class_names
    cells = largest_cells(shares, count)
    return [(names[row], names[column], float(shares[row, column])) for row, column in cells]


class ConfusionChange(NamedTuple):
    """How the confusion matrices of two models differ, over `n` seeds.

    `mean` (K, K) holds the mean differences, as fractions of the true class's images. `unsure` (K, K) is true where the
    unadjusted 95% t-interval over seeds covers 0 or is undefined.
    """

    mean: np.ndarray
    unsure: np.ndarray
    n: int


def confusion_change(a_records: Sequence[RunRecord], b_records: Sequence[RunRecord]) -> ConfusionChange:
    """The change of the shares of rows, b minus a, over the seeds that both have.

    With fewer than 3 seeds there are no intervals, and no cell is marked `unsure`. Raises ValueError if the two have no
    seed in common.
    """
    pairs = paired(a_records, b_records)
    if not pairs:
        raise ValueError(f"{a_records[0].model} and {b_records[0].model} have no seed in common")
    changes = np.array([shares_of_rows(b.counts_by_class) - shares_of_rows(a.counts_by_class) for a, b in pairs])
    unsure = np.zeros(changes.shape[1:], dtype=bool)
    if len(pairs) >= FEWEST_SEEDS:
        for cell in np.ndindex(unsure.shape):
            interval = mean_interval(changes[:, *cell])
            unsure[cell] = not (interval.low > 0 or interval.high < 0)
    return ConfusionChange(changes.mean(axis=0), unsure, len(pairs))
