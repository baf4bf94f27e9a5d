"""scikit-learn's own, unmodified tests of naive Bayes, over nodes."""

from __future__ import annotations

import pytest

from sklearn_suite.expected.naive_bayes import EXPECTED
from sklearn_suite.suite import functions, run


@pytest.mark.timeout(300)
def test_naive_bayes(tmp_path):
    told = run(tmp_path, "sklearn.naive_bayes", ["sklearn.tests.test_naive_bayes"])
    assert functions(told.failed) == {line.split("::")[1] for line in EXPECTED}
    assert told.passed > 75
    assert told.fits > 150
    assert told.calls > 140
    assert told.classes == {"BernoulliNB", "CategoricalNB", "ComplementNB", "GaussianNB", "MultinomialNB"}
