"""Distances of pairs: their bits, and how right they are."""

from __future__ import annotations

from fractions import Fraction
from math import sqrt

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.metrics import DistanceMetric

from atoll.nearest import exact
from nearest.oracle import numbers, rows


def _by_hand(query: np.ndarray, row: np.ndarray) -> float:
    total = 0.0
    for q, x in zip(query.tolist(), row.tolist(), strict=True):
        total += (q - x) * (q - x)
    return total


@pytest.mark.parametrize("count", [1, 2, 3, 7, 63, 127, 128, 129, 500, 2049])
@pytest.mark.parametrize("features", [1, 2, 3, 8, 33, 64])
def test_pairs_add_the_features_one_after_the_other(count: int, features: int) -> None:
    rng = np.random.default_rng(count * 100 + features)
    X, Q = rng.standard_normal((50, features)), rng.standard_normal((20, features))
    query, row = rng.integers(0, 20, count), rng.integers(0, 50, count)
    expected = [_by_hand(Q[q], X[x]) for q, x in zip(query, row, strict=True)]
    assert np.array_equal(exact.pairs(Q, X, query, row, angular=False), expected)
    assert np.array_equal(exact.block(Q, X, angular=False)[query, row], expected)


@pytest.mark.parametrize("angular", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["normal", "twins", "itself", "holes", "offset"])
@pytest.mark.parametrize("features", [1, 5, 40, 300])
def test_a_pair_has_the_same_bits_everywhere(kind: str, features: int, dtype: type, angular: bool) -> None:
    rng = np.random.default_rng(features)
    X, Q = rows(kind, rng, 70, 30, features)
    X = X.astype(dtype)
    Q = exact.unit(Q) if angular else Q
    whole = exact.block(Q, X, angular=angular)
    query, row = np.divmod(rng.permutation(2100), 70)
    shifted = np.empty((71, features + 3), dtype)[1:, 2:-1]  # not aligned, not contiguous
    shifted[...] = X
    for start in (0, 1, 13):
        part = exact.pairs(Q[start:], shifted, query[query >= start] - start, row[query >= start], angular=angular)
        assert np.array_equal(part, whole[query[query >= start], row[query >= start]])
        assert np.array_equal(exact.block(Q[start:], X[start:], angular=angular), whole[start:, start:])


@pytest.mark.parametrize("features", [1, 4, 30])
def test_euclidean_bits_are_those_of_scikit_learn_trees(features: int) -> None:
    X, Q = rows("normal", np.random.default_rng(features), 60, 40, features)
    assert np.array_equal(
        np.sqrt(exact.block(Q, X, angular=False)), DistanceMetric.get_metric("euclidean").pairwise(Q, X)
    )


@pytest.mark.parametrize("angular", [False, True])
@pytest.mark.parametrize("features", [1, 6, 200])
def test_sparse_pairs_have_the_bits_of_dense_ones(features: int, angular: bool) -> None:
    rng = np.random.default_rng(features)
    X, Q = rows("holes", rng, 80, 40, features)
    Q[:10] = X[:10]
    query, row = np.divmod(np.arange(40 * 80), 80)
    left, dense = (exact.sparse_unit(csr_array(Q)), exact.unit(Q)) if angular else (csr_array(Q), Q)
    sparse = exact.sparse_pairs(left, csr_array(X), query, row, angular=angular)
    assert np.array_equal(sparse, exact.pairs(dense, X, query, row, angular=angular))


def test_a_row_is_at_distance_zero_from_itself() -> None:
    X, _ = rows("normal", np.random.default_rng(0), 200, 1, 9)
    for angular in (False, True):
        left = exact.unit(X) if angular else X
        assert not exact.pairs(left, X, np.arange(200), np.arange(200), angular=angular).any()
        assert not np.diag(exact.block(left, X, angular=angular)).any()


def test_cosine_keeps_its_digits_where_the_angle_is_small() -> None:
    rng = np.random.default_rng(3)
    x = rng.integers(-9, 9, (40, 6)).astype(float) + 0.5
    q = x + 2.0**-20 * rng.integers(-3, 4, x.shape)
    found = exact.pairs(exact.unit(q), x, np.arange(40), np.arange(40), angular=True)
    for distance, a, b in zip(found, q, x, strict=True):
        dot, aa, bb = (
            sum(Fraction(s) * Fraction(t) for s, t in zip(u, v, strict=True)) for u, v in ((a, b), (a, a), (b, b))
        )
        sine = float(1 - dot * dot / (aa * bb))  # 1 - cos = sin² / (1 + cos)
        assert distance == pytest.approx(sine / (1 + sqrt(1 - sine)), rel=1e-3, abs=1e-30)
        assert distance < 1e-9


def test_rows_without_length() -> None:
    X = np.array([[0.0, 0.0], [3.0, 4.0], [-1e-16, 0.0]])
    # scikit-learn 1.9: cosine_distances(X, X) leaves rows shorter than 10 eps as they are
    assert exact.block(exact.unit(X), X, angular=True) == pytest.approx(
        np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
    )


def test_distances_overflow_to_infinity_without_a_warning() -> None:
    X = np.array([[1e200, 0.0], [-1e200, 1.0], [1e308, -1e308]])
    assert np.array_equal(np.isinf(exact.block(X, X, angular=False)), ~np.eye(3, dtype=bool))


@pytest.mark.parametrize("seed", range(5))
def test_distinct_leaves_out_only_what_cannot_be_among_the_nearest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 2, (300, 3)).astype(float)
    ids = numbers(300, rng)
    kept = exact.distinct(X, 4, ids)
    for row in np.unique(X, axis=0):
        alike = np.flatnonzero((row == X).all(axis=1))
        assert set(alike[np.argsort(ids[alike])[:4]]) == set(alike) & set(kept), seed
    assert np.array_equal(exact.distinct(rng.standard_normal((50, 2)), 1, np.arange(50)), np.arange(50))
