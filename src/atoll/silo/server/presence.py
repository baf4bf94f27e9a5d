"""Which nodes have hung up, as far as the event loop can tell.

A node that is killed closes its connections at once, and one whose machine vanished loses them when the kernel has
asked in vain. Either way it has a few seconds to come back before the broker is told that it is away. The kernel of a
machine answers for a process that stands still; so a node that waits sends an empty line every `atoll.silo.api.BEAT`
seconds, and is away when none comes for `SLACK` seconds more. Polls themselves may be long: one costs as much as some
ten such lines. Behind a reverse proxy connections are the proxy's; there only a poll that ends before its time says
something, and one that is not followed by another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from atoll.silo.server.connection import Connection

__all__ = ["GRACE", "SLACK", "Presence"]

GRACE = 3.5
"""Seconds that a node has to come back after it closed its connection."""

SLACK = 5.0
"""Seconds by which the empty lines of a node may be late."""

_LOOK = 2.0  # seconds between looks at who was heard of
_LOST = 0.5  # seconds, after the kernel has already waited


class Presence:
    """Connections of nodes, and polls that wait.

    Parameters
    ----------
    away : callable
        Called with the name of a node that has hung up and not come back, or stands still.
    back : callable
        Called with the name of a node that stood still and goes on.
    behind_proxy : bool
        Whether connections are those of a proxy.
    """

    def __init__(
        self,
        away: Callable[[str], None],
        back: Callable[[str], None] = lambda node: None,
        *,
        behind_proxy: bool = False,
    ) -> None:
        self._away, self._back = away, back
        self._behind_proxy = behind_proxy
        self._connections: dict[str, set[Connection]] = {}
        self._polls: dict[str, int] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._beating: dict[str, tuple[Connection, float]] = {}
        self._still: set[str] = set()
        self._looking: asyncio.TimerHandle | None = None

    @property
    def polling(self) -> int:
        """How many nodes wait for work."""
        return len(self._polls)

    def heard(self, node: str, connection: Connection | None) -> None:
        """A signed request of a node has come; its connection may have been lost while the signature was checked."""
        if connection is not None and connection.closed and not self._behind_proxy:
            if node not in self._connections:
                self._expect(node, GRACE)
            return
        timer = self._timers.pop(node, None)
        if timer is not None:
            timer.cancel()
        if connection is not None and connection.member != node and not self._behind_proxy:
            self._leave(connection)
            connection.member = node
            connection.lost = self._lost
            self._connections.setdefault(node, set()).add(connection)

    def poll(self, node: str, connection: Connection | None = None, beat: float = 0.0) -> None:
        """A node waits for work; with `beat`, it says every so many seconds over this connection that it lives."""
        self._polls[node] = self._polls.get(node, 0) + 1
        if beat and connection is not None and not self._behind_proxy:
            connection.heard = asyncio.get_running_loop().time()
            self._beating[node] = connection, beat
            self._watch()

    def polled(self, node: str, *, gone: bool) -> None:
        """A poll has ended: it was answered, or the node has hung up."""
        left = self._polls.pop(node, 1) - 1
        if left > 0:
            self._polls[node] = left
            return
        self._beating.pop(node, None)
        self._still.discard(node)
        if gone and node not in self._connections:
            self._expect(node, GRACE)

    def close(self) -> None:
        """The server ends; nobody is told any more."""
        for timer in self._timers.values():
            timer.cancel()
        if self._looking is not None:
            self._looking.cancel()
        self._timers.clear()
        self._beating.clear()
        self._connections.clear()

    def _lost(self, connection: Connection, error: Exception | None) -> None:
        node = connection.member
        if self._leave(connection) == 0:
            self._expect(node, GRACE if error is None else _LOST)

    def _leave(self, connection: Connection) -> int | None:
        """Take a connection from its node; how many that has left, None if it was not its."""
        there = self._connections.get(connection.member)
        if there is None or connection not in there:
            return None
        there.discard(connection)
        if not there:
            del self._connections[connection.member]
        return len(there)

    def _watch(self) -> None:
        """Look at who was heard of, as long as somebody is to be."""
        if self._looking is None:
            loop = asyncio.get_running_loop()
            self._looking = loop.call_later(_LOOK, self._look, loop.time() + _LOOK)

    def _look(self, due: float) -> None:
        self._looking, now = None, asyncio.get_running_loop().time()
        stood = now - due > _LOOK / 2  # this process itself: what was sent meanwhile is still to be read
        for node, (connection, beat) in list(self._beating.items()):
            connection.heard = now if stood else connection.heard
            still = now - connection.heard > beat + SLACK
            if still != (node in self._still):
                (self._still.add if still else self._still.discard)(node)
                (self._away if still else self._back)(node)
        if self._beating:
            self._watch()

    def _expect(self, node: str, seconds: float) -> None:
        """Call a node away unless something is heard of it in time."""
        if node not in self._timers:
            self._timers[node] = asyncio.get_running_loop().call_later(seconds, self._silent, node)

    def _silent(self, node: str) -> None:
        self._timers.pop(node, None)
        self._away(node)
