"""A coordinator and its nodes in memory, behind the methods of a client: what an engine says is carried out here."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from atoll import wire
from atoll.memory import Store
from atoll.messages import Outcome
from atoll.shards import Shard
from atoll.silo import api, errors
from atoll.silo.home import Profile
from atoll.silo.keys import Key, verify
from atoll.silo.tasks import Blob, Task, blob_of, signed_text
from atoll.trees import Tree
from atoll.worker import assemble, block

__all__ = ["Twin", "login"]

_URL = "https://silo.example.org"


class _Asked(NamedTuple):
    digest: str
    state: api.State


def login(home: Path, url: str = _URL, name: str = "ada", role: Any = "researcher") -> Profile:
    """A profile, as a login leaves it."""
    made = Profile.create(
        Profile.place(url, name, home), url=url, name=name, role=role, federation="f", signing_key=bytes(32),
        certificate=None, key=Key.make(), since=time.time(),
    )  # fmt: skip
    return made


class Twin:
    """What a client of a coordinator with these nodes would be answered.

    Parameters
    ----------
    data : dict of str to list of Shard
        Data sets, and the rows of the nodes that offer them; their ids are not looked at.

    Attributes
    ----------
    away : set of str
        Names of nodes that do not answer.
    failing : list of Exception
        Raised by the next requests, one each, before they are carried out.
    said : list of (str, str)
        Methods and paths of all requests.
    tasks : list of Task
        Everything that was asked.
    """

    def __init__(self, data: dict[str, list[Shard]]) -> None:
        self.data, self.away = data, set[str]()
        self.blobs: dict[str, bytes] = {}
        self.runs: dict[str, api.RunStatus] = {}
        self.asked: dict[tuple[str, int], _Asked] = {}
        self.kept: dict[str, Blob] = {}
        self.told: dict[str, dict[int, dict[str, float]]] = {}
        self.memory: dict[str, Store] = {}
        self.failing: list[Exception] = []
        self.said: list[tuple[str, str]] = []
        self.tasks: list[Task] = []
        self.slow = 0
        self.patience = 1.0

    def client(self, profile: Profile, *, patience: float = 60.0) -> Twin:
        """Stands for `atoll.silo.client.Client`."""
        self.profile, self.patience = profile, patience
        return self

    def get(self, path: str, kind: Any, *, wait: float | None = None) -> Any:
        parts = self._heard("GET", path)
        if parts == ["nodes"]:
            return self._nodes()
        if parts[0] == "runs" and parts[2] == "state":
            if parts[1] not in self.kept:
                raise errors.NotFound("nothing is kept")
            return api.Named(blob=self.kept[parts[1]])
        state = self.asked[parts[1], int(parts[3])].state
        if self.slow:
            self.slow -= 1
            return api.State(state="open", missing=(0,))
        return state

    def put(self, path: str, kind: Any, body: Any = None, headers: Any = None) -> Any:
        parts = self._heard("PUT", path)
        if len(parts) == 3:
            blob = body.blob if isinstance(body, api.Named) else self.upload(body)
            self.kept[parts[1]] = blob
            return api.Named(blob=blob)
        name = parts[1]
        before = self.runs.get(name)
        if before is not None and (before.data, before.nodes) != (body.data, body.nodes):
            raise errors.WrongRun("the run was begun over others")
        n = sum(run == name for run, _ in self.asked)
        self.runs[name] = api.RunStatus(
            name=name, owner="ada", purpose=body.purpose, data=body.data, nodes=body.nodes, state="running",
            exchanges=n, started=0.0, changed=0.0,
        )  # fmt: skip
        return api.Opened(name=name, exchanges=n)

    def post(self, path: str, kind: Any, body: Any = None, headers: Any = None, *, patience: Any = None) -> Any:
        parts = self._heard("POST", path)
        name = parts[1]
        if parts[2] == "end":
            import msgspec

            self.told.setdefault(name, {}).update(body.told)
            self.runs[name] = msgspec.structs.replace(self.runs[name], state=body.state, note=body.note)
            return api.Done()
        return self._submitted(name, body)

    def upload(self, data: Any) -> Blob:
        whole = b"".join([data] if isinstance(data, bytes | memoryview) else data)
        blob = blob_of(whole)
        self.blobs[blob.digest] = whole
        return blob

    def download(self, blob: Blob, path: Any = None) -> memoryview:
        return memoryview(self.blobs[blob.digest])

    def close(self) -> None:
        """Nothing to end."""

    def _heard(self, method: str, path: str) -> list[str]:
        self.said.append((method, path))
        if self.failing:
            raise self.failing.pop(0)
        assert path.startswith("/v1/")
        return [unquote(part) for part in path.removeprefix("/v1/").partition("?")[0].split("/")]

    def _nodes(self) -> list[api.NodeStatus]:
        names = sorted({s.name for shards in self.data.values() for s in shards})
        return [
            api.NodeStatus(
                name=name, state="here", seen=0.0, versions={},
                data=tuple(api.DataSet(name=d) for d in self.data if name in {s.name for s in self.data[d]}),
            )
            for name in names
        ]  # fmt: skip

    def _submitted(self, run: str, told: api.Submission) -> api.State:
        if self.runs[run].state != "running":
            raise errors.WrongRun("the run is not open")
        self.told.setdefault(run, {}).update(told.told)
        before = self.asked.get((run, told.number))
        if before is not None and before.digest != told.digest:
            raise errors.OtherQuestion("another question has this number")
        if before is None:
            data = self.blobs.get(told.task.digest) if told.inline is None else told.inline
            if data is None:
                raise errors.NotFound("the task was not uploaded")
            assert blob_of(data) == told.task
            assert verify(self.profile.key.public, signed_text(told.task), told.signature)
            self.asked[run, told.number] = _Asked(told.digest, self._carried_out(wire.decode(data, Task)))
        return api.State(state="open", missing=(0,))

    def _carried_out(self, task: Task) -> api.State:
        self.tasks.append(task)
        x = replace(task.exchange, each={p: wire.decode(self.blobs[b.digest], Tree) for p, b in task.each.items()})
        by_name = {s.name: s for s in self.data[task.data]}
        starts = task.starts or (0,) * len(task.nodes)
        shards = [by_name[name].take(slice(None)) for name in task.nodes]
        shards = [
            replace(s, ids=start + s.ids - s.ids[0] if s.n_rows else s.ids)
            for s, start in zip(shards, starts, strict=True)
        ]
        here = [p for p, node in enumerate(x.cohort) if task.nodes[node] not in self.away]
        memory = self.memory.setdefault(x.run, Store())
        alone = replace(x, settings={**x.settings, "block": 1} if "block" in x.settings else x.settings)
        found = assemble(x, [block(alone, [p], shards, memory) for p in here], 0.0)
        lost = {p: "NodeFailed: the node is away" for p in range(len(x.cohort)) if p not in here}
        return self._closed(found, dict(sorted({**found.refused, **lost}.items())))

    def _closed(self, found: Outcome, refused: dict[int, str]) -> api.State:
        outcome = wire.encode(replace(found, merged=None, refused=refused))
        if found.merged is None:
            return api.State(state="closed", outcome=outcome)
        data = wire.encode(found.merged)
        inline = data if len(data) <= math.isqrt(api.INLINE) else None
        return api.State(state="closed", outcome=outcome, merged=self.upload(data), inline=inline)
