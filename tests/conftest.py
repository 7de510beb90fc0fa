"""Fixtures of more than one test file."""

from place import place  # noqa: F401
