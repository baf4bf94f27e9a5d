"""The partitions by name: each says which node every row goes to.

Literature uses one word for different things, so variants have names of their own: the same alpha gives different
data under `dirichlet` (a draw per class) and `dirichlet-by-node` (a draw per node).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import Generator

from atoll.errors import InvalidData, explain
from atoll.partition.labels import Labels
from atoll.partition.rounding import apportion, draw_shares, fit_margins, round_table
from atoll.specs import Registry
from atoll.trees import Array

__all__ = ["Partition", "partitions"]

Partition = Callable[..., Array]
"""``(labels, n_nodes, min_rows, rng, *, settings…)`` to the node of each row: ndarray of shape (n_rows,), int64.

Keyword-only parameters are the settings; the first of them is the one that ``"name=value"`` sets."""

partitions: Registry[Partition] = Registry("partition")


@partitions.register("iid")
def _iid(labels: Labels, n_nodes: int, min_rows: int, rng: Generator) -> Array:
    """Rows at random; sizes differ by at most one."""
    return _cut(rng.permutation(labels.n_rows), _equal_sizes(labels.n_rows, n_nodes))


@partitions.register("label")
def _label(labels: Labels, n_nodes: int, min_rows: int, rng: Generator) -> Array:
    """Rows sorted by label, in equal pieces: as uneven as equal sizes allow."""
    _, order = _need_labels(labels, "label")
    return _cut(order, _equal_sizes(labels.n_rows, n_nodes))


@partitions.register("quantity")
def _quantity(
    labels: Labels,
    n_nodes: int,
    min_rows: int,
    rng: Generator,
    *,
    alpha: float | None = None,
    sigma: float | None = None,
) -> Array:
    """Rows at random, sizes uneven: Dirichlet(alpha) shares, or log-normal ones whose logarithm has deviation sigma."""
    if alpha is not None and sigma is not None:
        raise InvalidData(
            explain("partition 'quantity' takes alpha (Dirichlet sizes) or sigma (log-normal sizes), not both",
                    got=f"alpha={alpha}, sigma={sigma}")
        )  # fmt: skip
    if sigma is None:
        alpha = _positive(0.5 if alpha is None else alpha, "alpha", "quantity")
        weights = draw_shares(np.full(n_nodes, alpha), 1, rng)[0]
    else:
        logarithms = _positive(sigma, "sigma", "quantity") * rng.standard_normal(n_nodes)
        weights = np.exp(logarithms - logarithms.max())
    return _cut(rng.permutation(labels.n_rows), apportion(weights, labels.n_rows, min_rows))


@partitions.register("dirichlet")
def _dirichlet(labels: Labels, n_nodes: int, min_rows: int, rng: Generator, *, alpha: float = 0.5) -> Array:
    """Each class is spread over the nodes by its own Dirichlet(alpha) draw; sizes follow (Yurochkin et al. 2019)."""
    codes, _ = _need_labels(labels, "dirichlet")
    alpha = _positive(alpha, "alpha", "dirichlet")
    in_class = np.bincount(codes)
    expected = (draw_shares(np.full(n_nodes, alpha), len(in_class), rng) * in_class[:, None]).T
    sizes = apportion(expected.sum(axis=1), labels.n_rows, min_rows)
    return _deal(round_table(fit_margins(expected, sizes, in_class), rng), codes, rng)


@partitions.register("dirichlet-by-node")
def _dirichlet_by_node(labels: Labels, n_nodes: int, min_rows: int, rng: Generator, *, alpha: float = 0.5) -> Array:
    """Each node draws its classes from Dirichlet(alpha × pooled shares); sizes are equal (Hsu, Qi & Brown 2019)."""
    codes, _ = _need_labels(labels, "dirichlet-by-node")
    alpha = _positive(alpha, "alpha", "dirichlet-by-node")
    in_class = np.bincount(codes)
    sizes = _equal_sizes(labels.n_rows, n_nodes)
    expected = draw_shares(alpha * in_class / labels.n_rows, n_nodes, rng) * sizes[:, None]
    return _deal(round_table(fit_margins(expected, sizes, in_class), rng), codes, rng)


@partitions.register("shards")
def _shards(labels: Labels, n_nodes: int, min_rows: int, rng: Generator, *, per_node: int = 2) -> Array:
    """Rows sorted by label, cut into equal pieces; each node gets `per_node` of them at random (McMahan et al. 2017).

    Pieces differ by at most one row. The longer ones are dealt first, so sizes differ by at most one row too. More
    pieces than rows are as many pieces as rows.
    """
    _, order = _need_labels(labels, "shards")
    per_node = min(_count(per_node, "per_node", "shards"), -(-labels.n_rows // n_nodes))
    n_pieces = n_nodes * per_node
    lengths = np.diff(np.arange(n_pieces + 1) * labels.n_rows // n_pieces)
    dealt = rng.permutation(n_pieces)
    dealt = dealt[np.argsort(-lengths[dealt], kind="stable")]
    node_of_piece = np.empty(n_pieces, dtype=np.int64)
    node_of_piece[dealt] = np.tile(rng.permutation(n_nodes), per_node)
    owner = np.empty(labels.n_rows, dtype=np.int64)
    owner[order] = np.repeat(node_of_piece, lengths)
    return owner


@partitions.register("classes")
def _classes(labels: Labels, n_nodes: int, min_rows: int, rng: Generator, *, per_node: int = 2) -> Array:
    """Each node holds rows of at most `per_node` classes, drawn at random.

    A class is held by nodes in proportion to its rows, and they share it equally, so sizes come out about equal.
    """
    codes, _ = _need_labels(labels, "classes")
    per_node = _count(per_node, "per_node", "classes")
    in_class = np.bincount(codes)
    if len(in_class) > n_nodes * per_node:
        raise InvalidData(
            explain(
                f"{n_nodes} nodes with at most {per_node} classes each cannot hold {len(in_class)} classes",
                expected=f"per_node of at least {-(-len(in_class) // n_nodes)}",
                hint="raise per_node or the number of nodes",
            )
        )
    holds = _draw_holders(in_class, n_nodes, per_node, rng)
    table = _share_classes(holds, in_class)
    if table.sum(axis=1).min() < min_rows:
        table = _share_classes(holds, in_class, _reserve(holds, in_class, min_rows))
    return _deal(table, codes, rng)


def _draw_holders(in_class: Array, n_nodes: int, per_node: int, rng: Generator) -> Array:
    """Which node holds which class: every class is held, every node holds from 1 to `per_node` classes.

    Always taking the nodes with the fewest classes so far keeps their numbers within one of each other.
    """
    n_places = apportion(in_class, min(n_nodes * per_node, int(in_class.sum())), 1)
    n_places = np.minimum(n_places, n_nodes)
    holds = np.zeros((n_nodes, len(in_class)), dtype=bool)
    shuffled = rng.permutation(len(in_class))
    for k in shuffled[np.argsort(-n_places[shuffled], kind="stable")]:
        fewest = np.lexsort((rng.random(n_nodes), holds.sum(axis=1)))
        holds[fewest[: n_places[k]], k] = True
    return holds


def _share_classes(holds: Array, in_class: Array, reserved: Array | None = None) -> Array:
    """Rows of each class per node: what is reserved, and equal parts of the rest; odd rows go to the smallest nodes."""
    table = np.zeros(holds.shape, dtype=np.int64) if reserved is None else reserved.copy()
    for k in range(holds.shape[1]):
        holders = np.flatnonzero(holds[:, k])
        each, odd = divmod(int(in_class[k] - table[:, k].sum()), len(holders))
        table[holders, k] += each
        smallest = holders[np.argsort(table[holders].sum(axis=1), kind="stable")[:odd]]
        table[smallest, k] += 1
    return table


def _reserve(holds: Array, in_class: Array, min_rows: int) -> Array:
    """`min_rows` rows for every node out of the classes it holds, if that can be done at all (a maximum flow)."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_flow

    n_nodes, n_classes = holds.shape
    source, sink = n_nodes + n_classes, n_nodes + n_classes + 1
    nodes, classes = np.nonzero(holds)
    tails = np.concatenate([np.full(n_classes, source), n_nodes + classes, np.arange(n_nodes)])
    heads = np.concatenate([n_nodes + np.arange(n_classes), nodes, np.full(n_nodes, sink)])
    room = np.concatenate([in_class, in_class[classes], np.full(n_nodes, min_rows)]).astype(np.int32)
    result = maximum_flow(csr_array((room, (tails, heads)), shape=(sink + 1, sink + 1)), source, sink)
    if result.flow_value < n_nodes * min_rows:
        raise InvalidData(
            explain(
                f"partition 'classes' cannot give every node {min_rows} rows from the classes it holds",
                got=f"n_samples={int(in_class.sum())}, {n_nodes} nodes, {n_classes} classes",
                hint="lower min_rows or the number of nodes, or raise per_node",
            )
        )
    flow = result.flow.toarray()[n_nodes : n_nodes + n_classes, :n_nodes]
    return np.asarray(flow.T, dtype=np.int64)


def _deal(table: Array, codes: Array, rng: Generator) -> Array:
    """The node of each row, when a table says how many rows of each class a node gets; which ones is drawn."""
    shuffled = rng.permutation(len(codes))
    by_class = shuffled[np.argsort(codes[shuffled], kind="stable")]
    owner = np.empty(len(codes), dtype=np.int64)
    owner[by_class] = np.repeat(np.tile(np.arange(table.shape[0]), table.shape[1]), table.T.ravel())
    return owner


def _cut(order: Array, sizes: Array) -> Array:
    """The node of each row, when consecutive rows of an order go to one node after another."""
    owner = np.empty(len(order), dtype=np.int64)
    owner[order] = np.repeat(np.arange(len(sizes)), sizes)
    return owner


def _equal_sizes(n_rows: int, n_nodes: int) -> Array:
    return n_rows // n_nodes + (np.arange(n_nodes) < n_rows % n_nodes).astype(np.int64)


def _need_labels(labels: Labels, partition: str) -> tuple[Array, Array]:
    if labels.codes is None or labels.order is None:
        raise InvalidData(
            explain(
                f"partition {partition!r} needs labels, and these rows have none",
                hint="pass y, or use a partition that works without: 'iid' or 'quantity'",
            )
        )
    return labels.codes, labels.order


def _positive(value: Any, setting: str, partition: str) -> float:
    try:
        number = float("nan") if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not (math.isfinite(number) and number > 0):
        raise InvalidData(
            explain(f"bad {setting} of partition {partition!r}", got=repr(value), expected="a positive finite number")
        )
    return number


def _count(value: Any, setting: str, partition: str) -> int:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise InvalidData(
            explain(f"bad {setting} of partition {partition!r}", got=repr(value), expected="a positive whole number")
        )
    return int(value)
