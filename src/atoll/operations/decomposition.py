"""The triangle of all columns: mean and covariances of a node's rows, without a digit lost to a square."""

from __future__ import annotations

import numpy as np

from atoll.context import Ctx
from atoll.messages import Reply
from atoll.operations.base import operation
from atoll.operations.linear import _triangle
from atoll.shards import Shard
from atoll.trees import Tree

__all__ = ["column_triangle"]


@operation(
    "decomposition.triangle",
    discloses="how many rows it has, the mean of each column, and how the columns vary together, as a triangle",
    pieces=True,
)
def column_triangle(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``R`` (d + 1, d + 1) and ``centre`` (d,), float64: the triangle of the rows ``(1, x - centre)``.

    Targets and weights are not looked at. For the combine `Triangle`.
    """
    return Reply(_triangle(shard.X, np.zeros((shard.n_rows, 0)), None))
