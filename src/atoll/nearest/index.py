"""Building an index over the rows of one node."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from scipy.sparse import issparse
from sklearn.metrics import DistanceMetric

from atoll.errors import UnknownName, closest, explain
from atoll.nearest import metrics
from atoll.nearest.collect import Hits, Neighbors
from atoll.nearest.metrics import Metric
from atoll.trees import Array

__all__ = ["Index", "build"]

_NO_TRIANGLES = frozenset({"braycurtis", "dice"})
_METHODS = ("ball_tree", "brute", "faiss", "kd_tree")


class Index(Protocol):
    """Rows that can be searched.

    A distance is a function of its query and its row alone; equal distances are ordered by global id. So the answers of
    several indices, merged by (distance, id), are bit for bit the answer of one index over all their rows.
    """

    n_rows: int

    def query(self, Q: Any, k: int, ids: Array) -> Neighbors:
        """The k nearest rows of each query.

        Parameters
        ----------
        Q : ndarray or CSR matrix of shape (m, d)
            The queries; for precomputed distances the distances to all pooled rows.
        k : int
            Number of neighbours, at least 1.
        ids : ndarray of shape (n,)
            Global ids of the rows, int64, distinct, in any order.

        Returns
        -------
        Neighbors
            `(dist, row)`, both of shape (m, k), in the order of (distance, id); infinity and -1 where there are fewer
            than k rows.
        """

    def radius(self, Q: Any, r: float, ids: Array) -> Hits:
        """All rows at a distance of at most r from each query.

        Parameters
        ----------
        Q : ndarray or CSR matrix of shape (m, d)
            The queries; for precomputed distances the distances to all pooled rows.
        r : float
            In units of the distance (squared for `sqeuclidean`).
        ids : ndarray of shape (n,)
            Global ids of the rows, int64, distinct, in any order.

        Returns
        -------
        Hits
            `(indptr, dist, row)`, each query's hits in the order of (distance, id).
        """


def build(
    X: Any,
    *,
    method: Literal["brute", "kd_tree", "ball_tree", "faiss"] | str,
    metric: Metric,
    leaf_size: int = 30,
) -> Index:
    """Make the rows of one node searchable.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n, d)
        The rows, float32 or float64; there may be none. Kept, not copied. For precomputed distances only their number
        counts.
    method : {"brute", "kd_tree", "ball_tree", "faiss"}
        The same on all nodes: what `choose_method` says for the pooled rows, or "faiss" instead of "brute".
    metric : Metric
        What scikit-learn calls `effective_metric_`, with its parameters.
    leaf_size : int, default=30
        Of the trees, as in scikit-learn.

    Returns
    -------
    Index

    Raises
    ------
    UnknownName
        If there is no such method.
    InvalidData
        If the metric does not take such rows, or a parameter is missing.
    MissingExtra
        If faiss is asked for and not installed.
    """
    if method not in _METHODS:
        raise UnknownName(explain(f"unknown search method {method!r}", hint=closest(method, _METHODS)))
    # Loaded with the first rows, not with the package: a driver may never search itself.
    from atoll.nearest.brute import Blocked, Screened
    from atoll.nearest.flat import Flat
    from atoll.nearest.graph import Precomputed
    from atoll.nearest.spatial import Spatial

    own = metric.function is None
    if own and metric.name == "precomputed":
        return Precomputed(X.shape[0])
    if method == "faiss":
        return Flat(X, metric)
    if method in ("kd_tree", "ball_tree"):
        if own and metric.name in _NO_TRIANGLES and not issparse(X):
            return Blocked(X, metric, DistanceMetric.get_metric(metric.name, **metric.params).pairwise)
        return Spatial(X, method, metric, leaf_size)
    if own and metric.name in metrics.EUCLIDEAN | metrics.COSINE:
        return Screened(X, metric)
    return Blocked(X, metric)
