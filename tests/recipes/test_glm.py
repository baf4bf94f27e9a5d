"""Poisson, gamma and Tweedie regression over nodes against the fit on the pooled rows."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn._loss.loss import HalfPoissonLoss
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import GammaRegressor, PoissonRegressor, TweedieRegressor

from atoll import Federated
from atoll.operations.losses import loss_settings, packed, unpacked
from recipes.fitting import NODES, both, close, same_state

SOLVERS = ["lbfgs", "newton-cholesky"]
POWERS = [(-1, "auto"), (0, "auto"), (0, "log"), (1, "auto"), (1.5, "auto"), (1.5, "identity"), (2, "auto"), (3, "log")]
EVERY = [PoissonRegressor(), GammaRegressor(), *(TweedieRegressor(power=p, link=link) for p, link in POWERS)]


def rows(seed=0, n=90, d=4):
    """Positive targets that grow with the rows; a fifth of the weights is zero."""
    print("seed", seed)
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * 0.3
    y = rng.poisson(np.exp(X @ rng.normal(size=d) + 2)) + 1.0
    return X, y, rng.random(n) * (rng.random(n) > 0.2)


@pytest.mark.parametrize("nodes", ["sorted by label", "a node of one row"])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("estimator", EVERY, ids=str)
def test_scikit_learns_own_solvers_take_the_same_steps(estimator, solver, nodes):
    X, y, w = rows()
    for settings, weight in [({"tol": 1e-6}, None), ({"alpha": 0.1, "tol": 1e-6}, w)]:
        fits = both(estimator.set_params(solver=solver, max_iter=300, **settings), X, y, NODES[nodes](y), weight)
        close(fits, 1e-9)
        same_state(fits)
        assert fits.over.n_iter_ == fits.pooled.n_iter_
        assert fits.heard == [w for w in fits.said if w[0] is not RuntimeWarning]
        assert fits.over.score(X, y) == pytest.approx(fits.pooled.score(X, y), rel=1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("estimator", [PoissonRegressor(), GammaRegressor(), TweedieRegressor(power=1.5)], ids=str)
def test_no_penalty_and_no_intercept(estimator, solver):
    X, y, w = rows()
    for settings in ({"alpha": 0.0}, {"fit_intercept": False, "alpha": 0.01}):
        fits = both(estimator.set_params(solver=solver, tol=1e-8, max_iter=500, **settings), X, y, None, w)
        close(fits, 1e-8)
        assert fits.over.n_iter_ == fits.pooled.n_iter_
    assert fits.over.intercept_ == 0.0


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("estimator", EVERY, ids=str)
def test_newtons_method_by_name(estimator):
    X, y, w = rows()
    if getattr(estimator, "link", "auto") == "identity":
        y = y + 30.0
    fits = both(estimator.set_params(solver="lbfgs", tol=1e-10, max_iter=100), X, y, None, w, method="newton")
    optimum = type(estimator)(**{**estimator.get_params(), "solver": "newton-cholesky"}).fit(X, y, sample_weight=w)
    np.testing.assert_allclose(fits.over.coef_, optimum.coef_, rtol=1e-8, atol=1e-10)
    assert fits.over.n_iter_ == optimum.n_iter_
    assert {row.op for row in fits.over.run_} <= {
        "describe.schema", "losses.targets", "losses.curvature", "losses.gradient"
    }  # fmt: skip


@pytest.mark.parametrize("solver", SOLVERS)
def test_sparse_rows_and_single_precision(solver):
    X, y, w = rows()
    X = X * (np.abs(X) > 0.1)
    estimator = PoissonRegressor(solver=solver, tol=1e-8)
    close(both(estimator, sp.csr_matrix(X), y, None, w))
    fits = both(estimator.set_params(tol=1e-4), X.astype(np.float32), y, None, w)
    close(fits, 1e-3)
    same_state(fits)
    assert fits.over.coef_.dtype == np.float32


@pytest.mark.parametrize(
    ("estimator", "wrong"),
    [(PoissonRegressor(), -1.0), (GammaRegressor(), 0.0), (TweedieRegressor(power=3), 0.0),
     (TweedieRegressor(power=1.5), -0.5)],
    ids=str,
)  # fmt: skip
def test_targets_without_meaning_are_refused_in_scikit_learns_words(estimator, wrong):
    X, y, _ = rows()
    y[5] = wrong
    with pytest.raises(ValueError) as expected:  # noqa: PT011
        estimator.fit(X, y)
    with pytest.raises(ValueError) as got:  # noqa: PT011
        Federated(estimator).fit(X, y, node=np.arange(len(y)) % 3)
    assert str(got.value) == str(expected.value)


@pytest.mark.parametrize("solver", SOLVERS)
def test_too_few_iterations(solver):
    X, y, w = rows()
    fits = both(PoissonRegressor(solver=solver, max_iter=1, tol=1e-12), X, y, None, w)
    close(fits, 1e-10)
    assert [c for c, _ in fits.heard] == [ConvergenceWarning]
    assert fits.heard == fits.said


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_step_that_goes_too_far_for_a_double_is_taken_back(solver):
    X, y, _ = rows()
    fits = both(PoissonRegressor(solver=solver, alpha=0.0, fit_intercept=False, max_iter=200), X * 400, y)
    assert any(np.isinf(np.exp(800 * X).sum(axis=1)))
    close(fits, 1e-3)


def test_a_singular_hessian_is_met_as_newton_cholesky_meets_it():
    X, y, _ = rows()
    X = np.concatenate([X, X[:, :1]], axis=1)
    fits = both(PoissonRegressor(solver="newton-cholesky", alpha=0.0), X, y)
    assert [c for c, _ in fits.heard] == [c for c, _ in fits.said]
    assert "resort to lbfgs" in fits.heard[0][1]
    np.testing.assert_allclose(fits.over.predict(X), fits.pooled.predict(X), rtol=1e-3)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_warm_start_goes_on_from_the_last_fit(solver):
    X, y, _ = rows()
    over = Federated(PoissonRegressor(solver=solver, warm_start=True, tol=1e-8))
    pooled = PoissonRegressor(solver=solver, warm_start=True, tol=1e-8)
    for _ in range(2):
        over.fit(X, y, node=np.arange(len(y)) % 3)
        pooled.fit(X, y)
    assert over.n_iter_ == pooled.n_iter_ <= 1


def test_whole_number_targets():
    X, y, _ = rows()
    close(both(PoissonRegressor(tol=1e-8), X, y.astype(np.int64)))


def test_a_column_that_is_constant():
    X, y, w = rows()
    X[:, 0] = 3.0
    close(both(GammaRegressor(tol=1e-8, solver="newton-cholesky"), X, y, None, w))


def test_a_symmetric_matrix_is_packed_and_unpacked():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(5, 5))
    matrix = matrix + matrix.T
    assert packed(matrix).shape == (15,)
    assert (unpacked(packed(matrix), 5) == matrix).all()


def test_losses_as_settings():
    assert loss_settings(HalfPoissonLoss()) == {"loss": "HalfPoissonLoss"}
    assert loss_settings(TweedieRegressor(power=1.7)._get_loss()) == {"loss": "HalfTweedieLoss", "power": 1.7}
