"""Large bodies on their way in: pieces go from the parser to whoever writes them, without being joined or copied.

What a connection gives is kept until the last pieces are written, and while there is much of it the connection is not
read; so a sender is slowed down to the speed of the disk, and memory stays at about a megabyte for each.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from atoll.errors import explain
from atoll.silo.errors import Truncated
from atoll.silo.server.requests import Gone

if TYPE_CHECKING:
    from atoll.silo.server.connection import Connection

__all__ = ["MUCH", "Intake"]

MUCH = 1 << 19
"""Bytes that are handed on at a time, unless fewer are left."""

_PATIENCE = 30.0  # seconds without a byte


class Intake:
    """The body of a connection's request, as it comes."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    @property
    def full(self) -> bool:
        """Whether enough has come to be handed on."""
        return self._size >= MUCH

    def take(self, body: bytes) -> None:
        """Keep some bytes; called by the connection."""
        self._parts.append(body)
        self._size += len(body)

    async def pieces(self, connection: Connection) -> AsyncGenerator[list[bytes], None]:
        """The rest of the body.

        Yields
        ------
        list of bytes
            Some pieces, in order; none of them is empty.

        Raises
        ------
        Truncated
            If nothing comes for half a minute.
        Gone
            If the connection is lost; what has come is yielded before.
        """
        cycle, flow = connection.cycle, connection.flow
        if cycle.body:
            self.take(bytes(cycle.body))
            cycle.body = bytearray()
        connection.intake = self
        connection.go_on()
        try:
            while self._size or cycle.more_body:
                while cycle.more_body and not self.full and not cycle.disconnected:
                    flow.resume_reading()
                    await _something(cycle.message_event)
                if not self._size:
                    raise Gone
                parts, self._parts, self._size = self._parts, [], 0
                yield parts
        finally:
            connection.intake = None


async def _something(event: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(_PATIENCE):
            await event.wait()
    except TimeoutError:
        raise Truncated(explain("the body stopped coming")) from None
    event.clear()
