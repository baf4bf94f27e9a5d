"""Search in scikit-learn's k-d and ball trees.

A tree passes over a node when its lower bound of the distances inside exceeds what it looks for, and lower bounds are
rounded like everything else. So a tree may lose a row that is exactly as far as the last of its answer. Whatever
stands within a rounding error of a boundary is therefore looked for again, by a radius a little larger than the
boundary, and decided by its distance.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.neighbors import BallTree, KDTree

from atoll.errors import InvalidData, explain
from atoll.nearest.brute import join
from atoll.nearest.collect import Hits, Nearest, Neighbors, Within
from atoll.nearest.exact import chunks
from atoll.nearest.metrics import Metric
from atoll.trees import Array

__all__ = ["Spatial"]

_PAIRS = 2**19
_EXTRA = 4
_RELATIVE = 1e-9
_SPHERE = 1e-7


class Spatial:
    """A k-d tree or a ball tree over the rows.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        The rows.
    method : {"kd_tree", "ball_tree"}
        Which tree.
    metric : Metric
        One that obeys the triangle inequality.
    leaf_size : int
        As in scikit-learn.
    """

    def __init__(self, X: Any, method: str, metric: Metric, leaf_size: int) -> None:
        if issparse(X):
            raise InvalidData(
                explain(f"a {method} does not take sparse rows", hint="densify them, or algorithm='brute'")
            )
        self.n_rows, self.method = X.shape[0], method
        self.tree: Any = None
        self.slack = 0.0
        # these two undo their surrogate distance in another way in `query` than in `query_radius`
        self.redone = metric.name in ("haversine", "minkowski", "p")
        self.farthest = np.pi if metric.name == "haversine" else np.inf
        if self.n_rows:
            made: Any = metric.name if metric.function is None else metric.function
            self.tree = (KDTree if method == "kd_tree" else BallTree)(X, leaf_size, metric=made, **metric.params)
            self.slack = self._slack(metric, X.shape[1])

    def _slack(self, metric: Metric, features: int) -> float:
        """How wrong a lower bound may be, whatever the distance.

        A ball tree subtracts radii, so its bounds are rounded at their scale; on the sphere they lose half their digits
        where rows are opposite; and powers of small distances vanish.
        """
        slack = float(1e-300 ** (1 / max(float(metric.settings.get("p", 2)), 1.0)))
        if self.method == "ball_tree":
            tame = metric.function is None and metric.name != "mahalanobis"
            unit = (features + 16) * 2.0**-48 if tame else _RELATIVE
            slack += 2 * unit * float(self.tree.get_arrays()[2]["radius"].max())
        return slack + (_SPHERE if metric.name == "haversine" else 0.0)

    def query(self, Q: Any, k: int, ids: Array) -> Neighbors:
        """The k nearest rows of each query, in the order of (distance, id)."""
        near = Nearest(Q.shape[0], k, ids)
        if not self.n_rows:
            return near.result()
        for part in chunks(Q.shape[0], max(1, _PAIRS // (k + _EXTRA))):
            self._nearest(self._dense(Q[part]), near.dist[part], near.row[part], ids)
        return near.result()

    def _nearest(self, Q: Array, dist: Array, row: Array, ids: Array) -> None:
        """Fill in the answer to some queries."""
        k = dist.shape[1]
        count, kept = min(k + _EXTRA, self.n_rows), min(k, self.n_rows)
        far, at = self.tree.query(Q, count)
        limit = self._wider(far[:, kept - 1])
        doubtful = ~np.isfinite(far[:, -1])
        if count < self.n_rows:
            doubtful |= ~(far[:, -1] > limit)
        if self.redone:
            doubtful[:] = True
        order = np.lexsort((ids[at], far), axis=-1)[:, :kept]
        dist[:, :kept] = np.take_along_axis(far, order, axis=1)
        row[:, :kept] = np.take_along_axis(at, order, axis=1)
        again = np.flatnonzero(doubtful)
        if again.size:
            found = Nearest(len(again), k, ids)
            for *_, query, hit, distance in self._within(Q[again], limit[again]):
                found.pairs(query, hit, distance)
            dist[again], row[again] = found.result()

    def radius(self, Q: Any, r: float, ids: Array) -> Hits:
        """All rows within the radius of each query, in the order of (distance, id)."""
        parts = []
        for part in chunks(Q.shape[0], 2048):
            some = self._dense(Q[part])
            for first, last, query, row, dist in self._within(some, self._wider(np.full(len(some), float(r)))):
                found = Within(last - first, r, ids)
                found.pairs(query - first, row, dist)
                parts.append(found.result())
        return join(parts)

    def _wider(self, distance: Array) -> Array:
        """Radii that no row at this distance can escape."""
        wider: Array = distance * (1 + _RELATIVE) + self.slack
        wider[~(wider < self.farthest)] = np.inf
        return wider

    def _within(self, Q: Array, radii: Array) -> Iterator[tuple[int, int, Array, Array, Array]]:
        """Pairs within the radii: of which queries (first, last) these are all, then query, row, distance."""
        if not self.n_rows:
            empty = np.empty(0, dtype=np.int64)
            yield 0, len(Q), empty, empty, np.empty(0)
            return
        for part in self._batches(Q, radii):
            rows, dist = self.tree.query_radius(Q[part], radii[part], return_distance=True)
            counts = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
            query = np.repeat(np.arange(part.start, part.stop), counts)
            yield part.start, part.stop, query, np.concatenate(list(rows)), np.concatenate(list(dist))

    def _batches(self, Q: Array, radii: Array) -> list[slice]:
        """Consecutive queries whose hits are not too many together."""
        if len(Q) * self.n_rows <= _PAIRS:
            return [slice(0, len(Q))]
        counts = self.tree.query_radius(Q, radii, count_only=True)
        group = np.cumsum(counts) // _PAIRS
        edges = np.flatnonzero(np.diff(group)) + 1
        bounds = [0, *edges.tolist(), len(Q)]
        return [slice(a, b) for a, b in pairwise(bounds)]

    def _dense(self, Q: Any) -> Array:
        if issparse(Q):
            raise InvalidData(
                explain(f"{self.method} does not work with sparse queries", hint="densify them, or algorithm='brute'")
            )
        return np.asarray(Q)
