"""Cheap scores of rows that are wrong by no more than a proven bound.

For a query a and a row b, both shifted by a common centre and scaled by a power of two, the score is |b|² - 2 a·b: the squared distance less |a|²,
by one matrix product. (For cosine a and b are of length 1 and the score is -2 a·b.) Products run in float32 or float64 with unit roundoff u; for
d features, whatever the order of the sum (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1),

    |score - exact| ≤ 1.02 u ((d + 6) 2 |a| |b| + (2 d + 8) |b|²) + underflow.

Distances themselves are rounded too, so rows that are equally far by their distances may differ in exact arithmetic: `reach` says by how much. A row whose
score exceeds `reach` by more than `error` is not among the answers; all others are candidates, and their distances decide. Centre and scale move the
bounds, never a distance.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy.sparse import csr_array, issparse

from atoll.nearest import exact
from atoll.trees import Array

__all__ = ["Batch", "Dense", "Space", "Sparse"]

_U64 = 2.0**-53
_TINY64 = 2.0**-1074
_SAMPLE = 2**17
_GOLDEN = 0.6180339887498949


class Batch(NamedTuple):
    """Queries made ready to be scored.

    Attributes
    ----------
    queries : ndarray or csr_array of shape (m, d)
        Float64, of length 1 for cosine: what the distances are computed from.
    right : ndarray or csr_array
        The right factor of the product.
    norm : ndarray of shape (m,)
        |a| of each query.
    """

    queries: Any
    right: Any
    norm: Array


class Space(Protocol):
    """Rows that can be scored, and the bounds of those scores."""

    n_rows: int
    angular: bool

    def queries(self, Q: Any) -> Any:
        """Queries as the distances are computed from them."""

    def batch(self, queries: Any, dtype: Any) -> Batch:
        """Make queries ready for products in this precision."""

    def sweep(self, batch: Batch, dtype: Any) -> Iterator[tuple[int, int, Array, Array]]:
        """Score all rows, piece by piece in a fixed order: (start, stop, scores of shape (size, m), error of shape (m,))."""

    def reach(self, batch: Batch, score: Array) -> Array:
        """The largest exact score of a row whose rounded distance does not exceed that of a row of this exact score."""

    def within(self, batch: Batch, distance: float) -> Array:
        """The largest exact score of a row whose rounded distance does not exceed this one."""

    def distance(self, batch: Batch, query: Array, row: Array) -> Array:
        """Distances of pairs: squared Euclidean, or cosine."""

    def block(self, queries: Any, start: int, stop: int) -> Array:
        """Distances of all pairs, with the bits of `distance`."""


def _error(angular: bool, d: int, dtype: Any, norm: Array, radius: float) -> Array:
    """Bound on |score - exact| for queries of length `norm` and rows no longer than `radius`; infinite where a product may overflow."""
    info = np.finfo(dtype)
    u, least, most = float(info.eps) / 2, float(info.smallest_normal), float(info.max) ** 0.4
    with np.errstate(over="ignore", invalid="ignore"):
        square = 0.0 if angular else (2 * d + 8) * radius * radius
        rounding = 1.02 * u * ((2 * d + 16 if angular else d + 6) * 2 * norm * radius + square)
        error: Array = rounding + 4 * (d + 4) * least * (1 + norm + radius)
    error[~((norm < most) & (radius < most))] = np.inf
    return error


class _Bounds:
    """What both spaces share: how far a score may be from the answer's last and still belong to it."""

    angular: bool
    features: int
    scale: float

    def reach(self, batch: Batch, score: Array) -> Array:
        """The largest exact score of a row whose rounded distance does not exceed that of a row of this exact score.

        Parameters
        ----------
        batch : Batch
            The queries.
        score : ndarray of shape (m,)
            One exact score, or an upper bound of it, per query.
        """
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            return self._up(batch, score if self.angular else score + batch.norm**2)

    def within(self, batch: Batch, distance: float) -> Array:
        """The largest exact score of a row whose rounded distance, squared Euclidean or cosine, does not exceed this one."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            bound = 2 * distance - 2 if self.angular else distance * self.scale * self.scale
            return self._up(batch, np.full(len(batch.norm), bound))

    def _up(self, batch: Batch, bound: Array) -> Array:
        slack = (8 * self.features + 64) * _U64
        if self.angular:
            return bound + 4 * slack
        square = self.scale * self.scale
        bound = bound * (1 + slack) + batch.norm**2 * slack + (self.features + 1) * _TINY64 * square * 4
        bound[~(bound < 1e308 * square)] = np.inf
        limit: Array = bound - batch.norm**2
        return limit


class Dense(_Bounds):
    """Dense rows, scored against the median of a sample of them.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Rows as stored.
    angular : bool
        Cosine instead of squared Euclidean distances.
    """

    def __init__(self, X: Array, angular: bool) -> None:
        self.X, self.angular = X, angular
        self.n_rows, self.features = X.shape
        self.rows: Array | None = None
        self.centre, self.scale = (np.zeros(self.features), 1.0) if angular else _centre(X)

    def among(self, rows: Array) -> Dense:
        """The same space with these rows only."""
        part = copy(self)
        part.rows, part.n_rows = rows, len(rows)
        return part

    def _read(self, start: int, stop: int) -> Array:
        some: Array = self.X[start:stop] if self.rows is None else self.X[self.rows[start:stop]]
        return some

    def queries(self, Q: Any) -> Array:
        """Queries as the distances are computed from them: float64, of length 1 for cosine."""
        rows = np.ascontiguousarray(Q.toarray() if issparse(Q) else Q, dtype=np.float64)
        return exact.unit(rows) if self.angular else rows

    def batch(self, queries: Array, dtype: Any) -> Batch:
        """Shift, scale and turn the queries, and give them a feature that is 1."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            shifted = (queries - self.centre) * self.scale
            norm = np.sqrt(np.einsum("ij,ij->i", shifted, shifted))
            right = np.ones((self.features + 1, len(queries)), dtype=dtype)
            right[:-1] = shifted.T
        return Batch(queries, right, norm)

    def sweep(self, batch: Batch, dtype: Any) -> Iterator[tuple[int, int, Array, Array]]:
        """Score the rows; the arrays handed out are overwritten by the next ones."""
        size = _piece(len(batch.norm), self.features)
        scores = np.empty((size, len(batch.norm)), dtype=dtype)
        shifted, left = np.empty((size, self.features)), np.empty((size, self.features + 1), dtype=dtype)
        for start, stop in _pieces(self.n_rows, size):
            rows = stop - start
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                radius = self._load(start, stop, shifted[:rows], left[:rows])
                np.matmul(left[:rows], batch.right, out=scores[:rows])
            scores[rows:] = np.inf
            yield start, stop, scores, _error(self.angular, self.features, dtype, batch.norm, radius)

    def _load(self, start: int, stop: int, shifted: Array, left: Array) -> float:
        """Write [-2 b, |b|²] for some rows and return an upper bound of their lengths."""
        if self.angular:
            shifted[...] = _roughly_unit(np.asarray(self._read(start, stop), dtype=np.float64))
        else:
            np.subtract(self._read(start, stop), self.centre, out=shifted)
        np.multiply(shifted, -2 * self.scale, out=left[:, :-1], casting="same_kind")
        square = np.einsum("ij,ij->i", left[:, :-1], left[:, :-1])
        np.multiply(square, 0 if self.angular else 0.25, out=left[:, -1])
        return float(np.sqrt(square.max() / 4, dtype=np.float64)) * 1.01

    def distance(self, batch: Batch, query: Array, row: Array) -> Array:
        """Distances of pairs: squared Euclidean, or cosine."""
        row = row if self.rows is None else self.rows[row]
        return exact.pairs(batch.queries, self.X, query, row, angular=self.angular)

    def block(self, queries: Array, start: int, stop: int) -> Array:
        """Distances of all pairs, with the bits of `distance`."""
        return exact.block(queries, self._read(start, stop), angular=self.angular)


class Sparse(_Bounds):
    """CSR rows, scored as they are.

    Parameters
    ----------
    X : csr_array of shape (n, d)
        Canonical rows as stored.
    angular : bool
        Cosine instead of squared Euclidean distances.
    """

    scale = 1.0

    def __init__(self, X: Any, angular: bool) -> None:
        self.X, self.angular = X, angular
        self.n_rows, self.features = X.shape

    def queries(self, Q: Any) -> Any:
        """Queries as the distances are computed from them: canonical, float64, of length 1 for cosine."""
        rows = canonical(Q).astype(np.float64)
        return exact.sparse_unit(rows) if self.angular else rows

    def batch(self, queries: Any, dtype: Any) -> Batch:
        """Turn the queries; sparse products run in float64 only."""
        with np.errstate(over="ignore", under="ignore"):
            norm = np.sqrt(queries.multiply(queries).sum(axis=1))
        return Batch(queries, queries.T.tocsr(), np.asarray(norm, dtype=np.float64).ravel())

    def sweep(self, batch: Batch, dtype: Any) -> Iterator[tuple[int, int, Array, Array]]:
        """Score the rows; the arrays handed out are overwritten by the next ones."""
        size = _piece(len(batch.norm), 1)
        scores = np.empty((size, len(batch.norm)))
        for start, stop in _pieces(self.n_rows, size):
            rows = stop - start
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                left = self._load(start, stop)
                square = np.asarray(left.multiply(left).sum(axis=1)).ravel()
                (left @ batch.right).toarray(out=scores[:rows])
                scores[:rows] *= -2
                if not self.angular:
                    scores[:rows] += square[:, None]
                radius = float(np.sqrt(square.max(initial=0.0))) * 1.01
            scores[rows:] = np.inf
            yield start, stop, scores, _error(self.angular, self.features, np.float64, batch.norm, radius)

    def _load(self, start: int, stop: int) -> Any:
        rows = self.X[start:stop].astype(np.float64)
        return exact.sparse_unit(rows) if self.angular else rows

    def distance(self, batch: Batch, query: Array, row: Array) -> Array:
        """Distances of pairs: squared Euclidean, or cosine."""
        return exact.sparse_pairs(batch.queries, self.X, query, row, angular=self.angular)

    def block(self, queries: Any, start: int, stop: int) -> Array:
        """Distances of all pairs, with the bits of `distance`."""
        m, n = queries.shape[0], stop - start
        query, row = np.divmod(np.arange(m * n), n)
        return exact.sparse_pairs(queries, self.X, query, row + start, angular=self.angular).reshape(m, n)


def _roughly_unit(rows: Array) -> Array:
    """`unit`, with lengths summed in any order; exactly `unit` where that might decide between scaling and leaving."""
    length = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    if not ((length == 0) | ((length > 1e-13) & (length < 1e150))).all():
        return exact.unit(rows)
    length[length == 0] = 1.0
    scaled: Array = rows / length[:, None]
    return scaled


def canonical(X: Any) -> Any:
    """A CSR array with sorted indices and no duplicates; shares memory where it can."""
    rows = csr_array(X)
    if not rows.has_canonical_format:
        rows = rows.copy()
        rows.sum_duplicates()
    return rows


def _centre(X: Array) -> tuple[Array, float]:
    """Median of a sample of rows, and the power of two that brings the sample to about 1."""
    n, d = X.shape
    if not n:
        return np.zeros(d), 1.0
    step = max(1, n // int(np.clip(_SAMPLE // max(d, 1), 8, 512)))
    sample = np.asarray(X[::step], dtype=np.float64)
    centre = np.sort(sample, axis=0)[len(sample) // 2]
    with np.errstate(over="ignore"):
        width = np.abs(sample - centre).max(initial=0.0)
    if not 0 < width < np.inf:
        return centre, 1.0
    return centre, float(np.ldexp(1.0, int(np.clip(-np.frexp(width)[1], -1000, 1000))))


def _piece(m: int, d: int) -> int:
    """How many rows to score at once against m queries: scores and rows stay in cache, and few queries do not mean many pieces."""
    return int(np.clip(min(2**20 // max(m, 1), 2**19 // max(d, 1)), 16, 4096)) // 16 * 16


def _pieces(n: int, size: int) -> Iterator[tuple[int, int]]:
    """Slices of `range(n)` in an order that jumps about, so that rows sorted by anything look like shuffled ones."""
    count = -(-n // size)
    step = max(1, round(_GOLDEN * count))
    while np.gcd(step, count) != 1:
        step += 1
    for i in range(count):
        start = i * step % count * size
        yield start, min(start + size, n)
