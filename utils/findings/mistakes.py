"""Which test images are misclassified: by all models, by all but one, and in each cell of a confusion matrix.

A model gets an image right or wrong if it does so with more than half of its seeds. Never loads torch.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from utils.records.record import Runs

MOST_SHOWN = 24  # images of a cell, or of a list


class Predictions(NamedTuple):
    """The true classes of the test images, (N,), which a task's records share, and {model: predictions (n, N)}."""

    labels: np.ndarray
    of_models: Mapping[str, np.ndarray]


def predictions_of(runs: Runs) -> Predictions:
    """The predictions of all runs with their final weights; reads each record's arrays once."""
    found = {
        model: np.array([record.arrays["test_predictions"] for record in records]) for model, records in runs.items()
    }
    return Predictions(labels_of(runs), found)


def labels_of(runs: Runs) -> np.ndarray:
    return next(iter(runs.values()))[0].arrays["test_labels"]


def wrong_shares(made: Predictions) -> np.ndarray:
    """With which share of its seeds each model gets each test image wrong, (models, N)."""
    return np.array([(rows != made.labels).mean(axis=0) for rows in made.of_models.values()])


def usual_predictions(made: Predictions, image: int) -> list[int]:
    """For each model the class that most of its seeds take an image for; of several the first."""
    return [int(np.bincount(rows[:, image]).argmax()) for rows in made.of_models.values()]


def wrong_in_all(made: Predictions) -> list[int]:
    """The test images that all models get wrong, those that most runs get wrong first."""
    shares = wrong_shares(made)
    return _sorted(np.flatnonzero((shares > 0.5).all(axis=0)), shares)


def right_in_one(made: Predictions) -> dict[str, list[int]]:
    """{model: the test images that it gets right and all others get wrong}; no model without such an image."""
    shares, models = wrong_shares(made), list(made.of_models)
    wrong = (shares > 0.5).sum(axis=0)
    found = {}
    for row, model in enumerate(models if len(models) > 1 else ()):
        alone = np.flatnonzero((shares[row] < 0.5) & (wrong == len(models) - 1))
        if len(alone):
            found[model] = _sorted(alone, np.delete(shares, row, axis=0))
    return found


def _sorted(images: np.ndarray, shares: np.ndarray) -> list[int]:
    """Those first that the largest share of runs gets wrong, then in their order."""
    return images[np.argsort(-shares[:, images].mean(axis=0), kind="stable")].tolist()


def images_to_show(made: Predictions) -> list[int]:
    """The test images that a page needs, the most needed first: those of the lists, then of the matrices' cells.

    Of each cell first the image that most seeds put there, then the next, up to MOST_SHOWN; mistakes before what is
    right.
    """
    in_lists = [wrong_in_all(made), *right_in_one(made).values()]
    ranked = [(rank, image) for images in in_lists for rank, image in enumerate(images[:MOST_SHOWN])]
    order = [image for _, image in sorted(ranked)]
    ranks = [_ranked_in_cells(made.labels, rows) for rows in made.of_models.values()]
    images, predicted, rank = np.concatenate(ranks, axis=1)
    by_need = np.lexsort((rank, predicted == made.labels[images]))
    return list(dict.fromkeys([*order, *images[by_need].tolist()]))


def _ranked_in_cells(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Rows image, predicted class and rank in that cell of one model's matrix, (3, M); ranks under MOST_SHOWN."""
    classes = int(max(labels.max(), predictions.max())) + 1
    pairs, seeds = np.unique(np.arange(len(labels)) * classes + predictions.astype(np.int64), return_counts=True)
    images, predicted = np.divmod(pairs, classes)
    cells = labels[images].astype(np.int64) * classes + predicted
    order = np.lexsort((images, -seeds, cells))
    images, predicted, cells = images[order], predicted[order], cells[order]
    starts = np.flatnonzero(np.diff(cells, prepend=-1))
    rank = np.arange(len(cells)) - np.repeat(starts, np.diff(starts, append=len(cells)))
    return np.array([images, predicted, rank])[:, rank < MOST_SHOWN]
