"""Brokers for tests: members with keys, signed questions, nodes that answer, and a clock that is turned by hand."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

from atoll import wire
from atoll.messages import Exchange, Outcome, Rule
from atoll.silo.api import Ack, RunOpening, State, Submission
from atoll.silo.broker import Broker
from atoll.silo.keys import Key
from atoll.silo.tasks import Blob, Task, blob_of, signed_text
from atoll.specs import Spec
from atoll.trees import Tree, contract

__all__ = ["ALICE", "Clock", "Site", "assembled", "key", "send", "tree_of", "upload"]

ALICE = Key.make()
_KEYS: list[Key] = []


def key(i: int) -> Key:
    """The key of a node."""
    while len(_KEYS) <= i:
        _KEYS.append(Key.make())
    return _KEYS[i]


class Clock:
    """Unix seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


class Site:
    """A broker with some nodes and a researcher named alice; `reopen` is what a kill and a restart are to it."""

    def __init__(self, folder: Path, n: int, **settings: Any) -> None:
        self.folder, self.clock = folder, Clock()
        self.settings = {"clock": self.clock, **settings}
        self.names = tuple(f"node-{i:03d}" for i in range(n))
        self.broker = Broker(folder, **self.settings)
        with self.broker.batch():
            self.broker.add_member("alice", "researcher", ALICE.public)
            for i, name in enumerate(self.names):
                self.broker.add_member(name, "node", key(i).public)
        self.uids: dict[tuple[str, int], str] = {}

    def reopen(self) -> Broker:
        """Let go of the broker as a kill would, and start another one over the same folder."""
        self.broker.close()
        self.broker = Broker(self.folder, **self.settings)
        return self.broker

    def open(self, run: str = "run") -> None:
        """Open a run over all nodes."""
        self.broker.open_run("alice", run, RunOpening(purpose="a test", data="iris", nodes=self.names))

    def question(self, like: Tree, combine: str = "Sum", **changes: Any) -> Exchange:
        """A question to all nodes; answers look like `like`."""
        n = len(self.names)
        settings = changes.pop("combine_settings", {})
        values: dict[str, Any] = {
            "run": "run", "number": 0, "step": 0, "seed": 0, "op": "test.any", "settings": {}, "payload": {},
            "each": {}, "view": (), "cohort": tuple(range(n)), "combine": Spec(combine, settings), "transform": (),
            "plan": Spec("star"), "rule": Rule(), "expects": contract(like), **changes,
        }  # fmt: skip
        return Exchange(**{"base": (-1,) * len(values["cohort"]), **values})

    def task(self, x: Exchange, **changes: Any) -> bytes:
        """A question as a task, in bytes."""
        task = Task(
            federation="", requester="alice", key=ALICE.fingerprint, purpose="a test", data="iris", nodes=self.names,
            starts=(), each={}, exchange=x, issued=self.clock(), expires=self.clock() + 3600,
        )  # fmt: skip
        return wire.encode(task._replace(**changes))

    def submission(self, x: Exchange, written: bytes | None = None, **changes: Any) -> Submission:
        """A signed submission; the task travels inline."""
        data = self.task(x, **changes) if written is None else written
        name = blob_of(data)
        signature = ALICE.sign(signed_text(name))
        return Submission(number=x.number, digest=x.digest, task=name, signature=signature, inline=data)

    def ask(self, x: Exchange, **changes: Any) -> State:
        """Submit a question."""
        state = self.broker.submit("alice", x.run, self.submission(x, **changes))
        self.uids[x.run, x.number] = self.broker.exchange_id("alice", x.run, x.number)
        return state

    def answer(self, x: Exchange, position: int, tree: Tree | bytes) -> Ack:
        """Send an answer as a node would: small ones as they are, large ones as an upload."""
        node, uid = self.names[x.cohort[position]], self.broker.exchange_id("alice", x.run, x.number)
        data = tree if isinstance(tree, bytes) else wire.encode(tree)
        return send(self.broker, node, uid, position, data)

    def fold(self) -> int:
        """Do what the second thread would."""
        for count in itertools.count():
            job = self.broker.next_fold()
            if job is None:
                return count
            self.broker.folded(job.run())
        return 0

    def outcome(self, x: Exchange) -> tuple[Outcome, Tree | None]:
        """What came of a question, and its sum."""
        state = self.broker.state("alice", x.run, x.number)
        assert state.state == "closed", state
        assert state.outcome is not None
        return wire.decode(state.outcome, Outcome), tree_of(self.broker, state)


def send(broker: Broker, node: str, uid: str, position: int, data: bytes, inline: int = 1 << 16) -> Ack:
    """Answer with bytes: as a body, or as an upload that is named where they are many."""
    if len(data) <= inline:
        return broker.answer(node, uid, position, data)
    blob = blob_of(data)
    upload(broker, node, data)
    found = broker.examine(node, uid, position, blob)
    return found if isinstance(found, Ack) else broker.answer(node, uid, position, found.run())


def upload(broker: Broker, member: str, data: bytes, chunk: int = 1 << 20) -> Blob:
    """Upload bytes in chunks, from where the upload stands."""
    blob = blob_of(data)
    offset, done = broker.upload(member, blob)
    while offset < blob.size:
        offset = broker.uploads.append(member, blob.digest, offset, data[offset : offset + chunk])
    assert done or broker.finish(member, blob)
    return blob


def tree_of(broker: Broker, state: State) -> Tree | None:
    """The sum of a closed exchange."""
    if state.merged is None:
        return None
    data = state.inline
    if data is None:
        found = broker.find("alice", state.merged.digest)
        assert found.path is not None or found.inline is not None
        data = found.inline if found.path is None else found.path.read_bytes()
    assert blob_of(data) == state.merged
    return wire.decode(data, Tree)


def assembled(x: Exchange, answers: dict[int, Tree], refused: dict[int, str]) -> Outcome:
    """What `atoll.worker.assemble` makes of the same answers, one block each."""
    from atoll.transforms import build
    from atoll.trees import nbytes
    from atoll.worker import Block, assemble

    expand = build(x.transform).expand if x.transform else None
    blocks = [
        Block({-1: [(p, p + 1, tree if expand is None else expand(tree))]}, [p], {}, {p: nbytes(tree)}, {}, [])
        for p, tree in answers.items()
    ]
    blocks.append(Block({}, [], refused, {}, {}, []))
    return assemble(replace(x, plan=Spec("star"), op="null.ping"), blocks, 0.0)
