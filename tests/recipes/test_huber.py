"""HuberRegressor over nodes against the fit on the pooled rows."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.linear_model import HuberRegressor

from atoll import Distributed, Federated
from atoll.errors import NotAvailable
from recipes.fitting import NODES, both, close, same_state


def rows(seed=0, n=100, d=4):
    """A tenth of the targets lies far off; a fifth of the weights is zero."""
    print("seed", seed)
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    y = X @ rng.normal(size=d) + 3 + rng.normal(size=n) * 0.3
    y[rng.random(n) < 0.1] += 20
    return X, y, rng.random(n) * (rng.random(n) > 0.2)


@pytest.mark.parametrize("nodes", NODES)
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("settings", [{}, {"epsilon": 1.0, "alpha": 1.0}, {"epsilon": 3.0}, {"max_iter": 4}], ids=str)
def test_scikit_learns_own_solver_takes_the_same_steps(settings, fit_intercept, nodes):
    X, y, w = rows()
    for weight in (None, w):
        fits = both(HuberRegressor(fit_intercept=fit_intercept, **settings), X, y, NODES[nodes](y), weight)
        close(fits, 1e-9)
        same_state(fits, leave=("outliers_",))
        assert fits.over.scale_ == pytest.approx(fits.pooled.scale_, rel=1e-9)
        assert fits.over.n_iter_ == fits.pooled.n_iter_
        assert fits.heard == fits.said


def test_sparse_rows_and_single_precision():
    X, y, w = rows()
    X = X * (np.abs(X) > 0.3)
    close(both(HuberRegressor(), sp.csr_matrix(X), y, None, w))
    fits = both(HuberRegressor(), X.astype(np.float32), y.astype(np.float32), None, w)
    close(fits, 1e-5)
    same_state(fits, leave=("outliers_",))


def test_outliers_are_told_where_the_rows_are_yours():
    X, y, w = rows()
    pooled = HuberRegressor().fit(X, y, sample_weight=w)
    mine = Distributed(HuberRegressor(), n_nodes=3).fit(X, y, sample_weight=w)
    assert (mine.outliers_ == pooled.outliers_).all()
    assert (mine.estimator_.outliers_ == pooled.outliers_).all()
    with pytest.raises(NotAvailable, match="outliers_"):
        _ = Federated(HuberRegressor()).fit(X, y).outliers_


def test_no_iterations_and_a_scale_at_its_bound():
    X, y, _ = rows()
    fits = both(HuberRegressor(max_iter=0), X, y)
    close(fits)
    assert fits.heard == fits.said
    exact = both(HuberRegressor(max_iter=500), X, X @ np.ones(4))
    np.testing.assert_allclose(exact.over.coef_, exact.pooled.coef_, atol=1e-6)


def test_a_warm_start_goes_on_from_the_last_fit():
    X, y, _ = rows()
    over, pooled = Federated(HuberRegressor(warm_start=True)), HuberRegressor(warm_start=True)
    for _ in range(2):
        over.fit(X, y, node=np.arange(len(y)) % 3)
        pooled.fit(X, y)
    assert over.n_iter_ == pooled.n_iter_
    np.testing.assert_allclose(over.coef_, pooled.coef_, rtol=1e-9)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_columns_that_cannot_be_reached_are_refused_in_scikit_learns_words():
    X, y, _ = rows()
    X = X * 1e150
    with pytest.raises(ValueError, match="HuberRegressor convergence failed") as expected:
        HuberRegressor().fit(X, y)
    with pytest.raises(ValueError, match="HuberRegressor convergence failed") as got:
        Federated(HuberRegressor()).fit(X, y)
    assert str(got.value) == str(expected.value)


def test_bytes_that_leave_a_node_depend_on_columns_alone():
    X, y, _ = rows()
    over = Federated(HuberRegressor()).fit(X, y, node=np.arange(len(y)) % 3)
    assert {row.bytes_up // 3 for row in over.run_ if row.op == "losses.huber"} == {8 * (1 + 6)}
