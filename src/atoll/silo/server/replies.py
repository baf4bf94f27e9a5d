"""What is answered: JSON, bytes, a file, or events, each with the headers that belong to it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from atoll.silo.errors import SiloError, problem

__all__ = ["CHUNK", "FileBody", "Reply", "Send", "as_bytes", "as_json", "as_problem", "deliver"]

CHUNK = 7 << 14
"""Bytes of a file that are read and sent at a time: whole TLS records, few enough to be allocated from warm memory."""

Send = Callable[[dict[str, Any]], Awaitable[None]]
_Headers = list[tuple[bytes, bytes]]

_NO_STORE = (b"cache-control", b"no-store")
_IMMUTABLE = (b"cache-control", b"public, max-age=31536000, immutable")
_COMMON = ((b"x-content-type-options", b"nosniff"),)


class FileBody(NamedTuple):
    """A part of a file as the body of an answer.

    Attributes
    ----------
    path : Path
        The file.
    start, stop : int
        Which bytes of it.
    """

    path: Path
    start: int
    stop: int


class Reply(NamedTuple):
    """An answer.

    Attributes
    ----------
    status : int
        HTTP status.
    kind : bytes
        Content type.
    body : bytes, FileBody or asynchronous iterator of bytes
        What follows the head.
    headers : tuple of (bytes, bytes)
        Further headers, names in small letters.
    immutable : bool
        Whether any cache may keep it for ever; otherwise none may keep it.
    """

    status: int
    kind: bytes
    body: bytes | FileBody | AsyncIterator[bytes]
    headers: tuple[tuple[bytes, bytes], ...] = ()
    immutable: bool = False


_encode = msgspec.json.Encoder().encode


def as_json(value: object, status: int = 200) -> Reply:
    """Answer with a typed value as JSON."""
    return Reply(status, b"application/json", _encode(value))


def as_bytes(body: bytes, kind: bytes = b"application/octet-stream", status: int = 200) -> Reply:
    """Answer with bytes as they are."""
    return Reply(status, kind, body)


def as_problem(error: SiloError, *, retry_after: int | None = None, close: bool = False) -> Reply:
    """Answer with an error, as RFC 9457 has it.

    Parameters
    ----------
    error : SiloError
        What went wrong.
    retry_after : int, optional
        Seconds after which it makes sense to try again.
    close : bool
        Whether the connection ends with this answer, because its request was not read to its end.
    """
    headers: list[tuple[bytes, bytes]] = []
    if retry_after is not None:
        headers.append((b"retry-after", b"%d" % retry_after))
    if close:
        headers.append((b"connection", b"close"))
    return Reply(error.status, b"application/problem+json", _encode(problem(error)), tuple(headers))


async def deliver(reply: Reply, send: Send, *, head_only: bool = False) -> None:
    """Send an answer.

    Parameters
    ----------
    reply : Reply
        The answer.
    send : callable
        The ASGI one.
    head_only : bool
        For HEAD: the headers alone.
    """
    body = reply.body
    headers: _Headers = [(b"content-type", reply.kind), _IMMUTABLE if reply.immutable else _NO_STORE, *_COMMON]
    headers += reply.headers
    size = _size(body)
    if size is not None:
        headers.append((b"content-length", b"%d" % size))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if head_only:
        await send({"type": "http.response.body", "body": b""})
    elif isinstance(body, bytes):
        await send({"type": "http.response.body", "body": body})
    elif isinstance(body, FileBody):
        await _send_file(body, send)
    else:
        async for piece in body:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _size(body: bytes | FileBody | AsyncIterator[bytes]) -> int | None:
    if isinstance(body, bytes):
        return len(body)
    return body.stop - body.start if isinstance(body, FileBody) else None


async def _send_file(body: FileBody, send: Send) -> None:
    """Read a piece, hand it to the connection, which holds us up while its buffer is full; memory stays at two pieces.

    Bytes that lie in the page cache are read within the loop, which takes less than a hand-over to a thread.
    """
    descriptor = os.open(body.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        at = body.start
        while at < body.stop:
            piece = os.pread(descriptor, min(CHUNK, body.stop - at), at)
            if not piece:
                raise OSError("a blob is shorter than its record says")
            at += len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": at < body.stop})
            await asyncio.sleep(0)
        if body.start == body.stop:
            await send({"type": "http.response.body", "body": b""})
    finally:
        os.close(descriptor)
