"""Search by looking at every row."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.exceptions import DataConversionWarning

from atoll.nearest import metrics
from atoll.nearest.collect import Hits, Nearest, Neighbors, Within
from atoll.nearest.exact import chunks, distinct
from atoll.nearest.metrics import Metric
from atoll.nearest.scores import Dense, Space, Sparse, canonical, dense
from atoll.nearest.screen import candidates, hits
from atoll.trees import Array

__all__ = ["Blocked", "Screened", "join"]

_PAIRS = 2**20
_WIDE = 100_000


def join(parts: list[Hits]) -> Hits:
    """Put the hits of consecutive queries together."""
    if len(parts) == 1:
        return parts[0]
    counts = np.concatenate([np.empty(0, dtype=np.int64), *(np.diff(part.indptr) for part in parts)])
    dist = np.concatenate([np.empty(0), *(part.dist for part in parts)])
    row = np.concatenate([np.empty(0, dtype=np.int64), *(part.row for part in parts)])
    return Hits(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), dist, row)


class Screened:
    """Euclidean or cosine distances: candidates by scores, then their distances pair by pair.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n, d)
        The rows; kept as they are.
    metric : Metric
        Of the Euclidean family, or cosine.
    """

    together = 2048

    def __init__(self, X: Any, metric: Metric) -> None:
        angular = metric.name in metrics.COSINE
        self.squared = metric.name == "sqeuclidean"
        self.space: Space = Sparse(canonical(X), angular) if issparse(X) else Dense(np.asarray(X), angular)
        self.sparse = issparse(X)
        self.n_rows, self.features = X.shape

    def query(self, Q: Any, k: int, ids: Array) -> Neighbors:
        """The k nearest rows of each query, in the order of (distance, id)."""
        near = Nearest(Q.shape[0], k, ids)
        fewer = cache(partial(self._fewer, k, ids))
        quick = not self.sparse and self.features < _WIDE
        for part in chunks(Q.shape[0], self._batch(self.together, k)):
            queries = self.space.queries(Q[part])
            found, rest = self._quickly(queries, k, ids, quick)
            for some in chunks(len(rest), self._batch(512, k)):
                found.put(rest[some], self._surely(queries[rest[some]], k, ids, *fewer()))
            near.put(part, found.result())
            quick = quick and 2 * len(rest) < queries.shape[0]
        return near.result()

    def radius(self, Q: Any, r: float, ids: Array) -> Hits:
        """All rows within the radius of each query, in the order of (distance, id)."""
        parts = (self._within(self.space.queries(Q[part]), r, ids) for part in chunks(Q.shape[0], self._batch(512, 1)))
        return join([found for some in parts for found in some])

    def _batch(self, most: int, k: int) -> int:
        return int(np.clip(min(_PAIRS // (16 * k), 2**20 // max(self.features, 1)), 1, most))

    def _quickly(self, queries: Any, k: int, ids: Array, quick: bool) -> tuple[Nearest, Array]:
        """By products in float32, if they promise to be of use: answers, and the queries that remain undecided."""
        m = queries.shape[0]
        if self._small(self.space, m, k):
            return self._by_blocks(self.space, queries, k, ids), np.empty(0, dtype=np.int64)
        if not quick:
            return Nearest(m, k, ids), np.arange(m)
        return self._by_scores(self.space, queries, k, ids, np.float32)

    def _surely(self, queries: Any, k: int, ids: Array, space: Space, rows: Array) -> Neighbors:
        """Among these rows, by products in float64, and by all distances where even those do not decide."""
        ids = ids[rows]
        if self._small(space, queries.shape[0], k):
            found = self._by_blocks(space, queries, k, ids)
        else:
            found, rest = self._by_scores(space, queries, k, ids, np.float64)
            if rest.size:
                found.put(rest, self._by_blocks(space, queries[rest], k, ids).result())
        return Neighbors(found.dist, np.where(found.row < 0, -1, rows[found.row]))

    def _by_scores(self, space: Space, queries: Any, k: int, ids: Array, dtype: Any) -> tuple[Nearest, Array]:
        """Answers by products in this precision, and which queries are too heavy for it."""
        near = Nearest(queries.shape[0], k, ids)
        batch = space.batch(queries, dtype)
        most = max(8 * k, min(_PAIRS // queries.shape[0], space.n_rows // 16))
        found = candidates(space, batch, k, most)
        near.pairs(found.query, found.row, self._finish(space.distance(batch, found.query, found.row)))
        return near, found.heavy

    def _by_blocks(self, space: Space, queries: Any, k: int, ids: Array) -> Nearest:
        near = Nearest(queries.shape[0], k, ids)
        _blocks(queries, space.n_rows, self._distances(space), near, 64, 512)
        return near

    def _distances(self, space: Space) -> Callable[[Any, int, int], Array]:
        return lambda queries, start, stop: self._finish(space.block(queries, start, stop))

    def _fewer(self, k: int, ids: Array) -> tuple[Space, Array]:
        """The rows that may be among anyone's k nearest: no more than k of those that are equal."""
        if isinstance(self.space, Dense):
            rows = distinct(self.space.X, k, ids)
            if 2 * len(rows) < self.n_rows:
                return self.space.among(rows), rows
        return self.space, np.arange(self.n_rows)

    def _within(self, queries: Any, r: float, ids: Array) -> list[Hits]:
        """Hits of consecutive queries; they are halved as long as they have too many together."""
        m = queries.shape[0]
        found = Within(m, r, ids)
        if self._small(self.space, m, 1):
            _blocks(queries, self.n_rows, self._distances(self.space), found, 64, 512)
            return [found.result()]
        batch = self.space.batch(queries, np.float64)
        for query, row in hits(self.space, batch, r if self.squared or self.space.angular else r * r):
            found.pairs(query, row, self._finish(self.space.distance(batch, query, row)))
            if found.count > _PAIRS and m > 1:
                break
        else:
            return [found.result()]
        del batch, found, query, row
        return self._within(queries[: m // 2], r, ids) + self._within(queries[m // 2 :], r, ids)

    def _small(self, space: Space, m: int, k: int) -> bool:
        """Whether it is quicker to compute all distances."""
        cost = 2**9 if self.sparse else self.features
        return 4 * k > space.n_rows or m * space.n_rows * cost <= 2**21

    def _finish(self, distance: Array) -> Array:
        return distance if self.squared or self.space.angular else np.sqrt(distance, out=distance)


class Blocked:
    """Any other metric: all distances, block by block.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n, d)
        The rows; kept as they are.
    metric : Metric
        Neither Euclidean nor cosine nor precomputed.
    distances : callable, optional
        Instead of the function that `metric` names.
    """

    def __init__(self, X: Any, metric: Metric, distances: Callable[[Any, Any], Array] | None = None) -> None:
        self.X, self.metric = canonical(X) if issparse(X) else np.asarray(X), metric
        self.n_rows = X.shape[0]
        self.boolean = distances is None and metric.function is None and metric.name in metrics.BOOLEAN
        self.distances = distances or metrics.distances(metric, sparse=issparse(X))
        self.shape = (64, 512) if metric.name == "nan_euclidean" else (256, 1024)

    def query(self, Q: Any, k: int, ids: Array) -> Neighbors:
        """The k nearest rows of each query, in the order of (distance, id)."""
        near = Nearest(Q.shape[0], k, ids)
        self._search(Q, near)
        return near.result()

    def radius(self, Q: Any, r: float, ids: Array) -> Hits:
        """All rows within the radius of each query, in the order of (distance, id)."""
        parts = []
        for some in chunks(Q.shape[0], int(np.clip(_PAIRS // max(self.n_rows, 1), 1, 256))):
            found = Within(some.stop - some.start, r, ids)
            self._search(Q[some], found)
            parts.append(found.result())
        return join(parts)

    def _search(self, Q: Any, into: Nearest | Within) -> None:
        if self.boolean and (self.X.dtype != bool or Q.dtype != bool) and self.n_rows and Q.shape[0]:
            message = f"Data was converted to boolean for metric {self.metric.name}"
            warnings.warn(message, DataConversionWarning, stacklevel=3)
        Q = canonical(Q) if issparse(self.X) else dense(Q)
        _blocks(Q, self.n_rows, self._block, into, *self.shape)

    def _block(self, queries: Any, start: int, stop: int) -> Array:
        kind = bool if self.boolean else np.float64
        found = self.distances(queries.astype(kind), self.X[start:stop].astype(kind))
        return np.asarray(found, dtype=np.float64)


def _blocks(
    queries: Any,
    n_rows: int,
    distances: Callable[[Any, int, int], Array],
    into: Nearest | Within,
    some_queries: int,
    some_rows: int,
) -> None:
    """Offer all distances; at least 2 k rows at a time, since each time k that were found before are sorted again."""
    rows = max(some_rows, 2 * into.k)
    for few in chunks(queries.shape[0], max(1, some_queries * some_rows // rows)):
        for part in chunks(n_rows, rows):
            found = [
                distances(queries[few], part.start + s.start, part.start + s.stop)
                for s in chunks(part.stop - part.start, some_rows)
            ]
            into.block(few.start, part.start, found[0] if len(found) == 1 else np.concatenate(found, axis=1))
