"""Power transforms over nodes: exponents as likely as those of scipy's search on the pooled rows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats
from sklearn.preprocessing import PowerTransformer

from atoll import Distributed, Federated
from atoll.recipes.power import together
from recipes.pooled import places, same_as_pooled, told

SEED = 11
N = 80
LIKELIHOOD = {"yeo-johnson": stats.yeojohnson_llf, "box-cox": stats.boxcox_llf}


def positive(dtype=np.float64):
    """Skewed columns, of sizes from 1e-6 to 1e6, and one that needs no transform."""
    rng = np.random.default_rng(SEED)
    X = np.column_stack(
        [rng.lognormal(size=N), rng.gamma(0.5, size=N) * 1e6, rng.beta(8, 1, N) * 1e-6, rng.normal(20, 1, N)]
    )
    return X.astype(dtype)


def mixed(dtype=np.float64):
    """Both signs, negative only, and of one sign apart from a few."""
    rng = np.random.default_rng(SEED)
    X = np.column_stack([rng.normal(size=N) ** 3, -rng.lognormal(size=N), rng.lognormal(size=N) - 0.1])
    return X.astype(dtype)


DATA = [("box-cox", positive), ("yeo-johnson", positive), ("yeo-johnson", mixed)]


@pytest.mark.parametrize(("method", "data"), DATA)
@pytest.mark.parametrize("standardize", [True, False])
def test_close_to_the_pooled_fit(method, data, standardize):
    """Of every attribute, also those of the scaler within; exponents to 1e-6, as far as a likelihood settles them."""
    X = data()
    fitted = same_as_pooled(PowerTransformer(method=method, standardize=standardize), X, rtol=1e-5)
    assert hasattr(fitted, "_scaler") == standardize
    for name, federation in places(X).items():
        over = Federated(PowerTransformer(method=method, standardize=standardize)).fit(federation)
        np.testing.assert_allclose(over.transform(X), fitted.transform(X), rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(("method", "data"), DATA)
def test_no_less_likely_than_scipys(method, data):
    X, likelihood = data(), LIKELIHOOD[method]
    pooled = PowerTransformer(method=method).fit(X).lambdas_
    for name, federation in places(X).items():
        over = Federated(PowerTransformer(method=method)).fit(federation)
        for j in range(X.shape[1]):
            best = likelihood(pooled[j], X[:, j])
            assert likelihood(over.lambdas_[j], X[:, j]) >= best - 1e-13 * abs(best), (name, j)


@pytest.mark.parametrize(("method", "data"), DATA)
def test_missing_values_are_left_out(method, data):
    X = data()
    X[np.random.default_rng(SEED).random(X.shape) < 0.2] = np.nan
    same_as_pooled(PowerTransformer(method=method), X, rtol=1e-5)


@pytest.mark.parametrize(("method", "data"), DATA)
def test_single_precision(method, data):
    """Statistics are taken in double precision, so exponents are better settled than scikit-learn's."""
    X = np.delete(data(np.float32), 2, axis=1)  # whose exponent is at the bound that single precision sets
    single, _ = told(lambda: PowerTransformer(method=method).fit(X))
    double = PowerTransformer(method=method).fit(X.astype(np.float64))
    over = Distributed(PowerTransformer(method=method)).fit(X)
    assert over.lambdas_.dtype == single.lambdas_.dtype == np.float32
    np.testing.assert_allclose(over.lambdas_, double.lambdas_, rtol=1e-5)
    assert over._model._scaler.mean_.dtype == single._scaler.mean_.dtype


def test_constant_columns_are_left_as_they_are():
    X = np.column_stack([positive()[:, 0], np.full(N, 7.3), np.zeros(N)])
    fitted = same_as_pooled(PowerTransformer(), X, rtol=1e-5)
    assert fitted.lambdas_[1:].tolist() == [1, 1]


def test_what_scikit_learn_refuses():
    X = positive()
    for bad in (mixed(), np.zeros((N, 2)), np.column_stack([X, np.full(N, 2.0)])):
        assert isinstance(same_as_pooled(PowerTransformer(method="box-cox"), bad), ValueError)
    empty = np.column_stack([X, np.full(N, np.nan)])
    assert isinstance(same_as_pooled(PowerTransformer(method="box-cox"), empty), ValueError)
    with pytest.raises(ValueError, match="Column must not be all nan"):  # pooled: "not enough values to unpack"
        Distributed(PowerTransformer()).fit(empty)


def test_an_exponent_that_would_overflow_is_limited_as_by_scipy():
    X = np.array([[2003.0], [1950.0], [1997.0], [2000.0], [2009.0]])
    estimator = PowerTransformer(method="box-cox", standardize=False)
    fitted = same_as_pooled(estimator, X, rtol=1e-6, quiet=True)
    assert np.isfinite(fitted.transform(X)).all()
    with pytest.warns(UserWarning, match="returned lambda is the constrained optimum"):
        Distributed(estimator).fit(X)
    same_as_pooled(estimator, np.array([[1e200], [1.0000001e200], [1.1e200], [0.9e200]]), rtol=1e-4, quiet=True)


def test_all_columns_share_the_rounds_of_the_slowest():
    X = positive()
    alone = [Distributed(PowerTransformer()).fit(X[:, [j]]).run_.rounds for j in range(X.shape[1])]
    assert Distributed(PowerTransformer()).fit(X).run_.rounds < sum(alone) / 2


def test_searches_side_by_side_find_what_they_find_alone():
    seen = []

    def ask(points):
        seen.append(points)
        return (points - np.array([0.3, -2.0, 5.0])) ** 2 + np.cos(points)

    def alone(i):
        return lambda loss: optimize.brent(loss, brack=(-1.0, 1.0)) if i else optimize.fminbound(loss, -1, 1)

    found = together([alone(i) for i in range(3)], ask)
    for i, centre in enumerate((0.3, -2.0, 5.0)):
        assert found[i] == alone(i)(lambda x, c=centre: (x - c) ** 2 + np.cos(x))
    assert not np.isnan(seen[0]).any()
    assert np.isnan(seen[-1]).any()
    assert together([], ask).tolist() == []
