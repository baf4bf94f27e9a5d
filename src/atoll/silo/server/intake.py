"""Large bodies on their way in: decrypted into blocks of memory, and handed from there to whoever writes them.

A body whose length was told goes round the parser and is copied nowhere: TLS decrypts it into one of three blocks that
take turns, of which one is filled, one waits and one is written. When none is free the connection is not read; so a
sender is slowed down to the speed of the disk, and memory stays at 1.5 MiB for one, 32 MiB for many, and 192 KiB for
each of very many.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, ClassVar

from atoll.errors import explain
from atoll.silo.errors import Truncated
from atoll.silo.server.requests import Gone

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from atoll.silo.server.connection import Connection

__all__ = ["MUCH", "Intake"]

MUCH = 1 << 19
"""Bytes that are handed on at a time, unless fewer are left or many bodies come at once."""

_BLOCKS = 3
_LEAST = 1 << 16
_TOGETHER = 1 << 25  # bytes of all blocks, unless that would be less than the least for each
_PATIENCE = 30.0  # seconds without a byte

_Piece = bytes | memoryview


class Intake:
    """The body of one request, as it comes.

    Parameters
    ----------
    size : int or None
        Its length, if that was told.
    """

    _coming: ClassVar[weakref.WeakSet[Intake]] = weakref.WeakSet()

    def __init__(self, size: int | None) -> None:
        self._much = MUCH
        self._announced, self._came = size, 0
        self._parts: list[_Piece] = []
        self._size = 0
        self._blocks: list[memoryview] = []
        self._block = memoryview(b"")
        self._at = self._turn = 0

    @property
    def full(self) -> bool:
        """Whether enough has come to be handed on."""
        return self._size + self._at >= self._much

    def take(self, body: bytes) -> None:
        """Keep some bytes that the parser gave; called by the connection."""
        self._parts.append(body)
        self._size += len(body)
        self._came += len(body)

    def room(self, rest: int) -> memoryview:
        """Where to put what comes next, of so many bytes that are left; called by the connection."""
        if not self._block:
            self._block = self._free(rest)
        return self._block[self._at : self._at + rest]

    def filled(self, size: int) -> None:
        """So many bytes were put there."""
        self._at += size
        self._came += size

    async def pieces(self, connection: Connection, cycle: RequestResponseCycle) -> AsyncGenerator[list[_Piece], None]:
        """The rest of the body.

        Parameters
        ----------
        connection : Connection
            Where it comes in.
        cycle : RequestResponseCycle
            The request; another one than the connection reads, if that is ahead.

        Yields
        ------
        list of bytes-like
            Some pieces, in order; none of them is empty. They hold until the second time that more is asked for.

        Raises
        ------
        Truncated
            If nothing comes for half a minute.
        Gone
            If the connection is lost; what has come is yielded before.
        """
        self._coming.add(self)
        self._much = max(_LEAST, min(MUCH, _TOGETHER // (_BLOCKS * len(self._coming))))
        if cycle.body:
            self.take(bytes(cycle.body))
            cycle.body = bytearray()
        if cycle.more_body:
            connection.give(self, None if self._announced is None else self._announced - self._came)
        try:
            while self._size or self._at or cycle.more_body:
                while cycle.more_body and not self.full and not cycle.disconnected:
                    connection.flow.resume_reading()
                    await self._more(cycle)
                if not self._size and not self._at:
                    raise Gone
                yield self._handed_on()
        finally:
            self._coming.discard(self)
            if connection.intake is self:
                connection.intake = None

    def _handed_on(self) -> list[_Piece]:
        parts, self._parts, self._size = self._parts, [], 0
        if self._at:
            parts.append(self._block[: self._at])
            self._block, self._at = memoryview(b""), 0
        return parts

    def _free(self, rest: int) -> memoryview:
        """The block that was handed on longest ago; a new one at first."""
        if len(self._blocks) < _BLOCKS:
            self._blocks.append(memoryview(bytearray(min(self._much, rest))))
            return self._blocks[-1]
        self._turn += 1
        return self._blocks[(self._turn - 1) % _BLOCKS]

    async def _more(self, cycle: RequestResponseCycle) -> None:
        """Wait until the connection has something to say, for as long as bytes come."""
        before = -1
        while before < self._came:
            before = self._came
            if not cycle.message_event.is_set():
                try:
                    async with asyncio.timeout(_PATIENCE):
                        await cycle.message_event.wait()
                except TimeoutError:
                    continue
            cycle.message_event.clear()
            return
        raise Truncated(explain("the body stopped coming"))
