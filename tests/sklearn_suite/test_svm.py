"""scikit-learn's own, unmodified tests of the linear support vector machines, over nodes."""

from __future__ import annotations

import pytest

from sklearn_suite.expected.svm import EXPECTED
from sklearn_suite.suite import functions, run


@pytest.mark.timeout(300)
def test_svm(tmp_path):
    """The tests of machines with kernels run along; those machines stay scikit-learn's."""
    told = run(tmp_path, "sklearn.svm", ["sklearn.svm.tests.test_svm", "sklearn.svm.tests.test_sparse"])
    assert functions(told.failed) == {line.split("::")[1] for line in EXPECTED} == set()
    assert told.passed > 280
    assert told.fits > 65
    assert told.calls > 70
    assert told.classes == {"LinearSVC", "LinearSVR"}
