"""Requests to a coordinator: pinned, signed, repeated until they are answered, and resumed where they were cut.

Every thread has a connection of its own, kept open between requests. All requests may be repeated: the coordinator
answers a second one like the first. So a coordinator that is restarted costs its callers a wait and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import mmap
import os
import random
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec
import numpy as np

from atoll.errors import AtollError, explain
from atoll.silo import api, errors
from atoll.silo.connection import PIECE, STALL, Connection
from atoll.silo.errors import SiloError
from atoll.silo.incoming import Incoming
from atoll.silo.keys import Key
from atoll.silo.signing import Signer
from atoll.silo.tasks import Blob

__all__ = ["CHUNK", "Client", "Closed", "Identity"]

T = TypeVar("T")
_Buffer = bytes | bytearray | memoryview

CHUNK = 1 << 26
"""Bytes of one piece of an upload."""

_ANSWER = 20.0  # seconds for an answer, besides what it may wait
_FIRST = 10.0  # seconds of patience with a coordinator that has never answered
_MOST = 1 << 26  # bytes of an answer that is not a blob
_REPEATED = 4  # times that a request is repeated which arrived otherwise than it was sent
_AGAIN = (errors.Replayed, errors.Digest, errors.Truncated)
_BUSY = (502, 503, 504)
_CLOSED = "the client was closed before its request was answered"
_JSON = {"Content-Type": "application/json"}
_OCTETS = {"Content-Type": "application/octet-stream"}


class Closed(AtollError):
    """The client was closed, by its own process, before a request was answered."""


class Identity(Protocol):
    """Who asks whom; a `atoll.silo.home.Profile` is one."""

    @property
    def url(self) -> str:
        """Of the coordinator."""

    @property
    def certificate(self) -> str | None:
        """SHA-256 of its certificate, hexadecimal; None: one that this machine trusts, as of a proxy that ends TLS."""

    @property
    def key(self) -> Key:
        """Signs requests."""


class _Question(NamedTuple):
    """A request, as it is signed and sent; `headers` may depend on how far an earlier attempt came."""

    method: str
    path: str
    headers: Callable[[], Mapping[str, str]]
    parts: Sequence[_Buffer] = ()
    digest: bytes | None = None
    wait: float = 0.0
    patience: float | None = None
    beat: float = 0.0


class Client:
    """Requests of one member to one coordinator; may be used by several threads.

    Parameters
    ----------
    profile : Identity
        Who asks whom.
    patience : float, default=60.0
        Seconds over which a request is repeated while the coordinator cannot be reached, or says that it is busy.

    Attributes
    ----------
    patience : float
        As given; may be changed.

    Raises
    ------
    SiloError
        From every request: what the coordinator refused, as the class of its code; `errors.Unreachable` when patience
        ends; `errors.WrongCertificate` at once.
    """

    def __init__(self, profile: Identity, *, patience: float = 60.0) -> None:
        self._identity, self.patience = profile, patience
        self._signer = Signer(profile.key)
        self._own = threading.local()
        self._all: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._closed = threading.Event()
        self._reached = False

    @property
    def url(self) -> str:
        """Of the coordinator."""
        return self._identity.url

    def get(self, path: str, kind: type[T], *, wait: float | None = None, beat: float = 0.0) -> T:
        """Ask.

        Parameters
        ----------
        path : str
            From ``/v1``, quoted, with a query if there is one.
        kind : type
            Of the answer: a body of `atoll.silo.api`, or a list of them; `bytes` for an answer as it is.
        wait : float, optional
            Seconds that the coordinator may take to answer, where a path allows that (``wait=`` is added to its query).
        beat : float, default=0.0
            Seconds between empty lines that tell the coordinator meanwhile that this process lives, where a path knows
            of that (``beat=`` is added to its query); 0: none.

        Returns
        -------
        object of that type
        """
        if wait is not None:
            path += f"{'&' if '?' in path else '?'}wait={wait:g}"
        if wait is not None and beat:
            path += f"&beat={beat:g}"
        return self._typed(_Question("GET", path, dict, wait=wait or 0.0, beat=beat), kind)

    def post(
        self,
        path: str,
        kind: type[T],
        body: object = None,
        headers: Mapping[str, str] | None = None,
        *,
        patience: float | None = None,
    ) -> T:
        """Tell something.

        Parameters
        ----------
        path, kind
            As in `get`.
        body : object
            Bytes (or a sequence of pieces of bytes) go as they are, any other body as JSON.
        headers : mapping, optional
            Further header fields.
        patience : float, optional
            Seconds, where they are others than the client's own.
        """
        return self._told("POST", path, kind, body, headers, patience)

    def put(self, path: str, kind: type[T], body: object = None, headers: Mapping[str, str] | None = None) -> T:
        """Put something, as in `post`."""
        return self._told("PUT", path, kind, body, headers)

    def delete(self, path: str, kind: type[T]) -> T:
        """Take something away."""
        return self._typed(_Question("DELETE", path, dict), kind)

    def upload(self, data: _Buffer | Sequence[_Buffer] | Path, blob: Blob | None = None) -> Blob:
        """Bring bytes to the coordinator, unless it has them.

        They go in pieces of `CHUNK`, each hashed and signed; what was cut goes on where it was cut, also in another
        process.

        Parameters
        ----------
        data : bytes-like, sequence of bytes-like, or Path
            The bytes, in one or several parts (`atoll.wire.frames`), or a file, which must not change meanwhile.
        blob : Blob, optional
            Their name, where it is known already; so they are hashed once less.

        Returns
        -------
        Blob
            By which they are known from now on.
        """
        if isinstance(data, Path):
            with open(data, "rb") as file:
                empty = not os.fstat(file.fileno()).st_size
                mapped = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            return self._uploaded(_views(mapped), blob)
        return self._uploaded(_views(data), blob)

    def _uploaded(self, parts: list[memoryview], known: Blob | None = None) -> Blob:
        blob = known or Blob(_hash(parts).hex(), sum(part.nbytes for part in parts))
        opening, path = api.Upload(digest=blob.digest, size=blob.size), f"/v1/uploads/{blob.digest}"
        stands, lost = self.post("/v1/uploads", api.Uploaded, opening), 0
        while not stands.done:
            at = stands.offset
            pieces = _cut(parts, at, min(at + CHUNK, blob.size))
            headers = {**_OCTETS, "Upload-Offset": str(at)}.copy
            digest = bytes.fromhex(blob.digest) if not at and blob.size <= CHUNK else _hash(pieces)
            try:
                stands = self._typed(_Question("PATCH", path, headers, pieces, digest), api.Uploaded)
            except (errors.Conflict, errors.NotFound) as error:
                # an attempt whose answer was lost had come further, or the coordinator was started again
                stands = self.post("/v1/uploads", api.Uploaded, opening)
                lost = lost + 1 if stands.offset == at and not stands.done else 0
                if lost and (lost > _REPEATED or isinstance(error, errors.Conflict)):
                    raise
        return blob

    def download(self, blob: Blob, path: str | os.PathLike[str] | None = None) -> memoryview:
        """Fetch a blob, held against its hash; what was cut goes on where it was cut.

        Parameters
        ----------
        blob : Blob
            What.
        path : path-like, optional
            A file to write it to, whole or not at all; by default it is held in memory.

        Returns
        -------
        memoryview
            Its bytes, beginning at a multiple of 64; of a file, mapped and read-only.

        Raises
        ------
        Digest
            If other bytes came, again and again.
        DiskFull
            If there is no room for the file.
        """
        if path is None:
            whole = _room(blob.size)
            self._fetch(blob, whole, None)
            return whole
        return self._fetch_file(blob, Path(path))

    def _fetch_file(self, blob: Blob, path: Path) -> memoryview:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
        try:
            with open(temporary, "x+b") as file:
                os.posix_fallocate(file.fileno(), 0, max(blob.size, 1))
                self._fetch(blob, memoryview(bytearray(min(PIECE, blob.size))), file.fileno())
                file.truncate(blob.size)
                os.fsync(file.fileno())
                mapped = mmap.mmap(file.fileno(), blob.size, access=mmap.ACCESS_READ) if blob.size else b""
            os.replace(temporary, path)
        except SiloError:
            raise
        except OSError as error:
            raise errors.DiskFull(explain("a blob cannot be kept", got=error.strerror, where=path)) from None
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        return memoryview(mapped)

    def _fetch(self, blob: Blob, room: memoryview, file: int | None) -> None:
        """Fill memory, or a file, with a blob."""
        found = ""
        for _ in range(_REPEATED):
            with Incoming(blob.size, room, file) as coming:
                question = _Question("GET", f"/v1/blobs/{blob.digest}", coming.headers)
                while coming.at < blob.size:
                    self._answered(question, coming.read)
                found = coming.digest()
            if found == blob.digest:
                return
        raise errors.Digest(explain("a blob has another hash than its name says", got=found, expected=blob.digest))

    def close(self) -> None:
        """End all connections: requests that wait in other threads fail with `Closed`, and so do all later ones."""
        self._closed.set()
        own = getattr(self._own, "connection", None)
        for connection in list(self._all):
            connection.close() if connection is own else connection.abort()

    def _told(
        self,
        method: str,
        path: str,
        kind: type[T],
        body: object,
        headers: Mapping[str, str] | None,
        patience: float | None = None,
    ) -> T:
        if body is None:
            return self._typed(_Question(method, path, lambda: headers or {}, patience=patience), kind)
        octets = isinstance(body, _Buffer) or (
            isinstance(body, list | tuple) and all(isinstance(b, _Buffer) for b in body)
        )
        parts = _views(body) if octets else [memoryview(msgspec.json.encode(body))]  # type: ignore[arg-type]
        whole = {**(_OCTETS if octets else _JSON), **(headers or {})}
        return self._typed(_Question(method, path, lambda: whole, parts, _hash(parts), patience=patience), kind)

    def _typed(self, question: _Question, kind: type[T]) -> T:
        body = self._answered(question, _whole)
        if kind is bytes:
            return body  # type: ignore[return-value]
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            what = "the coordinator's answer cannot be read"
            where = f"{question.method} {question.path}"
            raise errors.Malformed(explain(what, got=error, where=where, hint=errors.Version.hint)) from None

    def _answered(self, question: _Question, read: Callable[[Connection, HTTPResponse], T]) -> T:
        """Ask until there is an answer, or patience ends."""
        repeated, wait = 0, _Backoff(self._closed)
        longest = self.patience if question.patience is None else question.patience
        while True:
            connection = self._connection()
            fresh = connection.sock is None or not connection.used
            try:
                found = self._once(connection, question, read)
                self._reached = True
                return found
            except (errors.StaleEpoch, *_AGAIN):
                repeated += 1
                if repeated > _REPEATED:
                    raise
            except (errors.Unavailable, errors.Rate) as error:
                self._reached = True
                wait.after(error, longest)
            except SiloError:  # some are an OSError too
                raise
            except (OSError, http.client.HTTPException) as error:
                if fresh:  # a connection that was idle may just have been closed by the other side
                    patience = longest if self._reached else min(longest, _FIRST)
                    wait.after(_unreachable(self.url, error), patience)

    def _once(self, connection: Connection, question: _Question, read: Callable[[Connection, HTTPResponse], T]) -> T:
        if self._closed.is_set():
            raise Closed(_CLOSED)
        signed: dict[str, str] = {}
        try:
            if connection.sock is None:
                connection.connect()
            target = connection.base + question.path
            signed = self._signer.headers(question.method, target, question.digest)
            _send(connection, question, target, {**question.headers(), **signed})
            connection.limit(_ANSWER + question.wait)
            connection.beat(question.beat)
            response = connection.getresponse()
            connection.beat(0.0)
            connection.used += 1
            if response.status >= 400:
                raise _refused(response, _whole(connection, response))
            return read(connection, response)
        except errors.StaleEpoch as error:
            above = error.more.get("epoch")
            self._signer.renew(signed, above if isinstance(above, int) else 0)
            raise
        except BaseException as error:
            if not isinstance(error, SiloError):  # what remains of an answer must not be taken for the next one
                connection.close()
            raise

    def _connection(self) -> Connection:
        """The one of this thread."""
        found: Connection | None = getattr(self._own, "connection", None)
        if found is None:
            found = self._own.connection = Connection(self._identity.url, self._identity.certificate)
            self._all.add(found)
        return found


class _Backoff:
    """Waits between attempts: from a twentieth of a second to two, each time up to twice as long, never in step."""

    def __init__(self, closed: threading.Event) -> None:
        self._closed, self._began, self._next = closed, 0.0, 0.05

    def after(self, error: SiloError, patience: float) -> None:
        """Wait, or raise the error when patience is at its end."""
        self._began = self._began or time.monotonic()
        told = error.more.get("seconds")
        seconds = self._next * random.uniform(0.5, 1.0)  # noqa: S311
        seconds = max(seconds, float(told)) if isinstance(told, int | float) else seconds
        self._next = min(self._next * 2, 2.0)
        if time.monotonic() - self._began + seconds > patience:
            raise error
        if self._closed.wait(seconds):
            raise Closed(_CLOSED)


def _send(connection: Connection, question: _Question, target: str, headers: Mapping[str, str]) -> None:
    connection.limit(STALL)
    connection.putrequest(question.method, target, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    if question.digest is not None:
        connection.putheader("Content-Length", str(sum(memoryview(part).nbytes for part in question.parts)))
    connection.endheaders()
    with contextlib.suppress(
        BrokenPipeError, ConnectionResetError
    ):  # the other side may have said why before it hung up
        for part in question.parts:
            view = memoryview(part).cast("B")
            for at in range(0, view.nbytes, PIECE):
                connection.limit(STALL)
                connection.send(view[at : at + PIECE])


def _whole(connection: Connection, response: HTTPResponse) -> bytes:
    """An answer that is no blob."""
    body = response.read(_MOST + 1)
    if len(body) > _MOST:
        connection.close()
        raise errors.TooLarge(explain("the coordinator's answer is too large", expected=f"at most {_MOST} bytes"))
    if response.length:
        raise http.client.IncompleteRead(body, response.length)
    return body


def _refused(response: HTTPResponse, body: bytes) -> SiloError:
    if response.headers.get_content_type() == "application/problem+json":
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            error = errors.from_problem(msgspec.json.decode(body))
            told = response.getheader("Retry-After", "")
            if told.isdigit() and "seconds" not in error.more:
                error.more["seconds"] = int(told)
            return error
    got = f"HTTP {response.status} {response.reason}"
    if response.status in _BUSY:
        return errors.Unavailable(explain("something before the coordinator says that it cannot answer", got=got))
    hint = "check the URL: this may be another server, or a proxy that lets nobody through"
    return SiloError(explain("this is not an answer of a coordinator", got=got, hint=hint))


def _unreachable(url: str, error: Exception) -> SiloError:
    got = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return errors.Unreachable(
        explain("the coordinator cannot be reached", got=got, where=url, hint=errors.Unreachable.hint)
    )


def _room(size: int) -> memoryview:
    """Memory that begins at a multiple of 64; numpy asks for large pages, which spares most of the time it takes."""
    whole = np.empty(size + 64, dtype=np.uint8)
    start = -whole.ctypes.data % 64
    return whole[start : start + size].data


def _views(data: _Buffer | mmap.mmap | Sequence[_Buffer]) -> list[memoryview]:
    parts: Sequence[Any] = [data] if isinstance(data, _Buffer | mmap.mmap) else data
    return [memoryview(part).cast("B") for part in parts if memoryview(part).nbytes]


def _hash(parts: Sequence[_Buffer]) -> bytes:
    state = hashlib.sha256()
    for part in parts:
        state.update(part)
    return state.digest()


def _cut(parts: Sequence[memoryview], start: int, stop: int) -> list[memoryview]:
    """Some bytes of several parts, without copying them."""
    found, at = [], 0
    for part in parts:
        piece = part[max(start - at, 0) : max(stop - at, 0)]
        if piece.nbytes:
            found.append(piece)
        at += part.nbytes
    return found
