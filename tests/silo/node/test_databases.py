"""Rows out of a database that goes on: a run sees the rows that it began with, or is refused."""

from __future__ import annotations

import contextlib
import sqlite3

import numpy as np
import pytest

from atoll.silo.node import rows as rows_module
from atoll.silo.node.requests import add_rule
from silo.node.fakes import Driver
from silo.node.test_answering import Bench


class Base(Bench):
    """The same over a database."""

    def __init__(self, tmp_path):
        self.database = tmp_path / "rows.db"
        rng = np.random.default_rng(7)
        with contextlib.closing(sqlite3.connect(self.database)) as db, db:
            db.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, width REAL, height REAL, species TEXT)")
            db.executemany(
                "INSERT INTO rows VALUES (?, ?, ?, ?)",
                [(i, *rng.normal(size=2), "uv"[i % 2]) for i in range(10)],
            )
        query = "SELECT width, height, species FROM rows ORDER BY number"
        super().__init__(tmp_path, data=[f"iris=sql:sqlite:///{self.database}#{query}#species"])

    def change(self):
        with contextlib.closing(sqlite3.connect(self.database)) as db, db:
            db.execute("UPDATE rows SET width = width + 100 WHERE number = 3")


@pytest.fixture
def base(tmp_path):
    found = Base(tmp_path)
    yield found
    found.answerer.log.close()


def test_a_database_that_changed_is_refused_until_the_driver_connects_anew(base):
    assert base.tree("describe.rows")["rows"].tolist() == [10]
    first = base.tree("statistics.extrema", run="one")
    base.change()
    again = base.tree("statistics.extrema", run="one")
    assert all(first[k].tobytes() == again[k].tobytes() for k in first), "a run sees the rows that it began with"
    refusal = base.refused(base.ask(run="two"))
    assert refusal.code == "data-changed"
    assert "when the driver connected" in refusal.reason
    assert base.refused(base.ask(run="one")).code == "data-changed", "those rows are known to be gone"
    assert base.tree("describe.rows", run="attach-2")["rows"].tolist() == [10]
    assert base.tree("statistics.extrema", run="three")["max"][0] > first["max"][0] + 50
    assert "began with other rows" in base.refused(base.ask(run="one")).reason


def test_a_database_that_changed_while_the_node_was_down(base):
    base.tree("describe.rows")
    assert base.ask(run="one").refusal is None
    base.restart()
    assert base.ask(run="one").refusal is None
    base.change()
    base.restart()
    assert base.refused(base.ask(run="one")).code == "data-changed"


def test_a_database_that_changed_when_somebody_else_connects(base):
    bob = Driver("bob")
    add_rule(base.folder, bob.rule("*"))
    base.tree("describe.rows")
    assert base.ask(run="one").refusal is None
    base.change()
    assert base.hand(bob.ask("describe.rows", run="attach-b")).refusal is None
    assert base.hand(bob.ask("null.ping", run="one")).refusal is None
    assert base.refused(base.ask(run="one")).code == "data-changed"


def test_a_database_is_read_when_a_run_begins_and_not_in_between(base, monkeypatch):
    reads = []
    monkeypatch.setattr(rows_module.Rows, "_read", lambda *a, read=rows_module.Rows._read: reads.append(1) or read(*a))
    base.tree("describe.rows")
    held = base.answerer.held("iris")
    for _ in range(3):
        assert base.ask(run="one").refusal is None
    assert len(reads) == 2
    assert base.ask(run="two").refusal is None
    assert (len(reads), base.answerer.held("iris") is held) == (3, True), "the same rows are kept where they are"
