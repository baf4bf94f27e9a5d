"""A request as handlers see it: its path, query and sender, and its body, which is read no further than it may be."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote_plus

import msgspec

from atoll.errors import explain
from atoll.silo.errors import Digest, Encoding, Malformed, TooLarge, Truncated, Unauthenticated

if TYPE_CHECKING:
    from atoll.silo.broker import Known
    from atoll.silo.server.connection import Connection
    from atoll.silo.server.waiting import Bell

__all__ = ["MAX_JSON", "Gone", "Receive", "Request"]

T = TypeVar("T")
Receive = Callable[[], Awaitable[dict[str, Any]]]

MAX_JSON = 1 << 18
"""Bytes of a JSON body, unless its path allows more."""

_PATIENCE = 30.0  # seconds without a byte of a body
_DRAINED = 64 << 20  # bytes of an unread body that are waited for, so that its sender reads the answer


class Gone(Exception):
    """Whoever asked has hung up; there is nobody to answer."""


class Request:
    """One request.

    Parameters
    ----------
    scope : dict
        The ASGI one.
    receive : callable
        The ASGI one.

    Attributes
    ----------
    method, path : str
        As sent; the path decoded.
    target : str
        Path and query as sent, which is what was signed.
    raw_headers : list of (bytes, bytes)
        As received.
    headers : dict of str to str
        Names in small letters; repeated ones joined by commas.
    params : dict of str to str
        Parts of the path.
    member : Known or None
        Whose signature, or session, was good.
    digest : bytes or None
        SHA-256 that the sender signed for the body.
    connection : Connection or None
        Where it came in.
    """

    __slots__ = ("_read", "_receive", "connection", "digest", "headers", "member", "method", "params", "path", "peer",
                 "query_string", "raw_headers", "target", "whole")  # fmt: skip

    def __init__(self, scope: dict[str, Any], receive: Receive) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query_string: bytes = scope["query_string"]
        self.target = _target(scope)
        self.raw_headers: list[tuple[bytes, bytes]] = scope["headers"]
        self.headers = _headers(self.raw_headers)
        self.params: dict[str, str] = {}
        self.member: Known | None = None
        self.connection: Connection | None = scope.get("atoll")
        self.peer: str = scope["client"][0] if scope.get("client") else ""
        self.digest: bytes | None = None
        self._receive = receive
        self._read = 0
        self.whole = not self.has_body

    @property
    def sender(self) -> Known:
        """Whose signature, or session, was good; for paths that ask for one."""
        if self.member is None:
            raise Unauthenticated(explain("the request is not signed"))
        return self.member

    @property
    def has_body(self) -> bool:
        """Whether a body follows."""
        return "transfer-encoding" in self.headers or self.headers.get("content-length", "0").strip("0") != ""

    @property
    def announced(self) -> int | None:
        """Length of the body; None if it is not told."""
        told = self.headers.get("content-length")
        return int(told) if told is not None and told.isascii() and told.isdigit() else None

    @property
    def must_close(self) -> bool:
        """Whether more of the body is still to come than is worth waiting for."""
        announced = self.announced
        return not self.whole and (announced is None or announced - self._read > _DRAINED)

    def query(self, allowed: tuple[str, ...]) -> dict[str, str]:
        """What stands after the question mark; nothing but these names, each once.

        Raises
        ------
        Malformed
            If there is something else.
        """
        found: dict[str, str] = {}
        for part in filter(None, self.query_string.decode("ascii", "replace").split("&")):
            name, _, value = part.partition("=")
            name = unquote_plus(name)
            if name not in allowed or name in found:
                expected = ", ".join(allowed) or "nothing"
                raise Malformed(explain("the query of this path is not understood", got=name[:80], expected=expected))
            found[name] = unquote_plus(value)
        return found

    def hung_up_rings(self, bell: Bell | None) -> None:
        """Ring a bell when whoever asks hangs up; None: no more."""
        if self.connection is not None:
            self.connection.bell = bell
            if bell is not None and self.connection.closed:
                bell.hang_up()

    def expect_plain(self) -> None:
        """Refuse a body that is compressed, before anything of it is looked at.

        Raises
        ------
        Encoding
            If it is.
        """
        if self.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise Encoding(explain("the body is encoded", got=self.headers["content-encoding"][:80]))

    async def pieces(self, most: int) -> AsyncIterator[bytes]:
        """The body, piece by piece, held against its signed hash at the end.

        Parameters
        ----------
        most : int
            Bytes that are accepted.

        Raises
        ------
        TooLarge, Truncated, Digest
            If it is longer, ends early, or is another one than was signed. Pieces were handed out by then.
        """
        self._announced_within(most)
        state = hashlib.sha256()
        while not self.whole:
            piece = await self._piece()
            self._came(len(piece), most)
            if piece:
                if self.digest is not None:
                    state.update(piece)
                yield piece
        if self.digest is not None and state.digest() != self.digest:
            raise Digest(explain("the body is not the one that was signed", got=f"{self._read} bytes"))

    async def stream(self, most: int) -> AsyncGenerator[list[bytes | memoryview], None]:
        """A large body, in pieces as they come, which hold until the second time that more is asked for.

        Its hash is for the caller to check.

        Raises
        ------
        TooLarge, Truncated
            As in `pieces`.
        """
        self._announced_within(most)
        if self.connection is None or self.whole:
            return
        from atoll.silo.server.intake import Intake

        told = None if "transfer-encoding" in self.headers else self.announced
        cycle = self._receive.__self__  # type: ignore[attr-defined]  # the connection may read the next one already
        async with aclosing(Intake(told).pieces(self.connection, cycle)) as pieces:
            async for parts in pieces:
                self._came(sum(map(len, parts)), most)
                yield parts
        self.whole = True

    async def body(self, most: int) -> bytes:
        """The whole body; see `pieces`."""
        return b"".join([piece async for piece in self.pieces(most)])

    async def json(self, kind: type[T], most: int = MAX_JSON) -> T:
        """The body as JSON of a type; see `json_and_bytes`."""
        return (await self.json_and_bytes(kind, most))[0]

    async def json_and_bytes(self, kind: type[T], most: int = MAX_JSON) -> tuple[T, bytes]:
        """The body as JSON of a type, and as it came.

        Raises
        ------
        Encoding
            If it is announced as something else.
        Malformed
            If it is not JSON, or not of this type.
        """
        self.expect_kind("application/json")
        body = await self.body(most)
        try:
            return msgspec.json.decode(body, type=kind), body
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Malformed(explain(f"the body is no {kind.__name__}", got=str(error)[:300])) from None

    def expect_kind(self, kind: str) -> None:
        """Refuse a body that is announced as something else."""
        told = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if told != kind:
            raise Encoding(explain("the body has another content type", got=told[:80] or "none", expected=kind))

    def _announced_within(self, most: int) -> None:
        announced = self.announced
        if announced is not None and announced > most:
            raise TooLarge(explain("the body is too large", got=f"{announced} bytes", expected=f"at most {most}"))

    def _came(self, size: int, most: int) -> None:
        self._read += size
        if self._read > most:
            raise TooLarge(explain("the body is too large", expected=f"at most {most} bytes"))

    async def _piece(self) -> bytes:
        try:
            async with asyncio.timeout(_PATIENCE):
                message = await self._receive()
        except TimeoutError:
            raise Truncated(explain("the body stopped coming", got=f"{self._read} bytes")) from None
        if message["type"] == "http.disconnect":
            raise Gone
        self.whole = not message.get("more_body", False)
        body: bytes = message.get("body", b"")
        return body


def _target(scope: dict[str, Any]) -> str:
    raw: str = scope["raw_path"].decode("ascii")
    query: str = scope["query_string"].decode("ascii", "replace")
    return f"{raw}?{query}" if query else raw


def _headers(pairs: list[tuple[bytes, bytes]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for raw, value in pairs:
        name, text = raw.decode("latin-1"), value.decode("latin-1")
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found
