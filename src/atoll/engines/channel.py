"""Between a driver and its local workers: small frames over a socket pair, large blobs through anonymous shared memory.

A frame is a list of blobs. A small blob travels in the socket; a large one is written once into an anonymous memory
file whose descriptor is passed along, and the other side maps it. Nothing has a name, so whatever dies, the kernel
frees it.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
import tempfile
from collections import deque
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

from atoll import wire

__all__ = ["INLINE", "Blob", "Inbox", "Lent", "Opened", "Segment", "send", "share"]

INLINE = 16_384
_COUNT = struct.Struct("<I")
_BLOB = struct.Struct("<QB")
_MAX_FDS = 16
_MAX_PARTS = 512


class Segment:
    """Anonymous shared memory that lives as long as somebody holds it.

    It is written by the kernel, for less than mapping it costs.

    Parameters
    ----------
    parts : sequence of memoryview
        Bytes, at least one: what is written, one part after the other.
    """

    def __init__(self, parts: Sequence[memoryview]) -> None:
        self.size = sum([part.nbytes for part in parts])
        self.fd = _anonymous()
        _write(self.fd, [part for part in parts if part.nbytes])

    @cached_property
    def view(self) -> mmap.mmap:
        """The memory itself, read-only."""
        return mmap.mmap(self.fd, self.size, prot=mmap.PROT_READ)

    def __del__(self) -> None:
        os.close(self.fd)


def _write(fd: int, parts: list[memoryview]) -> None:
    """Write parts one after the other; the kernel takes so many of them, and so many bytes, at once."""
    at = 0
    while at < len(parts):
        left = os.writev(fd, parts[at : at + _MAX_PARTS])
        while at < len(parts) and left >= parts[at].nbytes:
            left -= parts[at].nbytes
            at += 1
        if left:
            parts[at] = parts[at][left:]


class Opened:
    """A file as it lies on disk, open to be read and mapped by both sides; nothing of it is copied.

    Parameters
    ----------
    path : str
        The file.
    """

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self.fd).st_size

    def __del__(self) -> None:
        os.close(self.fd)


class Lent:
    """Shared memory of one process on its way to another: passed on by its descriptor, and never looked at.

    Parameters
    ----------
    fd : int
        Its descriptor, closed when nobody holds this any more.
    size : int
        Bytes.
    """

    def __init__(self, fd: int, size: int) -> None:
        self.fd, self.size = fd, size

    def __del__(self) -> None:
        os.close(self.fd)


Blob = bytes | bytearray | memoryview | Segment | Opened | Lent


def _anonymous() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("atoll", os.MFD_CLOEXEC)
    handle, path = tempfile.mkstemp()
    os.unlink(path)
    return handle


def share(message: Any, *, inline: int = INLINE) -> Blob:
    """Encode a message: into bytes when it is as small as `inline` bytes, otherwise once into shared memory."""
    frames = wire.frames(message)
    size = sum(part.nbytes for part in frames)
    if size <= inline:
        return b"".join(frames)
    return Segment(frames)


def send(sock: socket.socket, blobs: Sequence[Blob]) -> None:
    """Send one frame; blocks until it is in the socket, which small frames do at once."""
    header = [_COUNT.pack(len(blobs))]
    inline: list[Any] = []
    fds: list[int] = []
    for blob in blobs:
        if isinstance(blob, Segment | Opened | Lent):
            header.append(_BLOB.pack(blob.size, 1))
            fds.append(blob.fd)
        else:
            header.append(_BLOB.pack(len(blob), 0))
            inline.append(blob)
    data = b"".join([*header, *inline])
    sent = socket.send_fds(sock, [data], fds) if fds else 0
    if sent < len(data):
        sock.sendall(memoryview(data)[sent:])


class _Plan(NamedTuple):
    sizes: list[tuple[int, int]]
    total: int


class Inbox:
    """Collects what arrives on a socket into frames.

    Parameters
    ----------
    lends : bool, default=False
        Whether shared memory is passed on to others, from the second blob of a frame on, instead of being mapped.
    """

    def __init__(self, *, lends: bool = False) -> None:
        self._lends = lends
        self._data = bytearray()
        self._fds: deque[int] = deque()

    def feed(self, sock: socket.socket) -> bool:
        """Read what is there; False when the other side has gone."""
        try:
            data, fds, _, _ = socket.recv_fds(sock, 1 << 16, _MAX_FDS)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        self._data += data
        self._fds.extend(fds)
        return bool(data)

    def pop(self) -> list[Any] | None:
        """The next whole frame: buffers, large ones mapped; None when none is complete."""
        plan = self._plan()
        if plan is None or len(self._data) < plan.total:
            return None
        at = plan.total - sum(size for size, shared in plan.sizes if not shared)
        blobs: list[Any] = []
        for size, shared in plan.sizes:
            if shared:
                fd = self._fds.popleft()
                blobs.append(Lent(fd, size) if self._lends and blobs else _map(fd, size))
            else:
                blobs.append(bytes(self._data[at : at + size]))
                at += size
        del self._data[: plan.total]
        return blobs

    def _plan(self) -> _Plan | None:
        if len(self._data) < _COUNT.size:
            return None
        (count,) = _COUNT.unpack_from(self._data)
        head = _COUNT.size + count * _BLOB.size
        if len(self._data) < head:
            return None
        sizes = [_BLOB.unpack_from(self._data, _COUNT.size + i * _BLOB.size) for i in range(count)]
        return _Plan(sizes, head + sum(size for size, shared in sizes if not shared))

    def close(self) -> None:
        """Close descriptors that nobody took."""
        while self._fds:
            os.close(self._fds.popleft())


def _map(fd: int, size: int) -> Any:
    try:
        return mmap.mmap(fd, size, prot=mmap.PROT_READ)
    finally:
        os.close(fd)
