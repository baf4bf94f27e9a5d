"""A plain TLS 1.3 socket, in a process of its own: how fast bytes go over loopback with nothing round them.

They go from memory of one process into memory of the other, and are kept there: a megabyte that is sent over and over
again, or read over and over again into the same place, never leaves the processor's cache.
"""

from __future__ import annotations

import multiprocessing
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from atoll.silo.keys import certificate, server_context

__all__ = ["bring", "fetch", "plain", "plain_server"]

_PIECE = 1 << 20  # bytes of one read or write


def plain_server(told: Connection, place: str, size: int) -> None:
    """A TLS 1.3 socket: on ``u`` it takes `size` bytes, on ``d`` it gives as many."""
    crt, key, _ = certificate(Path(place), ["localhost"])
    whole = memoryview(np.random.default_rng(1).bytes(size))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        told.send(listening.getsockname()[1])
        with server_context(crt, key).wrap_socket(listening.accept()[0], server_side=True) as peer:
            while word := peer.recv(1):
                if word == b"u":
                    _take(peer, size)
                    peer.sendall(b"k")
                else:
                    _give(peer, whole)


def _take(peer: ssl.SSLSocket, size: int) -> None:
    """Read some bytes into memory of their own."""
    room, at = np.empty(size, np.uint8).data, 0
    while at < size:
        at += peer.recv_into(room[at : at + _PIECE])


def _give(peer: ssl.SSLSocket, whole: memoryview) -> None:
    """Write some bytes."""
    for at in range(0, whole.nbytes, _PIECE):
        peer.sendall(whole[at : at + _PIECE])


def bring(peer: ssl.SSLSocket, part: memoryview) -> None:
    """Bring bytes to a plain server."""
    peer.sendall(b"u")
    _give(peer, part)
    peer.recv(1)


def fetch(peer: ssl.SSLSocket, size: int) -> None:
    """Fetch bytes from a plain server."""
    peer.sendall(b"d")
    _take(peer, size)


@contextmanager
def plain(place: Path, size: int) -> Iterator[ssl.SSLSocket]:
    """A connection to a plain TLS server in a process of its own."""
    place.mkdir(mode=0o700)
    spawn = multiprocessing.get_context("spawn")
    mine, its = spawn.Pipe()
    process = spawn.Process(target=plain_server, args=(its, str(place), size), daemon=True)
    process.start()
    try:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(socket.create_connection(("127.0.0.1", mine.recv()))) as peer:
            yield peer
    finally:
        process.kill()
        process.join()
