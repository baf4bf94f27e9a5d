"""Nodes whose connection stands while they do not: noticed by the lines that do not come, or by polls that do not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from atoll.silo import api
from atoll.silo.client import Client
from atoll.silo.keys import Key
from atoll.silo.server import Coordinator
from atoll.silo.server.presence import Presence
from silo.serving import Caller, admin, joined, open_run, running, submission, submit


class Me(NamedTuple):
    url: str
    certificate: str | None
    key: Key


class Site(NamedTuple):
    coordinator: Coordinator
    admin: Caller
    node: Caller

    def state(self) -> str:
        (status,) = self.admin.ask("GET", "/v1/nodes").read(list[api.NodeStatus])
        return status.state

    def until(self, state: str, meanwhile: object = None) -> None:
        end = time.monotonic() + 20
        while self.state() != state:
            assert time.monotonic() < end, f"never {state}"
            if callable(meanwhile):
                meanwhile()
            time.sleep(0.02)

    def events(self) -> list[str]:
        with self.admin.stream("/v1/events?after=0") as stream:
            self.node.ask("POST", "/v1/hello", api.Hello(versions={}, data=(api.DataSet(name="mark"),)))
            kinds = []
            for line in iter(stream.readline, b""):
                if line.startswith(b"data:") and b'"who":"bay"' in line:
                    kinds.append(line.partition(b'"kind":"')[2].partition(b'"')[0].decode())
                    if b"offers mark" in line:
                        return kinds
            raise AssertionError("the stream ended")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr("atoll.silo.server.presence.SLACK", 1.0)
    monkeypatch.setattr("atoll.silo.server.presence._LOOK", 0.1)
    with running(tmp_path / "c") as coordinator:
        by = admin(coordinator)
        yield Site(coordinator, by, joined(by, "bay"))


def test_a_node_that_stands_still_is_away_although_its_connection_stands(site: Site) -> None:
    connection = site.node.connect()
    target = "/v1/work?wait=60&beat=0.2"
    connection.request("GET", target, headers=site.node.signed("GET", target))
    site.until("here")
    site.until("away")
    assert connection.sock is not None
    site.until("here", lambda: connection.sock.send(b"\r\n"))
    site.until("away")
    site.until("here", lambda: connection.sock.send(b"\r\n"))
    open_run(site.admin, ("bay",)).read(api.Opened)
    submit(site.admin, submission(site.admin, site.coordinator.folder.key.fingerprint, ("bay",))).read(api.State)
    with connection.getresponse() as response:
        assert b'"number":0' in response.read(), "the poll is answered like any other"
    connection.request("GET", "/v1/work", headers=site.node.signed("GET", "/v1/work"))
    with connection.getresponse() as response:
        assert response.status == 200, "and so is the next request on this connection"
    connection.close()


def test_a_client_that_waits_says_that_it_lives(site: Site) -> None:
    client = Client(Me(site.coordinator.local_url, site.coordinator.folder.fingerprint, site.node.key), patience=5.0)
    for _ in range(2):
        assert client.get("/v1/work", api.Work, wait=2.5, beat=0.2).tasks == ()
    client.close()
    site.node.signer = type(site.node.signer)(site.node.key)  # a later epoch than that of the client
    assert "away" not in site.events()


def test_a_node_that_polls_no_more_is_away_soon(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atoll.silo.server.work.HERE", 0.5)
    site.node.ask("GET", "/v1/work?wait=0.1").read(api.Work)
    assert site.state() == "here"
    site.until("away")


@pytest.mark.parametrize("beat", ["0", "-1", "nan", "inf", "often", "0.01", "1e9"])
def test_beats_that_are_none(site: Site, beat: str) -> None:
    assert site.node.ask("GET", f"/v1/work?wait=0&beat={beat}").code == "malformed"


class Wire:
    """A connection, as far as presence looks at it."""

    member = ""
    lost = None
    heard = 0.0


@pytest.mark.parametrize(
    ("proxy", "stood", "told"), [(False, False, ["a"]), (True, False, []), (False, True, [])],
    ids=["silent", "behind-a-proxy", "the-coordinator-stood-still"],
)  # fmt: skip
def test_who_is_called_away(proxy: bool, stood: bool, told: list[str]) -> None:
    async def main() -> list[str]:
        said: list[str] = []
        presence, wire = Presence(said.append, behind_proxy=proxy), Wire()
        presence.poll("a", wire, 1.0)  # type: ignore[arg-type]
        wire.heard -= 100.0
        presence._look(asyncio.get_running_loop().time() - (60.0 if stood else 0.0))
        presence.polled("a", gone=False)
        presence.close()
        return said

    assert asyncio.run(main()) == told
