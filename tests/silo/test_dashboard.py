"""The pages draw what they are given, escape it, and say in words what their pictures show."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from atoll.operations import operations
from atoll.silo import dashboard
from atoll.silo.api import DataSet, Event, NodeStatus, RunStatus
from atoll.silo.broker.types import Disclosed, RoundStatus

NOW = 1_790_000_000.0
EVIL = '<script>alert("1")</script>'


def node(name="bay", state="here", seen=NOW - 3, rows=120, **settings):
    return NodeStatus(
        name=name, state=state, seen=seen, versions={"atoll": "0.1.0"}, data=(DataSet(name="iris", rows=rows),)
    )


def status(name="knn", state="running", note="", owner="ada", **settings):
    return RunStatus(
        name=name, owner=owner, purpose="KNeighborsClassifier", data="iris", nodes=("bay", "cove"), state=state,
        exchanges=2, started=NOW - 60, changed=NOW - 1, note=note,
    )  # fmt: skip


def rounds():
    first = RoundStatus(0, 0, "describe.schema", "closed", 2, 2, {}, 610, NOW - 20, NOW - 19.8, None, ("rows",))
    second = first._replace(
        number=1, op="training.local", accepted=1, refused={"cove": "not-approved: ask its owner"}, bytes=4000,
        metrics={"loss": 1.25},
    )  # fmt: skip
    third = second._replace(
        number=2, state="open", refused={}, closed=None, submitted=NOW - 3, metrics={"loss": 0.75}, missing=("cove",)
    )
    return (first, second, third)


def left():
    return (
        Disclosed("bay", "ada", "knn", "describe.schema", 1, 300),
        Disclosed("cove", "ada", "knn", "describe.schema", 1, 310),
        Disclosed("bay", "ada", "knn", "training.local", 2, 8000),
    )


def run_page(made=None, seen=None, went=None):
    return dashboard.run(dashboard.RunSeen(made or status(), tuple(seen or rounds()), tuple(went or left())), NOW)


def overview(nodes=(), runs=(), events=()):
    return dashboard.overview(
        dashboard.Overview("ed25519:abcd", "0.1.0", NOW, tuple(nodes), tuple(runs), tuple(events))
    )


class Outline(HTMLParser):
    """Tags in order, and the text between them."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_the_first_page_tells_who_is_here_and_what_runs():
    event = Event(number=7, time=NOW, kind="joined", who="bay", what="a node joined")
    page = Outline(overview([node(), node("cove", "away", None, None)], [status()], [event]))
    assert "1 of 2 nodes here, 1 run under way." in page.text
    assert "iris (120 rows)" in page.text
    assert "3 s ago" in page.text
    assert ("a", {"href": "/runs/ada/knn"}) in page.tags
    assert "a node joined" in page.text


def test_an_empty_coordinator_says_what_to_do():
    assert "atoll coordinator invite NAME" in overview()


def test_a_run_tells_who_is_missing_what_left_and_who_was_refused():
    page = Outline(run_page())
    assert "still missing: cove" in page.text
    assert "not-approved: ask its owner" in page.text
    assert operations["describe.schema"].discloses in page.text
    assert "Loss by round" in page.text
    assert ("progress", {"max": "2", "value": "1"}) in page.tags
    assert "after 3.0 s" in page.text


def test_numbers_of_rounds_and_bytes_are_those_given():
    page = Outline(run_page())
    assert "3 rounds over 2 nodes, 8.61 kB from nodes." in page.text


@pytest.mark.parametrize("where", ["node", "run", "purpose", "note", "refusal", "event", "operation"])
def test_what_others_write_is_escaped(where):
    name = EVIL if where == "run" else "knn"
    words = EVIL if where == "note" else ""
    seen = [r._replace(op=EVIL if where == "operation" else r.op) for r in rounds()]
    went = [d._replace(op=EVIL if where == "operation" else d.op) for d in left()]
    seen[1] = seen[1]._replace(refused={"cove": EVIL if where == "refusal" else "why"})
    event = Event(number=1, time=NOW, kind="k", who="w", what=EVIL if where == "event" else "x")
    made = status(name, note=words, owner=EVIL if where == "purpose" else "ada")
    pages = [
        overview([node(EVIL if where == "node" else "bay")], [made], [event]),
        run_page(made, seen, went), dashboard.log([event], 3),
    ]  # fmt: skip
    assert not any("<script>alert" in page for page in pages)
    assert any("&lt;script&gt;" in page or "%3Cscript%3E" in page for page in pages)


def test_pages_load_nothing_from_elsewhere_and_have_one_heading():
    for page in (overview([node()], [status()]), run_page()):
        assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
        assert page.count("<h1") == 1
        assert 'lang="en"' in page


def test_a_run_is_found_under_any_name():
    path = dashboard.run_path(status("a/b c?", owner="d#e"))
    assert path == "/runs/d%23e/a%2Fb%20c%3F"


def test_static_files():
    assert dashboard.asset("live.js").content.startswith(b'"use strict"')
    assert b"--accent" in dashboard.asset("atoll.css").content
    assert dashboard.asset("../pages.py") is None


def test_scripts_come_from_here_only():
    policy = dashboard.HEADERS["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy


def test_the_words_of_every_operation_are_those_of_the_registry():
    """Written by ``python docs/tables.py words``."""
    written = json.loads(files("atoll.silo.dashboard").joinpath("operations.json").read_text("utf-8"))
    ours = (name for name in operations if operations[name].fn.__module__.startswith("atoll."))
    assert {name: operations[name].discloses for name in ours} == written
