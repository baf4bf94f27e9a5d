"""Mixtures of Gaussians over nodes: every start, form and prior against the fit on the pooled rows."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

from atoll import Distributed, Federated
from cases import data
from laws import attributes

FORMS = ["full", "tied", "diag", "spherical"]
STARTS = ["kmeans", "k-means++", "random_from_data", "random"]
NODES = {
    "one node": lambda n: np.zeros(n, dtype=int),
    "sorted": lambda n: np.arange(n) * 4 // n,
    "a node of one row": lambda n: (np.arange(n) == 3).astype(int),
}


def clusters(seed=0, n=120, d=3, at=0.0):
    """Three clusters, a third of the rows each, in the order of the clusters."""
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(3, d)) * 6
    return np.repeat(centers, n // 3, axis=0) + rng.normal(size=(n, d)) * rng.uniform(0.5, 1.5, size=d) + at


def both(estimator, X, node=None):
    """Fitted over nodes, and on the pooled rows; warnings of convergence are compared."""
    node = np.arange(len(X)) % 3 if node is None else node
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        over = Federated(clone(estimator)).fit(X, node=np.array([f"node-{i}" for i in node]))
    with warnings.catch_warnings(record=True) as expected:
        warnings.simplefilter("always")
        pooled = clone(estimator).fit(X)
    assert [(w.category, str(w.message)) for w in told] == [(w.category, str(w.message)) for w in expected]
    return over, pooled


def assert_same(over, pooled, rtol=1e-9, atol=1e-11):
    got, expected = attributes(over.estimator_), attributes(pooled)
    assert vars(over.estimator_).keys() == vars(pooled).keys()
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert (got[name].shape, got[name].dtype) == (array.shape, array.dtype), name
        np.testing.assert_allclose(got[name], array, rtol=rtol, atol=atol, err_msg=name)
    assert type(over.lower_bound_) is type(pooled.lower_bound_)


@pytest.mark.parametrize("split", NODES.values(), ids=NODES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", [GaussianMixture, BayesianGaussianMixture])
def test_pooled_over_any_nodes(kind, form, split):
    X = clusters()
    over, pooled = both(kind(n_components=3, covariance_type=form, random_state=0, tol=1e-4), X, split(len(X)))
    assert_same(over, pooled)
    assert (over.predict(X) == pooled.predict(X)).all()
    assert over.score(X) == pytest.approx(pooled.score(X))


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("form", FORMS)
def test_every_start_draws_what_scikit_learn_draws(form, start):
    X, kind = clusters(1), GaussianMixture if form in ("full", "spherical") else BayesianGaussianMixture
    mixture = kind(n_components=2, covariance_type=form, init_params=start, n_init=3, random_state=4, max_iter=20)
    assert_same(*both(mixture, X), rtol=1e-7)


def test_draws_of_float32_rows():
    X = clusters(2).astype(np.float32)
    over, pooled = both(GaussianMixture(3, init_params="random", random_state=1, max_iter=5, tol=0), X)
    assert_same(over, pooled, rtol=1e-3, atol=1e-3)
    assert over.means_.dtype == np.float32


@pytest.mark.parametrize("form", FORMS)
def test_float32(form):
    X = clusters(2).astype(np.float32)
    for kind in (GaussianMixture, BayesianGaussianMixture):
        assert_same(*both(kind(n_components=3, covariance_type=form, random_state=1, max_iter=4, tol=0), X), 1e-3, 1e-3)


GIVEN = {
    "full": np.stack([np.eye(3) * (k + 1) for k in range(3)]),
    "tied": np.eye(3) * 2.0,
    "diag": np.ones((3, 3)) * [[1.0], [2.0], [3.0]],
    "spherical": np.array([1.0, 2.0, 3.0]),
}


@pytest.mark.parametrize("given", [("weights",), ("means",), ("precisions",), ("weights", "means", "precisions")])
@pytest.mark.parametrize("form", FORMS)
def test_a_start_that_is_given(form, given):
    X = clusters()
    values = {"weights": [0.2, 0.3, 0.5], "means": X[[0, 50, 100]], "precisions": GIVEN[form]}
    settings = {f"{name}_init": values[name] for name in given}
    mixture = GaussianMixture(3, covariance_type=form, random_state=0, **settings)
    over, pooled = both(mixture, X)
    for name in given:  # which scikit-learn turns into arrays
        np.testing.assert_array_equal(vars(over.estimator_)[f"{name}_init"], vars(pooled)[f"{name}_init"])
    assert_same(over, pooled)
    if len(given) == 3:
        assert all(row.op in ("describe.schema", "statistics.sums", "mixtures.assigned", "mixtures.expect")
                   for row in over.run_)  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("weights", ["dirichlet_process", "dirichlet_distribution"])
def test_priors(form, weights):
    X = clusters(3)
    spread = {"full": np.cov(X.T) * 2, "tied": np.cov(X.T) * 2, "diag": X.var(axis=0) * 2, "spherical": 2.0}[form]
    mixture = BayesianGaussianMixture(
        n_components=5, covariance_type=form, weight_concentration_prior_type=weights, weight_concentration_prior=0.01,
        mean_precision_prior=0.5, mean_prior=[1.0, 2.0, 3.0], degrees_of_freedom_prior=4.5, covariance_prior=spread,
        random_state=1, max_iter=50,
    )  # fmt: skip
    assert_same(*both(mixture, X), rtol=1e-6)


def test_components_that_die_out():
    X = clusters(4)
    mixture = BayesianGaussianMixture(
        n_components=12, covariance_type="diag", weight_concentration_prior=1e-6, random_state=0, max_iter=300
    )
    over, pooled = both(mixture, X)
    assert (pooled.weights_ < 1e-2).sum() == 9
    assert_same(over, pooled, rtol=1e-5, atol=1e-7)


def test_not_converged():
    with pytest.warns(ConvergenceWarning, match="Best performing initialization did not converge"):
        Distributed(GaussianMixture(3, max_iter=1, random_state=0)).fit(clusters())


def test_no_iterations():
    X = clusters()
    over, pooled = both(GaussianMixture(3, max_iter=0, random_state=0), X)
    assert_same(over, pooled)
    assert (over.n_iter_, over.converged_, over.lower_bounds_) == (0, False, [])


def test_warm_start_goes_on():
    X, whole = clusters(5), GaussianMixture(3, random_state=0, init_params="random", tol=1e-9, max_iter=4)
    over, pooled = Distributed(clone(whole).set_params(warm_start=True)), clone(whole).set_params(warm_start=True)
    for _ in range(3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            over.fit(X)
            pooled.fit(X)
    assert_same(over, pooled)
    assert {row.op for row in over.run_} == {"describe.schema", "statistics.sums", "mixtures.expect"}


def test_far_from_zero():
    """Where scikit-learn's raw moments would have lost every digit, the fit is that of the rows moved to zero."""
    X = np.round(clusters(6) * 2**10) / 2**10
    near = {"random_state": 0, "covariance_type": "diag", "init_params": "random"}
    expected = Distributed(GaussianMixture(3, **near)).fit(X)
    got = Distributed(GaussianMixture(3, **near)).fit(X + 2.0**20)
    assert got.n_iter_ == expected.n_iter_
    np.testing.assert_allclose(got.means_ - 2.0**20, expected.means_, atol=1e-6)
    np.testing.assert_allclose(got.covariances_, expected.covariances_, rtol=1e-3)


def test_constant_feature():
    X = clusters()
    X[:, 1] = 0.1
    for form in FORMS:
        assert_same(*both(GaussianMixture(3, covariance_type=form, random_state=0), X), atol=1e-9)


@pytest.mark.parametrize(
    ("mixture", "n"),
    [
        (GaussianMixture(5), 4),
        (GaussianMixture(1), 1),
        (BayesianGaussianMixture(n_components=5), 4),
        (GaussianMixture(2, means_init=np.zeros((2, 7))), 20),
        (GaussianMixture(2, weights_init=[0.5, 0.6]), 20),
        (GaussianMixture(2, covariance_type="diag", precisions_init=-np.ones((2, 3))), 20),
        (BayesianGaussianMixture(degrees_of_freedom_prior=1.0), 20),
        (BayesianGaussianMixture(mean_prior=[0.0]), 20),
        (GaussianMixture(3, reg_covar=0, init_params="random_from_data", random_state=0), 20),
    ],
)
def test_refused_in_the_same_words(mixture, n):
    X = clusters()[:n]
    with pytest.raises(ValueError) as expected:  # noqa: PT011
        clone(mixture).fit(X)
    with pytest.raises(ValueError) as got:  # noqa: PT011
        Distributed(mixture, n_nodes=1).fit(X)
    assert str(got.value).replace("Distributed", type(mixture).__name__) == str(expected.value)


def test_without_a_seed_a_run_can_be_repeated():
    X = clusters()
    one, two = (Distributed(GaussianMixture(3, init_params="random", max_iter=3, tol=10)).fit(X) for _ in range(2))
    other = Distributed(GaussianMixture(3, init_params="random", max_iter=3, tol=10), random_state=1).fit(X)
    assert one.means_.tobytes() == two.means_.tobytes() != other.means_.tobytes()
    assert one.estimator_.random_state is None


def test_bytes_do_not_grow_with_rows():
    few, many = clusters(n=60), clusters(n=6000)
    mixture = GaussianMixture(3, init_params="random", random_state=0, max_iter=2, tol=10)
    sent = [max(row.bytes_up for row in Distributed(mixture).fit(X).run_) for X in (few, many)]
    assert sent[0] == sent[1]


def test_sums_of_rows_that_start_in_no_component():
    """The tied covariance then holds the spread of all rows about zero, as in scikit-learn."""
    X = data("iris")[0]
    mixture = GaussianMixture(2, covariance_type="tied", init_params="random_from_data", random_state=0, max_iter=0)
    over, pooled = both(mixture, X)
    np.testing.assert_allclose(over.covariances_, pooled.covariances_, rtol=1e-10)
