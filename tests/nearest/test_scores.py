"""Scores are lower bounds, and the bounds hold."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy.sparse import csr_array

from atoll.nearest import exact
from atoll.nearest.scores import Dense, Sparse
from nearest.oracle import rows

FINITE = ("normal", "twins", "offset", "outlier", "scales", "far", "shell", "clusters", "holes")


def _exact(space: Dense, Q: np.ndarray, X: np.ndarray) -> list[list[Fraction]]:
    """|b|² - 2 a·b without rounding."""
    centre, scale = [Fraction(c) for c in space.centre], Fraction(space.scale)
    a = [[(Fraction(float(v)) - c) * scale for v, c in zip(q, centre, strict=True)] for q in Q]
    b = [[(Fraction(float(v)) - c) * scale for v, c in zip(x, centre, strict=True)] for x in X]
    return [[sum((y * y - 2 * p * y for p, y in zip(q, x, strict=True)), Fraction(0)) for q in a] for x in b]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("stored", [np.float32, np.float64])
@pytest.mark.parametrize("kind", FINITE)
def test_scores_enclose_the_truth(kind: str, stored: type, dtype: type) -> None:
    X, Q = rows(kind, np.random.default_rng(1), 40, 6, 7)
    with np.errstate(over="ignore"):
        X = np.nan_to_num(X.astype(stored), posinf=1e30)
    space = Dense(X, angular=False)
    batch = space.batch(space.queries(Q), dtype)
    truth = _exact(space, Q, X)
    spare = batch.bounds.spare(batch.norm)
    for piece in space.sweep(batch):
        for row in range(piece.start, piece.stop):
            error = batch.bounds.error(batch.norm, np.repeat(piece.length[row - piece.start], 6))
            for q in range(6):
                low = float(piece.scores[row - piece.start, q])
                if np.isfinite(low) and np.isfinite(error[q]):
                    assert Fraction(low) - Fraction(float(spare[q])) <= truth[row][q]
                    assert truth[row][q] <= Fraction(low) + 2 * Fraction(float(error[q]))
                else:
                    assert kind in ("outlier", "far", "scales")


def test_bounds_are_not_idle() -> None:
    X, Q = rows("normal", np.random.default_rng(1), 100, 20, 64)
    space = Dense(X, angular=False)
    for dtype, least in ((np.float32, 1e-4), (np.float64, 1e-12)):
        batch = space.batch(space.queries(Q), dtype)
        (piece,) = space.sweep(batch)
        assert batch.bounds.error(batch.norm, piece.length.max()).max() < least * 64


@pytest.mark.parametrize("kind", [*FINITE, "constant", "tiny", "small", "big", "huge"])
def test_rows_of_equal_distance_are_within_reach_of_each_other(kind: str) -> None:
    X, Q = rows(kind, np.random.default_rng(2), 60, 5, 4)
    X = np.concatenate(
        [X, Q + np.roll(X[:5] - Q, 1, axis=1), 2 * Q - X[:5]]
    )  # as far as the first five, up to rounding
    space = Dense(X, angular=False)
    batch = space.batch(space.queries(Q), np.float64)
    truth = _exact(space, Q, X)
    D = np.sqrt(exact.block(Q, X, angular=False))
    for row in range(len(X)):
        exactly = np.array([float(np.clip(truth[row][q], -1e307, 1e307)) for q in range(5)])
        reach = space.reach(batch, np.nextafter(exactly, np.inf))
        for q in range(5):
            for other in np.flatnonzero(D[q] <= D[q, row]):
                assert not np.isfinite(reach[q]) or truth[other][q] <= Fraction(float(reach[q])), (row, other)
    for r in (D.min(), float(np.median(D)), D[0, 3]):
        limit = space.within(batch, float(np.float64(r) * np.float64(r)) if r < 1e150 else np.inf)
        for q, row in zip(*np.nonzero(r >= D), strict=True):
            assert not np.isfinite(limit[q]) or truth[row][q] <= Fraction(float(limit[q]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sparse", [False, True])
def test_cosine_scores_enclose_the_truth(sparse: bool, dtype: type) -> None:
    X, Q = rows("holes", np.random.default_rng(4), 200, 9, 30)
    space: Dense | Sparse = Sparse(csr_array(X), angular=True) if sparse else Dense(X, angular=True)
    batch = space.batch(space.queries(csr_array(Q) if sparse else Q), dtype)
    distance = exact.block(exact.unit(Q), X, angular=True).T
    for piece in space.sweep(batch):
        low = piece.scores[: piece.stop - piece.start].astype(np.float64)
        true = 2 * distance[piece.start : piece.stop] - 2
        error = batch.bounds.error(batch.norm[None, :], piece.length[:, None])
        slack = 1e-14
        assert (low - batch.bounds.spare(batch.norm) <= true + slack).all()
        assert (true <= low + 2 * error + slack).all()


def test_sparse_scores_enclose_the_truth() -> None:
    X, Q = rows("holes", np.random.default_rng(5), 60, 8, 12)
    space = Sparse(csr_array(X), angular=False)
    batch = space.batch(space.queries(csr_array(Q)), np.float64)
    zero = Dense(X, angular=False)
    zero.centre, zero.scale = np.zeros(12), 1.0
    truth = _exact(zero, Q, X)
    for piece in space.sweep(batch):
        error = batch.bounds.error(batch.norm, float(piece.length[0]))
        for row in range(piece.start, piece.stop):
            for q in range(8):
                low = Fraction(float(piece.scores[row - piece.start, q]))
                assert low - Fraction(float(error[q])) <= truth[row][q] <= low + 2 * Fraction(float(error[q]))


@pytest.mark.parametrize("n", [0, 1, 15, 16, 4096, 4097, 100_000])
def test_pieces_are_all_rows_once(n: int) -> None:
    space = Dense(np.zeros((n, 1)), angular=False)
    batch = space.batch(np.zeros((3, 1)), np.float32)
    seen = np.zeros(n, dtype=int)
    for piece in space.sweep(batch):
        seen[piece.start : piece.stop] += 1
        assert np.isinf(piece.scores[piece.stop - piece.start :]).all()
    assert (seen == 1).all()
