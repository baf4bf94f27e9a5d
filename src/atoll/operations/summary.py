"""What a person would look at first: summaries of columns, counts of their values, and what a target is."""

from __future__ import annotations

from typing import Any

import numpy as np

from atoll.context import Ctx
from atoll.messages import Reply
from atoll.operations.base import operation
from atoll.operations.categories import count_values
from atoll.shards import Shard, is_sparse
from atoll.specs import Spec
from atoll.trees import Array, Tree
from atoll.views import views

__all__ = ["MANY", "kind_of_target", "summarise_numbers", "summarise_values", "targets"]

MANY = 20
"""More distinct values than these of a target with fractions are a quantity, and no classes."""

_STATISTICS = ("mean", "m2", "min", "25%", "50%", "75%", "max")


def targets() -> Spec:
    """The view of rows whose columns are their targets, as numbers.

    Returns
    -------
    Spec
    """
    return Spec("targets")


@views.register("targets")
def _targets(shard: Shard, settings: dict[str, Any], arrays: Tree) -> Shard:
    y = np.asarray(shard.y, dtype=np.float64)
    return shard.with_rows(y if y.ndim == 2 else y[:, None])


@operation(
    "summary.numbers",
    discloses="for each column how many values are not missing, their mean and spread, and five of them: the smallest, "
    "the quartiles and the largest",
)
def summarise_numbers(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``count``, int64, and ``mean``, ``m2``, ``min``, ``25%``, ``50%``, ``75%`` and ``max``, float64; all (1, d).

    NaN in a column without values. Quartiles lie between two values as in numpy's method "linear".
    """
    d = shard.n_features
    tree: Tree = {"count": np.zeros((1, d), dtype=np.int64)}
    tree |= {name: np.full((1, d), np.nan) for name in _STATISTICS}
    for j in range(d):
        values = _column(shard.X, j)
        values = values[~np.isnan(values)]
        tree["count"][0, j] = len(values)
        if len(values):
            mean = values.mean()
            found = [mean, np.square(values - mean).sum(), *np.quantile(values, [0.0, 0.25, 0.5, 0.75, 1.0])]
            for name, value in zip(_STATISTICS, found, strict=True):
                tree[name][0, j] = value
    return Reply(tree)


def _column(X: Any, j: int) -> Array:
    column = X[:, [j]].toarray()[:, 0] if is_sparse(X) else X[:, j]
    return np.asarray(column, dtype=np.float64)


@operation("summary.values", discloses="how often each of the agreed values occurs in each of its columns")
def summarise_values(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """What `count_values` tells, with a leading axis of length 1: one result per node where they are joined."""
    return Reply({name: array[None] for name, array in count_values(shard, payload, ctx).tree.items()})


@operation("summary.target", discloses="how many distinct values its target has, up to 21")
def kind_of_target(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``max_distinct`` of shape (1,), int64, for `Extrema`; of several targets the first counts."""
    y = np.zeros(0) if shard.y is None else shard.y if shard.y.ndim == 1 else shard.y[:, 0]
    return Reply({"max_distinct": np.array([min(len(np.unique(y)), MANY + 1)], dtype=np.int64)})
