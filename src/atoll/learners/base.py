"""The seam: what can be trained. A program makes of a node's rows something with a loss, a `Learner`.

A program is found by its name in `atoll.specs.programs`: what travels is the name with its settings and arrays.
Programs of the user's own process may be handed over (`atoll.nets`); a node of somebody else has what its owner
installed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from atoll.algorithms import Algorithm, Learner, Local
from atoll.algorithms.local import n_steps
from atoll.context import Ctx
from atoll.errors import InvalidData, explain
from atoll.learners.balance import Balanced, balanced_rows
from atoll.rng import shuffles
from atoll.shards import Shard
from atoll.specs import Spec, programs
from atoll.trees import Array, Tree

__all__ = [
    "Blocks",
    "Layout",
    "Model",
    "Part",
    "Program",
    "Turn",
    "batches",
    "batches_of",
    "node_weight",
    "order_of",
    "program_of",
]


class Part(NamedTuple):
    """Where one parameter lies in the flat array.

    Attributes
    ----------
    name : str
        As the model calls it.
    start : int
        Its first number.
    shape : tuple of int
        Its shape, in C order.
    kind : str
        ``"norm"`` in a normalisation layer; otherwise empty.
    """

    name: str
    start: int
    shape: tuple[int, ...]
    kind: str = ""

    @property
    def stop(self) -> int:
        """One past its last number."""
        return self.start + math.prod(self.shape)


Layout = tuple[Part, ...]


class Model(NamedTuple):
    """Parameters and buffers as numbers.

    Attributes
    ----------
    w : ndarray of shape (P,)
        All parameters, flat.
    buffers : ndarray of shape (B,)
        What a model keeps besides parameters and learns without gradients (running means of a batch norm).
    layout : tuple of Part
        What lies where in `w`.
    """

    w: Array
    buffers: Array
    layout: Layout


class Turn(NamedTuple):
    """One node's turn in one round.

    Attributes
    ----------
    local : Local
        How it trains, the rate a number.
    ctx : Ctx
        Seed, step and node, which key everything drawn at random.
    weight : float
        What the node counts for.
    buffers : ndarray of shape (B,)
        Of the model, as they were sent.
    order : ndarray of shape (n,) or (epochs, n), or None
        The order of rows, where it is not drawn.
    balanced : Balanced or None
        How unequal classes are answered on this node's rows.
    steps : int or None
        How many steps the node has time for, where that is fewer than all.
    """

    local: Local
    ctx: Ctx
    weight: float
    buffers: Array
    order: Array | None = None
    balanced: Balanced | None = None
    steps: int | None = None

    def count(self, n_rows: int, steps: int | None = None) -> int:
        """Local steps over so many rows: those asked for, those there is time for, or those the settings say."""
        asked = n_steps(self.local, n_rows) if steps is None else steps
        return asked if self.steps is None else min(asked, self.steps)


class Program(Protocol):
    """Something that can be trained."""

    def start(self, seed: int) -> Model:
        """Where training begins."""
        ...

    def check(self, shard: Shard) -> None:
        """Refuse rows that cannot be trained on, before anything is."""
        ...

    def learner(self, shard: Shard, turn: Turn) -> Learner:
        """A node's rows with this loss.

        Its `buffers`, if it has that attribute, are where the next training begins, and where the last one ended; they
        may be set.
        """
        ...

    def judge(self, shard: Shard, w: Array, buffers: Array) -> Tree:
        """Sums over a node's rows: ``loss``, ``right`` (classifiers), ``rows``, each of shape (1,), float64."""
        ...


@runtime_checkable
class Blocks(Protocol):
    """A program that trains several nodes at once, or in place, without forming each contribution."""

    def block(
        self, shards: Sequence[Shard], turns: Sequence[Turn], x: Array, algorithm: Algorithm, message: Tree, way: str
    ) -> Tree | None:
        """The sum of the contributions of some nodes that keep nothing; None where there is no faster way to it.

        It has ``change`` and ``weight``, ``loss`` (times weight) and, where the model has any, ``buffers`` (times
        weight), as the contributions of single nodes have.
        """
        ...


programs.home("torch", "atoll.nets")
programs.home("sklearn.mlp", "atoll.learners.mlp")
programs.home("sklearn.sgd", "atoll.learners.linear")


def program_of(spec: Spec) -> Program:
    """The program that a spec names."""
    made: Program = programs[spec.name](**spec.settings, **({"arrays": spec.arrays} if spec.arrays else {}))
    return made


def node_weight(shard: Shard, weight: str) -> float:
    """What a node counts for: its rows, or the weight of its rows where they have one; or as much as any other."""
    if weight == "equal":
        return 1.0
    if "sample_weight" in shard.columns:
        return float(np.sum(shard.columns["sample_weight"], dtype=np.float64))
    return float(shard.n_rows)


def batches(turn: Turn, n_rows: int, use: str = "rows", steps: int | None = None) -> list[Array]:
    """Row numbers of every step of a turn.

    Parameters
    ----------
    turn : Turn
        Batch size, how many steps, and what keys the order of rows.
    n_rows : int
        Rows of the node.
    use : str
        What the order is for.
    steps : int, optional
        In place of the number of steps that the local settings say.

    Returns
    -------
    list of ndarray
    """
    size, left = turn.local.batch_size or n_rows, turn.count(n_rows, steps)
    found, epoch = list[Array](), 0
    while len(found) < left and n_rows:
        rows = order_of(turn, n_rows, use, epoch)
        found += [rows[i : i + size] for i in range(0, n_rows, size)]
        epoch += 1
    return found[:left]


def batches_of(turns: Sequence[Turn], rows: Sequence[int]) -> list[list[Array]]:
    """`batches` of several nodes in the same round, their orders drawn together: some array operations per size.

    Parameters
    ----------
    turns : sequence of Turn
        With the same local settings.
    rows : sequence of int
        Rows of each node.

    Returns
    -------
    list of list of ndarray
    """
    local, ctx, drawn = turns[0].local, turns[0].ctx, list[Any]([None] * len(turns))
    for n, which in _alike(turns, rows).items():
        nodes, size, left = np.array([turns[i].ctx.node for i in which]), local.batch_size or n, n_steps(local, n)
        starts = range(0, n, size)
        passes = range(-(-left // len(starts)))
        orders = [shuffles(ctx.seed, ctx.step, nodes, n, epoch, "rows") for epoch in passes]
        cut = [order[:, i : i + size] for order in orders for i in starts][:left]
        for i, own in zip(which, zip(*cut, strict=True), strict=True):
            drawn[i] = list(own if turns[i].steps is None else own[: turns[i].steps])
    return [batches(turn, n) if own is None else own for turn, n, own in zip(turns, rows, drawn, strict=True)]


def _alike(turns: Sequence[Turn], rows: Sequence[int]) -> dict[int, list[int]]:
    """Which turns draw the order of their rows, by how many these are."""
    alike: dict[int, list[int]] = {}
    for i, (turn, n) in enumerate(zip(turns, rows, strict=True)):
        if turn.order is None and not _drawn_by_class(turn):
            alike.setdefault(n, []).append(i)
    return {n: which for n, which in alike.items() if _shuffled(turns[0].local, n)}


def _drawn_by_class(turn: Turn) -> bool:
    return turn.balanced is not None and turn.balanced.labels is not None


def _shuffled(local: Local, n_rows: int) -> bool:
    return local.shuffle and local.batch_size is not None and local.batch_size < n_rows


def order_of(turn: Turn, n_rows: int, use: str, epoch: int) -> Array:
    """Row numbers of one pass over a node's rows, shape (n_rows,): as given, drawn, or as they stand."""
    local, ctx, order = turn.local, turn.ctx, turn.order
    if order is not None:
        rows = order if order.ndim == 1 else order[epoch % len(order)]
        if len(rows) != n_rows:
            got = f"{len(rows)} entries"
            raise InvalidData(explain("an order of rows names each row once", got=got, expected=f"{n_rows}"))
        return rows
    if turn.balanced is not None and turn.balanced.labels is not None:
        return balanced_rows(turn.balanced.labels, ctx.rng(f"balanced {use} {epoch}"))
    if not _shuffled(local, n_rows):
        return np.arange(n_rows)
    whole: Array = shuffles(ctx.seed, ctx.step, np.array([ctx.node]), n_rows, epoch, use)[0]
    return whole
