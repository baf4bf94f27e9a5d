"""scikit-learn's own, unmodified test module for k-means, over nodes."""

from __future__ import annotations

import pytest

from sklearn_suite.expected.cluster import EXPECTED
from sklearn_suite.suite import run


@pytest.mark.timeout(900)
def test_cluster(tmp_path):
    told = run(tmp_path, "sklearn.cluster", ["sklearn.cluster.tests.test_k_means"])
    assert told.failed == {line.split("::")[1] for line in EXPECTED}
    assert told.passed > 250
    assert told.fits > 300
    assert told.calls > 100
    assert told.classes >= {"KMeans", "MiniBatchKMeans"}
