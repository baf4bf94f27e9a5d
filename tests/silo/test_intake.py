"""Bodies that go round the parser: what follows them on a connection, what is refused, and blocks that take turns."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import numpy as np
import pytest

from atoll.silo import api
from atoll.silo.server import intake
from atoll.silo.server.intake import MUCH
from atoll.silo.tasks import Blob, blob_of
from silo.serving import OCTETS, Caller, admin, joined, running, tls, upload


@pytest.fixture(scope="module")
def ada(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    with running(tmp_path_factory.mktemp("intake") / "coordinator") as coordinator:
        yield joined(admin(coordinator), "ada", "researcher")


class Said(NamedTuple):
    status: int
    body: bytes

    @property
    def stands(self) -> api.Uploaded:
        assert self.status == 200, self.body
        return msgspec.json.decode(self.body, type=api.Uploaded)

    @property
    def code(self) -> str:
        return str(msgspec.json.decode(self.body)["code"])


class Line:
    """A connection on which requests are written without waiting for answers."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._file = sock, sock.makefile("rb")

    def write(self, *parts: bytes) -> None:
        self._sock.sendall(b"".join(parts))

    def read(self) -> Said:
        status = int(self._file.readline().split()[1])
        size = 0
        while (line := self._file.readline().strip().lower()) != b"":
            name, _, value = line.partition(b":")
            size = int(value) if name == b"content-length" else size
        return Said(status, self._file.read(size))


@contextmanager
def line(by: Caller) -> Iterator[Line]:
    where = urlsplit(by.url)
    with (
        socket.create_connection((where.hostname, where.port or 443), timeout=30) as plain,
        tls().wrap_socket(plain, server_hostname=where.hostname) as sock,
    ):
        yield Line(sock)


def patch(by: Caller, blob: Blob, body: bytes, at: int = 0, **more: str) -> bytes:
    """The head of a request that brings a chunk."""
    target = f"/v1/uploads/{blob.digest}"
    length = {} if more else {"Content-Length": str(len(body))}
    headers = {"Host": "x", **by.signed("PATCH", target, body), **OCTETS, "Upload-Offset": str(at), **length, **more}
    return "".join([f"PATCH {target} HTTP/1.1\r\n", *(f"{k}: {v}\r\n" for k, v in headers.items()), "\r\n"]).encode()


def begun(by: Caller, size: int, seed: int) -> tuple[bytes, Blob]:
    """Bytes that were announced."""
    data = np.random.default_rng(seed).bytes(size)
    blob = blob_of(data)
    told = by.ask("POST", "/v1/uploads", api.Upload(digest=blob.digest, size=size)).read(api.Uploaded)
    assert told == api.Uploaded(offset=0, done=False)
    return data, blob


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


def test_requests_behind_a_large_body_are_answered_in_their_order(ada: Caller) -> None:
    (one, first), (two, second) = begun(ada, 3 * MUCH + 7, 1), begun(ada, MUCH + 1, 2)
    with line(ada) as sent:
        sent.write(patch(ada, first, one), one, HEALTH, patch(ada, second, two), two, HEALTH)
        assert sent.read().stands == api.Uploaded(offset=len(one), done=True)
        assert sent.read() == Said(200, b"ok\n")
        assert sent.read().stands == api.Uploaded(offset=len(two), done=True)
        assert sent.read() == Said(200, b"ok\n")


def test_a_small_body_is_not_mistaken_for_the_one_behind_it(ada: Caller) -> None:
    (one, first), (two, second) = begun(ada, 300, 3), begun(ada, 2 * MUCH, 4)
    with line(ada) as sent:
        sent.write(patch(ada, first, one), one, patch(ada, second, two), two[:500])
        assert sent.read().stands == api.Uploaded(offset=300, done=True)
        sent.write(two[500:])
        assert sent.read().stands == api.Uploaded(offset=len(two), done=True)


def test_a_body_that_is_refused_unread_is_passed_over(ada: Caller) -> None:
    data, blob = begun(ada, 5 * MUCH, 5)
    with line(ada) as sent:
        sent.write(patch(ada, blob, data[MUCH:], MUCH), data[MUCH:], HEALTH)
        assert sent.read().code == "conflict"
        assert sent.read() == Said(200, b"ok\n")
        sent.write(patch(ada, blob, data), data, HEALTH)
        assert sent.read().stands.done
        assert sent.read().status == 200


def test_a_body_with_a_flipped_bit_is_refused_and_the_next_one_taken(ada: Caller) -> None:
    data, blob = begun(ada, 3 * MUCH, 6)
    with line(ada) as sent:
        sent.write(patch(ada, blob, data), data[:-1], bytes([data[-1] ^ 1]), HEALTH)
        assert sent.read().code == "digest"
        assert sent.read() == Said(200, b"ok\n")
    assert upload(ada, data) == blob


def test_a_body_without_a_length_is_left_to_the_parser(ada: Caller) -> None:
    data, blob = begun(ada, 3 * MUCH + 1, 7)
    with line(ada) as sent:
        sent.write(patch(ada, blob, data, **{"Transfer-Encoding": "chunked"}))
        for at in range(0, len(data), 100_000):
            piece = data[at : at + 100_000]
            sent.write(b"%x\r\n" % len(piece), piece, b"\r\n")
        sent.write(b"0\r\n\r\n", HEALTH)
        assert sent.read().stands == api.Uploaded(offset=len(data), done=True)
        assert sent.read() == Said(200, b"ok\n")


@pytest.mark.parametrize("size", [MUCH - 1, MUCH, MUCH + 1, 3 * MUCH, 7 * MUCH + 12_345])
def test_blocks_take_turns(ada: Caller, size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    assert upload(ada, data) == blob_of(data)
    stored = ada.ask("POST", "/v1/uploads", api.Upload(digest=blob_of(data).digest, size=size)).read(api.Uploaded)
    assert stored.done


def test_many_bodies_at_once_share_their_memory(ada: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "_TOGETHER", 4 * 3 * intake._LEAST)
    sizes: list[int] = []
    room = intake.Intake.room

    def seen(self: Any, rest: int) -> memoryview:
        sizes.append(self._much)
        return room(self, rest)

    monkeypatch.setattr(intake.Intake, "room", seen)
    data = [np.random.default_rng([8, i]).bytes(4 * MUCH + i) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda part: upload(ada.twin(), part), data)) == [blob_of(part) for part in data]
    assert min(sizes) >= intake._LEAST
    assert max(sizes) <= 4 * intake._LEAST
    assert not intake.Intake._coming
