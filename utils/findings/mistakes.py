"""Which test images are misclassified: by all models, by all but one, and in each cell of a confusion matrix.

A model gets an image right or wrong if it does so with more than half of its seeds. Never loads torch.
"""

from collections.abc import Sequence

import numpy as np

from utils.records.record import RunRecord, Runs

MOST_SHOWN = 24  # images of a cell, or of a list


def labels_of(runs: Runs) -> np.ndarray:
    """The true classes of the test images, (N,), which all records of a task share."""
    return next(iter(runs.values()))[0].arrays["test_labels"]


def wrong_share(records: Sequence[RunRecord]) -> np.ndarray:
    """With which share of its seeds a model gets each test image wrong, (N,)."""
    return np.mean([r.arrays["test_predictions"] != r.arrays["test_labels"] for r in records], axis=0)


def usual_prediction(records: Sequence[RunRecord], image: int) -> int:
    """The class that most seeds take an image for; of several the first."""
    return int(np.bincount([record.arrays["test_predictions"][image] for record in records]).argmax())


def wrong_in_all(runs: Runs) -> list[int]:
    """The test images that all models get wrong, those that most runs get wrong first."""
    shares = np.array([wrong_share(records) for records in runs.values()])
    return _sorted(np.flatnonzero((shares > 0.5).all(axis=0)), shares)


def right_in_one(runs: Runs) -> dict[str, list[int]]:
    """{model: the test images that it gets right and all others get wrong}; no model without such an image."""
    shares = np.array([wrong_share(records) for records in runs.values()])
    found = {}
    for row, model in enumerate(runs if len(runs) > 1 else ()):
        alone = (shares[row] < 0.5) & (np.delete(shares, row, axis=0) > 0.5).all(axis=0)
        if alone.any():
            found[model] = _sorted(np.flatnonzero(alone), np.delete(shares, row, axis=0))
    return found


def _sorted(images: np.ndarray, shares: np.ndarray) -> list[int]:
    """Those first that the largest share of runs gets wrong, then in their order."""
    return images[np.argsort(-shares[:, images].mean(axis=0), kind="stable")].tolist()


def images_to_show(runs: Runs) -> list[int]:
    """The test images that a page needs, the most needed first: those of the lists, then of the matrices' cells.

    Of each cell first the image that most seeds put there, then the next, up to MOST_SHOWN; mistakes before what is
    right.
    """
    labels = labels_of(runs)
    in_lists = [wrong_in_all(runs), *right_in_one(runs).values()]
    ranked = [(rank, image) for images in in_lists for rank, image in enumerate(images[:MOST_SHOWN])]
    order = [image for _, image in sorted(ranked)]
    ranks = [_ranked_in_cells(labels, records) for records in runs.values()]
    images, predicted, rank = np.concatenate(ranks, axis=1)
    by_need = np.lexsort((rank, predicted == labels[images]))
    return list(dict.fromkeys([*order, *images[by_need].tolist()]))


def _ranked_in_cells(labels: np.ndarray, records: Sequence[RunRecord]) -> np.ndarray:
    """Rows image, predicted class and rank in that cell of one model's matrix, (3, M); ranks under MOST_SHOWN."""
    classes = len(records[0].class_names)
    predictions = np.array([record.arrays["test_predictions"] for record in records], dtype=np.int64)
    pairs, seeds = np.unique(np.arange(len(labels)) * classes + predictions, return_counts=True)
    images, predicted = np.divmod(pairs, classes)
    cells = labels[images].astype(np.int64) * classes + predicted
    order = np.lexsort((images, -seeds, cells))
    images, predicted, cells = images[order], predicted[order], cells[order]
    starts = np.flatnonzero(np.diff(cells, prepend=-1))
    rank = np.arange(len(cells)) - np.repeat(starts, np.diff(starts, append=len(cells)))
    return np.array([images, predicted, rank])[:, rank < MOST_SHOWN]
