"""Tests of scikit-learn that cannot pass over nodes, with the reason; docs/scikit-learn.md publishes this list.

Each is run all the same, in all its forms, and must fail: a line that is no longer true fails the suite.
"""

from __future__ import annotations

__all__ = ["EXPECTED"]

EXPECTED: dict[str, str] = {}
