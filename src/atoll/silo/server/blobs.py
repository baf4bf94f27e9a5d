"""Bytes in and out: uploads in chunks that can be resumed, and blobs that can be fetched from any byte on."""

from __future__ import annotations

import asyncio
import hashlib
import re
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from atoll.errors import explain
from atoll.silo import api
from atoll.silo.errors import Conflict, Digest, Malformed, NotFound
from atoll.silo.server.replies import FileBody, Reply, as_json
from atoll.silo.server.requests import Request
from atoll.silo.server.service import Service
from atoll.silo.tasks import Blob

if TYPE_CHECKING:
    from atoll.silo.broker import Uploads

__all__ = ["MAX_CHUNK", "append", "begin", "blob"]

MAX_CHUNK = 1 << 26
"""Bytes of one piece of an upload."""

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_RANGE = re.compile(r"bytes=([0-9]{1,18})?-([0-9]{1,18})?\Z")
_OCTETS = b"application/octet-stream"


async def begin(service: Service, request: Request) -> Reply:
    """Announce bytes; the answer tells how many of them are here."""
    request.query(())
    told = await request.json(api.Upload)
    blob = Blob(_digest(told.digest), told.size)
    if told.size < 0:
        raise Malformed(explain("bytes are counted from 0", got=told.size))
    member, broker = request.sender.name, service.broker
    if await service.writer.call(broker.has, member, blob):
        return as_json(api.Uploaded(offset=blob.size, done=True))
    offset = await service.in_hand(broker.uploads.begin, member, blob)
    service.sizes[member, blob.digest] = blob.size
    return as_json(await _progress(service, member, blob, offset))


async def append(service: Service, request: Request) -> Reply:
    """Take a chunk at an offset; what has arrived when a connection is cut is kept."""
    request.query(())
    request.expect_kind("application/octet-stream")
    member, digest = request.sender.name, _digest(request.params["digest"])
    size = service.sizes.get((member, digest))
    if size is None:
        raise NotFound(explain("this upload was not begun, or not since the coordinator started", got=digest))
    blob, offset = Blob(digest, size), _offset(request)
    if offset == 0 and request.announced == size and request.digest is not None:
        if request.digest.hex() != digest:
            raise Conflict(explain("the chunk is the whole upload and has another hash", got=request.digest.hex()))
        request.digest = None  # the upload's own hash is the same
    offset = await _write(service, request, member, digest, offset)
    return as_json(await _progress(service, member, blob, offset))


async def blob(service: Service, request: Request) -> Reply:
    """A blob that the asker may read, or a range of it."""
    request.query(())
    digest = _digest(request.params["digest"])
    found = await service.writer.call(service.broker.find, request.sender.name, digest)
    start, stop = _range(request.headers.get("range"), found.size)
    headers = [(b"accept-ranges", b"bytes"), (b"etag", f'"{digest}"'.encode())]
    if request.headers.get("range"):
        headers.append((b"content-range", f"bytes {start}-{stop - 1}/{found.size}".encode()))
    if found.path is None:
        body: bytes | FileBody = (found.inline or b"")[start:stop]
    else:
        body = FileBody(found.path, start, stop)
    status = 206 if request.headers.get("range") else 200
    return Reply(status, _OCTETS, body, tuple(headers), immutable=found.kind in ("task", "each"))


async def _progress(service: Service, member: str, blob: Blob, offset: int) -> api.Uploaded:
    done = offset == blob.size and await service.writer.call(service.broker.finish, member, blob)
    if done:
        service.sizes.pop((member, blob.digest), None)
    return api.Uploaded(offset=offset, done=done)


async def _write(service: Service, request: Request, member: str, digest: str, offset: int) -> int:
    """Hash and write pieces in a thread while the next ones arrive; what has come when a connection is cut is kept."""
    uploads, state, came = service.broker.uploads, hashlib.sha256() if request.digest else None, 0
    writing: asyncio.Future[int] | None = None
    in_hand = asyncio.get_running_loop().run_in_executor
    try:
        async with aclosing(request.stream(MAX_CHUNK)) as pieces:
            async for parts in pieces:
                if writing is not None:
                    await writing
                place = offset + came
                writing = in_hand(service.hands, _pieces, uploads, member, digest, place, parts, state)
                came += sum(map(len, parts))
    finally:
        stands = offset if writing is None else await writing
    if state is not None and state.digest() != request.digest:
        uploads.drop(member, digest)  # nobody can tell which of its bytes are wrong
        raise Digest(explain("the chunk is not the one that was signed", got=f"{came} bytes"))
    return stands


def _pieces(
    uploads: Uploads, member: str, digest: str, offset: int, parts: list[bytes | memoryview], state: Any
) -> int:
    for part in parts:
        offset = uploads.append(member, digest, offset, part)
        if state is not None:
            state.update(part)
    return offset


def _digest(told: str) -> str:
    if not _DIGEST.match(told):
        raise Malformed(explain("a blob is named by its SHA-256", got=told[:80], expected="64 hexadecimal digits"))
    return told


def _offset(request: Request) -> int:
    told = request.headers.get("upload-offset", "")
    if not (told.isascii() and told.isdigit() and len(told) < 19):
        raise Malformed(explain("a chunk needs its place", got=told[:40], expected="Upload-Offset: a whole number"))
    return int(told)


def _range(told: str | None, size: int) -> tuple[int, int]:
    if told is None:
        return 0, size
    match = _RANGE.match(told.strip())
    if match is not None and (match[1] or match[2]):
        if match[1] is None:
            start, stop = max(0, size - int(match[2])), size
        else:
            start, stop = int(match[1]), size if match[2] is None else min(size, int(match[2]) + 1)
        if start < stop:
            return start, stop
    raise Malformed(explain("the range cannot be served", got=told[:80], expected=f"within {size} bytes"))
