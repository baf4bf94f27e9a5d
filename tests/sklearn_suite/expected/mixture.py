"""Tests of scikit-learn's mixtures that cannot pass over nodes, with the reason."""

from __future__ import annotations

__all__ = ["EXPECTED"]

_GAUSSIAN = "sklearn.mixture.tests.test_gaussian_mixture::"

EXPECTED: dict[str, str] = {
    _GAUSSIAN + "test_gaussian_mixture_all_init_does_not_estimate_gaussian_parameters": (
        "counts how often a private function is called with all rows, and over nodes nobody calls it"
    ),
}
