"""scikit-learn's own, unmodified tests of random features, over nodes."""

from __future__ import annotations

import pytest

from sklearn_suite.expected.kernel_approximation import EXPECTED
from sklearn_suite.suite import functions, run


@pytest.mark.timeout(300)
def test_kernel_approximation(tmp_path):
    told = run(tmp_path, "sklearn.kernel_approximation", ["sklearn.tests.test_kernel_approximation"])
    assert functions(told.failed) == {line.split("::")[1] for line in EXPECTED}
    assert told.passed > 70
    assert told.fits > 95
    assert told.calls > 150
    assert told.classes == {"AdditiveChi2Sampler", "PolynomialCountSketch", "RBFSampler", "SkewedChi2Sampler"}
