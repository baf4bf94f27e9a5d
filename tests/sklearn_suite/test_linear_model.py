"""scikit-learn's own test modules for linear models by least squares, and the list of tests that cannot pass."""

from __future__ import annotations

import json

import pytest

from sklearn_suite.expected.linear_model import EXPECTED
from sklearn_suite.suite import functions, run

TESTS = "sklearn.linear_model.tests."
QUICK = ["test_base", "test_omp", "test_bayes", "test_least_angle", "test_common", "test_sparse_coordinate_descent"]


def suite(tmp_path, modules, *more, **environment):
    return run(tmp_path, "sklearn.linear_model", [TESTS + m for m in modules], *more, **environment)


def expected(modules):
    return {line.split("::")[1].split("[")[0] for line in EXPECTED if line.split("::")[0].split(".")[-1] in modules}


@pytest.mark.timeout(600)
def test_the_quick_modules(tmp_path):
    told = suite(tmp_path, QUICK)
    assert functions(told.failed) >= expected(QUICK)
    assert told.passed > 420
    assert told.fits > 500
    assert told.classes >= {"ARDRegression", "BayesianRidge", "Lars", "LassoLarsIC", "LinearRegression"}


@pytest.mark.timeout(600)
def test_coordinate_descent(tmp_path):
    told = suite(tmp_path, ["test_coordinate_descent"])
    assert functions(told.failed) == expected(["test_coordinate_descent"])
    assert told.passed > 270
    assert told.fits > 500
    assert told.classes >= {"ElasticNetCV", "Lasso", "LassoCV", "MultiTaskElasticNetCV", "MultiTaskLassoCV"}


@pytest.mark.timeout(900)
def test_ridge(tmp_path):
    told = suite(tmp_path, ["test_ridge"])
    assert functions(told.failed) >= expected(["test_ridge"])
    assert told.passed > 1050
    assert told.fits > 2000
    assert told.classes >= {"Ridge", "RidgeCV", "RidgeClassifier", "RidgeClassifierCV"}


@pytest.mark.thorough
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("settings", [{"n_nodes": 8, "topology": "tree"}, {"partition": "quantity"}], ids=json.dumps)
def test_over_other_nodes(tmp_path, settings):
    told = suite(tmp_path, [*QUICK, "test_coordinate_descent"], ATOLL_SETTINGS=json.dumps(settings))
    assert told.passed > 690


def test_fewer_than_three_in_a_hundred_are_expected_to_fail():
    assert len(EXPECTED) < 30
