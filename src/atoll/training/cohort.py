"""Who takes part in a round, how many steps each takes, and how long that takes by the virtual clock."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from atoll.algorithms import Local
from atoll.algorithms.local import n_steps
from atoll.clock import Job, Pace, Paced
from atoll.errors import InvalidData, explain
from atoll.messages import n_blocks
from atoll.selection import Field, Selection
from atoll.trees import Array, Tree

__all__ = ["Cohort", "called_up", "evened"]


class Cohort(NamedTuple):
    """Who takes part.

    Attributes
    ----------
    nodes : list of int
        Node numbers, in order of positions.
    steps : dict of int to int
        By position, the steps of those who take fewer than all.
    picked : Tree
        What the selection keeps.
    now : float
        Virtual seconds since the training began, after this round.
    dropped : list of int
        Nodes that were chosen and send nothing.
    """

    nodes: list[int]
    steps: dict[int, int]
    picked: Tree
    now: float
    dropped: list[int]


def called_up(
    selection: Selection,
    pace: Pace | None,
    *,
    seed: int,
    step: int,
    now: float,
    picked: Tree,
    weights: Mapping[int, float],
    rows: Mapping[int, int],
    n: int,
    local: Local,
    nbytes: float,
    losses: Callable[[Sequence[int]], Array],
    at_once: int = 1,
    together: bool = False,
) -> Cohort:
    """Choose a cohort, and see who of it is able to do how much.

    Parameters
    ----------
    selection : Selection
        Who is chosen.
    pace : Pace or None
        How fast nodes are; None: there is no virtual clock.
    seed, step : int
        Of the run, and the round.
    now : float
        Virtual seconds so far.
    picked : Tree
        What the selection kept.
    weights : mapping of int to float
        Node number to what it counts for.
    rows : mapping of int to int
        Node number to its rows.
    n : int
        How many are wanted.
    local : Local
        What nodes do in the round.
    nbytes : float
        Bytes that travel to a node and back.
    losses : callable
        Asks nodes for the mean loss of the model on their rows.
    at_once : int, default=1
        The most nodes of a block; see `evened`.
    together : bool, default=False
        Whether the nodes of a block take their steps together.

    Returns
    -------
    Cohort

    Raises
    ------
    InvalidData
        If nobody can be asked now.
    """

    def paced(nodes: Sequence[int]) -> Paced:
        steps = np.array([n_steps(local, rows[node]) for node in nodes], dtype=np.int64)
        per_epoch = [max(1, -(-rows[node] // (local.batch_size or rows[node]))) for node in nodes]
        through = np.array([rows[node] for node in nodes]) * steps / per_epoch
        job = Job(seed, step, now, list(nodes), through, steps, nbytes)
        return Paced(steps, np.zeros(len(steps)), 0.0) if pace is None else pace.work(job)

    there = weights if pace is None else {node: weights[node] for node in pace.there(sorted(weights), seed, now)}
    if not there:
        what = "no node can be asked at this time of the virtual clock"
        raise InvalidData(explain(what, got=f"{now:g} s", hint="widen the trace"))
    field = Field(seed, step, there, n, losses, lambda nodes: paced(nodes).seconds)
    chosen, kept = selection.choose(field, picked)
    chosen = evened(chosen, rows, at_once, together)
    if pace is None:
        return Cohort(list(chosen), {}, kept, now, [])
    done, whole = paced(chosen), [n_steps(local, rows[node]) for node in chosen]
    staying = [i for i, taken in enumerate(done.taken) if taken]
    nodes = [chosen[i] for i in staying]
    steps = {p: int(done.taken[i]) for p, i in enumerate(staying) if done.taken[i] < whole[i]}
    dropped = [chosen[i] for i in range(len(chosen)) if not done.taken[i]]
    return Cohort(nodes, steps, kept, now + done.elapsed, dropped)


def evened(nodes: Sequence[int], rows: Mapping[int, int], at_once: int, together: bool) -> list[int]:
    """The same nodes in an order in which blocks of consecutive positions have about as much to do each.

    The longest first, each to the block with the least to do that still has room. A function of nodes and rows alone.

    Parameters
    ----------
    nodes : sequence of int
        A cohort.
    rows : mapping of int to int
        Rows of each node.
    at_once : int
        The most nodes of a block.
    together : bool
        Whether the nodes of a block take their steps together: as many as the longest takes, each of which costs
        something besides its rows.

    Returns
    -------
    list of int
        `nodes` as they are where all are alike, or each is a block.
    """
    n, blocks = len(nodes), n_blocks(len(nodes), at_once)
    if at_once == 1 or blocks == 1 or len({rows[node] for node in nodes}) == 1:
        return list(nodes)
    rooms = np.bincount(np.arange(n) * blocks // n, minlength=blocks).tolist()
    members: list[list[int]] = [[] for _ in range(blocks)]
    waiting = [(0, k) for k in range(blocks)]
    for i in sorted(range(n), key=lambda i: -rows[nodes[i]]):
        load, k = heapq.heappop(waiting)
        load += rows[nodes[i]] * (1 + _STEPS if together and not members[k] else 1)
        members[k].append(i)
        if len(members[k]) < rooms[k]:
            heapq.heappush(waiting, (load, k))
    return [nodes[i] for own in members for i in sorted(own)]


_STEPS = 2
"""What the steps of a block cost besides their rows, in rows of the node that takes most."""
