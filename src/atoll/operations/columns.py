"""Statistics of each column by itself: moments, extrema, clusters. Missing values (NaN) are left out of every one.

All of them add up over rows, so a node answers piece by piece. Sparse rows are never made dense.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.sparsefuncs import min_max_axis

from atoll.context import Ctx
from atoll.messages import Reply
from atoll.operations.base import operation
from atoll.shards import Shard, is_sparse, weights
from atoll.trees import Array, Tree

__all__ = ["SCALE", "clusters", "extrema", "farthest", "means", "moments", "power_moments"]

SCALE = 2.0**-40  # sums of finite values stay finite over 10¹² rows, and no digit changes
_LONG = 1024


@operation(
    "columns.moments",
    discloses="for each column how many values are not missing (or their weight), their mean and their spread",
    pieces=True,
)
def moments(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``n``, ``mean``, its ``rest`` and summed squared deviations ``m2``, each of shape (d,), float64; see `Moments`.

    Settings: `weighted` (True where it is left out), whether sample weights count.
    """
    w = weights(shard) if ctx.settings.get("weighted", True) else None
    return Reply(_sparse_moments(shard.X, w) if is_sparse(shard.X) else _dense_moments(shard.X, w))


def _dense_moments(X: Array, w: Array | None) -> Tree:
    """Two passes over rows that are near: a mean, then deviations from it, whose own mean corrects both."""
    X = X.astype(np.float64, copy=False)
    w = np.ones(len(X)) if w is None else w
    total = w.sum()
    n, mean = np.full(X.shape[1], total), w @ X / (total or 1.0)
    missing = None if np.isfinite(mean).all() else np.isnan(X)
    if missing is not None:
        n = n - w @ missing
        mean = _divided(w @ np.where(missing, 0.0, X), n)
    off = X - mean
    if missing is not None:
        off[missing] = 0.0
    rest = _divided(w @ off, n)
    off *= off
    return {"n": n, "mean": mean, "rest": rest, "m2": np.maximum(w @ off - n * rest**2, 0.0)}


def _sparse_moments(X: Any, w: Array | None) -> Tree:
    """The same of stored values, and in one step of the zeros between them."""
    rows, d = X.shape
    w = np.ones(rows) if w is None else w
    values, at, held = X.data.astype(np.float64), X.indices, np.repeat(w, np.diff(X.indptr))
    zeros = w.sum() - _summed(at, held, d)
    zeros[np.bincount(at, minlength=d) == rows] = 0.0
    missing = np.isnan(values)
    n = w.sum() - _summed(at[missing], held[missing], d)
    values[missing] = held[missing] = 0.0
    mean = _divided(_summed(at, held * values, d), n)
    off = values - mean[at]
    rest = _divided(_summed(at, held * off, d) - zeros * mean, n)
    m2 = _summed(at, held * off**2, d) + zeros * mean**2
    return {"n": n, "mean": mean, "rest": rest, "m2": np.maximum(m2 - n * rest**2, 0.0)}


def _summed(at: Array, values: Array, d: int) -> Array:
    return np.bincount(at, values, d).astype(np.float64)


def _divided(total: Array, n: Array) -> Array:
    """Means; 0 where there is nothing."""
    return np.divide(total, n, out=np.zeros_like(total), where=n > 0)


@operation("columns.means", discloses="for each column how many values are not missing, and their sum", pieces=True)
def means(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``n``, int64, and ``sum``, float64 and times `SCALE`, each of shape (d,); weights do not count."""
    rows, d = shard.X.shape
    if is_sparse(shard.X):
        values, at = np.multiply(shard.X.data, SCALE, dtype=np.float64), shard.X.indices
        missing = np.isnan(values)
        n = rows - np.bincount(at[missing], minlength=d)
        return Reply({"n": n, "sum": _summed(at[~missing], values[~missing], d)})
    X = np.multiply(shard.X, SCALE, dtype=np.float64)
    missing = np.isnan(X)
    X[missing] = 0.0
    return Reply({"n": rows - missing.sum(axis=0), "sum": np.ones(rows) @ X})


@operation(
    "columns.extrema", discloses="the smallest and the largest value of each column, missing ones apart", pieces=True
)
def extrema(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``min`` and ``max`` of shape (d,), float64; infinities where there is no value.

    Settings: `weighted` (False where it is left out), whether rows of weight zero are left out.
    """
    w = weights(shard) if ctx.settings.get("weighted", False) else None
    X = shard.X if w is None else shard.X[w != 0]
    d = X.shape[1]
    if not X.shape[0]:
        return Reply({"min": np.full(d, np.inf), "max": np.full(d, -np.inf)})
    low, high = min_max_axis(X, axis=0, ignore_nan=True) if is_sparse(X) else _dense_extrema(X)
    low, high = low.astype(np.float64), high.astype(np.float64)
    return Reply({"min": np.where(np.isnan(low), np.inf, low), "max": np.where(np.isnan(high), -np.inf, high)})


def _dense_extrema(X: Array) -> tuple[Array, Array]:
    return _over_rows(np.fmin, X), _over_rows(np.fmax, X)


def _over_rows(two: np.ufunc, X: Array) -> Array:
    """``two.reduce(X)`` of one row or more; several rows are taken as one long row, since loops go along rows."""
    n, d = X.shape
    k = max(1, _LONG // max(d, 1))
    whole = n - n % k
    parts = [two.reduce(X[:whole].reshape(whole // k, k * d), axis=0).reshape(k, d)] if whole else []
    found: Array = two.reduce(np.concatenate([*parts, X[whole:]]), axis=0)
    return found


@operation(
    "columns.power_moments",
    discloses="for each column how many values are not missing, and mean and spread of their power transform",
    pieces=True,
)
def power_moments(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """Moments, as `moments` gives them, of a power transform of each column.

    With ``s = log1p(|x|)`` for Yeo-Johnson and ``s = log(x) - shift`` for Box-Cox, the transform of a value is
    ``sign · expm1(e · s) / e``, or ``sign · s`` where e is 0. Yeo & Johnson, "A new family of power transformations to
    improve normality or symmetry", Biometrika 87 (2000).

    Payload: `upper` and `lower` of shape (d,), the exponents e of values from 0 on and of negative ones, NaN for a
    column that is not asked for, and answered with zeros; `shift` of shape (d,). Settings: `method`.
    """
    wanted = np.flatnonzero(~np.isnan(payload["upper"]))
    X = shard.X[:, wanted].astype(np.float64, copy=False)
    upper, lower, shift = (payload[name][wanted] for name in ("upper", "lower", "shift"))
    y = _yeo_johnson(X, upper, lower) if ctx.settings["method"] == "yeo-johnson" else _power(np.log(X) - shift, upper)
    tree = {name: np.zeros(shard.n_features) for name in ("n", "mean", "rest", "m2")}
    for name, array in _dense_moments(y, None).items():
        tree[name][wanted] = array
    return Reply(tree)


def _power(s: Array, exponent: Array) -> Array:
    flat = exponent == 0
    y: Array = np.expm1(exponent * s) / np.where(flat, 1.0, exponent)
    return np.where(flat, s, y)


def _yeo_johnson(X: Array, upper: Array, lower: Array) -> Array:
    y = _power(np.log1p(np.abs(X)), np.where(X < 0, lower, upper))
    return np.copysign(y, X)


@operation(
    "columns.clusters",
    discloses="for each column and cluster of values: how many rows it has, their weight and their sum",
    pieces=True,
)
def clusters(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """One step of Lloyd's algorithm in one dimension, for every column at once.

    Payload: `mean` of shape (d,), and `centers` of shape (k, d), about that mean, NaN where there is none; a value
    belongs to the nearest one of its column. Answers, each of shape (k, d): ``rows``, int64; ``mass``, their weight;
    ``sum``, the weighted sum of their differences from the mean.
    """
    centers, w, k = payload["centers"], weights(shard), len(payload["centers"])
    rows = np.zeros(centers.shape, dtype=np.int64)
    mass, total = np.zeros(centers.shape), np.zeros(centers.shape)
    for j in np.flatnonzero(~np.isnan(centers).all(axis=0)):
        x = shard.X[:, j] - payload["mean"][j]
        label = _nearest(x, centers[:, j])
        rows[:, j] = np.bincount(label, minlength=k)
        mass[:, j] = np.bincount(label, w, k)
        total[:, j] = np.bincount(label, x if w is None else w * x, k)
    return Reply({"rows": rows, "mass": mass, "sum": total})


def _nearest(x: Array, centers: Array) -> Array:
    """Positions of the nearest centres, ties decided by rounding as in scikit-learn; the first of equal ones."""
    score = np.square(centers) - 2 * (x[:, None] * centers)
    score[:, np.isnan(centers)] = np.inf
    nearest: Array = score.argmin(axis=1)
    return nearest


@operation(
    "columns.farthest",
    discloses="for some columns, the few values that lie farthest from the centre of their cluster, with row ids",
    pieces=True,
)
def farthest(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """The `k` values of a column that lie farthest from their centre, to be joined by `TopK`.

    The order is the reverse of (distance, row id), for of equally far rows scikit-learn mostly takes the last.

    Payload: `mean` and `centers` as for `clusters`; only columns with a centre are looked at. Answers, each of shape
    (d, k): ``distance``, squared and negative, infinity where there are fewer rows; ``id``, counted down from the
    largest integer; ``value``, about the mean; ``label``, the position of the centre; ``mass``, the weight of the row.
    Settings: `k`.
    """
    centers, k, w, d = payload["centers"], ctx.settings["k"], weights(shard), shard.n_features
    tree = {
        "distance": np.full((d, k), np.inf), "id": np.full((d, k), -1, dtype=np.int64), "value": np.zeros((d, k)),
        "label": np.zeros((d, k), dtype=np.int64), "mass": np.zeros((d, k)),
    }  # fmt: skip
    for j in np.flatnonzero(~np.isnan(centers).all(axis=0)):
        x = shard.X[:, j] - payload["mean"][j]
        label, late = _nearest(x, centers[:, j]), np.iinfo(np.int64).max - shard.ids
        distance = -np.square(x - centers[label, j])
        far = np.lexsort((late, distance))[:k]
        mass = np.ones(len(far)) if w is None else w[far]
        found = (("distance", distance[far]), ("id", late[far]), ("value", x[far]), ("label", label[far]))
        for name, array in (*found, ("mass", mass)):
            tree[name][j, : len(far)] = array
    return Reply(tree)
