"""Tests of scikit-learn's naive Bayes that cannot pass over nodes, with the reason."""

from __future__ import annotations

__all__ = ["EXPECTED"]

EXPECTED: dict[str, str] = {
    "sklearn.tests.test_naive_bayes::test_discretenb_provide_prior": (
        "after a fit that was refused it looks for `classes_` of the refused rows; over nodes a refused fit leaves the "
        "one before it as it was"
    ),
}
