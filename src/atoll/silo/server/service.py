"""What all handlers share: the broker behind its writer, who waits, who is here, and who is asking."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from atoll.errors import explain
from atoll.silo.errors import Forbidden, Malformed, Revoked, Unauthenticated, Unavailable
from atoll.silo.server.failures import Failures
from atoll.silo.server.metrics import Metrics
from atoll.silo.server.presence import Presence
from atoll.silo.server.requests import Gone, Request
from atoll.silo.server.sessions import secret_of
from atoll.silo.server.waiting import Bell, Topics
from atoll.silo.server.writer import Writer
from atoll.silo.signing import Verifier, Windows

if TYPE_CHECKING:
    from atoll.silo.broker import Broker, Known
    from atoll.silo.keys import Key

__all__ = ["FAILURES", "Service", "Settings"]

R = TypeVar("R")

FAILURES = 600
"""Times a minute that one address may fail to say who it is, unless a coordinator is told otherwise."""

_HANDS = 2  # threads that write uploads and look at large answers
_SWEEP = 300.0  # seconds between upkeep
_AGAIN = 5.0  # seconds after a fold that found no room
_KEY = re.compile(rb';keyid="([^"]{1,100})"')

_log = logging.getLogger("atoll.silo")


@dataclass(frozen=True)
class Settings:
    """How a coordinator is known and reached.

    Attributes
    ----------
    key : Key
        Its signing key.
    url : str
        Where members reach it.
    certificate : str or None
        SHA-256 of its TLS certificate, hexadecimal; None behind a proxy that shows another one.
    behind_proxy : bool
        Whether connections are those of a reverse proxy.
    longest_poll : float
        Seconds that a long poll is held at most; proxies end a silent connection after 60 or so.
    failures : int
        Times a minute that one address may fail to say who it is; 0: any number.
    forwarded : bool
        Whether the proxy writes the caller's address as the last one in ``X-Forwarded-For``.
    """

    key: Key
    url: str
    certificate: str | None
    behind_proxy: bool = False
    longest_poll: float = 120.0
    failures: int = FAILURES
    forwarded: bool = False

    @property
    def federation(self) -> str:
        """Fingerprint of the signing key."""
        return self.key.fingerprint


class Service:
    """One running coordinator; made and used within its event loop.

    Parameters
    ----------
    broker : Broker
        Not used by anybody else from now on.
    settings : Settings
        How the coordinator is known and reached.
    clock : callable
        Unix seconds.

    Attributes
    ----------
    sizes : dict of (str, str) to int
        Member and digest to the size of uploads that were announced.
    """

    def __init__(self, broker: Broker, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self.broker, self.settings, self.clock = broker, settings, clock
        self.metrics = Metrics()
        self.topics = Topics()
        self.windows = Windows(broker.leases())
        self.verifier = Verifier(self._public, clock)
        self.presence = Presence(self._went, self._came, behind_proxy=settings.behind_proxy)
        self.failures = Failures(settings.failures, behind_proxy=settings.behind_proxy, forwarded=settings.forwarded)
        self.writer = Writer(broker, self._woken, clock)
        self.hands = ThreadPoolExecutor(_HANDS, "atoll-hand")
        self.sizes: dict[tuple[str, str], int] = {}
        self._folding: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[object]] = set()
        self._sweeping = self._spawn(self._sweep())
        self._fold()

    async def close(self) -> None:
        """Wake whoever waits, finish what was handed in, and let go."""
        self.topics.close()
        self.presence.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.writer.close()
        self.hands.shutdown()

    # who asks

    def known(self, keyid: str) -> Known:
        """The member with a key.

        Raises
        ------
        Unauthenticated, Revoked
            If there is none, or it was revoked.
        """
        member = self.broker.member_by_key(keyid)
        if member is None:
            raise Unauthenticated(explain("the key of the sender is not known here", got=keyid))
        if member.revoked is not None:
            raise Revoked(explain("this membership was revoked", got=member.name))
        return member

    async def authenticate(self, request: Request) -> None:
        """Check the signature of a request and accept its number, once.

        Parameters
        ----------
        request : Request
            Its `member` and `digest` are set to who signed, and what was signed.
        """
        if self.failures.wait(request):
            self._hold_back(request)
        claim = self.verifier.check(request.method, request.target, request.raw_headers)
        if claim.digest is None and request.has_body:
            raise Malformed(explain("a body needs its hash, signed", expected="Content-Digest: sha-256=:BASE64:"))
        member = self.known(claim.keyid)
        lease = self.windows.accept(claim)
        if lease is not None:
            await self.writer.call(self.broker.lease, lease.keyid, lease.state)
            self.windows.confirm(lease)
        request.member, request.digest = member, claim.digest
        if member.role == "node":
            self.presence.heard(member.name, request.connection)

    def allow(self, member: Known, roles: tuple[str, ...]) -> None:
        """Refuse a member whose role is none of these."""
        if member.role not in roles:
            expected = " or ".join(roles)
            raise Forbidden(explain("the role of this member does not allow this", got=member.role, expected=expected))

    def session(self, request: Request) -> None:
        """Recognise a browser by its cookie; the request's `member` is set.

        Raises
        ------
        Unauthenticated
            If it has none that is good.
        """
        secret = secret_of(request.headers.get("cookie", ""))
        member = None if secret is None else self.broker.session(secret)
        if member is None:
            self.failures.refuse(request)
            raise Unauthenticated(explain("this browser is not logged in", hint="atoll coordinator login"))
        request.member = member

    def _hold_back(self, request: Request) -> None:
        """Refuse an address from which too much has failed, unless the request names the key of a member."""
        named = _KEY.search(next((value for name, value in request.raw_headers if name == b"signature-input"), b""))
        member = None if named is None else self.broker.member_by_key(named[1].decode("latin-1"))
        if member is None or member.revoked is not None:
            self.failures.refuse(request)

    # waiting

    async def rest(self, bell: Bell, seconds: float, member: Known) -> bool:
        """Sleep in a long poll, until its bell rings or the time is over; whether it rang.

        Raises
        ------
        Gone
            If the asker has hung up.
        Unavailable
            If the coordinator goes down.
        Revoked
            If the asker was revoked meanwhile.
        """
        rang = not self.topics.closing and await bell.wait(seconds)
        if bell.gone:
            raise Gone
        if self.topics.closing:
            raise Unavailable("the coordinator is going down; ask again in a moment")
        self.known(member.key)
        return rang

    async def in_hand(self, function: Callable[..., R], *arguments: object) -> R:
        """Carry something out in a thread that may wait for a disk."""
        return await asyncio.get_running_loop().run_in_executor(self.hands, function, *arguments)

    # what happens by itself

    def _public(self, keyid: str) -> bytes | None:
        member = self.broker.member_by_key(keyid)
        return None if member is None else member.public

    def _woken(self, topics: Iterable[str]) -> None:
        self.topics.wake(topics)
        if any(topic.startswith("progress:") for topic in topics):
            self.topics.wake(["progress"])
        if "fold" in topics:
            self._fold()

    def _went(self, node: str) -> None:
        self._spawn(self.writer.call(self.broker.away, node))

    def _came(self, node: str) -> None:
        """A node in a poll goes on after it stood still; until that poll ends, its silence is told by `presence`."""
        self._spawn(self.writer.call(self.broker.seen, node, self.settings.longest_poll))

    def _fold(self) -> None:
        if self._folding is None or self._folding.done():
            self._folding = self._spawn(self._fold_all())

    async def _fold_all(self) -> None:
        """Add large answers, one pair after another, while there are any."""
        while (job := await self.writer.call(self.broker.next_fold)) is not None:
            try:
                done = await self.in_hand(job.run)
                await self.writer.call(self.broker.folded, done)
            except Exception:
                _log.exception("large answers could not be added; trying again in %g seconds", _AGAIN)
                await asyncio.sleep(_AGAIN)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP)
            try:
                await self.writer.call(self.broker.sweep)
            except Exception:
                _log.exception("upkeep failed; trying again in %g seconds", _SWEEP)

    def _spawn(self, coroutine: object) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(coroutine)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
