"""The one thread that talks to the broker, and the commits that many requests share.

Handlers hand in calls and wait. The thread takes all that have come, carries them out inside one `broker.batch()`, and
only when that is committed are the answers given: so a thousand answers a second cost some dozens of commits, and
nothing is ever acknowledged that a power cut could take back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from atoll.silo.errors import DiskFull

if TYPE_CHECKING:
    from atoll.silo.broker import Broker

__all__ = ["Writer"]

R = TypeVar("R")

_MOST = 512  # calls that share a commit
_IDLE = 3600.0  # seconds; nothing is due

_log = logging.getLogger("atoll.silo")


class _Call(NamedTuple):
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    future: asyncio.Future[Any]


class Writer:
    """A thread that owns a broker.

    Parameters
    ----------
    broker : Broker
        Only this thread calls it from now on.
    woken : callable
        Called in the event loop with the topics that a commit has changed.
    clock : callable
        Unix seconds; the broker's.

    Attributes
    ----------
    batches, calls : int
        How many commits there were, and how many calls shared them.
    broken : str
        Why the last commit failed; empty while all is well.
    """

    def __init__(
        self, broker: Broker, woken: Callable[[Iterable[str]], None], clock: Callable[[], float] = time.time
    ) -> None:
        self._broker, self._woken, self._clock = broker, woken, clock
        self._calls: deque[_Call] = deque()
        self._bell = threading.Condition()
        self._ending = False
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="atoll-writer", daemon=True)
        self.batches = self.calls = 0
        self.broken = ""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Calls that wait for a commit."""
        return len(self._calls)

    async def call(self, function: Callable[..., R], *arguments: object) -> R:
        """Carry out a call in the writer thread.

        Parameters
        ----------
        function : callable
            A method of the broker, or a function that uses it.
        *arguments
            What it is called with.

        Returns
        -------
        object
            What it returned, once that is committed.

        Raises
        ------
        Exception
            What it raised, or why nothing could be committed.
        """
        future: asyncio.Future[R] = self._loop.create_future()
        with self._bell:
            if self._ending:
                raise RuntimeError("the writer has ended")
            self._calls.append(_Call(function, arguments, future))
            self._bell.notify()
        return await future

    async def close(self) -> None:
        """Finish every call that was handed in, then end the thread."""
        with self._bell:
            self._ending = True
            self._bell.notify()
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        due = self._first_due()
        while True:
            with self._bell:
                if not self._calls and not self._ending:
                    self._bell.wait(min(max(0.0, due - self._clock()), _IDLE))
                calls = [self._calls.popleft() for _ in range(min(len(self._calls), _MOST))]
                if not calls and self._ending:
                    return
            if calls or due <= self._clock():
                due = self._batch(calls, due)

    def _first_due(self) -> float:
        due = self._broker.due()
        return float("inf") if due is None else due

    def _batch(self, calls: list[_Call], due: float) -> float:
        """Carry calls out, commit, and tell; returns when something is due next."""
        results: list[tuple[_Call, Any, BaseException | None]] = []
        try:
            with self._broker.batch():
                if due <= self._clock():
                    self._broker.close_due(self._clock())
                results = [_carry_out(call) for call in calls]
                due = self._first_due()
            self.broken = ""
        except Exception as error:
            _log.exception("a commit failed")
            self.broken = f"{type(error).__name__}: {error}"
            results = [(call, None, error) for call in calls]
            due = self._clock() + 1.0
        topics = set(self._broker.changes)
        self._broker.changes.clear()
        self.batches += 1
        self.calls += len(calls)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._tell, results, topics)
        return due

    def _tell(self, results: list[tuple[_Call, Any, BaseException | None]], topics: set[str]) -> None:
        for call, result, error in results:
            if call.future.done():  # whoever asked has gone
                continue
            if error is None:
                call.future.set_result(result)
            else:
                call.future.set_exception(error)
        if topics:
            self._woken(topics)


def _carry_out(call: _Call) -> tuple[_Call, Any, BaseException | None]:
    """One call within a batch; what it raises is its own matter, unless nothing more can be written at all."""
    try:
        return call, call.function(*call.arguments), None
    except DiskFull:
        raise
    except Exception as error:
        return call, None, error
