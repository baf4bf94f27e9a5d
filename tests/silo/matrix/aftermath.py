"""What must be so after a scene, whoever was killed in it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from atoll import wire
from atoll.silo.node.folder import Folder
from atoll.silo.node.log import entries, verify
from atoll.silo.node.policy import Policy
from atoll.silo.node.requests import open_requests
from atoll.trees import Tree
from silo.matrix.roles import NODES
from silo.matrix.stage import Stage

__all__ = ["check"]

_RUNS = {"study": ("near", "wide", "kept"), "bounded": ("bounded",), "late": ("late",), "allowed": ("near",)}


def check(scene: str, stage: Stage, shards: Callable[..., bytes]) -> None:
    """Hold what a scene left behind against what it should have.

    Parameters
    ----------
    scene : str
        Its name.
    stage : Stage
        All processes have ended.
    shards : callable
        ``(script, names) -> bytes``: what comes of a script over rows that are here.
    """
    database = sqlite3.connect(f"file:{stage.folder / 'broker.sqlite3'}?mode=ro", uri=True)
    try:
        _sound(database)
        _counted_once(database, scene)
        _nothing_left(database, stage.folder, scene)
        for path in sorted((stage.place / "nodes").iterdir()):
            _logged(database, path, scene)
        _SAID[scene](stage, database, shards)
    finally:
        database.close()


def _sound(database: sqlite3.Connection) -> None:
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert database.execute("PRAGMA foreign_key_check").fetchall() == []


def _counted_once(database: sqlite3.Connection, scene: str) -> None:
    """Every exchange of a run has closed, and what each node is said to have sent is what was accepted of it."""
    for run in _RUNS.get(scene, ()):
        found = database.execute(
            "SELECT x.number, x.state, x.outcome FROM exchanges x JOIN runs r ON r.id = x.run WHERE r.name = ?", (run,)
        ).fetchall()
        assert [number for number, *_ in sorted(found)] == list(range(len(found))), run
        assert {state for _, state, _ in found} == {"closed"}, run
    accepted = """SELECT a.node, x.run, x.op, count(*), sum(a.bytes) FROM asked a JOIN exchanges x ON x.id = a.exchange
        WHERE a.state = 'accepted' AND x.state = 'closed' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"""
    sent = "SELECT node, run, op, times, bytes FROM sent ORDER BY 1, 2, 3"
    assert database.execute(accepted).fetchall() == database.execute(sent).fetchall()


def _nothing_left(database: sqlite3.Connection, folder: Path, scene: str) -> None:
    """No part of a sum, no half file, nothing but blobs that something refers to; uploads of the asker at the most."""
    assert database.execute("SELECT count(*) FROM parts").fetchone() == (0,)
    kinds = Counter(database.execute("SELECT kind, holder FROM refs WHERE kind IN ('part', 'upload')").fetchall())
    assert set(kinds) <= {("upload", "ada")}, kinds
    assert {path.name for path in (folder / "staging").iterdir() if any(path.iterdir())} <= {"ada"}
    assert not any((folder / "folds").iterdir())
    known = dict(database.execute("SELECT digest, size FROM blobs").fetchall())
    files = {path.name: path for path in (folder / "blobs").glob("??/*")}
    assert files.keys() == known.keys()
    for digest, path in files.items():
        assert (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size) == (digest, known[digest])


def _logged(database: sqlite3.Connection, path: Path, scene: str) -> None:
    """The chain holds, and knows of each answer that was counted; what was computed again was the same."""
    name, log = path.name, path / "log.jsonl"
    verified = verify(log)
    found = list(entries(log))
    assert len(found) == verified.entries
    told: dict[tuple[str, int, str], set[tuple[int, str]]] = {}
    first: Counter[tuple[Any, ...]] = Counter()
    for entry in found:
        if entry["event"] == "answered":
            told.setdefault((entry["run"], entry["number"], entry["op"]), set()).add((entry["bytes"], entry["sha256"]))
            first[entry["task"], entry["position"]] += "again" not in entry
    assert all(len(same) == 1 for same in told.values()), name
    assert set(first.values()) <= {1}, name
    accepted = """SELECT r.name, x.number, x.op FROM asked a JOIN exchanges x ON x.id = a.exchange
        JOIN runs r ON r.id = x.run WHERE a.state = 'accepted' AND a.node = ?"""
    assert set(database.execute(accepted, (name,)).fetchall()) <= told.keys(), name


def _members(database: sqlite3.Connection) -> dict[str, str]:
    return dict(database.execute("SELECT name, role FROM members WHERE revoked IS NULL").fetchall())


def _as_in_shards(script: str) -> Callable[..., None]:
    """The same bits as over rows that are here, of everybody."""

    def said(stage: Stage, database: sqlite3.Connection, shards: Callable[..., bytes]) -> None:
        assert (stage.place / "result").read_bytes() == shards(script, NODES)
        assert _members(database) == {"admin": "admin", "ada": "researcher"} | dict.fromkeys(NODES, "node")
        for name in NODES:
            _remembered(stage.node(name))
            assert len(Policy.of(Folder(stage.node(name)).policy).rules) == (script != "near" or name != "cove")

    return said


def _remembered(node: Path) -> None:
    """What a node keeps between rounds is whole, and there is nothing else."""
    for folder in (node / "memory").glob("*/*"):
        versions = [json.loads(path.read_bytes()) for path in folder.glob("*.json")]
        named = {file for slots in versions for file in slots.values()}
        assert named == {path.name for path in folder.glob("*.tree")}
        for file in named:
            wire.decode((folder / file).read_bytes(), Tree)


def _in_time(stage: Stage, database: sqlite3.Connection, shards: Callable[..., bytes]) -> None:
    """The same bits as over those who were in time; the one who was not is named, and knows it."""
    data = (stage.place / "result").read_bytes()
    names = tuple(wire.decode(data, Tree)["nodes"].tolist())
    assert 0 < len(names) < len(NODES)
    assert "lagoon" not in names
    assert data == shards("late", names)
    asked = "SELECT DISTINCT state, reason FROM asked WHERE node = 'lagoon'"
    assert database.execute(asked).fetchall() == [("refused", "late")]


def _bounded(stage: Stage, database: sqlite3.Connection, shards: Callable[..., bytes]) -> None:
    _as_in_shards("bounded")(stage, database, shards)
    assert database.execute("SELECT node FROM asked WHERE state = 'refused'").fetchall() == [("lagoon",)]


def _allowed(stage: Stage, database: sqlite3.Connection, shards: Callable[..., bytes]) -> None:
    _as_in_shards("near")(stage, database, shards)
    assert "cove" in (stage.place / "refused").read_text()
    cove = Folder(stage.node("cove"))
    assert not [request for request in open_requests(cove, every=True) if request.id == 1]
    assert max(entry["rules"] for entry in entries(cove.log) if entry["event"] == "policy") == 1


def _farewell(stage: Stage, database: sqlite3.Connection, shards: Callable[..., bytes]) -> None:
    assert _members(database) == {"admin": "admin"}
    assert database.execute("SELECT count(*) FROM runs").fetchone() == (0,)
    assert database.execute("SELECT count(*) FROM sessions").fetchone()[0] >= 1
    assert sorted(path.name for path in stage.node("bay").iterdir() if not path.name.startswith(".")) == [
        "log.head", "log.jsonl",
    ]  # fmt: skip


_SAID: dict[str, Callable[..., None]] = {
    "study": _as_in_shards("study"), "bounded": _bounded, "late": _in_time, "allowed": _allowed,
    "farewell": _farewell,
}  # fmt: skip
