"""Models that nodes fit for themselves, whatever they are: asked for their votes, or sent as trees.

A node's own model follows from its rows and from the estimator, which travels as data; so it is kept with the rows as
long as it is used, fitted again where it is gone, and never leaves the node.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn.utils.validation import has_fit_parameter

from atoll import models
from atoll.context import Ctx
from atoll.messages import Reply, digest
from atoll.operations.base import operation
from atoll.rng import stream
from atoll.shards import Shard, weights
from atoll.trees import Array, Tree

__all__ = ["add_votes", "fit_own", "grow_trees"]

_MOST = np.finfo(np.float64).max
"""Stands for an infinite threshold, at which a tree parts values from missing ones: it, too, lies above every value."""

_FIELDS = {
    "left_child": np.int32, "right_child": np.int32, "feature": np.int32, "threshold": np.float64,
    "impurity": np.float64, "n_node_samples": np.int64, "weighted_n_node_samples": np.float64,
    "missing_go_to_left": np.uint8,
}  # fmt: skip


class _Own(NamedTuple):
    """A node's model, None where all its rows are of one class; and the agreed code of each of its classes."""

    model: Any
    codes: list[Array]


@operation("generic.fit", discloses="how many rows it has, after it has fitted a model of its own")
def fit_own(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``rows`` (1,), float64. Payload: `estimator`, bytes of `atoll.models.to_bytes`. A classifier wants `codes`."""
    if shard.n_rows:
        _own(shard, payload)
    return Reply({"rows": np.array([float(shard.n_rows)])})


@operation(
    "generic.vote",
    discloses="what its own model predicts for each query (probabilities of classes, votes or numbers), times how many "
    "rows it has",
)
def add_votes(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """Predictions, weighted by the node's rows.

    Settings: `n_classes`, the numbers of agreed classes per output, None for a regressor; `n_outputs`, 0 where targets
    have one dimension. Payload: `estimator`, and the queries as `atoll.operations.neighbors.query_payload` writes them.

    Answers with ``rows`` (1,), and for a classifier ``vote.i`` (m, C), one per output; for a regressor ``value`` (m,)
    or (m, n_outputs); float64.
    """
    Q, n_classes = _queries(payload), ctx.settings["n_classes"]
    own = _own(shard, payload) if shard.n_rows else None
    rows = float(shard.n_rows)
    answer = {"rows": np.array([rows])}
    if n_classes is None:
        shape = (Q.shape[0], ctx.settings["n_outputs"]) if ctx.settings["n_outputs"] else (Q.shape[0],)
        value = np.zeros(shape) if own is None else np.asarray(own.model.predict(Q), dtype=np.float64).reshape(shape)
        return Reply(answer | {"value": rows * value})
    for i, C in enumerate(n_classes):
        answer[f"vote.{i}"] = np.zeros((Q.shape[0], C))
        if own is not None:
            answer[f"vote.{i}"][:, own.codes[i]] = rows * _shares(own, Q, i)
    return Reply(answer)


@operation(
    "forest.grow", discloses="the trees that it has grown on its rows, whole: every split, and what every leaf says"
)
def grow_trees(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """Trees of a forest of the node's own, one after the other; arrays of all nodes are joined in node order (`Each`).

    Settings: `n_classes`, as for `add_votes`; `n_outputs`, at least 1. Payload: `estimator`, a forest, whose seed with
    the node's number seeds the trees; `share` (1,), how many trees.

    Answers with ``nodes`` and ``seed`` (trees,), how many nodes each tree has and what it was grown from; for each tree
    node scikit-learn's fields, (nodes,); and ``value`` (nodes, n_outputs, most classes), classes in the agreed order.
    """
    n_classes = ctx.settings["n_classes"]
    width = 1 if n_classes is None else max(n_classes)
    none = np.zeros((0, ctx.settings["n_outputs"], width))
    if not shard.n_rows:
        empty = {name: np.zeros(0, dtype=dtype) for name, dtype in _FIELDS.items()}
        return Reply({"nodes": np.zeros(0, np.int64), "seed": np.zeros(0, np.int64), "value": none, **empty})
    forest = models.from_bytes(payload["estimator"].tobytes())
    seed = int(stream(forest.random_state, 0, ctx.node, "forest").integers(2**31 - 1))
    forest.set_params(n_estimators=int(payload["share"][0]), random_state=seed, n_jobs=None, oob_score=False)
    _fit(forest, shard)
    states = [tree.tree_.__getstate__() for tree in forest.estimators_]
    nodes = np.concatenate([state["nodes"] for state in states])
    answer: Tree = {name: nodes[name].astype(dtype) for name, dtype in _FIELDS.items()}
    answer["threshold"] = np.minimum(answer["threshold"], _MOST)
    answer["nodes"] = np.array([state["node_count"] for state in states], dtype=np.int64)
    answer["seed"] = np.array([tree.random_state for tree in forest.estimators_], dtype=np.int64)
    answer["value"] = np.concatenate([_in_agreed_order(state["values"], none, shard) for state in states])
    return Reply(answer)


def _own(shard: Shard, payload: Tree) -> _Own:
    data = payload["estimator"]
    return shard.memo(("own model", digest(data)), lambda: _fitted(shard, data.tobytes()))


def _fitted(shard: Shard, data: bytes) -> _Own:
    codes = _codes(shard)
    if codes and all(len(own) == 1 for own in codes):
        return _Own(None, codes)
    return _Own(_fit(models.from_bytes(data), shard), codes)


def _fit(model: Any, shard: Shard) -> Any:
    weight = weights(shard)
    weighted = weight is not None and has_fit_parameter(model, "sample_weight")
    return model.fit(shard.X, shard.labels(), **({"sample_weight": weight} if weighted else {}))


def _codes(shard: Shard) -> list[Array]:
    """Per output the agreed codes of the classes that occur here; none for a regressor."""
    code = shard.columns.get("code")
    return [] if code is None else [np.unique(column) for column in code.reshape(len(code), -1).T]


def _shares(own: _Own, Q: Any, i: int) -> Array:
    """The model's probabilities of its own classes of one output; where it has none, 1 for the class it predicts."""
    if own.model is None:
        return np.ones((Q.shape[0], 1))
    classes = own.model.classes_[i] if isinstance(own.model.classes_, list) else own.model.classes_
    if hasattr(own.model, "predict_proba"):
        proba = own.model.predict_proba(Q)
        if len(own.codes) == 1 or isinstance(proba, list):
            return np.asarray(proba[i] if isinstance(proba, list) else proba, dtype=np.float64)
    predicted = np.asarray(own.model.predict(Q)).reshape(Q.shape[0], -1)[:, i]
    return np.asarray(predicted[:, None] == np.asarray(classes)[None], dtype=np.float64)


def _queries(payload: Tree) -> Any:
    if "Q" in payload:
        return payload["Q"]
    rows, columns = payload["Q.shape"].tolist()
    parts = (payload["Q.data"], payload["Q.indices"], payload["Q.indptr"])
    return sp.csr_matrix(parts, shape=(rows, columns))


def _in_agreed_order(value: Array, like: Array, shard: Shard) -> Array:
    wide = np.zeros((len(value), *like.shape[1:]))
    for i, codes in enumerate(_codes(shard)):
        wide[:, i, codes] = value[:, i, : len(codes)]
    return wide if "code" in shard.columns else value
