"""Tests of scikit-learn's linear support vector machines that cannot pass over nodes, with the reason."""

from __future__ import annotations

__all__ = ["EXPECTED"]

EXPECTED: dict[str, str] = {}
