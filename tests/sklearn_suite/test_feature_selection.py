"""scikit-learn's own, unmodified tests of feature selection, over nodes."""

from __future__ import annotations

import pytest

from sklearn_suite.expected.feature_selection import EXPECTED
from sklearn_suite.suite import functions, run

TESTS = [f"sklearn.feature_selection.tests.test_{name}" for name in ("variance_threshold", "chi2", "feature_select")]


@pytest.mark.timeout(600)
def test_feature_selection(tmp_path):
    told = run(tmp_path, "sklearn.feature_selection", TESTS)
    assert functions(told.failed) == {line.split("::")[1] for line in EXPECTED}
    assert told.passed > 85
    assert told.fits > 1800
    assert told.calls > 2700
    assert told.classes == {
        "GenericUnivariateSelect",
        "SelectFdr",
        "SelectFpr",
        "SelectFwe",
        "SelectKBest",
        "SelectPercentile",
        "VarianceThreshold",
    }
