"""Tests of scikit-learn that cannot pass over nodes, with the reason; docs/scikit-learn.md publishes this list.

Each is run all the same, in all its forms, and must fail: a line that is no longer true fails the suite.
"""

from __future__ import annotations

__all__ = ["EXPECTED"]

EXPECTED: dict[str, str] = {
    "sklearn.preprocessing.tests.test_encoders::test_ordinal_encoder_python_integer": (
        "whole numbers of more than 64 bits do not travel between nodes; they are refused by name"
    ),
}
