"""Decompositions over nodes: every parameter and edge against the fit on the pooled rows."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA, FactorAnalysis, TruncatedSVD
from sklearn.exceptions import ConvergenceWarning

from atoll import Distributed, Federated
from cases import label_of
from laws import attributes

NODES = {
    "one node": lambda n: np.zeros(n, dtype=int),
    "sorted": lambda n: np.arange(n) // 20,
    "a node of one row": lambda n: (np.arange(n) == 3).astype(int),
}


def rows(seed=0, n=90, d=6):
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)


def both(estimator, X, node=None):
    """Fitted over nodes, and on the pooled rows."""
    column = np.arange(X.shape[0]) % 3 if node is None else node
    over = Federated(clone(estimator)).fit(X, node=np.array([f"node-{i}" for i in column]))
    return over, clone(estimator).fit(X)


def assert_same(over, pooled, rtol=1e-10, leave=()):
    model = over.estimator_
    assert type(model) is type(pooled)
    assert set(vars(model)) == set(vars(pooled))
    assert model.get_params() == pooled.get_params()
    got, expected = attributes(model), attributes(pooled)
    for name, array in expected.items():
        assert (got[name].shape, got[name].dtype) == (array.shape, array.dtype), name
        if name not in leave:
            scale = np.abs(array).max(initial=0)
            np.testing.assert_allclose(got[name], array, rtol=rtol, atol=rtol * scale, err_msg=name)


@pytest.mark.parametrize("split", NODES.values(), ids=NODES)
@pytest.mark.parametrize("solver", ["auto", "full", "covariance_eigh", "arpack", "randomized"])
def test_every_solver_over_any_nodes(solver, split):
    X = rows()
    over, pooled = both(PCA(n_components=3, svd_solver=solver, random_state=0), X, split(len(X)))
    assert_same(over, pooled)
    assert over.estimator_._fit_svd_solver == pooled._fit_svd_solver
    np.testing.assert_allclose(over.transform(X), pooled.transform(X), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(over.score_samples(X), pooled.score_samples(X), rtol=1e-9)


@pytest.mark.parametrize(
    "settings",
    [
        {"n_components": None},
        {"n_components": 0.8, "svd_solver": "full"},
        {"n_components": 0.8},
        {"n_components": "mle"},
        {"n_components": "mle", "svd_solver": "full", "whiten": True},
        {"n_components": 0},
        {"n_components": 1, "whiten": True},
        {"n_components": 6},
        {"svd_solver": "arpack"},
        {"n_components": 2, "svd_solver": "randomized", "iterated_power": 0, "random_state": 3},
        {"n_components": 2, "svd_solver": "randomized", "power_iteration_normalizer": "QR", "random_state": 3},
        {"n_components": 2, "svd_solver": "randomized", "n_oversamples": 1, "random_state": np.random.RandomState(7)},
    ],
    ids=label_of,
)
def test_parameters_of_pca(settings):
    X = rows(seed=1)
    estimator = PCA(**settings)
    over, pooled = both(estimator, X)
    model = over.estimator_
    assert type(model.n_components_) is type(pooled.n_components_)
    assert type(model.noise_variance_) is type(pooled.noise_variance_)
    for name, array in attributes(pooled).items():
        np.testing.assert_allclose(getattr(model, name), array, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    "settings",
    [
        {"n_components": 7, "svd_solver": "full"},
        {"n_components": 7},
        {"n_components": 7, "svd_solver": "covariance_eigh"},
        {"n_components": 6, "svd_solver": "arpack"},
        {"n_components": 7, "svd_solver": "arpack"},
        {"n_components": 0, "svd_solver": "randomized"},
        {"n_components": 0.5, "svd_solver": "randomized"},
        {"n_components": "mle", "svd_solver": "arpack"},
    ],
    ids=label_of,
)
def test_what_scikit_learn_refuses_is_refused_in_its_words(settings):
    X = rows()
    with pytest.raises(ValueError, match="n_components") as pooled:
        PCA(**settings).fit(X)
    with pytest.raises(ValueError, match="n_components") as over:
        Distributed(PCA(**settings)).fit(X)
    assert str(over.value) == str(pooled.value)


def test_maximum_likelihood_needs_as_many_rows_as_columns():
    X = rows(n=5)
    for fit in (PCA("mle", svd_solver="full").fit, Distributed(PCA("mle", svd_solver="full"), n_nodes=2).fit):
        with pytest.raises(ValueError, match="only supported if n_samples >= n_features"):
            fit(X)


@pytest.mark.parametrize("solver", ["full", "arpack", "randomized"])
def test_fewer_rows_than_columns(solver):
    X = rows(seed=2, n=9, d=14)
    over, pooled = both(PCA(n_components=4, svd_solver=solver, n_oversamples=9, random_state=0), X)
    assert_same(over, pooled, rtol=1e-8)


def test_all_components_where_rows_are_few():
    """The last direction has no spread, so it is nobody's; its variance is zero."""
    X = rows(seed=2, n=9, d=14)
    over, pooled = both(PCA(svd_solver="full"), X)
    assert over.components_.shape == pooled.components_.shape
    np.testing.assert_allclose(over.components_[:-1], pooled.components_[:-1], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(over.explained_variance_, pooled.explained_variance_, rtol=1e-9, atol=1e-12)
    wide, wide_pooled = both(PCA(svd_solver="covariance_eigh"), X)
    assert wide.components_.shape == wide_pooled.components_.shape
    np.testing.assert_allclose(wide.explained_variance_, wide_pooled.explained_variance_, rtol=1e-9, atol=1e-12)


def test_a_mean_far_from_zero_costs_no_digits():
    X = rows(seed=3, n=600, d=5) + 1e8
    over, pooled = both(PCA(3, svd_solver="full"), X, np.arange(600) // 100)
    assert_same(over, pooled, rtol=1e-7)
    near = PCA(3, svd_solver="full").fit(X - 1e8)
    np.testing.assert_allclose(over.explained_variance_, near.explained_variance_, rtol=1e-7)


def test_constant_and_repeated_columns():
    X = rows(seed=4)
    X = np.column_stack([np.full(len(X), 0.1), X[:, :3], X[:, 0], np.full(len(X), 1e9)])
    over, pooled = both(PCA(3, svd_solver="full"), X)
    assert_same(over, pooled, rtol=1e-9, leave=("noise_variance_",))
    assert over.noise_variance_ < 1e-20
    assert (Distributed(PCA(svd_solver="full")).fit(X).explained_variance_[3:] < 1e-20).all()


def test_rows_that_are_all_alike():
    X = np.full((20, 3), 7.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        over, pooled = both(PCA(), X)
    assert (over.explained_variance_ == pooled.explained_variance_).all()
    assert np.isnan(over.explained_variance_ratio_).all() == np.isnan(pooled.explained_variance_ratio_).all()


def test_a_row_alone_warns_as_scikit_learn_does():
    X = np.ones((1, 3))
    with pytest.warns(RuntimeWarning, match="invalid value"):
        PCA(svd_solver="full").fit(X)
    with pytest.warns(RuntimeWarning, match="invalid value"):
        over = Distributed(PCA(svd_solver="full"), n_nodes=1).fit(X)
    assert np.isnan(over.explained_variance_).all()


@pytest.mark.parametrize("kind", [PCA, TruncatedSVD, FactorAnalysis])
def test_single_precision_is_summed_in_double(kind):
    X = load_iris().data.astype(np.float32)
    over, pooled = both(kind(n_components=2, random_state=0), X)
    double = clone(pooled).fit(X.astype(np.float64))
    for name, array in attributes(pooled).items():
        got = attributes(over.estimator_)[name]
        assert got.dtype == array.dtype, name
        np.testing.assert_allclose(got, attributes(double)[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    "estimator",
    [
        PCA(4, random_state=0),
        PCA(4, svd_solver="covariance_eigh"),
        PCA(4, svd_solver="arpack", whiten=True, random_state=0),
        TruncatedSVD(4, random_state=0),
        TruncatedSVD(4, algorithm="arpack", random_state=0),
    ],
    ids=label_of,
)
def test_sparse_rows(estimator):
    X = sp.random(120, 15, 0.2, format="csr", random_state=0)
    over, pooled = both(estimator, X)
    assert_same(over, pooled, rtol=1e-9)
    np.testing.assert_allclose(over.transform(X), pooled.transform(X), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("solver", ["full", "randomized"])
def test_solvers_that_take_no_sparse_rows_say_so(solver):
    X = sp.random(30, 5, 0.5, format="csr", random_state=0)
    with pytest.raises(TypeError, match=r"[sS]parse"):
        Distributed(PCA(2, svd_solver=solver)).fit(X)


@pytest.mark.parametrize("split", NODES.values(), ids=NODES)
@pytest.mark.parametrize(
    "settings",
    [
        {"n_components": 2},
        {"n_components": 3, "n_iter": 0, "n_oversamples": 2},
        {"n_components": 3, "algorithm": "arpack"},
        {"n_components": 6},
    ],
    ids=label_of,
)
def test_truncated_svd(settings, split):
    X = rows(seed=5)
    over, pooled = both(TruncatedSVD(**settings, random_state=1), X, split(len(X)))
    assert_same(over, pooled)
    np.testing.assert_allclose(over.transform(X), pooled.transform(X), rtol=1e-9, atol=1e-10)
    assert over.run_.rounds == 2


def test_truncated_svd_refuses_as_scikit_learn_does():
    X = rows()
    for settings in ({"n_components": 7}, {"n_components": 6, "algorithm": "arpack"}):
        with pytest.raises(ValueError, match=r"n_components|`k`") as pooled:
            TruncatedSVD(**settings).fit(X)
        with pytest.raises(ValueError, match=r"n_components|`k`") as over:
            Distributed(TruncatedSVD(**settings)).fit(X)
        assert str(over.value) == str(pooled.value)
    with pytest.raises(ValueError, match="minimum of 2 is required by TruncatedSVD"):
        Distributed(TruncatedSVD(1)).fit(X[:, :1])


@pytest.mark.parametrize("split", NODES.values(), ids=NODES)
@pytest.mark.parametrize(
    "settings",
    [
        {"n_components": 2},
        {"n_components": 2, "rotation": "varimax", "tol": 1e-4},
        {"n_components": 3, "rotation": "quartimax", "random_state": 5},
        {"n_components": 2, "noise_variance_init": np.linspace(0.5, 2, 6), "iterated_power": 5},
        {"n_components": 1, "copy": False},
    ],
    ids=label_of,
)
def test_factor_analysis(settings, split):
    X = rows(seed=6)
    over, pooled = both(FactorAnalysis(**settings), X.copy(), split(len(X)))
    pooled = FactorAnalysis(**settings).fit(X.copy())
    for name, array in attributes(pooled).items():
        np.testing.assert_allclose(attributes(over.estimator_)[name], array, rtol=1e-8, atol=1e-9, err_msg=name)
    assert over.n_iter_ == pooled.n_iter_
    assert over.estimator_.tol == pooled.tol
    assert over.estimator_.rotation == pooled.rotation
    np.testing.assert_allclose(over.transform(X), pooled.transform(X), rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(over.get_covariance(), pooled.get_covariance(), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("max_iter", [1, 2, 5])
def test_factors_that_did_not_converge_warn_and_keep_their_signs(max_iter):
    X = load_digits().data
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        over, pooled = both(FactorAnalysis(4, max_iter=max_iter, tol=1e-12), X)
    np.testing.assert_allclose(over.components_, pooled.components_, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(over.noise_variance_, pooled.noise_variance_, rtol=1e-9)


@pytest.mark.parametrize("n_components", [None, 2])
def test_factors_by_lapack_have_any_sign(n_components):
    X = rows(seed=7)
    over, pooled = both(FactorAnalysis(n_components, svd_method="lapack"), X)
    assert_same(over, pooled, rtol=1e-8, leave=("components_",))
    np.testing.assert_allclose(np.abs(over.components_), np.abs(pooled.components_), rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(over.score(X), pooled.score(X), rtol=1e-9)


def test_factor_analysis_refuses_as_scikit_learn_does():
    with pytest.raises(ValueError, match="noise_variance_init dimension does not with number of features"):
        Distributed(FactorAnalysis(2, noise_variance_init=np.ones(3))).fit(rows())


@pytest.mark.parametrize(
    "estimator",
    [
        PCA(3, svd_solver="randomized", random_state=0),
        PCA(3, svd_solver="randomized", iterated_power=2, whiten=True, random_state=0),
        PCA(3, svd_solver="arpack", random_state=0),
        TruncatedSVD(3, random_state=0),
        TruncatedSVD(3, n_iter=0, random_state=0),
        TruncatedSVD(3, algorithm="arpack", random_state=0),
    ],
    ids=label_of,
)
@pytest.mark.parametrize("make", [np.asarray, sp.csr_matrix])
def test_wide_rows_by_rounds(estimator, make, monkeypatch):
    """As from the triangle, and as on pooled rows: with the same draws, where there are as many rows as columns."""
    X = make(sp.random(150, 40, 0.3, random_state=0).toarray())
    if sp.issparse(X) and getattr(estimator, "svd_solver", "") == "randomized":
        pytest.skip("takes no sparse rows")
    pooled = clone(estimator).fit(X)
    monkeypatch.setattr("atoll.recipes.subspace._WIDE", 30)
    over, _ = both(estimator, X)
    assert_same(over, pooled, rtol=1e-8)
    assert "decomposition.triangle" not in {row.op for row in over.run_}
    assert max(row.bytes_up for row in over.run_) < 3 * 8 * 41 * 41


def test_wide_rows_fewer_than_columns(monkeypatch):
    X = sp.random(60, 300, 0.2, format="csr", random_state=1)
    monkeypatch.setattr("atoll.recipes.subspace._WIDE", 200)
    over, pooled = both(TruncatedSVD(4, algorithm="arpack", random_state=0), X)
    assert_same(over, pooled, rtol=1e-7)
    over, pooled = both(TruncatedSVD(4, n_iter=30, random_state=0), X)
    assert_same(over, pooled, rtol=1e-3)
    with pytest.raises(ValueError, match="`k` must be an integer satisfying"):
        Distributed(TruncatedSVD(60, algorithm="arpack")).fit(X)


def test_nothing_that_leaves_a_node_grows_with_its_rows():
    bytes_up = [Distributed(PCA(2), n_nodes=4).fit(rows(n=n)).run_.rows[-1].bytes_up for n in (90, 9000)]
    assert bytes_up[0] == bytes_up[1] == 4 * 8 * (7 * 7 + 6)


def test_without_a_seed_a_fit_can_be_repeated():
    X = load_digits().data
    a, b = (Distributed(PCA(3, svd_solver="randomized")).fit(X) for _ in range(2))
    assert (a.components_ == b.components_).all()
    assert a.estimator_.random_state is None
