"""What travels between the party that asks and the nodes that answer: data only.

An `Exchange` is one message out, contributions back, added. It holds everything that an engine, a coordinator and a
journal need, and nothing that is code. An `Outcome` is what comes of it.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from atoll.errors import InvalidData, explain
from atoll.specs import Spec
from atoll.trees import Tree, TreeSpec

__all__ = ["DEFAULT_RULE", "Exchange", "Outcome", "Reply", "Rule", "Saved", "digest", "n_blocks"]


class Rule(NamedTuple):
    """When a round ends, and what counts.

    Attributes
    ----------
    deadline : float or None
        Seconds after which the round stops waiting; None: as long as the nodes live.
    quorum : float
        Share of the cohort, in (0, 1], that must be accepted for the round to stand.
    late : {"drop", "next", "wait"}
        What becomes of an answer after the deadline: left out, counted in the next round (training only), or waited
        for.
    """

    deadline: float | None = None
    quorum: float = 1.0
    late: Literal["drop", "next", "wait"] = "drop"

    def validated(self) -> Rule:
        """Return this rule, or say what is wrong with it.

        Raises
        ------
        InvalidData
            If the deadline is not positive, the quorum not in (0, 1], or lateness not one of the three words.
        """
        if self.deadline is not None and not self.deadline > 0:
            raise InvalidData(explain("deadline must be positive or None", got=self.deadline))
        if not 0 < self.quorum <= 1:
            raise InvalidData(explain("quorum is a share of the nodes asked", got=self.quorum, expected="in (0, 1]"))
        if self.late not in ("drop", "next", "wait"):
            raise InvalidData(explain("unknown lateness", got=self.late, expected="'drop', 'next' or 'wait'"))
        return self

    def needed(self, asked: int) -> int:
        """Fewest nodes that must answer where so many are asked; at least one."""
        return max(math.ceil(self.quorum * asked - 1e-9), 1)


DEFAULT_RULE = Rule()


class Reply(NamedTuple):
    """What an operation returns.

    Attributes
    ----------
    tree : Tree
        The contribution, which leaves the node.
    keep : dict of str to Tree
        Slots of the node's memory to write; they stay on the node.
    """

    tree: Tree
    keep: dict[str, Tree] = {}


@dataclass(frozen=True)
class Exchange:
    """One question to a cohort of nodes, and how their answers become one.

    Attributes
    ----------
    run : str
        Name of the run; not part of the digest.
    number : int
        Counts the exchanges of a run from 0.
    step : int
        Position in a training schedule; keys random streams.
    seed : int
        Seed of the run.
    op : str
        Name of the operation.
    settings : dict
        Its settings: plain values.
    payload : Tree
        Arrays for every node.
    each : dict of int to Tree
        Arrays for one position of the cohort only.
    view : tuple of Spec
        How rows look to the operation, applied in order.
    cohort : tuple of int
        Node numbers; a node's index in this tuple is its *position*.
    base : tuple of int
        Per position, the number of the node's last accepted exchange that wrote its memory (-1: none).
    combine, plan : Spec
        How contributions are added, and who sends what to whom.
    transform : tuple of Spec
        What is done to a contribution on its way.
    rule : Rule
        When the exchange ends.
    expects : TreeSpec
        Contract of a contribution, read off the empty shard's answer.
    """

    run: str
    number: int
    step: int
    seed: int
    op: str
    settings: dict[str, Any]
    payload: Tree
    each: dict[int, Tree]
    view: tuple[Spec, ...]
    cohort: tuple[int, ...]
    base: tuple[int, ...]
    combine: Spec
    transform: tuple[Spec, ...]
    plan: Spec
    rule: Rule
    expects: TreeSpec

    @cached_property
    def digest(self) -> str:
        """Hash of everything but the run's name."""
        return digest([getattr(self, f.name) for f in fields(self) if f.name != "run"])


class Saved(NamedTuple):
    """How far a run had come.

    Attributes
    ----------
    number : int
        Of the next exchange.
    step : int
        Position in the schedule.
    state : Tree
        What the recipe needs to go on.
    """

    number: int
    step: int
    state: Tree


@dataclass(frozen=True)
class Outcome:
    """What came of an exchange.

    Attributes
    ----------
    merged : Tree or None
        The raw sum of the accepted contributions, before decoding and finishing; None after a mix, or when nothing was
        accepted.
    accepted : tuple of int
        Positions whose contribution is in the sum, ascending.
    refused : dict of int to str
        Position to the reason why it is not.
    bytes : dict of int to int
        Position to the bytes of arrays that left the node.
    links : dict of str to int
        `"src>dst"` (positions, -1 the hub) to the bytes of arrays that took that link.
    seconds : float
        From submission to the last answer.
    notes : tuple of str
        What a person should know, such as a worker that died and was replaced.
    """

    merged: Tree | None
    accepted: tuple[int, ...]
    refused: dict[int, str] = field(default_factory=dict)
    bytes: dict[int, int] = field(default_factory=dict)
    links: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


def digest(value: object) -> str:
    """Hash plain values and arrays, by content and structure.

    Parameters
    ----------
    value : object
        Numbers, strings, booleans, None, arrays, and tuples, lists and dictionaries of them.

    Returns
    -------
    str
        32 hexadecimal digits (BLAKE2b, 128 bits).
    """
    state = hashlib.blake2b(digest_size=16)
    _feed(state, value)
    return state.hexdigest()


def _feed(state: Any, value: object) -> None:
    if isinstance(value, np.ndarray):
        state.update(f"a{value.dtype.str}{value.shape};".encode())
        state.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
    elif isinstance(value, dict):
        state.update(f"d{len(value)};".encode())
        for key in sorted(value, key=lambda k: (str(type(k)), k)):
            _feed(state, key)
            _feed(state, value[key])
    elif isinstance(value, list | tuple):
        state.update(f"l{len(value)};".encode())
        for item in value:
            _feed(state, item)
    else:
        text = repr(value.item() if isinstance(value, np.generic) else value)
        state.update(f"{type(value).__name__[0]}{len(text)}:{text};".encode())


def n_blocks(n: int, size: int) -> int:
    """How many blocks a cohort of n is answered in: as few of the powers of two as leave at most `size` in each.

    Parameters
    ----------
    n : int
        Positions; block k holds those from ``k n / blocks`` on.
    size : int
        The most positions of a block.

    Returns
    -------
    int
    """
    blocks = 1
    while -(-n // blocks) > size:
        blocks *= 2
    return blocks
