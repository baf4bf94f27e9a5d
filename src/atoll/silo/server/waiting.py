"""Who waits for what: long polls and event streams sleep on topics, and a commit wakes them.

A `Bell` is one waiting request. It is hung up *before* the broker is asked, so that nothing that is committed between
the question and the wait is missed. Everything here belongs to the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

__all__ = ["Bell", "Topics"]


class Bell:
    """One request that waits.

    Attributes
    ----------
    gone : bool
        Whether whoever waited has hung up; there is nobody to answer.
    """

    __slots__ = ("_future", "_rung", "gone")

    def __init__(self) -> None:
        self._future: asyncio.Future[None] | None = None
        self._rung = False
        self.gone = False

    def ring(self) -> None:
        """Wake whoever waits, or let the next wait return at once."""
        self._rung = True
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    def hang_up(self) -> None:
        """The connection is gone: wake the handler, so that it ends."""
        self.gone = True
        self.ring()

    async def wait(self, seconds: float) -> bool:
        """Sleep until the bell rings.

        Parameters
        ----------
        seconds : float
            How long at most.

        Returns
        -------
        bool
            Whether it rang.
        """
        if not self._rung and seconds > 0:
            loop = asyncio.get_running_loop()
            self._future = loop.create_future()
            timer = loop.call_later(seconds, _wake, self._future)
            try:
                await self._future
            finally:
                timer.cancel()
                self._future = None
        rung, self._rung = self._rung, False
        return rung


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Topics:
    """All bells, by the topics they listen to.

    Attributes
    ----------
    closing : bool
        Whether the server is going down, so that nobody should wait any more.
    """

    def __init__(self) -> None:
        self._bells: dict[str, set[Bell]] = {}
        self.waiting = 0
        self.closing = False

    @contextmanager
    def listening(self, *topics: str) -> Iterator[Bell]:
        """A bell that rings for any of some topics while the body runs."""
        bell = Bell()
        self.waiting += 1
        for topic in topics:
            self._bells.setdefault(topic, set()).add(bell)
        try:
            yield bell
        finally:
            self.waiting -= 1
            for topic in topics:
                bells = self._bells[topic]
                bells.discard(bell)
                if not bells:
                    del self._bells[topic]

    def wake(self, topics: Iterable[str]) -> None:
        """Ring every bell that listens to one of these."""
        for topic in topics:
            for bell in self._bells.get(topic, ()):
                bell.ring()

    def close(self) -> None:
        """Ring all bells for the last time."""
        self.closing = True
        self.wake(list(self._bells))
