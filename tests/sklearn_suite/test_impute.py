"""scikit-learn's own tests of SimpleImputer and MissingIndicator."""

from __future__ import annotations

import pytest

from sklearn_suite.expected.impute import EXPECTED
from sklearn_suite.suite import functions, run


@pytest.mark.timeout(300)
def test_imputers(tmp_path):
    """Those of IterativeImputer, which is none of Atoll's, are left out."""
    told = run(tmp_path, "sklearn.impute", ["sklearn.impute.tests.test_impute"], "-k", "not iterative")
    assert functions(told.failed) == {line.split("::")[1].split("[")[0] for line in EXPECTED}
    assert told.passed > 220
    assert told.fits > 220
    assert told.calls > 350
    assert told.classes >= {"MissingIndicator", "SimpleImputer"}
