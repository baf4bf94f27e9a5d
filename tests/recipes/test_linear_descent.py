"""Lasso and elastic net, alone and with cross-validation: every parameter and edge against the pooled fit."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import (
    ElasticNet,
    ElasticNetCV,
    Lasso,
    LassoCV,
    MultiTaskElasticNet,
    MultiTaskElasticNetCV,
    MultiTaskLasso,
    MultiTaskLassoCV,
)
from sklearn.model_selection import KFold, LeaveOneOut, RepeatedKFold, ShuffleSplit, StratifiedKFold, TimeSeriesSplit

from atoll import Distributed, Federated, Federation
from atoll.context import Ctx
from atoll.errors import NotAvailable
from atoll.operations import operations
from atoll.shards import Shard
from recipes.fitting import NODES, both
from recipes.linear_cases import rows, same, some_weights, thinned

ONE = [
    Lasso(alpha=0.5, tol=1e-8),
    ElasticNet(alpha=0.2, l1_ratio=0.3, fit_intercept=False),
    Lasso(alpha=0.3, positive=True),
    Lasso(alpha=0.3, selection="random", random_state=4),
    ElasticNet(alpha=0.5, l1_ratio=0.9, precompute=True),
]
SEVERAL = [MultiTaskLasso(alpha=0.5), MultiTaskElasticNet(alpha=0.2, l1_ratio=0.3, fit_intercept=False)]
GAP = ("dual_gap_",)  # a difference of sums: rounding, where it ends near zero


def scaled(seed=0, n=90, d=6, targets=1):
    X, y = rows(seed, n, d, targets, ratio=1.0)
    return X, y


@pytest.mark.parametrize("where", NODES)
@pytest.mark.parametrize("estimator", ONE, ids=repr)
def test_one_target_over_all_kinds_of_nodes(estimator, where):
    X, y = scaled()
    fits = both(estimator, X, y, NODES[where](y))
    same(fits, leave=GAP)
    assert fits.over.dual_gap_ == pytest.approx(fits.pooled.dual_gap_, abs=1e-8)


@pytest.mark.parametrize("method", ["exact", "sums"])
@pytest.mark.parametrize("estimator", ONE, ids=repr)
def test_weights_sparse_rows_and_several_targets(estimator, method):
    X, Y = scaled(targets=2)
    w = some_weights(len(Y))
    same(both(estimator, X, Y, method=method), leave=GAP)
    same(both(estimator, X, Y[:, 0], sample_weight=w, method=method), leave=GAP)
    same(both(estimator, thinned(X), Y[:, 0], method=method), leave=GAP)
    same(both(estimator, thinned(X), Y[:, 0], sample_weight=w, method=method), leave=GAP)


@pytest.mark.parametrize("method", ["exact", "sums"])
@pytest.mark.parametrize("estimator", SEVERAL, ids=repr)
def test_several_tasks(estimator, method):
    X, Y = scaled(targets=3)
    w = some_weights(len(Y))
    for weight in (None, w):
        same(both(estimator, X, Y, sample_weight=weight, method=method), leave=GAP)
        same(both(estimator, thinned(X), Y, sample_weight=weight, method=method), leave=GAP)


def test_several_tasks_want_several_targets():
    X, y = scaled()
    for alone in (MultiTaskLasso(), MultiTaskElasticNet()):
        with pytest.raises(ValueError, match="For mono-task outputs, use ElasticNet"):
            Distributed(alone).fit(X, y)
    with pytest.raises(ValueError, match="For mono-task outputs, use LassoCV"):
        Distributed(MultiTaskLassoCV()).fit(X, y)


@pytest.mark.parametrize("n", [2, 5, 7, 9])
def test_fewer_rows_than_columns(n):
    X, y = scaled(d=8)
    same(both(Lasso(alpha=0.3), X[:n], y[:n], np.arange(n) % 2), leave=GAP)


def test_what_does_not_converge_warns_in_the_same_words():
    X, y = rows(ratio=1e3)
    fits = both(Lasso(alpha=1e-4, max_iter=3), X, y)
    same(fits, leave=GAP)
    ((kind, text),) = fits.heard
    assert kind is ConvergenceWarning
    assert text.startswith("Objective did not converge")
    fits = both(Lasso(alpha=0, max_iter=2), *scaled())
    assert any("With alpha=0, this algorithm does not converge well" in text for _, text in fits.heard)
    same(fits, leave=GAP)


def test_a_gram_matrix_that_is_given():
    X, y = scaled()
    centred = X - X.mean(axis=0)
    gram = centred.T @ centred
    same(both(Lasso(alpha=0.1, precompute=gram, fit_intercept=False), centred, y), leave=GAP)
    fits = both(Lasso(alpha=0.1, precompute=gram), X, y)
    assert any("Gram matrix was provided but X was centered" in text for _, text in fits.heard)
    same(fits, leave=GAP)
    with pytest.raises(ValueError, match="did not pass validation when a single element was checked"):
        both(Lasso(alpha=0.1, precompute=gram + 1, fit_intercept=False), centred, y)


def test_going_on_from_the_fit_before():
    X, y = scaled()
    over = Distributed(Lasso(alpha=0.1, warm_start=True, tol=1e-9), n_nodes=3).fit(X, y)
    pooled = Lasso(alpha=0.1, warm_start=True, tol=1e-9).fit(X, y)
    assert over.n_iter_ == pooled.n_iter_ > 1
    assert over.fit(X, y).n_iter_ == pooled.fit(X, y).n_iter_ <= 1


def test_single_precision_gives_single_precision():
    X, y = scaled()
    fits = both(Lasso(alpha=0.3), X.astype(np.float32), y.astype(np.float32))
    same(fits, rtol=1e-4, leave=(*GAP, "n_iter_"))
    assert fits.over.dual_gap_.dtype == fits.pooled.dual_gap_.dtype == np.float32


CROSS = [
    LassoCV(alphas=6),
    LassoCV(alphas=[0.1, 1.0, 0.5], fit_intercept=False, cv=3),
    ElasticNetCV(alphas=4, l1_ratio=[0.2, 0.8], cv=4),
    ElasticNetCV(alphas=4, l1_ratio=0.5, cv=4, positive=True, eps=1e-2),
    LassoCV(alphas=4, cv=KFold(3, shuffle=True, random_state=1), selection="random", random_state=2),
    LassoCV(alphas=4, cv=ShuffleSplit(2, train_size=0.5, test_size=0.2, random_state=1)),
    LassoCV(alphas=4, cv=RepeatedKFold(n_splits=2, n_repeats=2, random_state=0), precompute=True),
    LassoCV(alphas=3, cv=TimeSeriesSplit(3), precompute=False),
]


@pytest.mark.parametrize("where", NODES)
@pytest.mark.parametrize("estimator", CROSS, ids=lambda e: f"{type(e).__name__}-{e.cv}")
def test_cross_validation_over_all_kinds_of_nodes(estimator, where):
    X, y = scaled()
    fits = both(estimator, X, y, NODES[where](y))
    same(fits, leave=GAP)
    assert [r.op for r in fits.over.run_] == ["describe.schema", "linear.folds"]


@pytest.mark.parametrize("estimator", CROSS[:4], ids=repr)
def test_cross_validation_with_weights_and_sparse_rows(estimator):
    X, y = scaled()
    w = some_weights(len(y))
    same(both(estimator, X, y, sample_weight=w), leave=GAP)
    same(both(estimator, thinned(X), y, sample_weight=w), leave=GAP)
    same(both(estimator, X, y[:, None]), leave=GAP, warned=False)


@pytest.mark.parametrize(
    "estimator", [MultiTaskLassoCV(alphas=4), MultiTaskElasticNetCV(alphas=3, l1_ratio=[0.3, 0.9], cv=3)], ids=repr
)
def test_cross_validation_of_several_tasks(estimator):
    X, Y = scaled(targets=2)
    same(both(estimator, X, Y), leave=GAP)
    same(both(estimator, X, Y, sample_weight=some_weights(len(Y))), leave=GAP)


def test_folds_that_are_given_as_indices_and_some_rows_that_are_in_none():
    X, y = scaled()
    ids = np.arange(len(y))
    splits = [(ids[10:40], ids[40:60]), (ids[20:70], ids[:10])]
    same(both(LassoCV(alphas=3, cv=splits), X, y), leave=GAP)


def test_a_fold_without_weight_fails_as_in_scikit_learn():
    X, y = scaled()
    w = np.ones(len(y))
    w[:18] = 0
    for fit in (lambda: both(LassoCV(alphas=3), X, y, sample_weight=w), lambda: LassoCV(alphas=3).fit(X, y, w)):
        with pytest.raises(ZeroDivisionError, match="Weights sum to zero"):
            fit()


def test_leaving_one_out_only_where_rows_are_yours():
    X, y = scaled(n=20)
    estimator = LassoCV(alphas=3, cv=LeaveOneOut())
    same(both(Lasso(alpha=0.2), X, y), leave=GAP)
    over, pooled = Distributed(estimator, n_nodes=3).fit(X, y), LassoCV(alphas=3, cv=LeaveOneOut()).fit(X, y)
    np.testing.assert_allclose(over.mse_path_, pooled.mse_path_, rtol=1e-9)
    with pytest.raises(NotAvailable, match="a fold of one row would tell that row"):
        Federated(estimator).fit(Federation.simulate(X, y, n_nodes=3))


def test_splitters_that_cannot_be_held_over_nodes_are_refused_before_any_work():
    X, y = scaled()
    sites = Federation.simulate(X, y, n_nodes=3)
    ids = np.arange(len(y))
    for cv in (StratifiedKFold(3), [(np.r_[ids[:20], ids[:5]], ids[30:])]):
        with pytest.raises(NotAvailable, match="LassoCV over nodes cannot split rows this way"):
            Federated(LassoCV(cv=cv)).fit(sites)
    with pytest.raises(ValueError, match="Cannot have number of splits n_splits=100 greater"):
        Federated(LassoCV(cv=100)).fit(sites)


def test_rows_that_a_view_leaves_out_do_not_shift_folds_silently():
    X, y = scaled()
    settings = {"targets": "numbers", "n_classes": 0, "n_parts": 1, "n_rows": 50}
    payload = {"start": np.zeros((1, 1), int), "part": np.zeros((1, 1), int)}
    with pytest.raises(ValueError, match="rows were left out"):
        operations["linear.folds"].fn(Shard.of("n", X, y), payload, Ctx(0, 0, 0, 0, settings, {}, (0,)))


def test_penalties_are_checked_in_scikit_learns_words():
    X, y = scaled()
    with pytest.raises(ValueError, match=r"alphas\[1\] == -1"):
        Distributed(LassoCV(alphas=[1, -1])).fit(X, y)
    with pytest.raises(ValueError, match="Automatic alpha grid generation is not supported for l1_ratio=0"):
        Distributed(ElasticNetCV(l1_ratio=0)).fit(X, y)
