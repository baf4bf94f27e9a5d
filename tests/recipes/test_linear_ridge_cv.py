"""Ridge regressions that choose their penalty: leaving out each row, and folds, against the pooled fit."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import Ridge, RidgeClassifierCV, RidgeCV
from sklearn.metrics import make_scorer, mean_squared_error
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

from atoll import Distributed, Federated, Federation
from atoll.errors import NotAvailable, UnsupportedEstimator
from recipes.fitting import NODES, both
from recipes.linear_cases import rows, same, some_weights, thinned

GRID = [1e-3, 1e-1, 1.0, 10.0, 1e3]
SCORES = [
    "r2", "explained_variance", "neg_mean_squared_error", "neg_root_mean_squared_error", "neg_mean_absolute_error",
]  # fmt: skip


def worst(y, predicted):
    return -float(np.abs(y - predicted).max())


@pytest.mark.parametrize("where", NODES)
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_leaving_out_each_row_over_all_kinds_of_nodes(where, fit_intercept):
    X, y = rows()
    fits = both(RidgeCV(GRID, fit_intercept=fit_intercept), X, y, NODES[where](y))
    same(fits)
    assert [r.op for r in fits.over.run_] == ["describe.schema", "linear.triangle", "linear.left_out"]


@pytest.mark.parametrize("method", ["exact", "sums"])
@pytest.mark.parametrize("scoring", [None, *SCORES])
def test_scores_weights_several_targets_and_sparse_rows(scoring, method):
    X, Y = rows(targets=2)
    w = some_weights(len(Y)) + 0.1
    estimator = RidgeCV(GRID, scoring=scoring)
    same(both(estimator, X, Y[:, 0], method=method))
    same(both(estimator, X, Y, method=method))
    same(both(estimator, X, Y, sample_weight=w, method=method))
    same(both(estimator, thinned(X), Y[:, 0], sample_weight=w, method=method))
    same(both(estimator, X, Y[:, :1], method=method))


def test_errors_are_those_of_fits_without_the_row():
    X, y = rows(n=25)
    without = [Ridge(0.3).fit(np.delete(X, i, 0), np.delete(y, i)).predict(X[[i]])[0] for i in range(25)]
    model = Distributed(RidgeCV([0.3]), n_nodes=4).fit(X, y)
    assert -model.best_score_ == pytest.approx(np.mean((y - without) ** 2), rel=1e-10)


@pytest.mark.parametrize("n", [3, 6, 7, 8, 9, 10])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_rows_that_can_be_fitted_without_error(n, fit_intercept):
    """There both numerator and denominator are differences of almost equal numbers, unless computed otherwise."""
    X, y = rows(d=8, ratio=1.0)
    X = X[:, :-1]
    same(both(RidgeCV([1e-4, 1e-2, 1.0], fit_intercept=fit_intercept), X[:n], y[:n]), rtol=1e-7)


def test_a_row_that_is_there_twice_and_a_column_that_is_there_twice():
    X, y = rows(d=8, ratio=1.0)
    X, y = np.column_stack([X, X[:, 0]])[[0, 1, 2, 3, 4, 5, 5]], y[[0, 1, 2, 3, 4, 5, 6]]
    same(both(RidgeCV([1e-3, 1.0]), X, y), rtol=1e-7)


def test_a_penalty_for_each_target():
    X, Y = rows(targets=3)
    for scoring in (None, "r2", "neg_mean_absolute_error"):
        same(both(RidgeCV(GRID, alpha_per_target=True, scoring=scoring), X, Y))
    same(both(RidgeCV(GRID, alpha_per_target=True), X, Y[:, 0]))
    same(both(RidgeCV(GRID, alpha_per_target=True), X, Y[:, :1]))


def test_one_penalty_and_weights_that_are_zero():
    X, y = rows()
    same(both(RidgeCV(2.0), X, y))
    same(both(RidgeCV([2.0]), X, y, sample_weight=some_weights(len(y))))


def test_single_precision_in_and_out():
    X, y = rows()
    fits = both(RidgeCV(GRID), X.astype(np.float32), y.astype(np.float32))
    same(fits, rtol=1e-6)
    assert fits.over.coef_.dtype == np.float32


def test_a_score_of_ones_own_is_asked_where_rows_are_yours():
    X, Y = rows(targets=2)
    w = some_weights(len(Y)) + 0.1
    scorer = make_scorer(worst)
    for y, cv, per_target in ((Y[:, 0], None, False), (Y, None, True), (Y, 4, False)):
        estimator = RidgeCV(GRID, scoring=scorer, cv=cv, alpha_per_target=per_target)
        over, pooled = Distributed(estimator, n_nodes=3).fit(X, y), RidgeCV(**estimator.get_params()).fit(X, y)
        np.testing.assert_allclose(over.best_score_, pooled.best_score_, rtol=1e-9)
        np.testing.assert_allclose(over.alpha_, pooled.alpha_)
    weighted = make_scorer(lambda y, p, sample_weight=None: -np.average(np.abs(y - p), weights=sample_weight))
    for cv in (None, 4):
        estimator = RidgeCV(GRID, scoring=weighted, cv=cv)
        over = Distributed(estimator, n_nodes=3).fit(X, Y[:, 0], sample_weight=w)
        pooled = RidgeCV(**estimator.get_params()).fit(X, Y[:, 0], sample_weight=w)
        assert over.best_score_ == pytest.approx(pooled.best_score_, rel=1e-9)
    with pytest.raises(NotAvailable, match="does not follow from sums over rows"):
        Federated(RidgeCV(GRID, scoring=scorer)).fit(Federation.simulate(X, Y[:, 0]))


def test_a_known_score_turned_round_is_not_taken_for_itself():
    X, y = rows()
    sites = Federation.simulate(X, y)
    right = Federated(RidgeCV(GRID, scoring=make_scorer(mean_squared_error, greater_is_better=False))).fit(sites)
    assert right.alpha_ == RidgeCV(GRID, scoring="neg_mean_squared_error").fit(X, y).alpha_
    with pytest.raises(NotAvailable):
        Federated(RidgeCV(GRID, scoring=make_scorer(mean_squared_error))).fit(sites)


def test_errors_of_each_row_only_where_rows_are_yours():
    X, y = rows()
    estimator = RidgeCV(GRID, store_cv_results=True)
    over, pooled = Distributed(estimator, n_nodes=3).fit(X, y), RidgeCV(GRID, store_cv_results=True).fit(X, y)
    np.testing.assert_allclose(over.cv_results_, pooled.cv_results_, rtol=1e-9)
    assert not hasattr(Distributed(RidgeCV(GRID), n_nodes=3).fit(X, y).estimator_, "cv_results_")
    with pytest.raises(NotAvailable, match="cv_results_"):
        _ = Federated(estimator).fit(Federation.simulate(X, y)).cv_results_


CROSS = [None, *SCORES[:4]]


@pytest.mark.parametrize("where", NODES)
@pytest.mark.parametrize("scoring", CROSS)
def test_folds_over_all_kinds_of_nodes(scoring, where):
    X, y = rows()
    same(both(RidgeCV(GRID, cv=4, scoring=scoring), X, y, NODES[where](y)))


def test_folds_with_weights_several_targets_sparse_rows_and_other_splitters():
    X, Y = rows(targets=2)
    w = some_weights(len(Y))
    same(both(RidgeCV(GRID, cv=3), X, Y))
    same(both(RidgeCV(GRID, cv=KFold(3, shuffle=True, random_state=0)), X, Y[:, 0], sample_weight=w))
    same(both(RidgeCV([0.0, 1.0], cv=3, fit_intercept=False), X[:, :-1], Y[:, 0]))
    same(both(RidgeCV(GRID, cv=3), thinned(X), Y[:, 0]), rtol=1e-4)  # conjugate gradients stop at 1e-4


def test_what_does_not_go_together_is_refused_in_scikit_learns_words():
    X, y = rows()
    for wrong, words in (
        (RidgeCV(GRID, cv=3, store_cv_results=True), "cv!=None and store_cv_results=True are incompatible"),
        (RidgeCV(GRID, cv=3, alpha_per_target=True), "cv!=None and alpha_per_target=True are incompatible"),
        (RidgeCV([1.0, 0.0]), r"alphas\[1\] == 0.0, must be > 0.0"),
        (RidgeCV([-1.0], cv=3), "alphas == -1.0, must be >= 0.0"),
    ):
        with pytest.raises(ValueError, match=words):
            Distributed(wrong).fit(X, y)
    with pytest.raises(NotAvailable, match="RidgeCV over nodes cannot split rows this way"):
        Distributed(RidgeCV(GRID, cv=StratifiedKFold(3))).fit(X, y)
    with pytest.warns(FutureWarning, match="'svd' mode is not supported for sparse X"):
        Distributed(RidgeCV(GRID, gcv_mode="svd")).fit(thinned(X), y)


def test_digits_that_scikit_learns_squares_lose():
    """Singular values of the triangle, not eigenvalues of its square: as exact as scikit-learn's slower mode."""
    X, y = load_breast_cancer(return_X_y=True)
    over = Distributed(RidgeCV([0.01]), n_nodes=5).fit(X, y.astype(float))
    exact = Ridge(0.01, solver="svd").fit(X, y.astype(float))
    np.testing.assert_allclose(over.coef_, exact.coef_, rtol=1e-10)


def test_classifier_is_as_exact_as_singular_values():
    """`RidgeClassifierCV` takes no `gcv_mode`, but goes by its attribute; its eigenvalues of squares are 1e-9 off."""
    X, y = load_breast_cancer(return_X_y=True)
    pooled = RidgeClassifierCV(GRID)
    pooled.gcv_mode = "svd"
    pooled.fit(X, y)
    over = Distributed(RidgeClassifierCV(GRID), n_nodes=5).fit(X, y)
    assert over.alpha_ == pooled.alpha_
    np.testing.assert_allclose(over.coef_, pooled.coef_, rtol=1e-12, atol=1e-12 * np.abs(pooled.coef_).max())
    np.testing.assert_allclose(over.intercept_, pooled.intercept_, rtol=1e-12)
    np.testing.assert_allclose(over.best_score_, pooled.best_score_, rtol=1e-12)


@pytest.mark.parametrize("where", NODES)
@pytest.mark.parametrize("weight", [None, "balanced"])
@pytest.mark.parametrize("scoring", [None, "accuracy"])
def test_classifier_leaving_out_each_row(scoring, weight, where):
    X, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    fits = both(RidgeClassifierCV(GRID, scoring=scoring, class_weight=weight), X, names, NODES[where](y))
    same(fits)
    assert (fits.over.predict(X) == fits.pooled.predict(X)).all()


@pytest.mark.parametrize("where", NODES)
@pytest.mark.parametrize("cv", [4, StratifiedKFold(3), KFold(3, shuffle=True, random_state=0)], ids=str)
def test_classifier_by_folds(cv, where):
    X, y = load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    X, y = X[order], y[order]
    w = some_weights(len(y)) + 0.1
    same(both(RidgeClassifierCV(GRID, cv=cv), X, y, NODES[where](y)))
    same(both(RidgeClassifierCV(GRID, cv=cv, class_weight="balanced"), X, y, NODES[where](y), sample_weight=w))
    same(both(RidgeClassifierCV(GRID, cv=cv), X, y > 0, NODES[where](y)))


def test_classifier_with_several_labels_and_refusals():
    X, Y = rows(targets=3)
    labels = np.greater(Y, Y.mean(axis=0)).astype(int)
    for cv in (None, KFold(3)):
        fits = both(RidgeClassifierCV(GRID, cv=cv), X, labels)
        same(fits)
        assert (fits.over.predict(X) == fits.pooled.predict(X)).all()
    two = labels[:, 0]
    sites = Federation.simulate(X, two)
    with pytest.raises(UnsupportedEstimator, match="these folds cannot be found without the pooled rows"):
        Federated(RidgeClassifierCV(cv=StratifiedKFold(3, shuffle=True, random_state=0))).fit(sites)
    with pytest.raises(NotAvailable, match="does not follow from sums"):
        Federated(RidgeClassifierCV(scoring="f1", cv=KFold(3))).fit(sites)
    with pytest.raises(ValueError, match="groups"):
        Federated(RidgeCV(cv=GroupKFold(3))).fit(Federation.simulate(X, Y[:, 0]))
