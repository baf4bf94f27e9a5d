"""The dashboard in a real browser: login by URL, live progress, a run's page, the log, accessibility, revocation.

Needs Chromium and the extra ``browser``; without them these tests are skipped.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from atoll import wire
from atoll.silo import api
from silo.serving import Caller, admin, joined, numbers, open_run, running, submission, submit

playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'atoll[browser]'")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install 'atoll[browser]'")

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.timeout(300),
]


class Site(NamedTuple):
    leader: Caller
    ada: Caller
    nodes: tuple[Caller, Caller]
    federation: str
    page: Any
    faults: list[str]

    def asks(self, number: int) -> None:
        names = ("bay", "cove")
        told = submission(self.ada, self.federation, names, number, name="july")
        assert submit(self.ada, told, "july").status < 300

    def answers(self, position: int) -> None:
        node = self.nodes[position]
        for task in node.ask("GET", "/v1/work").read(api.Work).tasks:
            node.ask("POST", f"/v1/answers/{task.exchange}/{position}", wire.encode(numbers()))


@pytest.fixture
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    settings = getattr(request, "param", {})
    with running(tmp_path / "coordinator") as coordinator, playwright.sync_playwright() as tools:
        leader = admin(coordinator)
        ada, bay, cove = joined(leader, "ada", "researcher"), joined(leader, "bay"), joined(leader, "cove")
        for node in (bay, cove):
            node.ask("POST", "/v1/hello", api.Hello(versions={"atoll": "1"}, data=(api.DataSet(name="d", rows=7),)))
        open_run(ada, ("bay", "cove"), "july")
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(ignore_https_errors=True, **settings).new_page()
        faults: list[str] = []
        page.on("console", lambda told: faults.append(told.text) if told.type == "error" else None)
        page.on("request", lambda asked: faults.append(asked.url) if not _ours(asked.url, coordinator.url) else None)
        looker = joined(leader, "looker", "viewer")
        page.goto(looker.ask("POST", "/v1/login").read(api.Login).url)
        page.wait_for_selector("main")
        yield Site(leader, ada, (bay, cove), coordinator.folder.key.fingerprint, page, faults)
        browser.close()


def _ours(url: str, base: str) -> bool:
    return url.startswith((base, base.replace("127.0.0.1", "localhost"), "data:"))


def violations(page: Any) -> list[str]:
    found = axe.Axe().run(page).response["violations"]
    return [f"{v['id']}: {node['html'][:120]}" for v in found for node in v["nodes"]]


def test_login_live_progress_a_run_the_log_and_the_end(site: Site) -> None:
    page = site.page
    assert "2 nodes here" in page.inner_text(".lead") or "of 2 nodes here" in page.inner_text(".lead")
    page.click("text=july")
    page.wait_for_selector("text=No round yet.")
    site.asks(0)
    page.wait_for_selector("text=still missing: bay, cove", timeout=20_000)
    site.answers(0)
    page.wait_for_selector("text=still missing: cove", timeout=20_000)
    site.answers(1)
    page.wait_for_selector("text=2 of 2", timeout=20_000)
    assert "Bytes that left each node" in page.inner_text("main")
    page.click("nav >> text=Log")
    page.wait_for_selector("text=What happened at this coordinator")
    assert site.faults == []
    site.leader.ask("DELETE", "/v1/members/looker")
    page.wait_for_function("!document.body.innerText.includes('What happened at this coordinator')", timeout=5_000)


@pytest.mark.parametrize(
    "site", [{"color_scheme": "light"}, {"color_scheme": "dark"}], indirect=True, ids=["light", "dark"]
)
def test_nothing_stands_in_anybodys_way(site: Site) -> None:
    site.asks(0)
    site.answers(0)
    for path in ("/", "/runs/ada/july", "/nodes/bay", "/log"):
        site.page.goto(site.page.url.split("/", 3)[0] + "//" + site.page.url.split("/", 3)[2] + path)
        assert violations(site.page) == []


@pytest.mark.parametrize("site", [{"java_script_enabled": False}], indirect=True, ids=["without-scripts"])
def test_pages_are_complete_without_scripts(site: Site) -> None:
    site.asks(0)
    site.page.goto(site.page.url.rstrip("/") + "/runs/ada/july")
    assert "still missing: bay, cove" in site.page.inner_text("main")


@pytest.mark.parametrize("site", [{"viewport": {"width": 360, "height": 800}}], indirect=True, ids=["narrow"])
def test_a_narrow_screen_does_not_scroll_sideways(site: Site) -> None:
    for path in ("", "runs/ada/july", "log"):
        site.page.goto(site.page.url.split("/", 3)[0] + "//" + site.page.url.split("/", 3)[2] + "/" + path)
        assert site.page.evaluate("document.documentElement.scrollWidth") <= 360
