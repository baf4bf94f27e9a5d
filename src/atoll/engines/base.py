"""The seam: where nodes run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from atoll.messages import DEFAULT_RULE, Exchange, Outcome, Rule
from atoll.run import Row
from atoll.shards import Shard
from atoll.specs import Registry

__all__ = ["Done", "Engine", "Handover", "Pending", "Remote", "Reporting", "engines"]


class Pending(Protocol):
    """An exchange on its way."""

    def result(self) -> Outcome:
        """Wait until the rule of the exchange ends it."""
        ...

    def missing(self) -> list[int]:
        """Positions that have not answered yet."""
        ...


class Handover(list[Shard]):
    """Shards that their owner gives up: an engine that copies them may let go of each as it is copied."""


@dataclass(frozen=True)
class Remote:
    """A data set at nodes that keep their rows, in place of shards: a value, without handles or secrets.

    Attributes
    ----------
    url : str
        Of the coordinator that knows the nodes.
    data : str or None
        Name of the data set; None: the only one that there is.
    nodes : tuple of str
        Names of the nodes, in order of their numbers; empty: all that offer the data set.
    rows : tuple of int
        Per node, how many rows it has; empty while nobody has asked.
    home : str or None
        Folder with the logins of this machine's user; None: the usual one.
    rule : Rule
        When the question ends how many rows there are.
    patience : float
        Seconds for which a coordinator that cannot be reached is tried again.
    asks : tuple of str
        Operations that are going to be asked, as far as that is known; owners of nodes are told.
    """

    url: str
    data: str | None = None
    nodes: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    home: str | None = None
    rule: Rule = DEFAULT_RULE
    patience: float = 300.0
    asks: tuple[str, ...] = ()


class Done(NamedTuple):
    """An exchange that has ended already."""

    outcome: Outcome

    def result(self) -> Outcome:
        """What came of it."""
        return self.outcome

    def missing(self) -> list[int]:
        """Nobody."""
        return []


class Engine(Protocol):
    """Where nodes run. An engine executes tasks and adds what comes back; it never decodes or finishes."""

    def attach(self, rows: Sequence[Shard] | Remote) -> str:
        """Take shards, in order of node numbers, or say which rows at their nodes are meant; returns a key."""
        ...

    def submit(self, key: str, x: Exchange) -> Pending:
        """Start an exchange over what is attached under `key`; idempotent by (run, number, digest)."""
        ...

    def held(self, key: str) -> Sequence[Shard]:
        """The attached shards where this engine keeps them, so that nobody needs a second copy."""
        ...

    def detach(self, key: str) -> None:
        """Give the shards back; unknown keys are ignored."""
        ...

    def close(self) -> None:
        """End all workers and give everything back."""
        ...


@runtime_checkable
class Reporting(Protocol):
    """An engine whose nodes keep their rows, and whose runs others see: it is told how they go."""

    def remote(self, key: str) -> Remote:
        """What is attached, complete: data set, nodes and rows."""
        ...

    def begin(self, key: str, run: str, purpose: str, asks: Sequence[str] = ()) -> None:
        """Open a run, or go on with it.

        Parameters
        ----------
        key : str
            Of what is attached.
        run : str
            Its name.
        purpose : str
            What for, in words that owners of nodes are shown.
        asks : sequence of str
            Operations that the run may come to ask, as far as that is known; owners of nodes are shown them too.
        """
        ...

    def told(self, key: str, run: str, row: Row) -> None:
        """What a round came to, as the record keeps it.

        Parameters
        ----------
        key : str
            Of what is attached.
        run : str
            Its name.
        row : Row
            Its `metrics` may be added to later, when more is known of the round.
        """
        ...

    def end(self, key: str, run: str, error: BaseException | None) -> None:
        """Say that a run is done, or what made it fail."""
        ...


engines: Registry[Callable[[int | None], Engine]] = Registry("engine")
