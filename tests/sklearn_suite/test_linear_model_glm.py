"""scikit-learn's own, unmodified tests of its generalised linear models, over nodes."""

from __future__ import annotations

import pytest

from sklearn_suite.expected.linear_model_glm import EXPECTED
from sklearn_suite.suite import functions, run

LOGISTIC = "sklearn.linear_model.tests.test_logistic"
OTHERS = ["sklearn.linear_model.tests.test_huber", "sklearn.linear_model._glm.tests.test_glm"]


def expected(*modules):
    """The functions of some modules that are expected to fail."""
    return functions({line.split("::")[1] for line in EXPECTED if line.split("::")[0] in modules})


@pytest.mark.timeout(900)
def test_logistic_regression(tmp_path):
    told = run(tmp_path, "sklearn.linear_model", [LOGISTIC], expected="linear_model_glm")
    assert functions(told.failed) == expected(LOGISTIC)
    assert told.passed > 270
    assert told.fits > 700
    assert told.calls > 180
    assert told.classes >= {"LogisticRegression", "LogisticRegressionCV"}


@pytest.mark.timeout(900)
def test_the_other_modules(tmp_path):
    told = run(tmp_path, "sklearn.linear_model", OTHERS, expected="linear_model_glm")
    assert functions(told.failed) == expected(*OTHERS)
    assert told.passed > 280
    assert told.fits > 300
    assert told.calls > 80
    assert told.classes >= {"GammaRegressor", "HuberRegressor", "PoissonRegressor", "TweedieRegressor"}
