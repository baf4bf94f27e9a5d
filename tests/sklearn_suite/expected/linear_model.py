"""Tests of scikit-learn's linear models that cannot pass over nodes, with the reason."""

from __future__ import annotations

__all__ = ["EXPECTED"]

EXPECTED: dict[str, str] = {}
