"""A coordinator and a requester that exist in this process only, for tests of the agent."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np

from atoll import wire
from atoll.combine import Each, Sum
from atoll.messages import DEFAULT_RULE, Exchange
from atoll.shards import Shard, blank, empty_shard
from atoll.silo import api, errors
from atoll.silo.files import private_folder, write_whole
from atoll.silo.home import Profile
from atoll.silo.keys import Key
from atoll.silo.node.folder import Folder
from atoll.silo.node.policy import START, Rule
from atoll.silo.node.requests import add_rule
from atoll.silo.node.sources import parse
from atoll.silo.tasks import Blob, Task, blob_of, signed_text
from atoll.specs import Spec
from atoll.trees import Tree, TreeSpec
from atoll.worker import promise

NODES = ("a", "b", "c")
COORDINATOR = Key.make()


def csv(path, n=10, target="species", *, shift=0.0):
    """A file of numbers and a text target; returns its path."""
    rng = np.random.default_rng(7)
    rows = rng.normal(size=(n, 2)).round(3) + shift
    lines = ["width,height,species", *(f"{x:.3f},{y:.3f},{'uv'[i % 2]}" for i, (x, y) in enumerate(rows))]
    path.write_text("\n".join(lines) + "\n")
    return path


def node(tmp_path, data=(), allow=(), name="b") -> Folder:
    """The folder of a node that has joined."""
    folder = Folder(private_folder(tmp_path / f"node-{name}"))
    Profile.create(
        folder.path, url="https://coordinator:1", name=name, role="node", federation=COORDINATOR.fingerprint,
        signing_key=COORDINATOR.public, certificate=None, key=Key.make(),
    )  # fmt: skip
    sources = dict(parse(text) for text in data or [f"iris={csv(tmp_path / 'iris.csv')}:species"])
    folder.write_data(sources)
    write_whole(folder.policy, START.encode())
    for rule in allow:
        add_rule(folder, rule)
    return folder


class Driver:
    """Somebody who asks; `ask` writes and signs a task."""

    def __init__(self, name: str = "alice", key: Key | None = None) -> None:
        self.name, self.key, self.numbers = name, key or Key.make(), {}

    def rule(self, *operations: str, **limits: Any) -> Rule:
        """A rule that allows this one something."""
        return Rule(self.name, self.key.fingerprint, ("iris",), operations or ("*",), **limits)

    def exchange(self, op: str, *, run="run", number=None, settings=None, payload=None, view=(), combine=None, **more):
        """A question to all three nodes."""
        number = self.numbers.get(run, 0) if number is None else number
        self.numbers[run] = number + 1
        cohort = more.pop("cohort", (0, 1, 2))
        combine = combine or (Each().spec if op.startswith("describe") else Sum().spec)
        x = Exchange(
            run=run, number=number, step=number, seed=0, op=op, settings=settings or {}, payload=payload or {}, each={},
            view=tuple(view), cohort=cohort, base=more.pop("base", (-1,) * len(cohort)), combine=combine, transform=(),
            plan=more.pop("plan", Spec("star")),
            rule=more.pop("rule", DEFAULT_RULE), expects=TreeSpec({}),
        )  # fmt: skip
        like = Shard.of("x", np.zeros((1, 2)), np.array(["u"], dtype=object), feature_names=("width", "height"))
        empty = blank() if op.startswith("describe") else empty_shard(like)
        try:
            expects = promise(x, empty, float("inf"))
        except Exception:
            expects = promise(replace(x, op="null.ping", view=(), settings={}, combine=Sum().spec), empty, float("inf"))
        return replace(x, expects=expects)

    def task(self, x: Exchange, *, starts=(0, 10, 20), **changes: Any) -> Task:
        """A task that is well formed, but for what `changes`."""
        now = time.time()
        plain = {
            "federation": COORDINATOR.fingerprint, "requester": self.name, "key": self.key.fingerprint,
            "purpose": "KNeighborsClassifier", "data": "iris", "nodes": NODES, "starts": starts, "each": {},
            "exchange": x, "issued": now, "expires": now + 3600,
        }  # fmt: skip
        return Task(**{**plain, **changes})

    def assign(self, task: Task, position=1, *, exchange=None, inline=True, desk=None, **changes: Any):
        """What a coordinator hands on to a node."""
        data = wire.encode(task)
        blob = blob_of(data)
        if desk is not None:
            desk.blobs[blob] = data
        plain = {
            "exchange": exchange or f"{self.name}.{task.exchange.run}.{task.exchange.number}", "owner": self.name,
            "run": task.exchange.run, "number": task.exchange.number, "position": position, "task": blob,
            "signature": self.key.sign(signed_text(blob)), "key": self.key.public, "each": task.each.get(position),
            "inline": data if inline else None,
        }  # fmt: skip
        return api.Assignment(**{**plain, **changes})

    def ask(self, op: str, *, starts=(0, 10, 20), inline=True, desk=None, exchange=None, **more: Any):
        """One operation, as a node gets it."""
        starts = () if op == "describe.rows" else starts
        return self.assign(
            self.task(self.exchange(op, **more), starts=starts), inline=inline, desk=desk, exchange=exchange
        )


class Desk:
    """A coordinator: hands tasks on, takes answers, and fails when told to."""

    def __init__(self) -> None:
        self.tasks: dict[tuple[str, int], api.Assignment] = {}
        self.answers: dict[tuple[str, int], Any] = {}
        self.blobs: dict[Blob, bytes] = {}
        self.hellos: list[api.Hello] = []
        self.times: dict[tuple[str, int], int] = {}
        self.away = False
        self.error: errors.SiloError | None = None
        self.refuse: dict[str, errors.SiloError] = {}
        self.acks = api.Ack(state="accepted")
        self.changed = threading.Condition()
        self.closed = False

    def put(self, *assignments: api.Assignment) -> None:
        """Give the node something to do."""
        with self.changed:
            self.tasks |= {(a.exchange, a.position): a for a in assignments}
            self.changed.notify_all()

    def answer(self, a: api.Assignment, seconds: float = 30.0) -> Any:
        """What came back: a tree, or a refusal."""
        key = (a.exchange, a.position)
        with self.changed:
            assert self.changed.wait_for(lambda: key in self.answers, seconds), "no answer came"
            return self.answers[key]

    def _here(self) -> None:
        if self.closed:
            from atoll.silo.client import Closed

            raise Closed("closed")
        if self.away:
            raise errors.Unreachable("nobody is there")
        if self.error is not None:
            raise self.error

    def get(self, path, kind, *, wait=None, beat=0.0):
        self._here()
        have = {tuple(h.split("/")) for h in path.partition("have=")[2].split(",") if h}

        def fresh():
            return [a for k, a in self.tasks.items() if k not in self.answers and (k[0], str(k[1])) not in have]

        with self.changed:
            self.changed.wait_for(lambda: fresh() or self.closed or self.away or self.error, min(wait or 0, 0.5))
            self._here()
            return api.Work(tasks=tuple(fresh()), time=time.time())

    def post(self, path, kind, body=None, headers=None):
        self._here()
        if path == "/v1/hello":
            self.hellos.append(body)
            return api.Done()
        *_, exchange, position = path.split("/")
        key = (exchange, int(position))
        if error := self.refuse.pop(exchange, None):
            self.times[key] = self.times.get(key, 0) + 1
            raise error
        told = (headers or {}).get("Atoll-Body")
        if told == "named":
            found: Any = wire.decode(self.blobs[body.blob], Tree)
        else:
            found = body if told == "refusal" else wire.decode(b"".join(body), Tree)
        with self.changed:
            self.answers[key] = found
            self.times[key] = self.times.get(key, 0) + 1
            self.changed.notify_all()
        return self.acks

    def upload(self, data, blob=None):
        self._here()
        whole = b"".join(data)
        assert blob == blob_of(whole)
        self.blobs[blob_of(whole)] = whole
        return blob_of(whole)

    def download(self, blob, path=None):
        self._here()
        if blob not in self.blobs:
            raise errors.NotFound("no such blob")
        if path is not None:
            path.write_bytes(self.blobs[blob])
        return memoryview(self.blobs[blob])

    def close(self):
        with self.changed:
            self.closed = True
            self.changed.notify_all()
