"""Random projections and random features over nodes: what scikit-learn draws, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.exceptions import DataDimensionalityWarning
from sklearn.kernel_approximation import AdditiveChi2Sampler, PolynomialCountSketch, RBFSampler, SkewedChi2Sampler
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

from atoll import Distributed, Federated, Federation
from atoll.blas import one_thread
from atoll.recipes.random_projection import of_shape

PROJECTIONS = [GaussianRandomProjection, SparseRandomProjection]
SAMPLERS = [PolynomialCountSketch, RBFSampler, SkewedChi2Sampler]


def rows(n=60, d=12, dtype=np.float64):
    return np.random.default_rng(0).random((n, d)).astype(dtype)


def assert_same(over, pooled, rtol=0.0):
    got, expected = vars(over.estimator_), vars(pooled)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        if sp.issparse(value):
            assert (got[name] != value).nnz == 0, name
        elif isinstance(value, np.ndarray):
            assert got[name].dtype == value.dtype, name
            np.testing.assert_allclose(got[name], value, rtol=rtol, atol=0, err_msg=name)
        else:
            assert got[name] == (pytest.approx(value, rel=rtol, abs=0) if name == "_gamma" else value), name


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix], ids=["dense", "sparse"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [*PROJECTIONS, RBFSampler, PolynomialCountSketch])
def test_the_same_bits(kind, dtype, form):
    X, estimator = form(rows(dtype=dtype)), kind(n_components=5, random_state=3)
    assert_same(Distributed(estimator).fit(X), clone(estimator).fit(X))


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_how_many_components_follows_from_the_number_of_rows(kind):
    X = rows(25, 1200)
    estimator = kind(eps=0.3, random_state=0, compute_inverse_components=True)
    over = Distributed(estimator, n_nodes=3).fit(X)
    with one_thread():  # as over nodes: a pseudo-inverse is summed up in another order by many
        pooled = clone(estimator).fit(X)
    assert_same(over, pooled)
    assert over.n_components_ == 357
    with pytest.raises(ValueError, match="which is larger than the original space with n_features=12"):
        Distributed(kind()).fit(rows())


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_more_components_than_columns(kind):
    with pytest.warns(DataDimensionalityWarning, match="n_features < n_components"):
        Distributed(kind(n_components=13)).fit(rows())


def test_nothing_is_asked_but_the_shape():
    over = Distributed(GaussianRandomProjection(2)).fit(rows())
    assert [row.op for row in over.run_] == ["describe.schema"]


def test_a_billion_rows_take_no_memory():
    """The made-up rows are one number, whatever their number."""

    class Link:
        schema = Federation.simulate(rows(), n_nodes=2).rounds("x").meet(classes=False)._replace(rows=(10**9,))

    X = of_shape(Link)  # type: ignore[arg-type]
    assert X.shape == (10**9, 12)
    assert X.strides == (0, 0)


@pytest.mark.parametrize("kind", [*PROJECTIONS, *SAMPLERS])
def test_a_seed_of_the_run_where_there_is_none(kind):
    X, estimator = rows(), kind(n_components=4)
    one, two = (Distributed(estimator, random_state=5).fit(X).transform(X) for _ in range(2))
    other = Distributed(estimator, random_state=6).fit(X)
    assert np.asarray(one).tobytes() == np.asarray(two).tobytes()
    assert np.asarray(other.transform(X)).tobytes() != np.asarray(one).tobytes()
    assert other.estimator_.random_state is None


def test_a_generator_is_drawn_from():
    X, seed = rows(), np.random.RandomState(8)
    got = Distributed(RBFSampler(random_state=seed)).fit(X)
    assert got.random_weights_.tobytes() == RBFSampler(random_state=8).fit(X).random_weights_.tobytes()


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix], ids=["dense", "sparse"])
def test_the_scale_of_the_rows(form):
    X = rows() * np.arange(12) + 3
    X[X < 4] = 0
    estimator = RBFSampler(gamma="scale", random_state=0)
    assert_same(Distributed(estimator, partition="quantity").fit(form(X)), clone(estimator).fit(form(X)), rtol=1e-12)


def test_the_scale_of_rows_that_never_vary():
    X = np.full((8, 3), 0.1)
    assert Distributed(RBFSampler(gamma="scale")).fit(X).estimator_._gamma == 1.0


def test_negative_values_are_refused_on_whatever_node():
    X = rows()
    X[17, 4] = -0.5
    sampler = AdditiveChi2Sampler()
    with pytest.raises(ValueError, match="Negative values in data passed to X in AdditiveChi2Sampler"):
        Distributed(sampler).fit(X)
    over = Federated(sampler).fit(np.abs(X), node=np.arange(60) % 3)
    assert (over.transform(np.abs(X)) == sampler.fit_transform(np.abs(X))).all()
