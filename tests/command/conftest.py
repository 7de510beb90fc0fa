"""Fixtures of the tests of several processes."""

import pytest
from many_script import none_left, trained_alone


@pytest.fixture
def cleared():
    """Nothing that a test has started outlives it."""
    yield
    none_left()


@pytest.fixture(scope="session")
def alone(tmp_path_factory):
    """What one process makes of all cells, to which the others are compared."""
    return trained_alone(tmp_path_factory.mktemp("alone"), seeds=3)
