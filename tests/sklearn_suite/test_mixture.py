"""scikit-learn's own, unmodified tests of mixtures, over nodes."""

from __future__ import annotations

import pytest

from sklearn_suite.expected.mixture import EXPECTED
from sklearn_suite.suite import functions, run

TESTS = [f"sklearn.mixture.tests.test_{name}" for name in ("gaussian_mixture", "bayesian_mixture", "mixture")]


@pytest.mark.timeout(600)
def test_mixture(tmp_path):
    told = run(tmp_path, "sklearn.mixture", TESTS)
    assert functions(told.failed) == {line.split("::")[1] for line in EXPECTED}
    assert told.passed > 70
    assert told.fits > 1200
    assert told.calls > 950
    assert told.classes == {"BayesianGaussianMixture", "GaussianMixture"}
