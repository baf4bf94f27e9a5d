"""What makes a task one to answer: whole, signed by who it says, for this federation, this node, and this time."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from atoll import wire
from atoll.errors import WireError, explain
from atoll.silo.api import Assignment
from atoll.silo.errors import (
    BadSignature,
    Clock,
    DataChanged,
    Digest,
    ExpiredTask,
    Malformed,
    WrongFederation,
    WrongRound,
    WrongRun,
)
from atoll.silo.keys import fingerprint, verify
from atoll.silo.node.ledger import WINDOW
from atoll.silo.tasks import Task, blob_of, signed_text

if TYPE_CHECKING:
    from atoll.messages import Exchange

__all__ = ["SKEW", "Asked", "Me", "check_rows", "check_signature", "fewest", "read_task"]

SKEW = 300.0
"""Seconds by which clocks may differ."""


_APART = ("Each", "TopK")  # combines whose result says which node each of its values is from


class Me(NamedTuple):
    """Who a node is, and in which federation."""

    name: str
    federation: str


class Asked(NamedTuple):
    """A task that is one to answer, if its owner allows it.

    Attributes
    ----------
    task : Task
        As it was signed.
    position : int
        This node's, in the cohort.
    digest : str
        By which the task is known.
    """

    task: Task
    position: int
    digest: str

    @property
    def x(self) -> Exchange:
        """The question."""
        return self.task.exchange

    @property
    def node(self) -> int:
        """The number of this node in the run."""
        return self.task.exchange.cohort[self.position]

    @property
    def start(self) -> int:
        """Global id of this node's first row; 0 while nobody has told how many rows there are."""
        return self.task.starts[self.node] if self.task.starts else 0


def check_signature(a: Assignment) -> None:
    """Hold the name of a task against its signature; its bytes are not needed for that.

    Raises
    ------
    BadSignature
        If it does not fit.
    """
    if len(a.key) != 32 or not verify(a.key, signed_text(a.task), a.signature):
        got = fingerprint(a.key) if len(a.key) == 32 else f"a key of {len(a.key)} bytes"
        raise BadSignature(explain("the signature of the task is not by the key that came with it", got=got))


def read_task(a: Assignment, data: bytes | memoryview, me: Me, now: float) -> Asked:
    """Read a task whose signature fits, and see that it is for this node.

    Parameters
    ----------
    a : Assignment
        As the coordinator gave it.
    data : bytes-like
        The task's bytes; must outlive what is returned. What did not come with `a` has been held against its hash when
        it was fetched.
    me : Me
        Who this node is.
    now : float
        Unix seconds.

    Returns
    -------
    Asked

    Raises
    ------
    Digest
        If the bytes are not those that were signed.
    Malformed
        If they are no task, or one that contradicts itself.
    BadSignature
        If it was signed by somebody else than it says.
    WrongFederation, WrongRun, WrongRound
        If it is for another federation, run, round or node.
    ExpiredTask, Clock
        If it is too old, or from the future.
    """
    if a.inline is not None and blob_of(data) != a.task:
        raise Digest(explain("the task is not the one that was signed", got=blob_of(data), expected=a.task))
    try:
        task = wire.decode(data, Task)
    except WireError as error:
        raise Malformed(str(error)) from None
    if fingerprint(a.key) != task.key:
        got, expected = fingerprint(a.key), task.key
        raise BadSignature(explain("the task was signed by another key than it names", got=got, expected=expected))
    if task.requester != a.owner:
        got, expected = a.owner, task.requester
        raise BadSignature(explain("the task was handed on in another name", got=got, expected=expected))
    if task.federation != me.federation:
        raise WrongFederation(
            explain("the task is for another federation", got=task.federation, expected=me.federation)
        )
    _check_times(task, now)
    _check_place(task, a, me)
    return Asked(task, a.position, a.task.digest)


def _check_times(task: Task, now: float) -> None:
    if not (math.isfinite(task.issued) and math.isfinite(task.expires)):
        raise Malformed(explain("the task has no time", got=(task.issued, task.expires)))
    if task.issued > now + SKEW:
        got = f"{task.issued - now:.0f} s ahead of this node's clock"
        raise Clock(explain("the task is from the future", got=got, hint=Clock.hint))
    end = min(task.expires, task.issued + WINDOW)
    if now > end:
        raise ExpiredTask(explain("the task has expired", got=f"{now - end:.0f} s ago", hint=ExpiredTask.hint))


def _check_place(task: Task, a: Assignment, me: Me) -> None:
    x = task.exchange
    if (x.run, x.number) != (a.run, a.number):
        got, expected = f"run {a.run!r}, round {a.number}", f"run {x.run!r}, round {x.number}"
        raise (WrongRun if x.run != a.run else WrongRound)(
            explain("the task was signed for another round", got=got, expected=expected)
        )
    n, starts = len(task.nodes), task.starts
    rows = [*starts[:1], *(b - a for a, b in pairwise(starts))]
    if not all(0 <= c < n for c in x.cohort) or len(x.base) != len(x.cohort) or x.each:
        raise Malformed("the task names nodes that it does not have")
    if len(set(task.nodes)) != n or len(starts) not in (0, n) or any(r < 0 for r in rows):
        raise Malformed(
            explain("the task's nodes and rows do not fit together", got=f"{n} nodes, {len(starts)} starts")
        )
    if not 0 <= a.position < len(x.cohort):
        got, expected = f"position {a.position}", f"one of {len(x.cohort)}"
        raise WrongRound(explain("the task does not have this position", got=got, expected=expected))
    name = task.nodes[x.cohort[a.position]]
    if name != me.name:
        raise WrongRound(explain("this position is another node's", got=name, expected=me.name))
    if task.each.get(a.position) != a.each:
        own = task.each.get(a.position)
        raise Digest(explain("what is for this node alone is not what was signed", got=a.each, expected=own))


def check_rows(asked: Asked, n: int) -> None:
    """See that who asks counts as many rows here as there are.

    Raises
    ------
    DataChanged
        If not.
    """
    starts, node = asked.task.starts, asked.node
    if starts and node + 1 < len(starts) and starts[node + 1] - starts[node] != n:
        got, expected = f"{n} rows", f"{starts[node + 1] - starts[node]}, as the driver counts"
        hint = "connect again (Federation.connect) and begin another run"
        raise DataChanged(explain("this node has another number of rows", got=got, expected=expected, hint=hint))


def fewest(asked: Asked) -> int:
    """How many nodes will be in the sum at least, by what was signed; 1 where answers are told apart by node.

    Only the number of names and the quorum are known here: that the nodes exist, and that a coordinator adds before it
    looks, is a matter of trust until sums are secure.
    """
    from atoll.combine import combines

    x = asked.x
    kind = combines[x.combine.name](**x.combine.settings).kind
    return 1 if kind == "gather" or x.combine.name in _APART else x.rule.needed(len(x.cohort))
