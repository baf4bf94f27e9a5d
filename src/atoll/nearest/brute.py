"""Search by looking at every row."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.exceptions import DataConversionWarning

from atoll.nearest import metrics
from atoll.nearest.collect import Hits, Nearest, Neighbors, Within
from atoll.nearest.exact import chunks
from atoll.nearest.metrics import Metric
from atoll.nearest.scores import Dense, Space, Sparse, canonical
from atoll.nearest.screen import candidates, hits
from atoll.trees import Array

__all__ = ["Blocked", "Screened", "join", "no_hits"]

_FEW = 4
_PAIRS = 2**19


def no_hits(m: int) -> Hits:
    """The answer to m queries when nothing is within the radius."""
    return Hits(np.zeros(m + 1, dtype=np.int64), np.empty(0), np.empty(0, dtype=np.int64))


def join(parts: list[Hits]) -> Hits:
    """Put the hits of consecutive batches of queries together."""
    if len(parts) == 1:
        return parts[0]
    ends = np.cumsum([0] + [int(part.indptr[-1]) for part in parts])
    indptr = np.concatenate([[0], *(part.indptr[1:] + end for part, end in zip(parts, ends, strict=False))])
    dist = np.concatenate([np.empty(0), *(part.dist for part in parts)])
    row = np.concatenate([np.empty(0, dtype=np.int64), *(part.row for part in parts)])
    return Hits(indptr.astype(np.int64), dist, row)


class Screened:
    """Euclidean or cosine distances: candidates by scores, then their distances pair by pair.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n, d)
        The rows; kept as they are.
    metric : Metric
        Of the Euclidean family, or cosine.
    """

    def __init__(self, X: Any, metric: Metric) -> None:
        angular = metric.name in metrics.COSINE
        self.squared = metric.name == "sqeuclidean"
        self.space: Space = Sparse(canonical(X), angular) if issparse(X) else Dense(np.asarray(X), angular)
        self.sparse = issparse(X)
        self.n_rows, self.features = X.shape

    def query(self, Q: Any, k: int, ids: Array) -> Neighbors:
        """The k nearest rows of each query, in the order of (distance, id)."""
        ways = [np.float64] if self.sparse or self.features > 100_000 else [np.float32, np.float64]
        found = [self._nearest(Q[part], k, ids, ways) for part in chunks(Q.shape[0], self._batch(2048, k))]
        if len(found) == 1:
            return found[0]
        dist = np.concatenate([np.empty((0, k)), *(part.dist for part in found)])
        row = np.concatenate([np.empty((0, k), dtype=np.int64), *(part.row for part in found)])
        return Neighbors(dist, row)

    def radius(self, Q: Any, r: float, ids: Array) -> Hits:
        """All rows within the radius of each query, in the order of (distance, id)."""
        return join([no_hits(0), *(self._within(Q[part], r, ids) for part in chunks(Q.shape[0], self._batch(512, 1)))])

    def _batch(self, most: int, k: int) -> int:
        return int(np.clip(min(_PAIRS // (8 * k), 2**20 // max(self.features, 1)), 1, most))

    def _nearest(self, Q: Any, k: int, ids: Array, ways: list[Any]) -> Neighbors:
        return self._by_scores(self.space.queries(Q), k, ids, ways)

    def _by_scores(self, queries: Any, k: int, ids: Array, ways: list[Any]) -> Neighbors:
        m = queries.shape[0]
        near = Nearest(m, k, ids)
        if not ways or self._small(m, k):
            self._by_blocks(queries, near)
            return near.result()
        most = max(8 * k, _PAIRS // m)
        batch = self.space.batch(queries, ways[0])
        found = candidates(self.space, batch, k, ways[0], most)
        near.pairs(found.query, found.row, self._finish(self.space.distance(batch, found.query, found.row)))
        for part in chunks(len(found.heavy), self._batch(512, k)):
            heavy = found.heavy[part]
            near.dist[heavy], near.row[heavy] = self._by_scores(queries[heavy], k, ids, ways[1:])
        return near.result()

    def _within(self, Q: Any, r: float, ids: Array) -> Hits:
        queries = self.space.queries(Q)
        found = Within(queries.shape[0], r, ids)
        if self._small(queries.shape[0], 1):
            self._by_blocks(queries, found)
            return found.result()
        batch = self.space.batch(queries, np.float64)
        for query, row in hits(self.space, batch, r if self.squared or self.space.angular else r * r):
            found.pairs(query, row, self._finish(self.space.distance(batch, query, row)))
        return found.result()

    def _small(self, m: int, k: int) -> bool:
        """Whether it is quicker to compute all distances."""
        if self.sparse:
            return m * self.n_rows <= 2**12 or 4 * k > self.n_rows
        return m <= _FEW or 4 * k > self.n_rows or m * self.n_rows * self.features <= 2**21

    def _by_blocks(self, queries: Any, into: Nearest | Within) -> None:
        _blocks(
            queries, self.n_rows, lambda q, start, stop: self._finish(self.space.block(q, start, stop)), into, 64, 512
        )

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

    def query(self, Q: Any, k: int, ids: Array) -> Neighbors:
        """The k nearest rows of each query, in the order of (distance, id)."""
        near = Nearest(Q.shape[0], k, ids)
        self._search(Q, near)
        return near.result()

    def radius(self, Q: Any, r: float, ids: Array) -> Hits:
        """All rows within the radius of each query, in the order of (distance, id)."""
        found = Within(Q.shape[0], r, ids)
        self._search(Q, found)
        return found.result()

    def _search(self, Q: Any, into: Nearest | Within) -> None:
        if self.boolean and (self.X.dtype != bool or Q.dtype != bool) and self.n_rows and Q.shape[0]:
            message = f"Data was converted to boolean for metric {self.metric.name}"
            warnings.warn(message, DataConversionWarning, stacklevel=3)
        if issparse(self.X):
            Q = canonical(Q)
        elif issparse(Q):
            Q = Q.toarray()
        _blocks(Q, self.n_rows, self._block, into, 256, 1024)

    def _block(self, queries: Any, start: int, stop: int) -> Array:
        kind = bool if self.boolean else np.float64
        found = self.distances(queries.astype(kind), self.X[start:stop].astype(kind))
        return np.asarray(found, dtype=np.float64)


def _blocks(
    queries: Any,
    n_rows: int,
    distances: Callable[[Any, int, int], Array],
    into: Nearest | Within,
    n_queries: int,
    n_rows_each: int,
) -> None:
    for some in chunks(queries.shape[0], n_queries):
        for part in chunks(n_rows, n_rows_each):
            into.block(some.start, part.start, distances(queries[some], part.start, part.stop))
