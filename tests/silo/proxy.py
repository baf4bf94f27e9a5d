"""A network that fails, between a client and a coordinator: on loopback, on purpose, and the same for the same seed.

`Proxy` passes bytes on and knows nothing of what they mean: it delays them, lets them drip, holds them back one way or
both, and resets connections after some number of bytes. `Relay` ends TLS with the federation's own certificate, so that
it can do to whole requests what a network can do to them: send them twice, late, and in another order.

What is drawn for a connection, or a request, depends on the seed and on its number alone. Both count what they did:
a test that means to show that faults do no harm has to see first that there were faults.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass, replace
from random import Random
from types import TracebackType
from typing import Any, Literal, Self

__all__ = ["Faults", "Proxy", "Relay", "Repeats", "free_port"]

_PIECE = 1 << 16
_RESET = struct.pack("ii", 1, 0)
_HEAD = 1 << 16


def free_port() -> int:
    """A port of the loopback address at which nobody listens now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


@dataclass(frozen=True)
class Faults:
    """What the network does.

    Attributes
    ----------
    latency : tuple of float
        Seconds, from and to, by which each piece is late, each way.
    rate : float or None
        Bytes a second, each way.
    held : {"up", "down", "both"} or None
        Which way nothing arrives: what was sent arrives when this ends, as after a partition.
    cut : tuple of int or None
        Bytes, from and to, counted both ways, after which a connection is reset.
    way : {"up", "down", "both"}
        Which way bytes are counted for `cut`: "up" resets in the middle of what a client sends.
    share : float
        Of connections, to which `cut` applies.
    refused : bool
        New connections are reset, and open ones too.
    """

    latency: tuple[float, float] = (0.0, 0.0)
    rate: float | None = None
    held: Literal["up", "down", "both"] | None = None
    cut: tuple[int, int] | None = None
    way: Literal["up", "down", "both"] = "both"
    share: float = 1.0
    refused: bool = False


@dataclass(frozen=True)
class Repeats:
    """What happens to whole requests.

    Attributes
    ----------
    share : float
        Of requests, that are sent twice.
    told : {"first", "second", "neither"}
        Which of both answers the client gets; without one its connection is reset.
    late : tuple of float
        Seconds, from and to, that a copy is sent after the original.
    shuffled : tuple of float
        Seconds, from and to, by which requests are late: those of several connections change places.
    """

    share: float = 1.0
    told: Literal["first", "second", "neither"] = "first"
    late: tuple[float, float] = (0.0, 0.0)
    shuffled: tuple[float, float] = (0.0, 0.0)


class _Threaded:
    """A server in a thread and a loop of its own."""

    def __init__(self, target: int, seed: int, context: ssl.SSLContext | None = None) -> None:
        self.target, self.seed, self.done = target, seed, Counter[str]()
        self._context, self._number = context, 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._begun, "127.0.0.1", 0, ssl=self._context, limit=_HEAD))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _end(self) -> None:
        self._server.close()
        await _cancelled(self._tasks)
        for _ in range(5):  # turns, in which what was accepted last becomes a task, and what was reset is closed
            await _cancelled(asyncio.all_tasks() - {asyncio.current_task()})
            await asyncio.sleep(0)

    def _begun(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._number += 1
        task = self._loop.create_task(self._guarded(reader, writer, self._number))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: _reset(writer))  # also of one that was cancelled before it began

    async def _guarded(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        try:
            await self._serve(reader, writer, number)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ssl.SSLError):
            self.done["ended"] += 1

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        raise NotImplementedError

    def _drawn(self, *what: object) -> Random:
        return Random(f"{self.seed}:{':'.join(map(str, what))}")


async def _cancelled(tasks: Iterable[asyncio.Task[Any] | None]) -> None:
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection so that the other side sees a reset, not an orderly end."""
    raw = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


async def _dialled(port: int, **settings: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection; one that comes when nobody wants it any more is reset."""
    dialling = asyncio.ensure_future(asyncio.open_connection("127.0.0.1", port, **settings))
    try:
        return await asyncio.shield(dialling)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            _reset((await dialling)[1])
        raise


class Proxy(_Threaded):
    """Passes bytes on to a port of the loopback address, as badly as it is told.

    Parameters
    ----------
    target : int
        Port; may change, as of a coordinator that is started again.
    faults : Faults
        What the network does.
    seed : int
        Of what is drawn.

    Attributes
    ----------
    port : int
        Where it listens.
    done : Counter
        What was done: "connections", "cut", "delayed", "held", "dripped", "refused".
    """

    def __init__(self, target: int, faults: Faults = Faults(), seed: int = 0) -> None:
        super().__init__(target, seed)
        self._faults, self._changed = faults, asyncio.Event()
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def faults(self) -> Faults:
        """What the network does now."""
        return self._faults

    def set(self, faults: Faults) -> None:
        """Have the network do something else from now on, on open connections too (`cut` on new ones only)."""
        self._call(self._set(faults))

    def begin(self, faults: Faults) -> None:
        """The same, and connections that are open are reset, so that `cut` is for all."""
        self.set(replace(faults, refused=True))
        self.set(faults)

    @contextlib.contextmanager
    def during(self, **changes: Any) -> Iterator[None]:
        """Have the network do something else for a while."""
        before = self._faults
        self.set(replace(before, **changes))
        try:
            yield
        finally:
            self.set(before)

    async def _set(self, faults: Faults) -> None:
        self._faults = faults
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        if faults.refused:
            for writer in list(self._open):
                self.done["cut"] += 1
                _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.done["connections"] += 1
        if self._faults.refused:
            self.done["refused"] += 1
            return
        far, back = await _dialled(self.target)
        if self._faults.refused:  # since it was dialled
            self.done["refused"] += 1
            _reset(back)
            return
        left = self._budget(number)
        self._open |= {writer, back}
        ways = [
            asyncio.ensure_future(self._pump(reader, back, "up", number, left)),
            asyncio.ensure_future(self._pump(far, writer, "down", number, left)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            self._open -= {writer, back}
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            _reset(back)

    def _budget(self, number: int) -> list[float]:
        rng, faults = self._drawn("cut", number), self._faults
        if faults.cut is None or rng.random() >= faults.share:
            return [float("inf")]
        return [float(rng.randint(*faults.cut))]

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str, number: int, left: list[float]
    ) -> None:
        rng = self._drawn(way, number)
        while piece := await reader.read(self._most()):
            await self._delay(len(piece), way, rng)
            if self._faults.way in (way, "both"):
                left[0] -= len(piece)
                if left[0] < 0:
                    writer.write(piece[: int(len(piece) + left[0])])
                    await writer.drain()
                    self.done["cut"] += 1
                    raise ConnectionResetError
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    def _most(self) -> int:
        rate = self._faults.rate
        return _PIECE if rate is None else max(1, min(_PIECE, int(rate / 20)))

    async def _delay(self, size: int, way: str, rng: Random) -> None:
        low, high = self._faults.latency
        if high:
            self.done["delayed"] += 1
            await asyncio.sleep(rng.uniform(low, high))
        if self._faults.rate is not None:
            self.done["dripped"] += 1
            await asyncio.sleep(size / self._faults.rate)
        if self._faults.held in (way, "both"):
            self.done["held"] += 1
            while self._faults.held in (way, "both"):
                await self._changed.wait()


class Relay(_Threaded):
    """Ends TLS as the coordinator would, and passes whole requests on: twice, late, in another order.

    Parameters
    ----------
    target : int
        Port of the coordinator.
    context : ssl.SSLContext
        Of the coordinator's own certificate and key, so that its members accept it.
    repeats : Repeats
        What happens to requests.
    seed : int
        Of what is drawn.

    Attributes
    ----------
    done : Counter
        What was done: "requests", "copies", and "copy 401" and so on, by the status of the answer to a copy.
    """

    def __init__(self, target: int, context: ssl.SSLContext, repeats: Repeats, seed: int = 0) -> None:
        super().__init__(target, seed, context)
        self.repeats, self._requests = repeats, 0
        self._up = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._up.check_hostname, self._up.verify_mode = False, ssl.CERT_NONE

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            request = head + await reader.readexactly(_length(head))
            self._requests += 1
            self.done["requests"] += 1
            answer = await self._passed(request, self._drawn("request", self._requests))
            if answer is None:
                return
            writer.write(answer)
            await writer.drain()

    async def _passed(self, request: bytes, rng: Random) -> bytes | None:
        repeats, twice = self.repeats, rng.random() < self.repeats.share
        await asyncio.sleep(rng.uniform(*repeats.shuffled))
        first = await self._asked(request)
        if not twice:
            return first
        copy = self._loop.create_task(self._copy(request, rng.uniform(*repeats.late)))
        self._tasks.add(copy)
        copy.add_done_callback(self._tasks.discard)
        if repeats.told == "first":
            return first
        await asyncio.shield(copy)
        return copy.result() if repeats.told == "second" else None

    async def _copy(self, request: bytes, seconds: float) -> Any:
        await asyncio.sleep(seconds)
        answer = await self._asked(request)
        self.done["copies"] += 1
        self.done[f"copy {answer[9:12].decode()}"] += 1
        return answer

    async def _asked(self, request: bytes) -> bytes:
        reader, writer = await _dialled(self.target, ssl=self._up, limit=_HEAD)
        try:
            writer.write(request)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            bare = request.startswith(b"HEAD ") or head[9:12] in (b"204", b"304")
            return head + (b"" if bare else await reader.readexactly(_length(head)))
        finally:
            _reset(writer)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
        if name.lower() == b"transfer-encoding":
            raise OSError("a relay passes on bodies of a known length only")
    return 0
