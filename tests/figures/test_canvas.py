"""What all figures share: signs of numbers."""

from utils.figures.canvas import signed


def test_signs_are_shown_but_not_of_zero():
    assert [signed(value, 1) for value in (1.25, -0.3, 0.04, -0.04, 0.0)] == ["+1.2", "−0.3", "0.0", "0.0", "0.0"]
