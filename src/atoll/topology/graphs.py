"""Which nodes are neighbours, how much each counts for the other, and how fast that mixes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from atoll.errors import InvalidData, UnknownName, closest, explain
from atoll.trees import Array

__all__ = ["GRAPHS", "Edges", "Wiring", "connected", "edges_of", "neighbours", "spectral_gap", "weights"]

Edges = list[tuple[int, int]]


class Wiring(NamedTuple):
    """Who sends to whom.

    Attributes
    ----------
    edges : list of (src, dst)
        Without doubles and without a node's edge to itself, sorted; an undirected edge is there in both directions.
    directed : bool
        Whether an edge may go one way only.
    even : float or None
        What every edge and every node's own counts for; None: it follows from the degrees.
    """

    edges: Edges
    directed: bool = False
    even: float | None = None


def _hops(n: int) -> int:
    """``⌈log₂ n⌉``: in so many hops of lengths 1, 2, 4, … everybody is reached."""
    return max(n - 1, 0).bit_length()


def _ring(n: int, step: int) -> Wiring:
    return Wiring(_both((i, (i + 1) % n) for i in range(n)))


def _torus(n: int, step: int) -> Wiring:
    """Rows and columns as nearly equal as divisors of n can be; a prime number of nodes makes a ring."""
    rows = max(d for d in range(1, math.isqrt(n) + 1) if n % d == 0)
    cols = n // rows
    right = ((i, i // cols * cols + (i + 1) % cols) for i in range(n))
    down = ((i, (i + cols) % n) for i in range(n))
    return Wiring(_both([*right, *down]))


def _complete(n: int, step: int) -> Wiring:
    return Wiring(_both((i, j) for i in range(n) for j in range(i)))


def _star(n: int, step: int) -> Wiring:
    return Wiring(_both((0, i) for i in range(1, n)))


def _exponential(n: int, step: int) -> Wiring:
    """Each node sends to those 1, 2, 4, … further on."""
    hops = _hops(n)
    return Wiring(_once((i, (i + 2**k) % n) for i in range(n) for k in range(hops)), True, 1 / (1 + hops))


def _one_peer(n: int, step: int) -> Wiring:
    """Each node sends to one, 1, 2, 4, … further on in turn: after ``⌈log₂ n⌉`` steps it has heard of everybody."""
    hop = 2 ** (step % max(_hops(n), 1))
    edges = _once((i, (i + hop) % n) for i in range(n))
    return Wiring(edges, True, 0.5 if edges else 1.0)


GRAPHS: dict[str, Callable[[int, int], Wiring]] = {
    "complete": _complete,
    "exponential": _exponential,
    "one-peer-exponential": _one_peer,
    "ring": _ring,
    "star": _star,
    "torus": _torus,
}
"""Graphs by name: ``(n, step) -> Wiring``."""


def _once(edges: Any) -> Edges:
    return sorted({(a, b) for a, b in edges if a != b})


def _both(edges: Any) -> Edges:
    found = list(edges)
    return _once([*found, *((b, a) for a, b in found)])


def neighbours(n: int, graph: str | Sequence[Sequence[int]], *, step: int = 0, directed: bool = False) -> Wiring:
    """The wiring of a graph over n nodes.

    Parameters
    ----------
    n : int
        Nodes, numbered from 0.
    graph : str or list of [src, dst]
        A name of `GRAPHS`, or edges.
    step : int, default=0
        Position in a schedule, for graphs that change.
    directed : bool, default=False
        Whether edges go one way.

    Raises
    ------
    UnknownName
        If there is no graph of this name.
    InvalidData
        If an edge is none.
    """
    if isinstance(graph, str):
        if graph not in GRAPHS:
            raise UnknownName(explain(f"unknown graph {graph!r}", hint=closest(graph, GRAPHS)))
        return GRAPHS[graph](n, step)
    for edge in graph:
        if len(edge) != 2 or not all(isinstance(i, int) and 0 <= i < n for i in edge):
            what = f"two numbers of nodes, from 0 to {n - 1}"
            raise InvalidData(explain("an edge names two nodes", got=repr(list(edge)), expected=what))
    return Wiring(_once(graph), True) if directed else Wiring(_both(graph))


def edges_of(graph: Any) -> list[list[int]]:
    """The edges of a networkx graph, its nodes numbered in their order there.

    Parameters
    ----------
    graph : networkx.Graph or networkx.DiGraph
        Its edges have no weights that matter here.

    Returns
    -------
    list of [src, dst]
    """
    number = {node: i for i, node in enumerate(graph.nodes)}
    return sorted([number[a], number[b]] for a, b, *_ in graph.edges)


def connected(n: int, wiring: Wiring) -> list[int]:
    """Nodes that cannot be reached from node 0, or cannot reach it; none, where the graph connects all."""
    from scipy.sparse import coo_array  # 7 MB, which who draws no graph does without
    from scipy.sparse.csgraph import connected_components

    a, b = np.array(wiring.edges, dtype=np.int64).reshape(-1, 2).T
    label = connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(n, n)), connection="strong")[1]
    return [i for i in range(n) if label[i] != label[0]]


def weights(n: int, wiring: Wiring) -> Array:
    """How much each node counts for each other: the mixing matrix W, ``xᵢ ← Σⱼ Wᵢⱼ xⱼ``.

    Undirected: Metropolis weights, ``Wᵢⱼ = 1 / (1 + max(degᵢ, degⱼ))`` and ``Wᵢᵢ = 1 − Σⱼ Wᵢⱼ``; rows and columns sum
    to 1. Directed: each node splits what it has evenly over those it sends to and itself, ``Wᵢⱼ = 1 / (1 + outⱼ)``;
    columns sum to 1.

    Parameters
    ----------
    n : int
        Nodes.
    wiring : Wiring
        Who sends to whom.

    Returns
    -------
    ndarray of shape (n, n), float64

    References
    ----------
    Xiao, Boyd & Lall, "A scheme for robust distributed sensor fusion based on average consensus", IPSN 2005, eq. 11.
    Ying et al., "Exponential graph is provably efficient for decentralized deep training", NeurIPS 2021, eqs. 5 and 7.
    """
    W, out = np.zeros((n, n)), np.bincount([a for a, _ in wiring.edges], minlength=n)
    for a, b in wiring.edges:
        most = out[a] if wiring.directed else max(out[a], out[b])
        W[b, a] = 1 / (1 + most) if wiring.even is None else wiring.even
    if wiring.even is not None:
        own = np.full(n, wiring.even)
    else:
        own = 1 / (1 + out) if wiring.directed else 1 - W.sum(axis=1)
    np.fill_diagonal(W, own)
    return W


def spectral_gap(W: Array) -> float:
    """``1 − ‖W − 11ᵀ/n‖₂``: what part of the disagreement between nodes one step of mixing takes away at least.

    Parameters
    ----------
    W : ndarray of shape (n, n)
        Mixing matrix.

    Examples
    --------
    >>> from atoll.topology import gossip_plan, matrix, spectral_gap
    >>> round(spectral_gap(matrix(gossip_plan(16, graph="ring"), 16)), 5)
    0.05075
    """
    return float(1 - np.linalg.norm(W - 1 / len(W), 2))
