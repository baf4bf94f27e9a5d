"""scikit-learn's own, unmodified tests of covariances, over nodes."""

from __future__ import annotations

import pytest

from sklearn_suite.expected.covariance import EXPECTED
from sklearn_suite.suite import functions, run


@pytest.mark.timeout(300)
def test_covariance(tmp_path):
    told = run(tmp_path, "sklearn.covariance", ["sklearn.covariance.tests.test_covariance"])
    assert functions(told.failed) == {line.split("::")[1] for line in EXPECTED}
    assert told.passed > 10
    assert told.fits > 30
    assert told.calls > 15
    assert told.classes == {"EmpiricalCovariance", "LedoitWolf", "OAS", "ShrunkCovariance"}
