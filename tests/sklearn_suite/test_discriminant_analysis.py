"""scikit-learn's own, unmodified tests of discriminant analysis, over nodes."""

from __future__ import annotations

import pytest

from sklearn_suite.expected.discriminant_analysis import EXPECTED
from sklearn_suite.suite import functions, run


@pytest.mark.timeout(300)
def test_discriminant_analysis(tmp_path):
    told = run(tmp_path, "sklearn.discriminant_analysis", ["sklearn.tests.test_discriminant_analysis"])
    assert functions(told.failed) == {line.split("::")[1] for line in EXPECTED}
    assert told.passed > 55
    assert told.fits > 180
    assert told.calls > 80
    assert told.classes >= {"LinearDiscriminantAnalysis", "QuadraticDiscriminantAnalysis"}
