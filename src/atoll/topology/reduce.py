"""Plans that end in one sum. Sums are taken in the aligned tree of positions, so each of them gives the same bits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import numpy as np

from atoll.combine import Part, merge
from atoll.errors import InvalidData, explain
from atoll.topology.base import HUB, Move, Plan, plans
from atoll.trees import Tree, nbytes

__all__ = ["Routed", "ring", "route", "star", "traffic", "tree"]


@plans.register("star")
def star(n: int) -> Plan:
    """Every node sends to the hub."""
    return Plan("reduce", tuple(Move(0, i, HUB) for i in range(n)))


@plans.register("tree")
def tree(n: int, *, fan_out: int = 2) -> Plan:
    """Nodes add what their children send before they pass it on; position 0 sends to the hub.

    Parameters
    ----------
    n : int
        Size of the cohort.
    fan_out : int, default=2
        Children per node, at least 2.

    Raises
    ------
    InvalidData
        If `fan_out` is below 2.
    """
    if not isinstance(fan_out, int) or fan_out < 2:
        raise InvalidData(explain("a tree needs a fan-out of at least 2", got=fan_out, where="topology"))
    depth = [0] * n
    for i in range(1, n):
        depth[i] = depth[(i - 1) // fan_out] + 1
    deepest = max(depth, default=0)
    moves = [Move(deepest - depth[i], i, (i - 1) // fan_out if i else HUB) for i in range(n)]
    return Plan("reduce", tuple(sorted(moves)))


@plans.register("ring")
def ring(n: int) -> Plan:
    """Each node adds what came from the one before it and passes it on; the last one sends to the hub.

    It passes on as many partial sums as the aligned tree has open ends there, ``⌈log₂ n⌉`` at most. Training in which
    every node takes part needs no hub: there `allreduce` goes round the same ring.
    """
    return Plan("reduce", tuple(Move(i, i, i + 1 if i < n - 1 else HUB) for i in range(n)))


class Routed(NamedTuple):
    """How far a plan has come.

    Attributes
    ----------
    held : dict of int to list of Part
        What each position (or the hub) holds now.
    links : dict of str to int
        `"src>dst"` to the bytes that took that link so far.
    done : frozenset of int
        Positions that have sent.
    """

    held: dict[int, list[Part]]
    links: dict[str, int]
    done: frozenset[int]


def route(plan: Plan, add: Callable[[Tree, Tree], Tree], state: Routed, here: Collection[int] | None = None) -> Routed:
    """Carry out the moves of a reduce plan that can be carried out here.

    Parameters
    ----------
    plan : Plan
        A reduce plan.
    add : callable
        Two trees to one.
    state : Routed
        What is held where, and what is done already. An absent position holds nothing and still passes on what it
        receives.
    here : collection of int, optional
        Positions that live here; None: all of them and the hub. A move is carried out when both its ends are here and
        everything that its source waits for has come.

    Returns
    -------
    Routed
    """
    held = {at: list(parts) for at, parts in state.held.items()}
    links, done = dict(state.links), set(state.done)
    waits: dict[int, set[int]] = {}
    for move in plan.moves:
        waits.setdefault(move.dst, set()).add(move.src)
    for _, src, dst, *_ in plan.moves:
        local = here is None or (src in here and dst in here)
        if src in done or not local or not waits.get(src, set()) <= done:
            continue
        parts = merge(add, held.pop(src, []))
        links[f"{src}>{dst}"] = sum(nbytes(part[2]) for part in parts)
        held[dst] = merge(add, held.get(dst, []) + parts)
        done.add(src)
    return Routed(held, links, frozenset(done))


def traffic(plan: Plan, sizes: Mapping[int, int]) -> dict[str, int]:
    """What takes each link of a reduce plan, where sums are formed elsewhere: as it would be if nodes carried it out.

    Parameters
    ----------
    plan : Plan
        A reduce plan.
    sizes : mapping of int to int
        Position to the bytes of its contribution, as many as those of a sum.

    Returns
    -------
    dict of str to int
        ``"src>dst"`` to bytes, as in `Routed`.
    """
    sent: dict[int, list[Part]] = {p: [(p, p + 1, _of_size(size))] for p, size in sizes.items()}
    return route(plan, lambda a, b: a, Routed(sent, {}, frozenset())).links


def _of_size(size: int) -> Tree:
    """A tree of so many bytes, which takes none."""
    return {"": np.broadcast_to(np.uint8(0), size)}
