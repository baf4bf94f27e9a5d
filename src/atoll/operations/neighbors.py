"""Nearest rows, rows within a radius, and kernel densities: what the neighbours family asks of a node.

A node answers with candidates (distance, global row id and, where wanted, label), never with a row. Distances are a
function of query and row alone (`atoll.nearest`), so it does not matter which node holds which row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from atoll.context import Ctx
from atoll.errors import InvalidData, explain
from atoll.messages import Reply, digest
from atoll.nearest import Index, Kernels, Metric, build
from atoll.operations.base import operation
from atoll.shards import Shard, is_sparse
from atoll.specs import programs
from atoll.trees import Array, Tree

__all__ = ["metric_payload", "nearest_rows", "query_payload", "rows_within", "sum_kernels"]

_METRIC = "metric."


def query_payload(Q: Any) -> Tree:
    """Queries as arrays: dense of shape (m, d), or the parts of a CSR matrix."""
    if is_sparse(Q):
        shape = np.asarray(Q.shape, dtype=np.int64)
        return {"Q.data": Q.data, "Q.indices": Q.indices, "Q.indptr": Q.indptr, "Q.shape": shape}
    return {"Q": np.ascontiguousarray(Q)}


def metric_payload(metric: Metric) -> tuple[dict[str, Any], Tree]:
    """A metric as settings and arrays; a callable is lent by name to nodes in this process."""
    function = None if metric.function is None else programs.lend(metric.function)
    settings = {"metric": metric.name, "metric_settings": metric.settings, "function": function}
    return settings, {_METRIC + name: array for name, array in metric.arrays.items()}


def _queries(payload: Tree) -> Any:
    if "Q" in payload:
        return payload["Q"]
    parts = (payload["Q.data"], payload["Q.indices"], payload["Q.indptr"])
    rows, columns = payload["Q.shape"].tolist()
    return sp.csr_matrix(parts, shape=(rows, columns))


def _metric(payload: Tree, settings: dict[str, Any]) -> Metric:
    arrays = {name.removeprefix(_METRIC): a for name, a in payload.items() if name.startswith(_METRIC)}
    name = settings["function"]
    if name is not None and name not in programs:
        raise InvalidData(
            explain(
                "a metric that is a function exists only in the process that defined it",
                got=name,
                hint="use engine='inprocess', or a metric by name",
            )
        )
    function = None if name is None else programs[name]
    return Metric(settings["metric"], settings["metric_settings"], arrays, function)


def _index(shard: Shard, payload: Tree, settings: dict[str, Any]) -> Index:
    """The node's search structure, built once and kept with the rows."""
    metric, method, leaf_size = _metric(payload, settings), settings["method"], settings["leaf_size"]
    key = ("nearest", method, leaf_size, *_key(metric, settings))
    return shard.memo(key, lambda: build(shard.X, method=method, metric=metric, leaf_size=leaf_size))


def _kernels(shard: Shard, payload: Tree, settings: dict[str, Any]) -> Kernels:
    """The node's tree of kernels, built once and kept with the rows."""
    metric, algorithm, leaf_size = _metric(payload, settings), settings["algorithm"], settings["leaf_size"]
    weight = shard.columns.get("sample_weight")
    key = ("kernels", algorithm, leaf_size, *_key(metric, settings))
    return shard.memo(
        key, lambda: Kernels(shard.X, metric=metric, algorithm=algorithm, leaf_size=leaf_size, sample_weight=weight)
    )


def _key(metric: Metric, settings: dict[str, Any]) -> tuple[str, str, str | None]:
    return metric.name, digest([metric.settings, metric.arrays]), settings["function"]


def _labels(shard: Shard, which: str) -> Array | None:
    """What travels with a candidate: nothing, its class code, or its target in float64."""
    if which == "none":
        return None
    if which == "code":
        return shard.columns["code"]
    return None if shard.y is None else shard.y.astype(np.float64)


@operation(
    "neighbors.nearest",
    discloses="for each query, the distances, row numbers and labels of its nearest rows (candidates, never a row)",
)
def nearest_rows(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """The node's k nearest rows of each query, ordered by (distance, global row id).

    Settings: `k`; `method`, `leaf_size`, `metric`, `metric_settings`, `function` of the search; `labels`, one of none,
    code, target.

    Answers ``distance`` and ``id`` of shape (m, k), padded with infinity and -1 where the node has fewer rows, and
    ``label`` of shape (m, k) or (m, k, n_outputs).
    """
    settings = ctx.settings
    distance, row = _index(shard, payload, settings).query(_queries(payload), settings["k"], shard.ids)
    found = row >= 0
    if not shard.n_rows:  # a distance may be undefined (NaN): it is ordered last, and does no harm
        tree: Tree = {"distance": np.full(row.shape, np.nan), "id": np.full(row.shape, -1, dtype=np.int64)}
    else:
        tree = {"distance": distance, "id": np.where(found, shard.ids[row], -1)}
    labels = _labels(shard, settings["labels"])
    if labels is not None:
        tree["label"] = np.zeros(row.shape + labels.shape[1:], dtype=labels.dtype)
        tree["label"][found] = labels[row[found]]
    return Reply(tree)


@operation(
    "neighbors.within",
    discloses="for each query, the distances, row numbers and labels of its rows within the radius (never a row)",
)
def rows_within(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """The node's rows within `radius` of each query, all queries in one list.

    Settings: `radius`, and those of `neighbors.nearest` but k.

    Answers ``query``, ``distance`` and ``id`` of shape (hits,), and ``label`` of shape (hits,) or (hits, n_outputs).
    """
    settings = ctx.settings
    index = _index(shard, payload, settings)
    indptr, distance, row = index.radius(_queries(payload), settings["radius"], shard.ids)
    query = np.repeat(np.arange(len(indptr) - 1, dtype=np.int64), np.diff(indptr))
    tree: Tree = {"query": query, "distance": distance, "id": shard.ids[row]}
    labels = _labels(shard, settings["labels"])
    if labels is not None:
        tree["label"] = labels[row]
    return Reply(tree)


@operation("neighbors.density", discloses="for each query, the logarithm of the sum of its kernels")
def sum_kernels(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``density`` of shape (m,): the logarithm of the (weighted) kernel sum; minus infinity on a node without rows.

    Settings: `bandwidth`, `kernel`, `algorithm`, `leaf_size`, `atol`, `rtol`, `breadth_first`, and those of the metric.
    """
    settings = ctx.settings
    what = {name: settings[name] for name in ("bandwidth", "kernel", "atol", "rtol", "breadth_first")}
    return Reply({"density": _kernels(shard, payload, settings).log_sum(_queries(payload), **what)})
