"""Some of the rows: folds, chosen or sampled rows, all but those of some nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from atoll.rng import uniforms
from atoll.shards import Shard, empty_shard
from atoll.specs import Spec
from atoll.trees import Array, Tree
from atoll.views.base import views

__all__ = ["chosen", "fold", "nodes_but", "sampled"]


def fold(threshold: Array, number: int, *, keep: str) -> Spec:
    """The view of the rows that a fold trains on, or tests; wants the view `codes` where there are several classes.

    Parameters
    ----------
    threshold : ndarray of shape (C, n_splits + 1), int64
        Fold k tests the rows of class c with an id from ``[c, k]`` to below ``[c, k + 1]``; see `recipes.folds`.
    number : int
        The fold.
    keep : {"train", "test"}
        Which rows stay.

    Returns
    -------
    Spec
    """
    return Spec("fold", {"fold": int(number), "keep": keep}, {"threshold": np.asarray(threshold, dtype=np.int64)})


@views.register("fold")
def _fold(shard: Shard, settings: dict[str, Any], arrays: Tree) -> Shard:
    k, edges = settings["fold"], arrays["threshold"]
    low, high = (edge if len(edges) == 1 else edge[shard.columns["code"]] for edge in (edges[:, k], edges[:, k + 1]))
    tested = (shard.ids >= low) & (shard.ids < high)
    return shard.take(np.flatnonzero(tested if settings["keep"] == "test" else ~tested))


def chosen(ids: Array) -> Spec:
    """The view of the rows with some ids.

    Parameters
    ----------
    ids : ndarray of shape (m,), int64
        Row ids, distinct.

    Returns
    -------
    Spec
    """
    return Spec("chosen", {}, {"ids": np.asarray(ids, dtype=np.int64)})


@views.register("chosen")
def _chosen(shard: Shard, settings: dict[str, Any], arrays: Tree) -> Shard:
    return shard.take(np.flatnonzero(np.isin(shard.ids, arrays["ids"])))


def sampled(share: float, seed: int, *, keep: str) -> Spec:
    """The view of a share of the rows, drawn row by row, or of all others.

    Parameters
    ----------
    share : float
        The probability with which a row is drawn.
    seed : int
        What is drawn depends on this and on the row's id alone, so not on how rows are split over nodes.
    keep : {"train", "test"}
        Whether the rows that are not drawn stay, or those that are.

    Returns
    -------
    Spec
    """
    return Spec("sampled", {"share": float(share), "seed": int(seed), "keep": keep})


@views.register("sampled")
def _sampled(shard: Shard, settings: dict[str, Any], arrays: Tree) -> Shard:
    drawn = uniforms(settings["seed"], shard.ids, "sampled") < settings["share"]
    return shard.take(np.flatnonzero(drawn if settings["keep"] == "test" else ~drawn))


def nodes_but(names: Sequence[str]) -> Spec:
    """The view of rows in which some nodes have none, as when a node is left out.

    Parameters
    ----------
    names : sequence of str
        The nodes that are left out.

    Returns
    -------
    Spec
    """
    return Spec("nodes_but", {"names": list(names)})


@views.register("nodes_but")
def _nodes_but(shard: Shard, settings: dict[str, Any], arrays: Tree) -> Shard:
    return empty_shard(shard) if shard.name in settings["names"] else shard
