"""Tests of scikit-learn's discriminant analysis that cannot pass over nodes, with the reason."""

from __future__ import annotations

__all__ = ["EXPECTED"]

_OWN = (
    "gives a class of its own as `covariance_estimator`, which would need the rows of a class in one place; the "
    "covariance estimators that Atoll fits over nodes may be given"
)
EXPECTED: dict[str, str] = {
    "sklearn.tests.test_discriminant_analysis::test_lda_ledoitwolf": _OWN,
    "sklearn.tests.test_discriminant_analysis::test_qda_ledoitwolf": _OWN,
}
