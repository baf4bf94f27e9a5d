"""The seam: where nodes run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from atoll.messages import Exchange, Outcome
from atoll.shards import Shard
from atoll.specs import Registry

__all__ = ["Done", "Engine", "Handover", "Pending", "engines"]


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

    def attach(self, shards: Sequence[Shard] | str) -> str:
        """Take shards, in order of node numbers, or the name of a data set at the nodes; returns a key."""
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


engines: Registry[Callable[[int | None], Engine]] = Registry("engine")
