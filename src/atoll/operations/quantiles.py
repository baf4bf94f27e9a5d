"""Counts below thresholds, from which quantiles are found without any row leaving its node."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from atoll.context import Ctx
from atoll.messages import Reply
from atoll.operations.base import operation
from atoll.shards import Shard, is_sparse, weights
from atoll.trees import Array, Tree

__all__ = ["count_below"]


class _Ordered(NamedTuple):
    """Columns in ascending order, NaN last; the weight up to each place; the rows (or weight) of implicit zeros."""

    values: list[Array]
    mass: list[Array] | None
    zeros: Array


@operation(
    "quantiles.count_below",
    discloses="for each column, and class where asked, how many rows lie at or below a threshold, or their weight",
)
def count_below(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """Rows at or below thresholds, ``count`` (int64) or ``mass`` (float64) of the shape of `threshold`.

    A missing value (NaN) is at or below no threshold; at or below a threshold of NaN is every stored value.

    A node sorts its columns at the first question and keeps them while the search lasts, so that each further question
    costs a look-up per threshold; that takes as much memory as its rows.

    Payload: `threshold` of shape (m, C, d). Settings: `by_class`, whether rows are counted for each class, which wants
    the view `codes` (otherwise C is 1); `stored`, whether only stored values of sparse rows count; `weighted`, whether
    to add weights instead of counting; `last`, whether this was the last question.
    """
    settings, threshold = ctx.settings, payload["threshold"]
    by_class, stored, weighted = settings["by_class"], settings["stored"], settings["weighted"]
    key = ("quantiles.ordered", by_class, stored, weighted)
    groups = shard.memo(key, lambda: _groups(shard, threshold.shape[1], by_class, stored, weighted))
    if settings["last"]:
        shard.forget(key)
    answer = np.zeros(threshold.shape, dtype=np.float64 if weighted else np.int64)
    for c, ordered in enumerate(groups):
        for j, values in enumerate(ordered.values):
            t = threshold[:, c, j]
            below = np.searchsorted(values, t, side="right")
            answer[:, c, j] = below if ordered.mass is None else ordered.mass[j][below]
            answer[:, c, j] += np.where(t >= 0, ordered.zeros[j], 0)
    return Reply({"mass" if weighted else "count": answer})


def _groups(shard: Shard, C: int, by_class: bool, stored: bool, weighted: bool) -> list[_Ordered]:
    w = weights(shard) if weighted else None
    if weighted and w is None:
        w = np.ones(shard.n_rows)
    if not by_class:
        return [_ordered(shard.X, w, stored)]
    masks = [shard.columns["code"] == c for c in range(C)]
    return [_ordered(shard.X[m], None if w is None else w[m], stored) for m in masks]


def _ordered(X: Any, w: Array | None, stored: bool) -> _Ordered:
    if is_sparse(X):
        return _ordered_sparse(X, w, stored)
    zeros = np.zeros(X.shape[1], dtype=np.int64)
    columns = X.T.copy()
    if w is None:
        columns.sort(axis=1)
        return _Ordered(list(columns), None, zeros)
    order = np.argsort(columns, axis=1)
    return _Ordered(list(np.take_along_axis(columns, order, axis=1)), [_upto(w[o]) for o in order], zeros)


def _ordered_sparse(X: Any, w: Array | None, stored: bool) -> _Ordered:
    rows = X.shape[0]
    columns = X.tocsc()
    values = [columns.data[a:b] for a, b in pairwise(columns.indptr)]
    if w is None:
        zeros = np.array([0 if stored else rows - len(v) for v in values], dtype=np.int64)
        return _Ordered([np.sort(v) for v in values], None, zeros)
    held = [w[columns.indices[a:b]] for a, b in pairwise(columns.indptr)]
    order = [np.argsort(v) for v in values]
    rest = np.array([0.0 if stored or len(h) == rows else w.sum() - h.sum() for h in held])
    mass = [_upto(h[o]) for h, o in zip(held, order, strict=True)]
    return _Ordered([v[o] for v, o in zip(values, order, strict=True)], mass, rest)


def _upto(w: Array) -> Array:
    """The weight of the first 0, 1, 2 … places."""
    return np.concatenate([[0.0], np.cumsum(w)])
