"""The test images of a data set, if they are at hand: for pages that show them. Never loads torch, never downloads."""

from pathlib import Path

import numpy as np

from utils.data.sources import KERAS_NAMES
from utils.data.specs import STAND_INS, DatasetSpec
from utils.data.store import open_set
from utils.files import sha256

NAMES = ("test_images", "test_labels")


def test_set_at_hand(spec: DatasetSpec, data_dir: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Images (N, H, W) or (N, H, W, C) uint8 and labels (N,) of the test set; None if the data folder lacks them.

    They come from the cache, from what was decoded of a folder of images, as a memory map, or are generated.
    """
    if spec in STAND_INS.values():
        from utils.data.embedded import EMBEDDED  # only here, since scikit-learn loads slowly

        arrays = EMBEDDED[spec.name]()
        return arrays["test_images"], arrays["test_labels"]
    try:
        if spec.folder:
            arrays = open_set(spec, data_dir)
            return arrays["test_images"], arrays["test_labels"]
        with np.load(data_dir / f"{spec.name}.npz") as archive:
            found = tuple(archive[name if name in archive else KERAS_NAMES[name]] for name in NAMES)
    except Exception:  # missing, or damaged in one of many ways, which a run tells
        return None
    for name, array in zip(NAMES, found, strict=True):
        expected = spec.arrays[name]
        if array.shape != expected.shape or (
            expected.sha256 and sha256(np.ascontiguousarray(array).reshape(-1)) != expected.sha256
        ):
            return None
    return found
