"""Euclidean and cosine distances of pairs, each a function of its query and its row alone.

Sums run over the features from first to last, one float64 addition after the other, for any number of pairs at once.
So a pair has the same bits in any block, batch or search, dense or sparse (a feature in which both are zero adds
nothing), and a Euclidean distance has the bits that scikit-learn's trees give it.

Cosine distance is 1 - cos; where the angle is small (cos > 1/2) it is taken as half the squared distance of the two
unit vectors, which is the same number without its cancellation, and 0 for a row and itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from atoll.trees import Array

__all__ = ["block", "chunks", "distinct", "pairs", "sparse_pairs", "sparse_unit", "unit"]

_PAIRS = 2048
_WORDS = 2**17
_LOOP = 128


def chunks(n: int, size: int) -> list[slice]:
    """Cut `range(n)` into slices of at most `size`."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _fold(columns: Array) -> Array:
    """Sum over the first axis, strictly from first to last."""
    total: Array = columns[0].copy()
    for column in columns[1:]:
        total += column
    return total


def _sum(terms: Array, columns: Array) -> Array:
    """Sum of each row of `terms`, strictly from first to last.

    Both arrays are overwritten: here and below, memory that is new to the process costs more than the arithmetic in it.
    """
    if len(terms) < _LOOP:
        return np.add.accumulate(terms, axis=1, out=terms)[:, -1].copy()
    columns[...] = terms.T
    return _fold(columns)


def unit(rows: Array) -> Array:
    """Rows scaled to length 1; a row shorter than 10 ε is left as it is, as scikit-learn's `normalize` leaves it.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        Float64 rows.

    Returns
    -------
    ndarray of shape (n, d)
        Row i is a function of row i alone.
    """
    with np.errstate(over="ignore", under="ignore"):
        length = np.sqrt(_sum(rows * rows, np.empty(rows.shape[::-1])))
        length[length < 10 * np.finfo(np.float64).eps] = 1.0
        scaled: Array = rows / length[:, None]
    return scaled


def pairs(queries: Array, rows: Array, query: Array, row: Array, *, angular: bool) -> Array:
    """Distance of query[i] to row[i]: squared Euclidean, or cosine.

    Parameters
    ----------
    queries : ndarray of shape (m, d)
        Float64; of length 1 where `angular`.
    rows : ndarray of shape (n, d)
        Float32 or float64, as stored.
    query, row : ndarray of shape (p,)
        Which query meets which row.
    angular : bool
        Cosine instead of squared Euclidean distances.

    Returns
    -------
    ndarray of shape (p,)
        Float64.
    """
    features = queries.shape[1]
    size = int(np.clip(_WORDS // max(features, 1), 4, _PAIRS))
    left, right = np.empty((size, features)), np.empty((size, features), dtype=rows.dtype)
    columns = np.empty((features, size))
    result = np.empty(len(query))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for part in chunks(len(query), size):
            n = part.stop - part.start
            np.take(queries, query[part], axis=0, out=left[:n], mode="clip")
            np.take(rows, row[part], axis=0, out=right[:n], mode="clip")
            meet = _angles if angular else _squares
            result[part] = meet(left[:n], right[:n], columns[:, :n])
    return result


def _squares(left: Array, right: Array, columns: Array) -> Array:
    """Squared distances of left[i] and right[i]; overwrites `left` and `columns`."""
    np.subtract(left, right, out=left)
    np.multiply(left, left, out=left)
    return _sum(left, columns)


def _angles(left: Array, right: Array, columns: Array) -> Array:
    """Cosine distances of left[i], of length 1, and right[i]; overwrites `left` and `columns`."""
    right = unit(np.asarray(right, dtype=np.float64))
    dot = _sum(left * right, columns)
    return _cosine(dot, lambda near: 0.5 * _squares(left[near], right[near], columns[:, : near.size]))


def _cosine(dot: Array, half_squared: Callable[[Array], Array]) -> Array:
    near = np.flatnonzero(dot > 0.5)
    distance: Array = 1.0 - dot
    if near.size:
        distance[near] = half_squared(near)
    return np.clip(distance, 0.0, 2.0, out=distance)


def block(queries: Array, rows: Array, *, angular: bool) -> Array:
    """All distances of a few queries to a few rows, with the bits of `pairs`.

    Parameters
    ----------
    queries : ndarray of shape (m, d)
        Float64; of length 1 where `angular`.
    rows : ndarray of shape (n, d)
        As stored.
    angular : bool
        Cosine instead of squared Euclidean distances.

    Returns
    -------
    ndarray of shape (m, n)
        Float64.
    """
    rows = np.asarray(rows, dtype=np.float64)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if angular:
            rows = unit(rows)
            dot = _outer(queries, rows, np.multiply, square=False)
            squared = _outer(queries, rows, np.subtract, square=True)
            squared *= 0.5
            return np.clip(np.where(dot > 0.5, squared, 1.0 - dot), 0.0, 2.0)
        return _outer(queries, rows, np.subtract, square=True)


def _outer(queries: Array, rows: Array, combine: np.ufunc, *, square: bool) -> Array:
    left, right = np.ascontiguousarray(queries.T), np.ascontiguousarray(rows.T)
    total = np.zeros((len(queries), len(rows)))
    term = np.empty_like(total)
    for j in range(queries.shape[1]):
        combine(left[j][:, None], right[j], out=term)
        if square:
            np.multiply(term, term, out=term)
        total += term
    return total


def distinct(rows: Array, k: int, ids: Array) -> Array:
    """Rows without those that have k or more equal rows of smaller id, for these come before it in any answer.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        Rows as stored.
    k : int
        How many equal rows to keep.
    ids : ndarray of shape (n,)
        Global ids of the rows.

    Returns
    -------
    ndarray of shape (r,)
        Int64 positions, ascending. Not all that could go need be gone.
    """
    mix = np.random.default_rng(0).random(rows.shape[1])
    mark = np.empty(len(rows))
    with np.errstate(over="ignore", invalid="ignore"):
        for part in chunks(len(rows), _PAIRS):
            mark[part] = np.asarray(rows[part], dtype=np.float64) @ mix
    order = np.lexsort((ids, mark))
    twin = np.zeros(len(rows), dtype=bool)
    alike = np.flatnonzero(mark[order[1:]] == mark[order[:-1]]) + 1
    for part in chunks(len(alike), _PAIRS):
        some = alike[part]
        twin[some] = (rows[order[some]] == rows[order[some - 1]]).all(axis=1)
    first = np.maximum.accumulate(np.where(twin, 0, np.arange(len(rows))))
    return np.sort(order[np.arange(len(rows)) - first < k])


def sparse_unit(rows: Any) -> Any:
    """Rows of a canonical CSR array scaled to length 1; a row of length 0 stays, as in scikit-learn's `normalize`."""
    with np.errstate(over="ignore", under="ignore"):
        length = np.sqrt(_ragged(rows.data * rows.data, rows.indptr))
        length[length == 0] = 1.0
        data = rows.data / np.repeat(length, np.diff(rows.indptr))
    return csr_array((data, rows.indices, rows.indptr), shape=rows.shape)


def sparse_pairs(queries: Any, rows: Any, query: Array, row: Array, *, angular: bool) -> Array:
    """`pairs` for canonical CSR arrays (sorted indices, no duplicates), with the bits that dense rows give.

    Parameters
    ----------
    queries : csr_array of shape (m, d)
        Float64; of length 1 where `angular`.
    rows : csr_array of shape (n, d)
        As stored.
    query, row : ndarray of shape (p,)
        Which query meets which row.
    angular : bool
        Cosine instead of squared Euclidean distances.

    Returns
    -------
    ndarray of shape (p,)
        Float64.
    """
    longest = _longest(queries) + _longest(rows)
    size = int(np.clip(2 * _WORDS // max(longest, 1), 16, 2 * _PAIRS))
    result = np.empty(len(query))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for part in chunks(len(query), size):
            result[part] = _sparse_meet(queries[query[part]], rows[row[part]].astype(np.float64), angular)
    return result


def _sparse_meet(left: Any, right: Any, angular: bool) -> Array:
    if not angular:
        return _sparse_squared(left, right)
    right = sparse_unit(right)
    product = left.multiply(right).tocsr()
    return _cosine(_ragged(product.data, product.indptr), lambda near: 0.5 * _sparse_squared(left[near], right[near]))


def _sparse_squared(left: Any, right: Any) -> Array:
    difference = (left - right).tocsr()
    return _ragged(difference.data * difference.data, difference.indptr)


def _longest(rows: Any) -> int:
    return int(np.diff(rows.indptr).max(initial=0))


def _ragged(terms: Array, indptr: Array) -> Array:
    """Sum of terms[indptr[i]:indptr[i + 1]] for every i, strictly from first to last."""
    lengths = np.diff(indptr)
    place = np.arange(len(terms)) - np.repeat(indptr[:-1], lengths)
    table = np.zeros((len(lengths), max(int(lengths.max(initial=0)), 1)))
    table[np.repeat(np.arange(len(lengths)), lengths), place] = terms
    return _sum(table, np.empty(table.shape[::-1]))
