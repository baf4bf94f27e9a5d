"""Least angle regression, matching pursuit and Bayesian regressions: parameters and edges against the pooled fit."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import (
    ARDRegression,
    BayesianRidge,
    Lars,
    LarsCV,
    LassoLars,
    LassoLarsCV,
    LassoLarsIC,
    OrthogonalMatchingPursuit,
    OrthogonalMatchingPursuitCV,
)
from sklearn.model_selection import KFold

from atoll import Distributed, Federated, Federation
from cases import label_of
from recipes.fitting import NODES, both
from recipes.linear_cases import rows, same, some_weights

METHODS = ["exact", "sums"]
PATHS = [
    Lars(),
    Lars(n_nonzero_coefs=2, fit_intercept=False),
    Lars(n_nonzero_coefs=3, precompute=False),
    Lars(fit_path=False, n_nonzero_coefs=4),
    Lars(jitter=1e-2, random_state=3),
    LassoLars(alpha=0.2),
    LassoLars(alpha=0.4, positive=True, precompute=False),
    LassoLars(alpha=0.4, fit_path=False, max_iter=2),
    LassoLars(alpha=0.1, jitter=1e-2, random_state=np.random.RandomState(1)),
]
ALONE = [
    LassoLarsIC(),
    LassoLarsIC(criterion="bic", positive=True, fit_intercept=False),
    LassoLarsIC(noise_variance=2.0, max_iter=3),
    OrthogonalMatchingPursuit(),
    OrthogonalMatchingPursuit(n_nonzero_coefs=3, fit_intercept=False),
    OrthogonalMatchingPursuit(tol=2e3, precompute=False),
    BayesianRidge(compute_score=True),
    BayesianRidge(fit_intercept=False, alpha_init=0.3, lambda_init=2.0, tol=1e-10),
    ARDRegression(compute_score=True),
    ARDRegression(fit_intercept=False, threshold_lambda=1e2, tol=1e-8),
]
CROSS = [
    LarsCV(),
    LarsCV(cv=3, fit_intercept=False, max_iter=3),
    LassoLarsCV(cv=KFold(3, shuffle=True, random_state=0)),
    LassoLarsCV(positive=True, max_n_alphas=5),
    OrthogonalMatchingPursuitCV(),
    OrthogonalMatchingPursuitCV(cv=3, max_iter=2, fit_intercept=False),
]


def scaled(seed=0, n=90, d=7, targets=1):
    """Without the constant column: a path that ends at rounding errors of it is nobody's."""
    X, y = rows(seed, n, d, targets, ratio=1.0)
    return X[:, :-1], y


@pytest.mark.parametrize("where", NODES)
@pytest.mark.parametrize("estimator", [*PATHS, *ALONE, *CROSS], ids=label_of)
def test_over_all_kinds_of_nodes(estimator, where):
    X, y = scaled()
    same(both(estimator, X, y, NODES[where](y)), rtol=1e-8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("estimator", [*[e for e in PATHS if e.jitter is None], *ALONE[3:6]], ids=label_of)
def test_several_targets(estimator, method):
    X, Y = scaled(targets=3)
    same(both(estimator, X, Y, method=method))
    same(both(estimator, X, Y[:, :1], method=method))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("estimator", ALONE, ids=label_of)
def test_both_methods_and_single_precision(estimator, method):
    X, y = scaled()
    same(both(estimator, X, y, method=method), rtol=1e-7)
    single = both(estimator, X.astype(np.float32), y.astype(np.float32), method=method)
    got, expected = single.over.coef_, single.pooled.coef_
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("estimator", [e for e in ALONE if isinstance(e, BayesianRidge)], ids=label_of)
def test_weights(estimator, method):
    X, y = scaled()
    same(both(estimator, X, y, sample_weight=some_weights(len(y)), method=method))


@pytest.mark.parametrize("n", [3, 5, 6, 7, 8])
@pytest.mark.parametrize("estimator", [Lars(), LassoLars(0.1), *ALONE[3:5], *ALONE[6:8]], ids=label_of)
def test_fewer_rows_than_columns(estimator, n):
    X, y = scaled()
    same(both(estimator, X[:n], y[:n], np.arange(n) % 2), rtol=1e-5, leave=("sigma_",), warned=False)


@pytest.mark.parametrize("n", [6, 7, 8])
def test_about_as_many_rows_as_columns(n):
    X, y = scaled()
    same(both(ARDRegression(), X[:n], y[:n], np.arange(n) % 2), rtol=1e-5, leave=("sigma_",), warned=False)


def test_deviations_of_predictions():
    X, y = scaled()
    for estimator in (BayesianRidge(), ARDRegression()):
        fits = both(estimator, X, y)
        for got, expected in zip(
            fits.over.predict(X, return_std=True), fits.pooled.predict(X, return_std=True), strict=True
        ):
            np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_columns_that_depend_on_each_other_warn_in_the_same_words():
    X, y = scaled()
    X = np.column_stack([X, X[:, 0]])
    for estimator in (OrthogonalMatchingPursuit(n_nonzero_coefs=7), LassoLars(alpha=0.5)):
        fits = both(estimator, X, y)
        assert {kind for kind, _ in fits.heard} == {kind for kind, _ in fits.said}
    assert {kind for kind, _ in both(Lars(), X, y).heard} <= {ConvergenceWarning}


def test_a_constant_target():
    X, _ = scaled()
    y = np.full(len(X), 3.0)
    for estimator in (BayesianRidge(), LassoLars(), Lars()):
        fits = both(estimator, X, y)
        np.testing.assert_allclose(fits.over.predict(X), y, rtol=1e-12)
    np.testing.assert_allclose(both(ARDRegression(), X, y).over.predict(X), y, rtol=1e-9)


def test_refusals_are_in_scikit_learns_words():
    X, y = scaled()
    few = Federation.simulate(X[:6], y[:6], n_nodes=2)
    with pytest.raises(ValueError, match="getting a good estimate for the variance of the noise is not possible"):
        Federated(LassoLarsIC()).fit(few)
    with pytest.raises(ValueError, match=r"Found array with 1 feature\(s\)"):
        Distributed(OrthogonalMatchingPursuitCV()).fit(X[:, :1], y)
    with pytest.raises(ValueError, match="number of atoms cannot be more than the number of features"):
        Distributed(OrthogonalMatchingPursuit(n_nonzero_coefs=9)).fit(X, y)
    with pytest.warns(UserWarning, match='Parameter "precompute" cannot be an array in LarsCV'):
        Distributed(LarsCV(precompute=X.T @ X)).fit(X - X.mean(axis=0), y)
    with pytest.raises(ValueError, match="minimum of 2 is required by ARDRegression"):
        Distributed(ARDRegression(), n_nodes=1).fit(X[:1], y[:1])


def test_one_round_each():
    X, y = scaled()
    for estimator in (*PATHS, *ALONE):
        assert [r.op for r in both(estimator, X, y).over.run_] == ["describe.schema", "linear.triangle"]
    for estimator in CROSS:
        assert [r.op for r in both(estimator, X, y).over.run_] == ["describe.schema", "linear.folds"]
