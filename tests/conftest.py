"""Fixtures of more than one test file."""

import pytest
import torch
from place import place  # noqa: F401

from utils.data.images import Splits, load_splits
from utils.data.specs import DIGITS


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Splits:
    torch.set_num_threads(1)
    return load_splits(DIGITS, tmp_path_factory.mktemp("data"))
