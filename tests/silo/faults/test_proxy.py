"""The network that fails does fail, as it is told, and the same for the same seed."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from atoll.silo.keys import certificate, server_context
from silo.proxy import Faults, Proxy, Relay, Repeats, free_port


class Upper(threading.Thread):
    """Answers every connection with what it sends, in capitals."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.received: list[int] = []

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.answer, args=(self.socket.accept()[0],), daemon=True).start()

    def answer(self, line: socket.socket) -> None:
        place = len(self.received)
        self.received.append(0)
        with contextlib.suppress(OSError), line:
            while piece := line.recv(1 << 16):
                self.received[place] += len(piece)
                line.sendall(piece.upper())


@pytest.fixture
def upper() -> Iterator[Upper]:
    server = Upper()
    server.start()
    yield server
    server.socket.shutdown(socket.SHUT_RDWR)
    server.socket.close()
    server.join(5)


def dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def ask(line: socket.socket, data: bytes) -> bytes:
    """What comes back for some bytes, up to a reset."""
    found = b""
    with contextlib.suppress(ConnectionError):
        line.sendall(data)
        while len(found) < len(data) and (piece := line.recv(1 << 16)):
            found += piece
    return found


def ask_anew(port: int, data: bytes) -> bytes:
    """The same over a connection of its own, which may be reset before it is there."""
    with contextlib.suppress(ConnectionError), dial(port) as line:
        return ask(line, data)
    return b""


def test_bytes_pass_when_nothing_fails(upper: Upper) -> None:
    data = b"reef" * 100_000
    with Proxy(upper.port) as proxy, dial(proxy.port) as line:
        assert ask(line, data) == data.upper()
        line.shutdown(socket.SHUT_WR)
        assert line.recv(1) == b""
        assert proxy.done == {"connections": 1}


def test_latency(upper: Upper) -> None:
    with Proxy(upper.port, Faults(latency=(0.1, 0.12))) as proxy, dial(proxy.port) as line:
        began = time.monotonic()
        assert ask(line, b"reef") == b"REEF"
        assert time.monotonic() - began >= 0.2
        assert proxy.done["delayed"] == 2


def test_a_drip(upper: Upper) -> None:
    with Proxy(upper.port, Faults(rate=10_000)) as proxy, dial(proxy.port) as line:
        began = time.monotonic()
        assert ask(line, b"reef" * 500) == b"REEF" * 500
        assert time.monotonic() - began >= 0.2
        assert proxy.done["dripped"] >= 8


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_partition_one_way(upper: Upper, way: str) -> None:
    with Proxy(upper.port) as proxy, dial(proxy.port) as line:
        assert ask(line, b"reef") == b"REEF"
        line.settimeout(0.3)
        with proxy.during(held=way):
            line.sendall(b"atoll")
            with pytest.raises(TimeoutError):
                line.recv(10)
            assert upper.received == [4 if way == "up" else 9]
        line.settimeout(10)
        assert line.recv(10) == b"ATOLL"
        assert proxy.done["held"] == 1


def cuts(upper: Upper, seed: int, **faults: object) -> list[int]:
    """How many bytes each of ten connections got back."""
    with Proxy(upper.port, Faults(cut=(1000, 50_000), **faults), seed) as proxy:  # type: ignore[arg-type]
        found = []
        for _ in range(10):
            with dial(proxy.port) as line:
                found.append(len(ask(line, b"x" * 60_000)))
        assert proxy.done["cut"] == sum(n < 60_000 for n in found)
    return found


def test_connections_are_cut_at_the_same_places_for_the_same_seed(upper: Upper) -> None:
    one = cuts(upper, 3, way="down")
    assert cuts(upper, 3, way="down") == one
    assert cuts(upper, 4, way="down") != one
    assert all(n <= 50_000 for n in one)
    assert len(set(one)) == 10


def test_a_share_of_connections_is_cut(upper: Upper) -> None:
    found = cuts(upper, 1, share=0.5, way="down")
    assert 0 < sum(n == 60_000 for n in found) < 10


def test_a_reset_in_the_middle_of_a_body(upper: Upper) -> None:
    with Proxy(upper.port, Faults(cut=(5000, 5000), way="up")) as proxy, dial(proxy.port) as line:
        ask(line, b"x" * 60_000)
        deadline = time.monotonic() + 5
        while upper.received != [5000] and time.monotonic() < deadline:
            time.sleep(0.01)
        assert upper.received == [5000]
        with pytest.raises(ConnectionError):
            line.sendall(b"x" * 10_000_000)


def test_nobody_there(upper: Upper) -> None:
    with Proxy(upper.port) as proxy, dial(proxy.port) as line:
        assert ask(line, b"reef") == b"REEF"
        with proxy.during(refused=True):
            assert ask(line, b"reef") == b""
            assert ask_anew(proxy.port, b"reef") == b""
        assert ask_anew(proxy.port, b"reef") == b"REEF"
        assert proxy.done["refused"] == 1
    with Proxy(free_port()) as proxy:
        assert ask_anew(proxy.port, b"reef") == b""


class Pages(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: list[bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        again = body in self.seen
        self.seen.append(body)
        self.send_response(409 if again else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.upper())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[tuple[int, ssl.SSLContext, list[bytes]]]:
    shown, secret, _ = certificate(tmp_path, ["127.0.0.1"])
    context, seen = server_context(shown, secret), []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Pages,), {"seen": seen}))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port, context, seen
    server.shutdown()
    thread.join()
    server.server_close()


def post(port: int, body: bytes) -> tuple[int, bytes]:
    trusting = ssl._create_unverified_context()
    line = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=trusting)
    try:
        line.request("POST", "/x", body)
        answer = line.getresponse()
        return answer.status, answer.read()
    finally:
        line.close()


@pytest.mark.parametrize(("told", "status"), [("first", 200), ("second", 409)])
def test_requests_are_sent_twice(pages: tuple[int, ssl.SSLContext, list[bytes]], told: str, status: int) -> None:
    port, context, seen = pages
    with Relay(port, context, Repeats(told=told)) as relay:  # type: ignore[arg-type]
        assert post(relay.port, b"reef") == (status, b"REEF")
        assert post(relay.port, b"atoll") == (status, b"ATOLL")
        deadline = time.monotonic() + 5
        while len(seen) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert sorted(seen) == [b"atoll", b"atoll", b"reef", b"reef"]
    assert relay.done["requests"] == 2


def test_an_answer_that_is_lost(pages: tuple[int, ssl.SSLContext, list[bytes]]) -> None:
    port, context, seen = pages
    with Relay(port, context, Repeats(told="neither")) as relay, pytest.raises(ConnectionError):
        post(relay.port, b"reef")
    assert seen == [b"reef", b"reef"]
    assert relay.done == {"requests": 1, "copies": 1, "copy 409": 1}


def test_requests_change_places(pages: tuple[int, ssl.SSLContext, list[bytes]]) -> None:
    port, context, seen = pages
    with Relay(port, context, Repeats(share=0, shuffled=(0.0, 0.3)), seed=2) as relay:
        threads = [threading.Thread(target=post, args=(relay.port, b"%02d" % i)) for i in range(8)]
        for thread in threads:
            thread.start()
            time.sleep(0.01)
        for thread in threads:
            thread.join()
    assert len(seen) == 8
    assert seen != sorted(seen)
