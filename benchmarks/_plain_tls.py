"""A plain TLS 1.3 socket, in a process of its own: how fast bytes go over loopback with nothing round them."""

from __future__ import annotations

import multiprocessing
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from atoll.silo.keys import certificate, server_context

__all__ = ["PIECE", "bring", "fetch", "plain", "plain_server"]

PIECE = 1 << 20
"""Bytes of one read or write."""


def plain_server(told: Connection, place: str, size: int) -> None:
    """A TLS 1.3 socket: on ``u`` it takes `size` bytes, on ``d`` it gives as many."""
    crt, key, _ = certificate(Path(place), ["localhost"])
    block, room = memoryview(bytes(PIECE)), memoryview(bytearray(PIECE))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        told.send(listening.getsockname()[1])
        with server_context(crt, key).wrap_socket(listening.accept()[0], server_side=True) as peer:
            while word := peer.recv(1):
                if word == b"u":
                    _take(peer, room, size)
                    peer.sendall(b"k")
                else:
                    _give(peer, block, size)


def _take(peer: ssl.SSLSocket, room: memoryview, size: int) -> None:
    """Read some bytes and forget them."""
    at = 0
    while at < size:
        at += peer.recv_into(room[: min(PIECE, size - at)])


def _give(peer: ssl.SSLSocket, block: memoryview, size: int) -> None:
    """Write some bytes; a block over and over again, if it is shorter."""
    for at in range(0, size, PIECE):
        begin = at % block.nbytes
        peer.sendall(block[begin : begin + min(PIECE, size - at)])


def bring(peer: ssl.SSLSocket, part: memoryview) -> None:
    """Bring bytes to a plain server."""
    peer.sendall(b"u")
    _give(peer, part, part.nbytes)
    peer.recv(1)


def fetch(peer: ssl.SSLSocket, room: memoryview, size: int) -> None:
    """Fetch bytes from a plain server."""
    peer.sendall(b"d")
    _take(peer, room, size)


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
