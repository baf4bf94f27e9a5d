"""Bins and splines over nodes: edges, encoders, knots and warnings of the pooled fit."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import KBinsDiscretizer, SplineTransformer

from atoll import Distributed
from recipes.pooled import same_as_pooled

SEED = 17
N = 70


def dense(dtype=np.float64):
    """Normal, skewed with an empty middle, whole numbers with ties, far from zero."""
    rng = np.random.default_rng(SEED)
    skewed = np.where(rng.random(N) < 0.1, 100, 1) * rng.lognormal(size=N)
    X = np.column_stack([rng.normal(size=N), skewed, rng.integers(0, 9, N), 1e8 + rng.normal(size=N)])
    return X.astype(dtype)


def weights(kind):
    rng = np.random.default_rng(SEED)
    return rng.integers(0, 3, N).astype(float) if kind == "whole" else rng.random(N) + 0.01


@pytest.mark.parametrize("strategy", ["uniform", "quantile", "kmeans"])
@pytest.mark.parametrize("encode", ["onehot", "onehot-dense", "ordinal"])
@pytest.mark.parametrize("n_bins", [2, 5, [2, 3, 4, 5]], ids=str)
def test_bins(strategy, encode, n_bins):
    estimator = KBinsDiscretizer(n_bins, encode=encode, strategy=strategy)
    fitted = same_as_pooled(estimator, dense())
    over = Distributed(estimator, random_state=1).fit(dense())
    got, expected = over.transform(dense()), fitted.transform(dense())
    assert (got != expected).sum() == 0
    assert type(got) is type(expected)


@pytest.mark.parametrize("strategy", ["uniform", "quantile", "kmeans"])
@pytest.mark.parametrize("dtype", [None, np.float32, np.float64])
def test_single_precision_and_other_types_of_output(strategy, dtype):
    X = dense(np.float32)[:, :3]
    rtol = 1e-5 if strategy == "kmeans" else 0  # in which scikit-learn adds in single precision
    same_as_pooled(KBinsDiscretizer(4, strategy=strategy, dtype=dtype), X, rtol=rtol)


@pytest.mark.parametrize("strategy", ["uniform", "quantile", "kmeans"])
@pytest.mark.parametrize("kind", ["whole", "real"])
def test_weights(strategy, kind):
    untied = dense() + np.random.default_rng(SEED).random((N, 4)) * 0.01
    same_as_pooled(KBinsDiscretizer(4, strategy=strategy), untied, weights(kind))
    if strategy == "quantile":
        same_as_pooled(KBinsDiscretizer(4, quantile_method="inverted_cdf"), dense(), weights(kind))
        refused = same_as_pooled(KBinsDiscretizer(4, quantile_method="linear"), dense(), weights(kind))
        assert isinstance(refused, ValueError)


def test_rows_of_weight_zero_lie_beyond_the_edges():
    X, w = dense(), np.ones(N)
    w[np.argmax(X[:, 0])] = 0
    for strategy in ("uniform", "kmeans"):
        same_as_pooled(KBinsDiscretizer(3, strategy=strategy), X, w)


@pytest.mark.parametrize("method", ["linear", "hazen", "closest_observation", "inverted_cdf", "median_unbiased"])
def test_methods_of_quantiles(method):
    same_as_pooled(KBinsDiscretizer(4, quantile_method=method), dense(), rtol=0)


@pytest.mark.parametrize("strategy", ["uniform", "quantile", "kmeans"])
def test_constant_columns_and_narrow_bins_warn_as_in_scikit_learn(strategy):
    rng = np.random.default_rng(SEED)
    few = np.where(rng.random(N) < 0.8, 0.5, rng.random(N))
    X = np.column_stack([dense()[:, 0], np.full(N, 3.0), rng.integers(0, 2, N), few])
    fitted = same_as_pooled(KBinsDiscretizer(5, strategy=strategy), X)
    assert fitted.n_bins_[1] == 1


def test_clusters_that_lose_all_rows_move_to_the_farthest_ones():
    """Of equally far ones the last; with fewer values than bins, where those go is left open by scikit-learn."""
    X = np.array([0, 0.5, 2, 3, 9, 10.0]).reshape(-1, 1)
    same_as_pooled(KBinsDiscretizer(5, strategy="kmeans"), X)
    X = np.concatenate([np.linspace(0, 1, 20), [50.0, 100.0, 101.0]])[:, None]
    same_as_pooled(KBinsDiscretizer(6, strategy="kmeans"), X)
    X = np.repeat([[0.1], [0.27], [3.3], [10.1]], 9, axis=0)
    over = Distributed(KBinsDiscretizer(6, strategy="kmeans", encode="ordinal"))
    few = pytest.warns(ConvergenceWarning, match="Number of distinct clusters")
    with few, pytest.warns(UserWarning, match="Bins whose width are too small"):
        binned = over.fit(X).transform(X)[:, 0]
    assert (np.diff(binned) >= 0).all()
    assert len(np.unique(binned)) == 4


def test_fewer_rows_than_bins():
    X = dense()[:3]
    assert isinstance(same_as_pooled(KBinsDiscretizer(5, strategy="kmeans"), X), ValueError)
    same_as_pooled(KBinsDiscretizer(5, strategy="uniform"), X)
    same_as_pooled(KBinsDiscretizer(5, quantile_method="linear"), X)


@pytest.mark.parametrize("n_bins", [[2, 3], [2, 1, 3, 4], [2, 2.5, 3, 4], np.ones((2, 2), int)], ids=str)
def test_numbers_of_bins_that_scikit_learn_refuses(n_bins):
    assert isinstance(same_as_pooled(KBinsDiscretizer(n_bins), dense()), ValueError)


def test_all_weights_zero():
    refused = same_as_pooled(KBinsDiscretizer(3, strategy="uniform"), dense(), np.zeros(N))
    assert isinstance(refused, ValueError)


def test_all_rows_count_where_scikit_learn_would_draw_some_and_the_record_says_so():
    over = Distributed(KBinsDiscretizer(3, subsample=20, random_state=0)).fit(dense())
    expected = KBinsDiscretizer(3, subsample=None).fit(dense())
    for got, edges in zip(over.bin_edges_, expected.bin_edges_, strict=True):
        np.testing.assert_array_equal(got, edges)
    assert any("all 70 rows count" in note for note in over.run_.notes)


@pytest.mark.parametrize(
    "knots", ["uniform", "quantile", np.array([[0, 0, 0, 0], [1, 2, 3, 4], [5, 5, 5, 5.0]])], ids=str
)
@pytest.mark.parametrize("extrapolation", ["constant", "linear", "continue", "periodic", "error"])
def test_splines(knots, extrapolation):
    estimator = SplineTransformer(4, degree=2, knots=knots, extrapolation=extrapolation, include_bias=False)
    fitted = same_as_pooled(estimator, dense())
    if isinstance(knots, str):
        over = Distributed(estimator).fit(dense())
        np.testing.assert_array_equal(over.transform(dense()), fitted.transform(dense()))


@pytest.mark.parametrize("knots", ["uniform", "quantile"])
@pytest.mark.parametrize("kind", ["whole", "real", None])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_splines_with_weights_and_missing_values(knots, kind, dtype):
    X = dense(dtype)
    weight = None if kind is None else weights(kind)
    same_as_pooled(SplineTransformer(3, knots=knots), X, weight)
    X[np.random.default_rng(SEED).random(X.shape) < 0.2] = np.nan
    X[:, 3] = np.nan if knots == "uniform" else X[:, 3]
    same_as_pooled(SplineTransformer(3, knots=knots, handle_missing="zeros"), X, weight)


def test_splines_that_scikit_learn_refuses():
    assert isinstance(same_as_pooled(SplineTransformer(), dense()[:1]), ValueError)
    assert isinstance(same_as_pooled(SplineTransformer(2, degree=4, extrapolation="periodic"), dense()), ValueError)
    assert isinstance(same_as_pooled(SplineTransformer(knots=np.zeros((3, 4))), dense()), ValueError)
    gaps = dense()
    gaps[3, 1] = np.nan
    with pytest.raises(ValueError, match="SplineTransformer` is configured to error"):
        Distributed(SplineTransformer()).fit(gaps)
