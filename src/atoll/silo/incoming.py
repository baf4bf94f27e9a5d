"""A blob on its way in: where its bytes go, how many have come, and their hash."""

from __future__ import annotations

import hashlib
import http.client
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from atoll.errors import explain
from atoll.silo.connection import PIECE, STALL, Connection
from atoll.silo.errors import Digest

__all__ = ["Incoming"]

_ASIDE = 1 << 22  # bytes from which on another thread does the hashing


class Incoming:
    """How far the reading of a blob has come; what was cut goes on where it was cut.

    Bytes are hashed as they come. The hash of a large blob is computed in a second thread, so that it takes no time
    where there is a second core.

    Parameters
    ----------
    size : int
        Bytes that are to come.
    room : memoryview
        Where they go; with a file, a piece of memory that they pass through.
    file : int, optional
        Descriptor of a file to write them to.

    Attributes
    ----------
    at : int
        Bytes that have come.
    """

    def __init__(self, size: int, room: memoryview, file: int | None = None) -> None:
        self.at, self._size, self._room, self._file = 0, size, room, file
        self._hash = hashlib.sha256()
        aside = file is None and size >= _ASIDE
        self._thread = ThreadPoolExecutor(1, "atoll-hash") if aside else None
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._thread is not None:
            self._thread.shutdown()

    def digest(self) -> str:
        """The hash of all that has come, hexadecimal."""
        while self._waiting:
            self._waiting.popleft().result()
        return self._hash.hexdigest()

    def headers(self) -> dict[str, str]:
        """The rest is asked for, where there is something already."""
        return {"Range": f"bytes={self.at}-"} if self.at else {}

    def read(self, connection: Connection, response: http.client.HTTPResponse) -> None:
        """Take what an answer brings.

        Raises
        ------
        Digest
            If it brings another number of bytes than there should be.
        IncompleteRead
            If it ends before its first byte; one that ends later has brought what came until then.
        """
        if self.at and response.status != 206:
            self.digest()
            self.at, self._hash = 0, hashlib.sha256()
        if response.length is not None and response.length != self._size - self.at:
            connection.close()
            got = f"{self.at + response.length} bytes"
            raise Digest(explain("a blob has another length", got=got, expected=f"{self._size} bytes"))
        begun = self.at
        while self.at < self._size:
            connection.limit(STALL)
            start = 0 if self._file is not None else self.at
            piece = self._room[start : start + min(PIECE, self._size - self.at)]
            try:
                n = response.readinto(piece)
            except (OSError, http.client.HTTPException):
                n = 0
            if not n:
                connection.close()
                if self.at > begun:  # something came: the rest is asked for with new patience
                    return
                raise http.client.IncompleteRead(b"", self._size - self.at)
            self._take(piece[:n])
        response.read()

    def _take(self, piece: memoryview) -> None:
        if self._file is not None:
            view, at = piece, self.at
            while view.nbytes:
                done = os.pwrite(self._file, view, at)
                view, at = view[done:], at + done
        if self._thread is None:
            self._hash.update(piece)
        else:
            self._waiting.append(self._thread.submit(self._hash.update, piece))
        self.at += piece.nbytes
