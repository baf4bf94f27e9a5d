"""scikit-learn's own, unmodified tests of random projections, over nodes."""

from __future__ import annotations

import pytest

from sklearn_suite.expected.random_projection import EXPECTED
from sklearn_suite.suite import functions, run


@pytest.mark.timeout(300)
def test_random_projection(tmp_path):
    told = run(tmp_path, "sklearn.random_projection", ["sklearn.tests.test_random_projection"])
    assert functions(told.failed) == {line.split("::")[1] for line in EXPECTED}
    assert told.passed > 220
    assert told.fits > 420
    assert told.calls > 1200
    assert told.classes == {"GaussianRandomProjection", "SparseRandomProjection"}
