"""Cheap scores of rows: lower bounds that no rounding can falsify.

For a query a and a row b, both shifted by a common centre and scaled by a power of two, s = ‖b‖² - 2 a·b is the
squared distance less ‖a‖². (For cosine a and b are of length 1 and s is -2 a·b.) One matrix product in float32 or
float64, of unit roundoff u, gives s for many pairs; with d features its error is, whatever the order of the sum
(Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1), no more than

    E = A ‖a‖ ‖b‖ + B ‖b‖² + C (1 + ‖a‖ + ‖b‖),   A ≈ 2 (d + 8) u,   B ≈ (2 d + 10) u,   C: underflow,

and since E is a sum of products too, the same matrix product subtracts it. A score is thus no more than s, and with
twice E added it is no less.

Distances themselves are rounded too, so rows that are equally far by their distances may differ in exact arithmetic:
`reach` says by how much. A row whose score exceeds the `reach` of the k-th is not among the k nearest; the others are
candidates, and their distances decide. Centre and scale move the bounds, never a distance.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy.sparse import csr_array, issparse

from atoll.nearest import exact
from atoll.trees import Array

__all__ = ["Batch", "Bounds", "Dense", "Piece", "Space", "Sparse", "canonical", "dense"]

_U64 = 2.0**-53
_TINY64 = 2.0**-1074
_SAMPLE = 2**17
_CELLS = 2**19
_GOLDEN = 0.6180339887498949
_UP = 1.01


class Batch(NamedTuple):
    """Queries made ready to be scored.

    Attributes
    ----------
    queries : ndarray or csr_array of shape (m, d)
        Float64, of length 1 for cosine: what the distances are computed from.
    right : ndarray or csr_array
        The right factor of the product.
    norm : ndarray of shape (m,)
        ‖a‖ of each query.
    bounds : Bounds
        Of the errors of this product.
    """

    queries: Any
    right: Any
    norm: Array
    bounds: Bounds


class Bounds(NamedTuple):
    """What bounds the error: `cross` ‖a‖ ‖b‖ + `own` ‖b‖² + `least` (1 + ‖a‖ + ‖b‖), while lengths are below `most`."""

    cross: float
    own: float
    least: float
    most: float

    def error(self, norm: Array, length: Array | float) -> Array:
        """The bound for queries and rows of these lengths."""
        found: Array = self.cross * norm * length + self.own * length * length + self.least * (1 + norm + length)
        found[~((norm < self.most) & (length < self.most))] = np.inf
        return found

    def spare(self, norm: Array) -> Array:
        """The part of the bound that the product does not subtract."""
        return np.where(norm < self.most, self.least * (1 + norm), np.inf)


class Piece(NamedTuple):
    """Scores of some rows; the arrays are overwritten by the next piece.

    Attributes
    ----------
    start, stop : int
        Which rows.
    scores : ndarray of shape (s, m)
        Lower bounds less `Bounds.spare`; infinite beyond the last row.
    length : ndarray of shape (stop - start,)
        Upper bounds of ‖b‖.
    """

    start: int
    stop: int
    scores: Array
    length: Array


class Space(Protocol):
    """Rows that can be scored."""

    n_rows: int
    angular: bool

    def queries(self, Q: Any) -> Any:
        """Queries as the distances are computed from them."""

    def batch(self, queries: Any, dtype: Any) -> Batch:
        """Make queries ready for products in this precision."""

    def sweep(self, batch: Batch) -> Iterator[Piece]:
        """Score all rows, piece by piece in a fixed order."""

    def reach(self, batch: Batch, score: Array) -> Array:
        """The largest s of a row whose rounded distance does not exceed that of a row with this s, one per query."""

    def within(self, batch: Batch, distance: float) -> Array:
        """The largest s of a row whose rounded distance, squared Euclidean or cosine, does not exceed this one."""

    def distance(self, batch: Batch, query: Array, row: Array) -> Array:
        """Distances of pairs: squared Euclidean, or cosine."""

    def block(self, queries: Any, start: int, stop: int) -> Array:
        """Distances of all pairs, with the bits of `distance`."""


class _Reach:
    """How far a score may be from the answer's last and still belong to it."""

    angular: bool
    features: int
    scale: float

    def bounds(self, dtype: Any) -> Bounds:
        """Of products in this precision."""
        info, d = np.finfo(dtype), self.features
        u, most = float(info.eps) / 2, float(info.max) ** 0.4
        least = 4 * (d + 8) * float(info.smallest_normal)
        if self.angular:
            return Bounds(1.05 * u * 2 * (2 * d + 20), 0.0, least, most)
        return Bounds(1.05 * u * 2 * (d + 8), 1.05 * u * (2 * d + 12), least, most)

    def reach(self, batch: Batch, score: Array) -> Array:
        """The largest s of a row whose rounded distance does not exceed that of a row with this s, one per query."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            return self._up(batch, score if self.angular else score + batch.norm**2)

    def within(self, batch: Batch, distance: float) -> Array:
        """The largest s of a row whose rounded distance, squared Euclidean or cosine, does not exceed this one."""
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


class Dense(_Reach):
    """Dense rows, scored against the median of a sample of them.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Rows as stored.
    angular : bool
        Cosine instead of squared Euclidean distances.
    """

    def __init__(self, X: Array, angular: bool) -> None:
        self.X: Array = np.require(X, requirements=["C", "A"])
        self.angular = angular
        self.n_rows, self.features = X.shape
        self.rows: Array | None = None
        self.centre: Array = np.zeros(self.features)
        self.scale = 1.0
        if self.n_rows and not angular:
            self.centre, self.scale = _centre(X)

    def among(self, rows: Array) -> Dense:
        """The same space with these rows only."""
        part = copy(self)
        part.rows, part.n_rows = rows, len(rows)
        return part

    def queries(self, Q: Any) -> Array:
        """Queries as the distances are computed from them: float64, of length 1 for cosine."""
        rows = np.ascontiguousarray(dense(Q), dtype=np.float64)
        return exact.unit(rows) if self.angular else rows

    def batch(self, queries: Array, dtype: Any) -> Batch:
        """Shift, scale and turn the queries; two more features meet ‖b‖² and the error."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            shifted = (queries - self.centre) * self.scale
            norm = np.sqrt(np.einsum("ij,ij->i", shifted, shifted))
            right = np.empty((self.features + 2, len(queries)), dtype=dtype)
            right[:-2], right[-2], right[-1] = shifted.T, 1.0, norm * _UP
        return Batch(queries, right, norm, self.bounds(dtype))

    def sweep(self, batch: Batch) -> Iterator[Piece]:
        """Score all rows, piece by piece in a fixed order."""
        size = _piece(len(batch.norm), self.features)
        scores = np.empty((size, len(batch.norm)), dtype=batch.right.dtype)
        shifted, left = np.empty((size, self.features)), np.empty((size, self.features + 2), dtype=scores.dtype)
        for start, stop in _pieces(self.n_rows, size):
            rows = stop - start
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                length = self._load(start, stop, shifted[:rows], left[:rows], batch.bounds)
                np.matmul(left[:rows], batch.right, out=scores[:rows])
            scores[rows:] = np.inf
            yield Piece(start, stop, scores, length)

    def _load(self, start: int, stop: int, shifted: Array, left: Array, bounds: Bounds) -> Array:
        """Write [-2 b, ‖b‖², -error] for some rows and return upper bounds of their lengths."""
        if self.angular:
            shifted[...] = _roughly_unit(np.asarray(self._read(start, stop), dtype=np.float64))
        else:
            np.subtract(self._read(start, stop), self.centre, out=shifted)
        np.multiply(shifted, -2 * self.scale, out=left[:, :-2], casting="same_kind")
        square = np.einsum("ij,ij->i", left[:, :-2], left[:, :-2]).astype(np.float64) / 4
        length: Array = np.sqrt(square) * _UP
        length = np.where(length < bounds.most, length, np.inf)
        left[:, -2] = (0.0 if self.angular else square * (1 - bounds.own)) - bounds.least * length
        left[:, -1] = -bounds.cross * length
        return length

    def _read(self, start: int, stop: int) -> Array:
        some: Array = self.X[start:stop] if self.rows is None else self.X[self.rows[start:stop]]
        return some

    def distance(self, batch: Batch, query: Array, row: Array) -> Array:
        """Distances of pairs: squared Euclidean, or cosine."""
        row = row if self.rows is None else self.rows[row]
        return exact.pairs(batch.queries, self.X, query, row, angular=self.angular)

    def block(self, queries: Array, start: int, stop: int) -> Array:
        """Distances of all pairs, with the bits of `distance`."""
        return exact.block(queries, self._read(start, stop), angular=self.angular)


class Sparse(_Reach):
    """CSR rows, scored as they are, by products in float64.

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
        """Turn the queries."""
        with np.errstate(over="ignore", under="ignore"):
            norm = np.sqrt(np.asarray(queries.multiply(queries).sum(axis=1), dtype=np.float64).ravel())
        return Batch(queries, queries.T.tocsr(), norm, self.bounds(np.float64))

    def sweep(self, batch: Batch) -> Iterator[Piece]:
        """Score all rows, piece by piece in a fixed order; the longest row of a piece bounds all of its errors."""
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
                length = np.full(rows, float(np.sqrt(square.max(initial=0.0))) * _UP)
                scores[:rows] -= batch.bounds.error(batch.norm, float(length[0]))
            scores[rows:] = np.inf
            yield Piece(start, stop, scores, length)

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


def canonical(X: Any) -> Any:
    """A CSR array with short indices, sorted, and no duplicates; shares memory where it can."""
    rows = csr_array(X)
    kind = np.int32 if max(rows.nnz, rows.shape[1]) < 2**31 else np.int64
    if rows.indices.dtype != kind:
        rows = csr_array((rows.data, rows.indices.astype(kind), rows.indptr.astype(kind)), shape=rows.shape)
    if not rows.has_canonical_format:
        rows = rows.copy()
        rows.sum_duplicates()
    return rows


def dense(X: Any) -> Array:
    """An ndarray of what may be sparse."""
    found: Any = X
    return np.asarray(found.toarray() if issparse(X) else found)


def _roughly_unit(rows: Array) -> Array:
    """`unit` with lengths summed in any order; `unit` itself where that might decide whether a row is scaled."""
    length = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    if not ((length == 0) | ((length > 1e-13) & (length < 1e150))).all():
        return exact.unit(rows)
    length[length == 0] = 1.0
    scaled: Array = rows / length[:, None]
    return scaled


def _centre(X: Array) -> tuple[Array, float]:
    """Median of a sample of rows, and the power of two that brings the sample to about 1."""
    n, d = X.shape
    step = max(1, n // int(np.clip(_SAMPLE // max(d, 1), 8, 512)))
    sample = np.asarray(X[::step], dtype=np.float64)
    centre: Array = np.sort(sample, axis=0)[len(sample) // 2]
    with np.errstate(over="ignore"):
        width = float(np.abs(sample - centre).max(initial=0.0))
    if not 0 < width < np.inf:
        return centre, 1.0
    return centre, float(np.ldexp(1.0, int(np.clip(-np.frexp(width)[1], -1000, 1000))))


def _piece(m: int, d: int) -> int:
    """How many rows to score at once: scores and rows stay in cache, and few queries do not mean many pieces."""
    return int(np.clip(min(_CELLS // max(m, 1), 2**19 // max(d, 1)), 16, 4096)) // 16 * 16


def _pieces(n: int, size: int) -> Iterator[tuple[int, int]]:
    """Slices of `range(n)` in an order that jumps about, so that rows sorted by anything look like shuffled ones."""
    count = -(-n // size)
    step = max(1, round(_GOLDEN * count))
    while np.gcd(step, count) != 1:
        step += 1
    for i in range(count):
        start = i * step % count * size
        yield start, min(start + size, n)
