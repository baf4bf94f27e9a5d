"""An operation that does nothing: it measures the machinery, and tests use it."""

from __future__ import annotations

import numpy as np

from atoll.context import Ctx
from atoll.messages import Reply
from atoll.operations.base import operation
from atoll.shards import Shard
from atoll.trees import Tree

__all__ = ["ping"]

_ONE: Tree = {"nodes": np.ones(1, dtype=np.int64)}


@operation("null.ping", discloses="that it is there")
def ping(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """Answer 1."""
    return Reply(_ONE)
