"""Members of a coordinator that are simulated: many in one process, each with its own key and connection.

They speak the real protocol, so for the coordinator they are what real nodes would be.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec

from atoll.silo.api import Role
from atoll.silo.keys import Key
from atoll.silo.local import Site, coordinator
from atoll.silo.server import Folder
from atoll.silo.signing import Signer

__all__ = ["Crowd", "Member", "cpu", "crowd", "memory", "together"]

T = TypeVar("T")
_AT_ONCE = 50  # connections that are opened at the same time
_ROOM = 1 << 20


class Crowd(NamedTuple):
    """A coordinator in a process of its own, and keys of members that it knows.

    Attributes
    ----------
    site : Site
        The coordinator.
    federation : str
        Its fingerprint.
    certificate : str
        SHA-256 of its certificate.
    keys : dict of str to Key
        By name of the member.
    """

    site: Site
    federation: str
    certificate: str
    keys: dict[str, Key]

    @property
    def process(self) -> int:
        """Of the coordinator."""
        return self.site.processes["coordinator"].pid


@contextmanager
def crowd(place: Path, nodes: Sequence[str], *words: str) -> Iterator[Crowd]:
    """Begin a coordinator, with these options, that knows these nodes and a researcher named ada."""
    _raise_limit()
    folder = Folder(place / "coordinator")
    keys = {name: Key.make() for name in ("ada", *nodes)}
    broker = folder.open_broker()
    try:
        with broker.batch():
            for name, key in keys.items():
                role: Role = "researcher" if name == "ada" else "node"
                broker.add_member(name, role, key.public)
    finally:
        broker.close()
    with coordinator(place, *words) as site:
        yield Crowd(site, folder.key.fingerprint, folder.fingerprint, keys)


def memory(process: int) -> tuple[float, float]:
    """MB that a process has now, and the most that it ever had."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    told = dict(line.split(":", 1) for line in lines if ":" in line)
    now, most = (int(told[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))
    return now, most


def cpu(process: int) -> float:
    """Seconds of a core that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Member:
    """One member: signed requests over one connection, kept open.

    Parameters
    ----------
    url : str
        Of the coordinator.
    key : Key
        Its own.
    turn : asyncio.Semaphore
        Held while a connection is opened.
    """

    def __init__(self, url: str, key: Key, turn: asyncio.Semaphore) -> None:
        where = urlsplit(url)
        self._host, self._port, self._turn = where.hostname, where.port, turn
        self._signer = Signer(key)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, target: str, kind: type[T], body: object = None, beat: float = 0.0) -> T:
        """Send a request (bytes as they are, anything else as JSON); the body of its answer.

        With `beat`, an empty line is sent every so many seconds until it comes, as nodes do.
        """
        octets = isinstance(body, bytes)
        data = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
        fields = self._signer.headers(method, target, None if body is None else hashlib.sha256(data).digest())
        if body is not None:
            fields["Content-Type"] = "application/octet-stream" if octets else "application/json"
            fields["Content-Length"] = str(len(data))
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        reader, writer = await self._connected()
        writer.write(f"{method} {target} HTTP/1.1\r\nHost: coordinator\r\n{head}\r\n".encode() + data)
        beating = asyncio.get_running_loop().create_task(_beating(writer, beat)) if beat else None
        try:
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        finally:
            if beating is not None:
                beating.cancel()
        found = await reader.readexactly(int(answer.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        if b" 200 " not in answer.partition(b"\r\n")[0]:
            raise RuntimeError(f"{method} {target}: {found.decode()}")
        return msgspec.json.decode(found, type=kind)

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            async with self._turn:
                self._streams = await asyncio.open_connection(self._host, self._port, ssl=_trusting(), limit=_ROOM)
        return self._streams

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].transport.abort()


async def _beating(writer: asyncio.StreamWriter, beat: float) -> None:
    while True:
        await asyncio.sleep(beat)
        writer.write(b"\r\n")


async def together(
    made: Crowd, live: Callable[[Member, str], Awaitable[Any]], ask: Callable[[Member], Awaitable[T]]
) -> T:
    """Have every node live in a task of its own while ada asks; what she found.

    Raises
    ------
    Exception
        Whatever ended a node before she had her answer.
    """
    turn = asyncio.Semaphore(_AT_ONCE)
    members = {name: Member(made.site.url, key, turn) for name, key in made.keys.items()}
    lives = [asyncio.ensure_future(live(member, name)) for name, member in members.items() if name != "ada"]
    asking = asyncio.ensure_future(ask(members["ada"]))
    try:
        await asyncio.wait([asking, *lives], return_when=asyncio.FIRST_COMPLETED)
        for task in (*lives, asking):
            if task.done() and (error := task.exception()) is not None:
                raise error
        return asking.result()
    finally:
        for task in (*lives, asking):
            task.cancel()
        await asyncio.gather(*lives, asking, return_exceptions=True)
        for member in members.values():
            member.close()


_context: list[ssl.SSLContext] = []


def _trusting() -> ssl.SSLContext:
    """One context for all: what is measured is the coordinator, over loopback."""
    if not _context:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        _context.append(context)
    return _context[0]


def _raise_limit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
