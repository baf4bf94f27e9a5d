"""Sums and moments, also per class."""

from __future__ import annotations

from typing import Any

import numpy as np

from atoll.context import Ctx
from atoll.messages import Reply
from atoll.operations.base import operation
from atoll.operations.classes import class_codes, membership
from atoll.shards import Shard, is_sparse, weights
from atoll.trees import Array, Tree

__all__ = ["class_moments", "count_stored", "extrema", "sum_rows", "total_weight"]


@operation("statistics.sums", discloses="the sum of each column, and how many rows it has")
def sum_rows(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``x`` of shape (d,), the column sums in float64, and ``weight`` of shape (1,), the number of rows."""
    total = np.asarray(shard.X.sum(axis=0, dtype=np.float64)).reshape(-1)
    return Reply({"x": total, "weight": np.array([float(shard.n_rows)])})


@operation("statistics.weight", discloses="the sum of its sample weights, or how many rows it has")
def total_weight(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``total`` of shape (1,), float64."""
    weight = shard.columns.get("sample_weight")
    return Reply({"total": np.array([float(shard.n_rows if weight is None else weight.sum())])})


@operation("statistics.stored", discloses="how many values of its sparse rows are stored", pieces=True)
def count_stored(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``stored`` of shape (1,), int64: values that a sparse matrix stores, or all of a dense one."""
    return Reply({"stored": np.array([shard.X.nnz if is_sparse(shard.X) else shard.X.size], dtype=np.int64)})


@operation("statistics.extrema", discloses="the smallest and the largest value of each column")
def extrema(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``min`` and ``max`` of shape (d,), float64; infinities on a node without rows."""
    if not shard.n_rows:
        return Reply({"min": np.full(shard.n_features, np.inf), "max": np.full(shard.n_features, -np.inf)})
    low, high = shard.X.min(axis=0), shard.X.max(axis=0)
    return Reply({"min": _dense(low).reshape(-1), "max": _dense(high).reshape(-1)})


@operation(
    "statistics.class_moments",
    discloses="for each class: how many rows it has, their mean, and the spread of each column",
    pieces=True,
)
def class_moments(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """Per class ``n`` (C,), ``mean`` (C, d) and summed squared deviations ``m2`` (C, d), float64.

    Wants the view `codes`, unless all rows are one class. Settings: `n_classes` (None: all rows are one class);
    `weighted` (False where left out), whether rows count as much as their sample weight.
    """
    code, C = class_codes(shard, ctx.settings["n_classes"])
    if not shard.n_rows:
        return Reply({"n": np.zeros(C), "mean": np.zeros((C, shard.n_features)), "m2": np.zeros((C, shard.n_features))})
    weight = weights(shard) if ctx.settings.get("weighted", False) else None
    n = np.bincount(code, weights=weight, minlength=C).astype(np.float64)
    mean, m2 = (_sparse_moments if is_sparse(shard.X) else _dense_moments)(shard.X, code, n, weight)
    return Reply({"n": n, "mean": mean, "m2": m2})


def _dense_moments(X: Array, code: Array, n: Array, weight: Array | None) -> tuple[Array, Array]:
    """Deviations are taken from a row of the class, its heaviest: it lies among the others, so little cancels."""
    order = np.arange(len(X))[::-1] if weight is None else np.argsort(weight, kind="stable")
    row = np.zeros(len(n), dtype=np.intp)
    row[code[order]] = order
    base = X[row].astype(np.float64)
    deviation = base[code]
    np.subtract(X, deviation, out=deviation)
    member = membership(code, len(n), weight)
    first = member @ deviation
    np.square(deviation, out=deviation)
    second = member @ deviation
    some = (n > 0)[:, None]
    shift = np.divide(first, n[:, None], out=np.zeros_like(first), where=some)
    return np.where(some, base + shift, 0.0), np.maximum(second - first * shift, 0.0)


def _sparse_moments(X: Any, code: Array, n: Array, weight: Array | None) -> tuple[Array, Array]:
    """Of a CSR matrix; zeros that are not stored count by their number."""
    member = membership(code, len(n), weight)
    total = (member @ X).toarray().astype(np.float64)
    mean = np.divide(total, n[:, None], out=np.zeros_like(total), where=(n > 0)[:, None])
    stored = X.astype(np.float64)
    stored.data = np.ones_like(stored.data)
    left_out = n[:, None] - (member @ stored).toarray()
    if weight is not None:
        rows = np.bincount(code, minlength=len(n))[:, None]
        left_out[(membership(code, len(n)) @ stored).toarray() == rows] = 0.0
    stored.data = np.square(X.data - mean[np.repeat(code, np.diff(X.indptr)), X.indices])
    return mean, (member @ stored).toarray() + np.maximum(left_out, 0.0) * np.square(mean)


def _dense(X: Any) -> Array:
    return np.asarray(X.toarray() if is_sparse(X) else X, dtype=np.float64)
