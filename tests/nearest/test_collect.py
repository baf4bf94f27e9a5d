"""Choosing the k nearest and all within a radius, piece by piece."""

from __future__ import annotations

import numpy as np
import pytest

from atoll.nearest.collect import Nearest, Within, ranks
from nearest.oracle import chosen, inside, numbers, same


def _matrix(seed: int) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    D = rng.integers(0, 6, (17, 90)).astype(float)
    D[rng.random(D.shape) < 0.1] = np.inf
    D[rng.random(D.shape) < 0.1] = np.nan
    D[3], D[4] = np.nan, np.inf
    return rng, D, numbers(90, rng)


@pytest.mark.parametrize("k", [1, 4, 30, 90, 100])
@pytest.mark.parametrize("seed", range(4))
def test_blocks_and_pairs_in_any_order_give_the_same_answer(seed: int, k: int) -> None:
    rng, D, ids = _matrix(seed)
    expected = chosen(D, k, ids)
    for size in (1, 13, 90):
        near = Nearest(17, k, ids)
        for start in rng.permutation(np.arange(0, 90, size)):
            for first in (0, 5):
                near.block(first, start, D[first : 5 if first == 0 else 17, start : start + size])
        dist, row = near.result()
        assert same((dist, np.where(row < 0, np.iinfo(np.int64).max, ids[row])), expected), (seed, size)
    near, pairs = Nearest(17, k, ids), rng.permutation(17 * 90)
    for part in np.array_split(pairs, 7):
        query, row = np.divmod(part, 90)
        near.pairs(query, row, D[query, row])
    assert same((near.dist, np.where(near.row < 0, np.iinfo(np.int64).max, ids[near.row])), expected), seed


def test_infinite_and_missing_come_in_the_order_number_infinity_nan_nobody() -> None:
    near = Nearest(1, 5, np.array([7, 3, 9]))
    near.block(0, 0, np.array([[np.nan, np.inf, 2.0]]))
    assert np.array_equal(near.dist, [[2.0, np.inf, np.nan, np.inf, np.inf]], equal_nan=True)
    assert np.array_equal(near.row, [[2, 1, 0, -1, -1]])


@pytest.mark.parametrize("r", [0.0, 2.0, 2.5, np.inf])
@pytest.mark.parametrize("seed", range(3))
def test_hits_piece_by_piece(seed: int, r: float) -> None:
    rng, D, ids = _matrix(seed)
    query, dist, number = inside(D, r, ids)
    for size in (1, 13, 90):
        found = Within(17, r, ids)
        for start in rng.permutation(np.arange(0, 90, size)):
            if start % 2:
                found.block(0, start, D[:, start : start + size])
            else:
                q, x = np.divmod(
                    np.arange(17 * D[:, start : start + size].shape[1]), D[:, start : start + size].shape[1]
                )
                found.pairs(q, x + start, D[q, x + start])
        hits = found.result()
        assert np.array_equal(np.repeat(np.arange(17), np.diff(hits.indptr)), query)
        assert same((hits.dist, ids[hits.row]), (dist, number)), seed


def test_ranks() -> None:
    values, place, rank = ranks(np.array([2, 2, 5, 7, 7, 7]))
    assert values.tolist() == [2, 5, 7]
    assert place.tolist() == [0, 0, 1, 2, 2, 2]
    assert rank.tolist() == [0, 1, 0, 0, 1, 2]
    assert [part.size for part in ranks(np.empty(0, dtype=np.int64))] == [0, 0, 0]
