"""Fixtures of more than one test of data."""

from data_files import npm  # noqa: F401
