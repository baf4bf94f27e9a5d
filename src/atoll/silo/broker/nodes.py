"""Which nodes are here, and for how long those that are not have been away."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from atoll.errors import explain
from atoll.silo.api import Hello, NodeStatus
from atoll.silo.broker.members import Members
from atoll.silo.errors import NotFound

__all__ = ["Nodes"]


class Nodes(Members):
    """The part of a broker that knows who can be asked.

    A node is here until some time that its last sign of life gives; after a restart of the broker, nobody has been away
    for longer than the broker runs.
    """

    def __init__(self, folder: Path, max_blob: int, clock: Callable[[], float]) -> None:
        super().__init__(folder, max_blob, clock)
        self._started = clock()
        self._until: dict[str, float] = {}
        self._heard: dict[str, float] = {}
        self._leaving: list[tuple[float, str]] = []

    def hello(self, node: str, hello: Hello) -> None:
        """What a node runs on and offers.

        Raises
        ------
        NotFound
            If there is no such node.
        """
        known = self._member(node)
        if known is None or known.role != "node":
            raise NotFound(explain("there is no such node", got=node))
        with self._writing("node.hello"):
            sql = "INSERT OR REPLACE INTO nodes (name, hello, seen) VALUES (?, ?, ?)"
            self._run(sql, node, msgspec.json.encode(hello), self._clock())
            offers = ", ".join(d.name for d in hello.data) or "nothing"
            self._event("hello", node, f"offers {offers}")
        self.seen(node)

    def seen(self, node: str, seconds: float = 5.0) -> None:
        """A node was heard of, and counts as here for so many seconds (a held poll: as long as it is held)."""
        now = self._clock()
        before, until = self._until.get(node, 0.0), now + seconds
        self._heard[node] = now
        if until > before:
            self._until[node] = until
            heapq.heappush(self._leaving, (until, node))
        if before <= now:
            with self._writing("node.seen"):
                self._run("UPDATE nodes SET seen = ? WHERE name = ?", now, node)
                self._event("here", node, "connected")
                self._changed("nodes")

    def away(self, node: str) -> None:
        """The connection of a node was lost: it is away from now on, until it is seen."""
        now = self._clock()
        if self._until.get(node, 0.0) > now:
            self._until[node] = now
            self._gone(node, now)

    def _gone(self, node: str, now: float) -> None:
        with self._writing("node.away"):
            self._run("UPDATE nodes SET seen = ? WHERE name = ?", self._heard.get(node, now), node)
            self._event("away", node, "not connected any more")
            self._changed("nodes", "due")

    def _here(self, node: str) -> bool:
        return self._until.get(node, 0.0) > self._clock()

    def _away_since(self, node: str) -> float:
        """Since when a node is away; the future, if it is here."""
        return max(self._until.get(node, 0.0), self._started)

    def _next_leaving(self) -> float:
        """When the next node that is here will be away, unless it is heard of before."""
        while self._leaving:
            until, node = self._leaving[0]
            if self._until.get(node) == until:
                return until
            heapq.heappop(self._leaving)
        return math.inf

    def _note_leaving(self, now: float) -> None:
        """Record those whose time has passed without a sign of life."""
        while self._next_leaving() <= now:
            _, node = heapq.heappop(self._leaving)
            self._gone(node, now)

    def nodes(self) -> list[NodeStatus]:
        """All nodes, by name."""
        sql = """SELECT m.name, m.revoked, n.hello, n.seen FROM members m LEFT JOIN nodes n ON n.name = m.name
            WHERE m.role = 'node' ORDER BY m.name"""
        return [self._status(*row) for row in self._all(sql)]

    def _status(self, name: str, revoked: float | None, written: bytes | None, stored: float | None) -> NodeStatus:
        hello = Hello(versions={}, data=()) if written is None else msgspec.json.decode(written, type=Hello)
        seen = self._heard.get(name, stored)
        if revoked is not None:
            return NodeStatus(name=name, state="revoked", seen=seen, versions=hello.versions, data=())
        here: Literal["here", "away", "never seen"] = "never seen" if seen is None else "away"
        if self._here(name):
            here = "here"
        return NodeStatus(name=name, state=here, seen=seen, versions=hello.versions, data=hello.data)

    def _sweep_nodes(self) -> None:
        heard = [(time, name) for name, time in self._heard.items()]
        self._db.executemany("UPDATE nodes SET seen = ? WHERE name = ?", heard)
