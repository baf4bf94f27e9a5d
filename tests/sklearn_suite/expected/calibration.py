"""Tests of scikit-learn's calibration that cannot pass over nodes, with the reason."""

from __future__ import annotations

__all__ = ["EXPECTED"]

EXPECTED: dict[str, str] = {}
