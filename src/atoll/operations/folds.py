"""Where the rows of each class lie among all row ids: counts and extents, which is what folds are found from."""

from __future__ import annotations

import numpy as np

from atoll.context import Ctx
from atoll.messages import Reply
from atoll.operations.base import operation
from atoll.shards import Shard
from atoll.trees import Tree

__all__ = ["count_ids_below", "id_extent"]


@operation("folds.extent", discloses="the smallest and the largest row id of each class", pieces=True)
def id_extent(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``min`` and ``max`` of shape (C,), int64: ids of the rows of each class; the widest integers where it has none.

    Wants the view `codes`. Settings: `n_classes`.
    """
    limits = np.iinfo(np.int64)
    low, high = np.full(ctx.settings["n_classes"], limits.max), np.full(ctx.settings["n_classes"], limits.min)
    np.minimum.at(low, shard.columns["code"], shard.ids)
    np.maximum.at(high, shard.columns["code"], shard.ids)
    return Reply({"min": low, "max": high})


@operation("folds.below", discloses="for each class, how many rows have an id below a threshold", pieces=True)
def count_ids_below(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``count`` of shape (C, q), int64: rows of class c whose id is below ``threshold[c, q]``.

    Wants the view `codes`.
    """
    code, threshold = shard.columns["code"], payload["threshold"]
    count = np.zeros(threshold.shape, dtype=np.int64)
    for c, wanted in enumerate(threshold):
        count[c] = np.searchsorted(np.sort(shard.ids[code == c]), wanted)
    return Reply({"count": count})
