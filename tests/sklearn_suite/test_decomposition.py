"""scikit-learn's own, unmodified test modules for PCA, TruncatedSVD and FactorAnalysis, over nodes."""

from __future__ import annotations

import pytest

from sklearn_suite.expected.decomposition import EXPECTED
from sklearn_suite.suite import run

MODULES = [f"sklearn.decomposition.tests.{name}" for name in ("test_pca", "test_truncated_svd", "test_factor_analysis")]


@pytest.mark.timeout(900)
def test_decomposition(tmp_path):
    told = run(tmp_path, "sklearn.decomposition", MODULES)
    assert told.failed == {line.split("::")[1] for line in EXPECTED}
    assert told.passed > 420
    assert told.fits > 800
    assert told.calls > 1300
    assert told.classes >= {"FactorAnalysis", "PCA", "TruncatedSVD"}
