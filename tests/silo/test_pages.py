"""The pages as the coordinator serves them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec
import pytest

from atoll import wire
from atoll.silo import api
from silo.serving import Answer, Caller, admin, joined, numbers, open_run, running, submission, submit


class Site(NamedTuple):
    looker: Caller
    cookie: dict[str, str]
    leader: Caller
    asker: Caller
    federation: str

    def get(self, path: str) -> Answer:
        return self.looker.ask("GET", path, signed={}, headers=self.cookie)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("pages") / "coordinator"
    with running(folder) as coordinator:
        leader = admin(coordinator)
        ada, bay, cove = joined(leader, "ada", "researcher"), joined(leader, "bay"), joined(leader, "cove")
        for node in (bay, cove):
            node.ask("POST", "/v1/hello", api.Hello(versions={"atoll": "1"}, data=(api.DataSet(name="d", rows=7),)))
        open_run(ada, ("bay", "cove"), "july")
        submit(ada, submission(ada, coordinator.folder.key.fingerprint, ("bay", "cove"), name="july"), "july")
        work = bay.ask("GET", "/v1/work").read(api.Work)
        bay.ask("POST", f"/v1/answers/{work.tasks[0].exchange}/0", wire.encode(numbers()))
        looker = joined(leader, "looker", "viewer")
        opened = looker.ask("GET", urlsplit(looker.ask("POST", "/v1/login").read(api.Login).url).path, signed={})
        yield Site(
            looker,
            {"Cookie": opened.headers["set-cookie"].split(";")[0]},
            leader,
            ada,
            coordinator.folder.key.fingerprint,
        )


def test_the_first_page(site: Site) -> None:
    page = site.get("/")
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-store"
    assert "script-src 'self'" in page.headers["content-security-policy"]
    for words in (b"bay", b"d (7 rows)", b'href="/runs/ada/july"', b'href="/nodes/bay"'):
        assert words in page.body


def test_a_run_shows_who_is_missing(site: Site) -> None:
    page = site.get("/runs/ada/july")
    assert page.status == 200
    assert b"1 of 2 nodes after" in page.body
    assert b"still missing: cove" in page.body


def test_what_rounds_came_to_is_drawn(site: Site) -> None:
    asked = [
        msgspec.structs.replace(
            submission(site.asker, site.federation, ("bay", "cove"), number, name="august"),
            told={number - 1: {"loss": 1.0 / number}} if number else {},
        )
        for number in range(3)
    ]
    open_run(site.asker, ("bay", "cove"), "august")
    for told in asked:
        assert submit(site.asker, told, "august").status == 200
    page = site.get("/runs/ada/august")
    assert page.status == 200
    assert b"Loss by round" in page.body
    assert b"<td>0.5</td>" in page.body
    assert b"Loss by round" not in site.get("/runs/ada/july").body


def test_a_node_and_the_log(site: Site) -> None:
    assert b"d (7 rows)" in site.get("/nodes/bay").body
    assert b"bay" in site.get("/log").body
    assert site.get("/log?before=2").status == 200


@pytest.mark.parametrize("path", ["/runs/ada/none", "/nodes/none", "/nodes/%3Cb%3E", "/log?before=x"])
def test_what_is_not_there_is_a_page_that_says_so(site: Site, path: str) -> None:
    page = site.get(path)
    assert page.status == 404
    assert b"<h1" in page.body
    assert b"<b>" not in page.body


def test_static_files_need_no_login(site: Site) -> None:
    style = site.looker.ask("GET", "/static/atoll.css", signed={})
    assert style.headers["content-type"].startswith("text/css")
    assert site.looker.ask("GET", "/static/live.js", signed={}).status == 200
    assert site.looker.ask("GET", "/static/none", signed={}).status == 404


@pytest.mark.parametrize("path", ["/", "/log", "/runs/ada/july", "/nodes/bay"])
def test_pages_need_a_login(site: Site, path: str) -> None:
    assert site.looker.ask("GET", path, signed={}).status == 401


def test_a_signature_opens_no_page(site: Site) -> None:
    for path in ("/", "/log", "/live"):
        answer = site.leader.ask("GET", path)
        assert (answer.status, answer.headers["content-type"]) == (401, "text/html; charset=utf-8")
