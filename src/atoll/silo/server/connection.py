"""uvicorn's connection, with the bounds that it leaves to others, and a word when somebody hangs up.

What is added: the kernel asks a silent peer whether it lives (so that a machine that vanished is noticed within
seconds), heads are bounded in bytes and seconds, a waiting handler is told when its connection is gone, and what is not
HTTP is answered as a problem like everything else.
"""

from __future__ import annotations

import asyncio
import socket
import weakref
from collections.abc import Callable
from typing import Any

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from atoll.silo.errors import Malformed, TooLarge, problem
from atoll.silo.server.intake import Intake
from atoll.silo.server.waiting import Bell

__all__ = ["MAX_HEAD", "Connection", "Reading", "keep_asking"]

MAX_HEAD = 32 << 10
"""Bytes of a request's target and headers."""

_PATIENCE = 20.0  # seconds from the first byte of a head to its last
_GOODBYE = 0.25  # seconds for the last bytes to be sent
_AT_ONCE = 1 << 18  # bytes that are read together
_PIPELINED = 8  # requests that may wait behind one another
_ASKED = ((socket.SO_KEEPALIVE, 1),)
_ASKING = ((socket.TCP_KEEPIDLE, 2), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 2))


def keep_asking(sock: socket.socket) -> None:
    """Have the kernel ask a silent peer after 2 seconds, twice, a second apart; then the connection is lost."""
    for option, value in _ASKED:
        sock.setsockopt(socket.SOL_SOCKET, option, value)
    for option, value in _ASKING:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 4000)


class Connection(HttpToolsProtocol):
    """One connection of a client.

    Attributes
    ----------
    bell : Bell or None
        What to ring when the connection is lost while a handler waits.
    intake : Intake or None
        What takes the body of the request that is being read, instead of its buffer.
    rest : int
        Bytes of that body which the parser will not see.
    member : str
        Name of the member whose signature was last good here.
    lost : callable or None
        Called with this connection and the error when it is lost.
    closed : bool
        Whether it is lost.
    heard : float
        When bytes last came, in seconds of the event loop's clock, where somebody looks at that.
    """

    bell: Bell | None = None
    intake: Intake | None = None
    rest = 0
    member: str = ""
    lost: Callable[[Connection, Exception | None], None] | None = None
    closed = False
    heard = 0.0
    _head = 0
    _slow: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Set up the socket."""
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            keep_asking(sock)
        self._hurry()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        self._no_hurry()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self.closed = True
        if self.bell is not None:
            self.bell.hang_up()
        if self.lost is not None:
            self.lost(self, exc)

    def on_message_begin(self) -> None:
        """A request begins: hand ourselves to the application."""
        super().on_message_begin()
        self.scope["atoll"] = self  # type: ignore[typeddict-unknown-key]
        self.intake = None
        self._head = 0
        if self._slow is None:
            self._hurry()

    def on_url(self, url: bytes) -> None:
        """Part of the target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._no_hurry()
        if len(self.pipeline) >= _PIPELINED:
            raise ValueError("too many requests at once")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Part of a body: into the intake of whoever reads it, if there is one."""
        if self.intake is None or self.cycle.response_complete:
            super().on_body(body)
            return
        self.intake.take(body)
        if self.intake.full:
            self.flow.pause_reading()
        self.cycle.message_event.set()

    def give(self, intake: Intake, rest: int | None) -> None:
        """Give an intake what follows of the body that is being read.

        Parameters
        ----------
        intake : Intake
            What takes it.
        rest : int or None
            How much follows; None if only the parser can tell.
        """
        self.intake = intake
        self.rest = rest or 0
        self._go_on()

    def room(self, spare: memoryview) -> memoryview:
        """Where to put bytes of a body that goes round the parser; what nobody takes goes into spare memory."""
        return spare[: self.rest] if self.intake is None else self.intake.room(self.rest)

    def filled(self, size: int) -> None:
        """Bytes were put there."""
        self.rest -= size
        if self.intake is None:
            self._unset_keepalive_if_required()
        else:
            self.intake.filled(size)
            if self.intake.full:
                self.flow.pause_reading()
                self.cycle.message_event.set()
        if not self.rest:
            self.parser = httptools.HttpRequestParser(self)  # the old one waits for this body
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self.on_message_complete()

    def _go_on(self) -> None:
        """Tell a sender who asked first that its body is wanted."""
        if self.cycle.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.cycle.waiting_for_100_continue = False

    def on_response_complete(self) -> None:
        """An answer is sent."""
        super().on_response_complete()
        self._let_go()

    def shutdown(self) -> None:
        """The server ends: close at once if nothing is on its way."""
        super().shutdown()
        self._let_go()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing was asked for a while."""
        super().timeout_keep_alive_handler()
        self._let_go()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, unless an answer is already on its way."""
        busy = self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        if not busy and not self.transport.is_closing():
            long = self._head > MAX_HEAD
            error = TooLarge(f"the head of a request has at most {MAX_HEAD} bytes") if long else Malformed(msg)
            body = msgspec.json.encode(problem(error))
            line = b"413 Content Too Large" if long else b"400 Bad Request"
            self.transport.write(
                b"HTTP/1.1 %b\r\ncontent-type: application/problem+json\r\nconnection: close\r\ncontent-length: %d\r\n"
                b"cache-control: no-store\r\n\r\n%b" % (line, len(body), body)
            )
        self.transport.close()
        self._let_go()

    def _let_go(self) -> None:
        """Do not wait for the other side to say goodbye, once we have."""
        if self.transport.is_closing() and not self.closed:
            self.loop.call_later(_GOODBYE, self.transport.abort)

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > MAX_HEAD:
            raise ValueError("the head of a request is too long")

    def _hurry(self) -> None:
        self._slow = self.loop.call_later(_PATIENCE, self._too_slow)

    def _no_hurry(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None

    def _too_slow(self) -> None:
        self._slow = None
        if not self.transport.is_closing():
            self.transport.abort()


_buffers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview] = weakref.WeakKeyDictionary()


def _shared(loop: asyncio.AbstractEventLoop) -> memoryview:
    """The memory of a loop into which its connections read."""
    found = _buffers.get(loop)
    if found is None:
        found = _buffers[loop] = memoryview(bytearray(_AT_ONCE))
    return found


class Reading(asyncio.BufferedProtocol):
    """A connection whose bytes are decrypted into memory that all connections of a loop share.

    They are handed on at once, so one buffer is enough. Without it every 16 KiB record is read into 256 KiB of memory
    of its own.

    Parameters
    ----------
    **settings
        As uvicorn gives them to a connection.
    """

    def __init__(self, **settings: Any) -> None:
        self._inner = Connection(**settings)
        self._buffer = _shared(self._inner.loop)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._inner.connection_lost(exc)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where bytes go."""
        return self._inner.room(self._buffer) if self._inner.rest else self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have come."""
        self._inner.heard = self._inner.loop.time()
        if self._inner.rest:
            self._inner.filled(nbytes)
        else:
            self._inner.data_received(self._buffer[:nbytes])  # type: ignore[arg-type]

    def eof_received(self) -> None:
        """No more will come."""
        self._inner.eof_received()

    def pause_writing(self) -> None:
        """Too much waits to be sent."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Room again."""
        self._inner.resume_writing()
