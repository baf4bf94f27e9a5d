"""The parts of the server by themselves: waiting, the writer's commits, who is here, routes, sockets, metrics."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from atoll.silo.errors import DiskFull, Malformed, Method, NotFound
from atoll.silo.server import openapi
from atoll.silo.server.connection import keep_asking
from atoll.silo.server.metrics import Metrics
from atoll.silo.server.presence import Presence
from atoll.silo.server.routes import ROUTES, find
from atoll.silo.server.sessions import cookie, secret_of
from atoll.silo.server.waiting import Topics
from atoll.silo.server.writer import Writer


def test_a_bell_rings_for_its_topics_only() -> None:
    async def main() -> None:
        topics = Topics()
        with topics.listening("a", "b") as bell, topics.listening("c") as other:
            assert topics.waiting == 2
            topics.wake(["b", "nobody"])
            assert await bell.wait(30)
            assert not await bell.wait(0)
            assert not await other.wait(0)
        assert topics.waiting == 0
        assert topics._bells == {}

    asyncio.run(main())


def test_what_rings_before_the_wait_is_not_missed() -> None:
    async def main() -> None:
        topics = Topics()
        with topics.listening("a") as bell:
            waiting = asyncio.ensure_future(bell.wait(30))
            await asyncio.sleep(0)
            topics.wake(["a"])
            topics.wake(["a"])
            assert await waiting
            assert not await bell.wait(0)

    asyncio.run(main())


def test_closing_wakes_everybody_and_says_so() -> None:
    async def main() -> None:
        topics = Topics()
        with topics.listening("a") as bell:
            waiting = asyncio.ensure_future(bell.wait(30))
            await asyncio.sleep(0)
            topics.close()
            assert await waiting
            assert topics.closing

    asyncio.run(main())


def test_who_hangs_up_is_told_apart_from_who_is_called() -> None:
    async def main() -> None:
        with Topics().listening("a") as bell:
            bell.hang_up()
            assert await bell.wait(30)
            assert bell.gone

    asyncio.run(main())


class Ledger:
    """A broker that only counts."""

    def __init__(self) -> None:
        self.changes: set[str] = set()
        self.kept: list[int] = []
        self.commits: list[int] = []
        self.threads: set[str] = set()
        self.fails: Exception | None = None
        self.when: float | None = None
        self.closed: list[float] = []

    @contextmanager
    def batch(self) -> Iterator[None]:
        before = list(self.kept)
        try:
            yield
            if self.fails is not None:
                raise self.fails
        except BaseException:
            self.kept = before
            raise
        self.commits.append(len(self.kept) - len(before))

    def add(self, number: int) -> int:
        self.threads.add(threading.current_thread().name)
        if number < 0:
            raise Malformed("negative")
        self.kept.append(number)
        self.changes.add(f"number:{number}")
        return number * 2

    def due(self) -> float | None:
        return self.when

    def close_due(self, now: float) -> list[str]:
        self.closed.append(now)
        self.when = None
        return []


def test_calls_that_wait_share_a_commit_and_each_gets_its_own_answer() -> None:
    async def main() -> tuple[list[Any], Ledger, set[str], int]:
        ledger, woken = Ledger(), set()
        writer = Writer(ledger, woken.update)  # type: ignore[arg-type]
        found = await asyncio.gather(*(writer.call(ledger.add, i) for i in range(-1, 100)), return_exceptions=True)
        batches = writer.batches
        await writer.close()
        return found, ledger, woken, batches

    found, ledger, woken, batches = asyncio.run(main())
    assert isinstance(found[0], Malformed)
    assert found[1:] == [2 * i for i in range(100)]
    assert ledger.kept == list(range(100))
    assert sum(ledger.commits) == 100
    assert batches < 100
    assert woken == {f"number:{i}" for i in range(100)}
    assert ledger.threads == {"atoll-writer"}


def test_nothing_is_acknowledged_that_was_not_committed() -> None:
    async def main() -> None:
        ledger = Ledger()
        writer = Writer(ledger, lambda topics: None)  # type: ignore[arg-type]
        ledger.fails = DiskFull("no room")
        with pytest.raises(DiskFull):
            await writer.call(ledger.add, 1)
        assert "no room" in writer.broken
        assert ledger.kept == []
        ledger.fails = None
        assert await writer.call(ledger.add, 1) == 2
        assert writer.broken == ""
        await writer.close()
        with pytest.raises(RuntimeError, match="ended"):
            await writer.call(ledger.add, 2)

    asyncio.run(main())


def test_what_is_due_is_closed_without_anybody_asking() -> None:
    async def main() -> list[float]:
        ledger = Ledger()
        ledger.when = 100.0
        now = [0.0]
        writer = Writer(ledger, lambda topics: None, lambda: now[0])  # type: ignore[arg-type]
        await writer.call(ledger.add, 1)
        assert ledger.closed == []
        now[0] = 101.0
        await writer.call(ledger.add, 2)
        await writer.close()
        return ledger.closed

    assert asyncio.run(main()) == [101.0]


def test_closing_the_writer_finishes_what_was_handed_in() -> None:
    async def main() -> Ledger:
        ledger = Ledger()
        writer = Writer(ledger, lambda topics: None)  # type: ignore[arg-type]
        calls = [asyncio.ensure_future(writer.call(ledger.add, i)) for i in range(1000)]
        await asyncio.sleep(0)
        await writer.close()
        assert await asyncio.gather(*calls) == [2 * i for i in range(1000)]
        return ledger

    assert len(asyncio.run(main()).kept) == 1000


class Wire:
    """A connection, as far as presence looks at it."""

    member = ""
    lost: Any = None
    closed = False


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atoll.silo.server.presence.GRACE", 0.01)
    monkeypatch.setattr("atoll.silo.server.presence._LOST", 0.005)


async def gone(told: list[str], n: int) -> list[str]:
    for _ in range(1000):
        if len(told) >= n:
            break
        await asyncio.sleep(0.005)
    return told


@pytest.mark.usefixtures("quick")
def test_a_node_that_closed_its_last_connection_is_away() -> None:
    async def main() -> None:
        told: list[str] = []
        presence, one, two = Presence(told.append), Wire(), Wire()
        presence.heard("a", one)
        presence.heard("a", two)
        presence.poll("a")
        assert presence.polling == 1
        presence._lost(one, None)
        presence.polled("a", gone=True)
        assert presence._timers == {}
        presence._lost(two, OSError("timed out"))
        assert await gone(told, 1) == ["a"]

    asyncio.run(main())


@pytest.mark.usefixtures("quick")
def test_a_node_whose_connection_was_lost_while_its_signature_was_checked_is_away() -> None:
    async def main() -> None:
        told: list[str] = []
        presence, lost = Presence(told.append), Wire()
        lost.closed = True
        presence.heard("a", lost)
        assert await gone(told, 1) == ["a"]
        presence.heard("b", Wire())
        presence.heard("b", lost)
        await asyncio.sleep(0.05)
        assert told == ["a"]
        presence.close()

    asyncio.run(main())


@pytest.mark.usefixtures("quick")
def test_a_node_that_comes_back_in_time_was_never_away() -> None:
    async def main() -> None:
        told: list[str] = []
        presence, one = Presence(told.append), Wire()
        presence.heard("a", one)
        presence._lost(one, None)
        presence.heard("a", Wire())  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        assert told == []
        presence.close()

    asyncio.run(main())


@pytest.mark.usefixtures("quick")
def test_behind_a_proxy_only_a_poll_that_is_cut_says_something() -> None:
    async def main() -> None:
        told: list[str] = []
        presence, one = Presence(told.append, behind_proxy=True), Wire()
        presence.heard("a", one)
        assert one.lost is None
        presence.poll("a")
        presence.polled("a", gone=False)
        await asyncio.sleep(0.05)
        assert told == []
        presence.poll("a")
        presence.polled("a", gone=True)
        assert await gone(told, 1) == ["a"]

    asyncio.run(main())


def test_a_silent_peer_is_asked_by_the_kernel() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        keep_asking(sock)
        read = sock.getsockopt
        assert read(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        seconds = read(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) + read(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) * read(
            socket.IPPROTO_TCP, socket.TCP_KEEPINTVL
        )
        assert seconds < 5


def test_every_path_is_found_and_its_parts_decoded() -> None:
    for route in ROUTES:
        path = re.sub(r"{(\w+)}", r"a%2Fb", route.path)
        found, params = find(route.method, path)
        assert found == route
        assert set(params.values()) <= {"a/b"}
        assert list(params) == re.findall(r"{(\w+)}", route.path)


@pytest.mark.parametrize(
    ("method", "path", "error"),
    [
        ("GET", "/nowhere", NotFound),
        ("GET", "/v1/runs/", NotFound),
        ("GET", "//", NotFound),
        ("GET", "", NotFound),
        ("GET", "/v1/work/", NotFound),
        ("POST", "/v1/work", Method),
        ("DELETE", "/v1/runs", Method),
        ("BREW", "/healthz", Method),
        ("GET", "/v1/runs/%ff/state", Malformed),
    ],
)
def test_what_is_no_path(method: str, path: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        find(method, path)


def test_head_finds_what_answers_get() -> None:
    assert find("HEAD", "/healthz")[0].method == "GET"


def test_the_description_names_every_path_and_every_reference_is_there() -> None:
    document = openapi.document()
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(route.method, route.path) for route in ROUTES}
    text = str(document)
    references = set(re.findall(r"#/components/schemas/(\w+)", text))
    assert references <= set(document["components"]["schemas"])
    assert {"Problem", "Join", "Work", "State"} <= references
    names = [o["operationId"] for methods in document["paths"].values() for o in methods.values()]
    assert len(set(names)) == len(names)


def test_only_what_is_meant_for_anyone_needs_no_signature() -> None:
    unsigned = {route.path for route in ROUTES if route.access == "open"}
    assert unsigned == {
        "/healthz", "/readyz", "/metrics", "/v1/about", "/v1/join", "/openapi.json", "/errors", "/login/{secret}",
        "/static/{name}",
    }  # fmt: skip
    assert all(route.roles for route in ROUTES if route.access != "open")


def test_numbers_are_in_the_format_of_prometheus() -> None:
    metrics = Metrics()
    metrics.answered("/v1/work", 200, -1.0)
    metrics.answered("/v1/about", 200, 0.003)
    metrics.answered('/odd"\\\n', 404, 100.0)
    metrics.refused("not-found")
    text = metrics.text({"members": 3})
    line = re.compile(r'atoll_\w+(\{(\w+="(\\.|[^"\\\n])*",?)+\})? [0-9.e+-]+')
    for said in text.splitlines():
        assert said.startswith("# ") or line.fullmatch(said), said
    assert "atoll_members 3\n" in text
    assert 'atoll_request_seconds_bucket{le="+Inf"} 2\n' in text
    assert 'atoll_refusals_total{code="not-found"} 1\n' in text
    kinds = re.findall(r"^# TYPE (\w+)", text, re.MULTILINE)
    assert len(set(kinds)) == len(kinds)


def test_the_cookie_is_for_this_host_over_https_and_unseen_by_scripts() -> None:
    secret, header = cookie()
    told = header.split("; ")
    assert told[0] == f"__Host-atoll={secret.hex()}"
    assert {"Path=/", "Secure", "HttpOnly", "SameSite=Strict"} <= set(told)
    assert not any(part.startswith("Domain") for part in told)
    assert secret_of(f"other=1; {told[0]}; x=y") == secret


@pytest.mark.parametrize(
    "cookies",
    ["", "a=b", "__Host-atoll=", "__Host-atoll=zz", "__Host-atoll=" + "a" * 63, "x__Host-atoll=" + "a" * 64,
     "__Host-atoll=" + "a" * 64 + "; __Host-atoll=" + "b" * 64],
)  # fmt: skip
def test_what_is_no_cookie(cookies: str) -> None:
    assert secret_of(cookies) is None
