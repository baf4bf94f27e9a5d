"""Sums, moments and order statistics per class."""

from __future__ import annotations

from typing import Any

import numpy as np

from atoll.context import Ctx
from atoll.messages import Reply
from atoll.operations.base import operation
from atoll.shards import Shard, is_sparse
from atoll.trees import Array, Tree

__all__ = ["class_moments", "count_below", "extrema", "sum_rows", "total_weight"]


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
)
def class_moments(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """Per class ``n`` (C,), ``mean`` (C, d) and summed squared deviations ``m2`` (C, d), float64.

    Wants the view `codes`. Settings: `n_classes`.
    """
    C, d = ctx.settings["n_classes"], shard.n_features
    n, mean, m2 = np.zeros(C), np.zeros((C, d)), np.zeros((C, d))
    for c in range(C):
        rows = _dense(shard.X[shard.columns["code"] == c])
        n[c] = len(rows)
        if len(rows):
            mean[c] = rows.mean(axis=0)
            m2[c] = np.square(rows - mean[c]).sum(axis=0)
    return Reply({"n": n, "mean": mean, "m2": m2})


@operation("statistics.count_below", discloses="for each class and column, how many rows lie at or below a threshold")
def count_below(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``count`` (q, C, d), int64: rows of class c whose column j is at most ``threshold[q, c, j]``.

    Wants the view `codes`.
    """
    threshold = payload["threshold"]
    count = np.zeros(threshold.shape, dtype=np.int64)
    for c in range(threshold.shape[1]):
        rows = _dense(shard.X[shard.columns["code"] == c])
        for q in range(threshold.shape[0]):
            count[q, c] = (rows <= threshold[q, c]).sum(axis=0)
    return Reply({"count": count})


def _dense(X: Any) -> Array:
    return np.asarray(X.toarray() if is_sparse(X) else X, dtype=np.float64)
