"""scikit-learn's own test modules for encoders of categories and of labels."""

from __future__ import annotations

import pytest

from sklearn_suite.expected.preprocessing_encoders import EXPECTED
from sklearn_suite.suite import functions, run

TESTS = "sklearn.preprocessing.tests."


@pytest.mark.timeout(300)
def test_encoders(tmp_path):
    told = run(tmp_path, "sklearn.preprocessing", [TESTS + "test_encoders"], expected="preprocessing_encoders")
    assert functions(told.failed) == {line.split("::")[1] for line in EXPECTED}
    assert told.passed > 250
    assert told.fits > 350
    assert told.calls > 500
    assert told.classes >= {"OneHotEncoder", "OrdinalEncoder"}


@pytest.mark.timeout(300)
def test_labels(tmp_path):
    """That module imports from where the classes are defined."""
    told = run(tmp_path, "sklearn.preprocessing._label", [TESTS + "test_label"], expected="preprocessing_encoders")
    assert told.failed == set()
    assert told.passed > 50
    assert told.fits > 50
    assert told.classes >= {"LabelBinarizer", "LabelEncoder"}
