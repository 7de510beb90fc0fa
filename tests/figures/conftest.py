"""What all tests of figures have in common: the suite's own style."""

import matplotlib.style
import pytest

from utils.figures.canvas import STYLE


@pytest.fixture(autouse=True)
def figure_style():
    with matplotlib.style.context(["default", STYLE]):
        yield
