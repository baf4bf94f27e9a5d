"""What the tests of the search share: rows of many kinds, splits over nodes, and answers put together by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from atoll.nearest import Metric, build

KINDS = (
    "normal", "twins", "offset", "tiny", "small", "big", "huge", "constant", "outlier", "scales", "itself", "far",
    "shell", "clusters", "holes",
)  # fmt: skip
LAST = np.iinfo(np.int64).max


def rows(kind: str, rng: np.random.Generator, n: int, m: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and queries of one kind."""
    X, Q = rng.standard_normal((n, d)), rng.standard_normal((m, d))
    factor = {"tiny": 1e-200, "small": 1e-160, "big": 1e153, "huge": 1e200}.get(kind, 1.0)
    X, Q = X * factor, Q * factor
    if kind == "twins":
        X, Q = rng.integers(0, 3, (n, d)).astype(float), rng.integers(0, 3, (m, d)).astype(float)
    elif kind == "offset":
        X, Q = X + 1e8, Q + 1e8
    elif kind == "constant":
        X, Q = np.full((n, d), 0.1), np.full((m, d), 0.1)
        Q[::2] += 0.3
    elif kind == "outlier":
        X[:1] *= 1e30
        Q[:1] *= 1e12
    elif kind == "scales":
        X, Q = X * 10.0 ** rng.integers(-6, 6, d), Q * 10.0 ** rng.integers(-6, 6, d)
    elif kind == "itself":
        Q = X[rng.integers(0, max(n, 1), m)].copy() if n else Q
    elif kind == "far":
        Q = Q + 1e9
    elif kind == "shell":  # all rows equally far from all queries, up to rounding
        Q = np.repeat(Q[:1], m, axis=0) + 1e-12 * Q
        X /= np.sqrt((X * X).sum(axis=1, keepdims=True))
        X = Q[:1] + X * (1 + 10.0 ** -rng.integers(6, 15) * rng.standard_normal((n, 1))) if m else X
    elif kind == "clusters":
        centres, width = 100 * rng.standard_normal((5, d)), 10.0 ** -rng.integers(2, 7)
        X = centres[rng.integers(0, 5, n)] + width * X
        Q = centres[rng.integers(0, 5, m)] + 1e-4 * Q
    elif kind == "holes":
        X, Q = X * (rng.random((n, d)) < 0.2), Q * (rng.random((m, d)) < 0.2)
    return X, Q


def split(n: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Rows over 1 to 7 nodes at random; some may be empty."""
    nodes = int(rng.integers(1, 8))
    node = rng.integers(0, nodes, n)
    return [np.flatnonzero(node == i) for i in range(nodes)]


def numbers(n: int, rng: np.random.Generator) -> np.ndarray:
    """Distinct global ids in no order."""
    return rng.permutation(10 * n)[:n].astype(np.int64)


def nearest(
    X: Any, Q: Any, k: int, ids: np.ndarray, nodes: list[np.ndarray], method: str, metric: Metric
) -> tuple[np.ndarray, np.ndarray]:
    """Distances and ids of the k nearest, from the answers of all nodes; checks their form on the way."""
    parts = []
    for node in nodes:
        dist, row = build(X[node], method=method, metric=metric, leaf_size=3).query(Q, k, ids[node])
        assert dist.shape == row.shape == (Q.shape[0], k)
        assert dist.dtype == np.float64
        assert row.dtype == np.int64
        held = row >= 0
        assert np.array_equal(held.sum(axis=1), np.full(Q.shape[0], min(k, len(node))))
        assert np.isinf(dist[~held]).all()
        parts.append((dist, np.where(held, ids[node][row] if len(node) else LAST, LAST), ~held))
    dist, number, missing = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
    order = np.lexsort((number, dist, missing), axis=-1)[:, :k]
    return np.take_along_axis(dist, order, axis=1), np.take_along_axis(number, order, axis=1)


def within(
    X: Any, Q: Any, r: float, ids: np.ndarray, nodes: list[np.ndarray], method: str, metric: Metric
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Query, distance and id of all hits, from the answers of all nodes."""
    parts = []
    for node in nodes:
        indptr, dist, row = build(X[node], method=method, metric=metric, leaf_size=3).radius(Q, r, ids[node])
        assert indptr.shape == (Q.shape[0] + 1,)
        assert indptr.dtype == row.dtype == np.int64
        assert dist.dtype == np.float64
        query = np.repeat(np.arange(Q.shape[0]), np.diff(indptr))
        parts.append((query, dist, ids[node][row]))
    query, dist, number = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.lexsort((number, dist, query))
    return query[order], dist[order], number[order]


def chosen(D: np.ndarray, k: int, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The k first of each row of a matrix of distances, by (distance, id), padded."""
    m, n = D.shape
    order = np.lexsort((np.broadcast_to(ids, D.shape), D), axis=-1)[:, :k]
    dist, number = np.full((m, k), np.inf), np.full((m, k), LAST)
    dist[:, : min(k, n)] = np.take_along_axis(D, order, axis=1)
    number[:, : min(k, n)] = ids[order]
    return dist, number


def inside(D: np.ndarray, r: float, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All entries of a matrix of distances up to r, by (query, distance, id)."""
    query, row = np.nonzero(r >= D)
    order = np.lexsort((ids[row], D[query, row], query))
    return query[order], D[query, row][order], ids[row][order]


def same(left: tuple[np.ndarray, ...], right: tuple[np.ndarray, ...]) -> bool:
    """Whether two answers have the same bits."""
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(left, right, strict=True))


_PLAIN = {1: "manhattan", 2: "euclidean", np.inf: "chebyshev"}


def effective(
    metric: str | Callable[..., float] = "minkowski",
    *,
    p: float | None = 2,
    metric_params: dict[str, Any] | None = None,
) -> Metric:
    """Resolve the `metric`, `p` and `metric_params` of a scikit-learn estimator as its `fit` does."""
    params = {name: value for name, value in (metric_params or {}).items() if value is not None}
    if metric == "minkowski":
        power = params.pop("p", p)
        power = 2 if power is None else power
        if "w" not in params:
            metric = _PLAIN.get(power, metric)
        if metric == "minkowski":
            params["p"] = power
    arrays = {name: np.asarray(value) for name, value in params.items() if isinstance(value, (np.ndarray, list, tuple))}
    settings = {name: value for name, value in params.items() if name not in arrays}
    if callable(metric):
        return Metric("callable", settings, arrays, metric)
    return Metric(metric, settings, arrays)
