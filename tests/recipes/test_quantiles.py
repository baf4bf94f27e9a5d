"""Order statistics, quantiles and weighted percentiles found by counting: exactly those of the pooled rows."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import QuantileTransformer
from sklearn.utils.stats import _weighted_percentile

from atoll import Federated, Federation
from atoll.recipes import quantiles as search
from recipes.pooled import places, same_as_pooled

SEED = 5
N = 60
METHODS = [
    "inverted_cdf", "averaged_inverted_cdf", "closest_observation", "interpolated_inverted_cdf", "hazen", "weibull",
    "linear", "median_unbiased", "normal_unbiased",
]  # fmt: skip
LEVELS = np.array([0.0, 0.1, 0.25, 1 / 3, 0.5, 0.77, 0.999, 1.0])


def dense(n=N, dtype=np.float64):
    """Normal, whole numbers with ties, far from zero, of every size, a constant; both signs."""
    rng = np.random.default_rng(SEED)
    columns = [
        rng.normal(size=n), rng.integers(-2, 3, n), 1e8 + rng.normal(size=n),
        rng.normal(size=n) * 10.0 ** rng.integers(-30, 30, n), np.full(n, -0.1),
    ]  # fmt: skip
    return np.column_stack(columns).astype(dtype)


def met(X, weight=None):
    """The rounds of a run over each place, after round 0."""
    for name, federation in places(X, weight).items():
        rounds = federation.rounds("search", "federated")
        rounds.meet(classes=False, ensure_all_finite=False)
        yield name, rounds


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_values_of_a_rank_to_the_last_bit(dtype):
    X = dense(dtype=dtype)
    ranks = np.repeat(np.array([[0], [1], [17], [N - 1]]), X.shape[1], axis=1)
    for name, rounds in met(X):
        found = search.order_statistics(rounds, ranks)
        assert found.dtype == dtype
        assert (found == np.sort(X, axis=0)[ranks[:, 0]]).all(), name
        assert rounds.run.rounds == 1 + (16 if dtype == np.float64 else 8)


@given(
    hnp.arrays(
        np.float64, st.tuples(st.integers(3, 12), st.just(1)), elements=st.floats(allow_nan=True, allow_infinity=False)
    )
)
def test_any_float_is_found(X):
    """Subnormal numbers, both zeros, the largest and the smallest; missing ones have no rank."""
    values = np.sort(X[~np.isnan(X)])
    for _, rounds in met(X):
        assert search.present(rounds).tolist() == [len(values)]
        if len(values):
            found = search.order_statistics(rounds, np.arange(len(values))[:, None])
            assert found[:, 0].tolist() == values.tolist()


def test_a_rank_that_does_not_exist_is_infinite():
    (_, rounds), *_ = met(np.array([[1.0], [np.nan], [3.0]]))
    assert search.order_statistics(rounds, np.array([[0], [1], [2]]))[:, 0].tolist() == [1, 3, np.inf]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [3, 4, 10, N])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_quantiles_are_numpys(method, n, dtype):
    X = dense(n, dtype)
    for name, rounds in met(X):
        got = search.quantiles(rounds, LEVELS, method=method)
        np.testing.assert_array_equal(got, np.quantile(X, LEVELS, axis=0, method=method), err_msg=name)


def test_missing_values_are_left_out_column_by_column():
    X = dense()
    X[np.random.default_rng(SEED).random(X.shape) < 0.3] = np.nan
    for _, rounds in met(X):
        np.testing.assert_array_equal(search.quantiles(rounds, LEVELS), np.nanquantile(X, LEVELS, axis=0))
    X[:, 1] = np.nan
    for _, rounds in met(X):
        with pytest.warns(RuntimeWarning, match="All-NaN slice"):
            got = search.quantiles(rounds, LEVELS)
        assert np.isnan(got[:, 1]).all()
        assert not np.isnan(got[:, [0, 2, 3, 4]]).any()


@pytest.mark.parametrize("stored", [False, True])
def test_zeros_that_are_not_stored_count_unless_told_otherwise(stored):
    rng = np.random.default_rng(SEED)
    X = sp.csr_matrix(rng.normal(size=(N, 4)) * (rng.random((N, 4)) < [0.9, 0.3, 0.1, 1.0]))
    X.data[::6] = np.nan
    columns = [X[:, [j]].data if stored else X[:, [j]].toarray()[:, 0] for j in range(4)]
    expected = np.column_stack([np.nanquantile(c, LEVELS) for c in columns])
    for name, rounds in met(X):
        np.testing.assert_array_equal(search.quantiles(rounds, LEVELS, stored=stored), expected, err_msg=name)


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", ["whole", "real", "ones"])
def test_weighted_percentiles_are_scikit_learns(average, dtype, kind):
    rng, X = np.random.default_rng(SEED), dense(dtype=dtype)
    X[::9, 0] = X[::9, 0] if average else np.nan  # of which scikit-learn makes NaN where it averages
    w = {"whole": rng.integers(0, 4, N).astype(float), "real": rng.random(N), "ones": np.ones(N)}[kind]
    percents = np.linspace(0, 100, 13)
    with np.errstate(all="ignore"):
        expected = _weighted_percentile(X, w, percents, average=average).T
    for name, rounds in met(X, w):
        got = search.weighted_percentiles(rounds, percents, average=average)
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, expected, err_msg=name)


def test_weights_of_sparse_rows():
    rng = np.random.default_rng(SEED)
    X, w = sp.csr_matrix(rng.normal(size=(N, 3)) * (rng.random((N, 3)) < 0.4)), rng.integers(0, 3, N).astype(float)
    expected = _weighted_percentile(X.toarray(), w, np.array([20.0, 50.0, 90.0])).T
    for _, rounds in met(X, w):
        np.testing.assert_array_equal(search.weighted_percentiles(rounds, np.array([20.0, 50.0, 90.0])), expected)


def test_more_is_asked_in_smaller_steps_so_that_messages_stay_small():
    X = np.random.default_rng(SEED).normal(size=(2000, 12))
    ranks = np.repeat(np.arange(0, 2000, 2)[:, None], 12, axis=1)
    (_, rounds), *_ = met(X)
    found = search.order_statistics(rounds, ranks)
    np.testing.assert_array_equal(found, np.sort(X, axis=0)[::2])
    assert rounds.run.rounds == 1 + 32
    assert max(row.bytes_up for row in rounds.run) <= 2**19


def test_a_node_gives_up_its_sorted_columns_at_the_end():
    for federation in places(dense()).values():
        Federated(QuantileTransformer(n_quantiles=7)).fit(federation)
        for shard in federation._shards:
            assert not [key for key in shard._memo if "quantiles.ordered" in key]


def test_medians_of_classes():
    """A class on one node only, and a node with a single row."""
    rng = np.random.default_rng(SEED)
    X, y = np.round(rng.normal(size=(N, 3)), 1), np.sort(rng.integers(0, 3, N))
    pooled = NearestCentroid(metric="manhattan").fit(X, y)
    for cuts in ([N], [20, N], [1, 30, N]):
        parts = np.split(np.arange(N), cuts[:-1])
        over = Federated(NearestCentroid(metric="manhattan")).fit(Federation.from_shards([(X[p], y[p]) for p in parts]))
        np.testing.assert_array_equal(over.centroids_, pooled.centroids_)


@pytest.mark.parametrize("n_quantiles", [1, 2, 10, N, 1000])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("distribution", ["uniform", "normal"])
def test_quantile_transformer(n_quantiles, dtype, distribution):
    estimator = QuantileTransformer(n_quantiles=n_quantiles, output_distribution=distribution)
    same_as_pooled(estimator, dense(dtype=dtype), rtol=0)


def test_quantile_transformer_warns_and_refuses_as_scikit_learn_does():
    X = dense()
    gaps = np.where(np.random.default_rng(SEED).random(X.shape) < 0.3, np.nan, X)
    gaps[:, 2] = np.nan
    same_as_pooled(QuantileTransformer(n_quantiles=5), gaps, rtol=0)
    same_as_pooled(QuantileTransformer(n_quantiles=5, ignore_implicit_zeros=True), X, rtol=0)
    assert isinstance(same_as_pooled(QuantileTransformer(n_quantiles=5, subsample=4), X), ValueError)


@pytest.mark.parametrize("ignore", [False, True])
def test_quantile_transformer_of_sparse_rows(ignore):
    rng = np.random.default_rng(SEED)
    X = sp.csr_matrix(np.abs(rng.normal(size=(N, 4))) * (rng.random((N, 4)) < [0.9, 0.3, 0.1, 0.0]))
    estimator = QuantileTransformer(n_quantiles=9, ignore_implicit_zeros=ignore)
    same_as_pooled(estimator, X[:, :3], rtol=0)
    same_as_pooled(estimator, X, rtol=0)
    X[:, 2] *= np.nan
    same_as_pooled(estimator, X, rtol=0)
    refused = same_as_pooled(estimator, -X[:, :3], rtol=0)
    assert isinstance(refused, ValueError) == (not ignore)


def test_all_rows_count_where_scikit_learn_would_draw_some_and_the_record_says_so():
    X = dense(300)
    fitted = {}
    for name, federation in places(X).items():
        over = Federated(QuantileTransformer(n_quantiles=10, subsample=50, random_state=1)).fit(federation)
        assert any("all 300 rows count" in note for note in over.run_.notes)
        fitted[name] = over.quantiles_
    for got in fitted.values():
        np.testing.assert_array_equal(got, QuantileTransformer(n_quantiles=10, subsample=None).fit(X).quantiles_)
