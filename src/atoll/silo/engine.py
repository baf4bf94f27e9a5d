"""Where nodes run, seen from a script: at their owners', reached through a coordinator.

The engine writes and signs tasks, hands them to the coordinator, and waits for the sums. The coordinator is the
journal: what it has answered under a run's name it answers again, so a program that died is simply run again.
"""

from __future__ import annotations

import itertools
import math
import secrets
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from atoll import wire
from atoll.combine import Each
from atoll.engines import Pending, Remote
from atoll.errors import InvalidData, Refused, closest, explain
from atoll.messages import Exchange, Outcome, Rule, Saved
from atoll.rounds import Rounds
from atoll.run import Row, Run
from atoll.shards import Shard
from atoll.silo import api, errors
from atoll.silo.client import Client
from atoll.silo.durable import reached
from atoll.silo.home import Profile
from atoll.silo.tasks import Blob, Task, blob_of, signed_text
from atoll.specs import Spec
from atoll.topology import is_mix
from atoll.trees import Tree

__all__ = ["Silos", "make"]

_STAR = Spec("star")
_POLL = 2.0  # seconds that the coordinator holds a question for a sum; so often a person sees who is missing
_WEEK = 7 * 24 * 3600.0
_HOUR = 3600.0
_LAST = 5.0  # seconds of patience at the end of a run, where nothing depends on the answer
_RECENT = 64  # rounds whose metrics may still change while a run goes on; all are looked at when it ends
_NUMBERS = 1000  # metrics that are told at once
_NAMES, _LETTERS = 32, 64  # of the metrics of a round
_ASKS = ("researcher", "admin")
_JOIN = (
    "no node has joined with a data set yet: atoll node join URL TOKEN --data iris=./iris.csv:species, on a machine "
    "with rows"
)
_INSTALLED = "programs that their owners installed, by name (atoll.nets.install)"


@dataclass
class _Run:
    """A run, as far as this process is concerned."""

    purpose: str
    exchanges: int
    asks: tuple[str, ...] = ()
    ended: bool = False
    noted: bool = False
    rows: list[Row] = field(default_factory=list)
    said: dict[int, dict[str, float]] = field(default_factory=dict)

    def news(self, recent: int | None = None) -> dict[int, dict[str, float]]:
        """Metrics that the coordinator does not know, by number of the round: as many as are told at once."""
        found: dict[int, dict[str, float]] = {}
        left = _NUMBERS
        for row in self.rows[-recent:] if recent else self.rows:
            if row.metrics != self.said.get(row.number, {}):
                found[row.number] = dict(row.metrics)
                left -= max(len(row.metrics), 1)
            if left < _NAMES:
                break
        return found


@dataclass
class _Attached:
    """The way to a data set at some nodes."""

    client: Client
    profile: Profile
    remote: Remote
    starts: tuple[int, ...] = ()
    runs: dict[str, _Run] = field(default_factory=dict)


class _Ahead(NamedTuple):
    """A link to nodes of which nothing is known but their names."""

    engine: Silos
    key: str
    names: tuple[str, ...]
    rule: Rule
    plan: Spec = _STAR
    max_norm: float | None = None
    remote: Remote | None = None

    def live(self) -> tuple[Silos, str]:
        return self.engine, self.key


class Silos:
    """Asks nodes elsewhere, through their coordinators. One per process; any thread may use it."""

    def __init__(self) -> None:
        self._keys = itertools.count()
        self._clients: dict[tuple[str, str], Client] = {}
        self._attached: dict[str, _Attached] = {}
        self._lock = threading.Lock()

    def attach(self, rows: Sequence[Shard] | Remote) -> str:
        """Find a data set and its nodes, and ask these how many rows they have.

        Raises
        ------
        InvalidData
            If shards are given.
        NotFound
            If there is no login for this coordinator, or no such data set or node.
        NodeFailed, QuorumNotMet
            If nodes do not tell how many rows they have: because their owners do not allow it, or they are away.
        """
        if not isinstance(rows, Remote):
            hint = "Federation.connect(url, data), or engine='processes' for rows that are here"
            raise InvalidData(explain("silos have rows of their own", got=f"{len(rows)} shards", hint=hint))
        profile = _profile(rows)
        client = self._client(profile, rows.patience)
        found = _found(client, rows)
        key = f"silos-{next(self._keys)}"
        self._attached[key] = _Attached(client, profile, found)
        try:
            self._attached[key] = self._counted(key)
        except BaseException:
            self.detach(key)
            raise
        return key

    def _client(self, profile: Profile, patience: float) -> Client:
        with self._lock:
            which = (profile.url, profile.key.fingerprint)
            client = self._clients.get(which)
            if client is None:
                client = self._clients[which] = Client(profile, patience=patience)
            client.patience = patience
            return client

    def _counted(self, key: str) -> _Attached:
        """Ask how many rows there are; nodes that do not tell are left out, if the rule allows that."""
        attached = self._attached[key]
        remote, purpose = attached.remote, "to count rows"
        name = f"attach-{secrets.token_hex(8)}"
        run = Run(name, purpose, "federated", remote.nodes, "silos", _STAR.name, 0)
        self.begin(key, name, purpose, remote.asks)
        rounds = Rounds(_Ahead(self, key, remote.nodes, remote.rule), run)
        with rounds.ending():
            rows = tuple(rounds.round("describe.rows", combine=Each())["rows"].tolist())
        refused = run.rows[-1].refused
        nodes = tuple(node for node in remote.nodes if node not in refused)
        for node, why in refused.items():
            what = f"node {node!r} does not tell how many rows it has, and is left out"
            warnings.warn(explain(what, got=why.splitlines()[0]), stacklevel=6)
        empty = [node for node, n in zip(nodes, rows, strict=True) if not n]
        if empty:
            raise InvalidData(explain("a node has no rows", where=f"node {empty[0]!r}", hint="leave it out: nodes=[…]"))
        starts = tuple(accumulate(rows[:-1], initial=0))
        return replace(attached, remote=replace(remote, nodes=nodes, rows=rows), starts=starts)

    def remote(self, key: str) -> Remote:
        """What is attached, complete: data set, nodes and rows."""
        return self._attached[key].remote

    def begin(self, key: str, run: str, purpose: str, asks: Sequence[str] = ()) -> None:
        """Open a run at the coordinator, or go on with it; what it may ask is declared with every task.

        Raises
        ------
        WrongRun
            If a run of this name was held over other nodes or another data set.
        """
        attached = self._attached[key]
        remote = attached.remote
        opening = api.RunOpening(purpose=purpose, data=remote.data or "", nodes=remote.nodes)
        opened = attached.client.put(_path(run), api.Opened, opening)
        attached.runs[run] = _Run(purpose, opened.exchanges, tuple(asks))
        reached("driver.run.opened")

    def end(self, key: str, run: str, error: BaseException | None) -> None:
        """Say that a run is done, or what made it fail; one that a person interrupted stays open, to go on."""
        attached = self._attached.get(key)
        known = None if attached is None else attached.runs.get(run)
        goes_on = isinstance(error, KeyboardInterrupt) and not api.counts_rows(run)
        if attached is None or known is None or goes_on:
            return
        known.ended = True
        note = "" if error is None else f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        try:
            self._end(attached.client, run, known, "done" if error is None else "failed", note[:1000])
        except errors.SiloError:
            if error is None:
                warnings.warn(f"the coordinator was not told that run {run!r} is done", stacklevel=4)
            return
        reached("driver.run.ended")

    def _end(self, client: Client, run: str, known: _Run, state: Literal["done", "failed"], note: str) -> None:
        """End a run; where there is more to tell than fits, it is said again with the rest."""
        news = known.news()
        while True:
            ending = api.Ending(state=state, note=note, told=_told(news))
            client.post(f"{_path(run)}/end", api.Done, ending, patience=_LAST)
            known.said.update(news)
            if not (news := known.news()):
                return

    def told(self, key: str, run: str, row: Row) -> None:
        """Remember what a round came to; the coordinator hears of it with the next question, or at the end."""
        attached = self._attached.get(key)
        known = None if attached is None else attached.runs.get(run)
        if known is not None:
            known.rows.append(row)

    def submit(self, key: str, x: Exchange) -> Pending:
        """Ask a question; repeated under the same run name it is the same question, and may be answered already.

        Raises
        ------
        Unsupported
            If nodes would have to speak to each other.
        Refused
            If code of this process would have to travel.
        OtherQuestion
            If another question was asked under this number.
        """
        attached = self._attached[key]
        _check(x)
        run = attached.runs.get(x.run)
        if run is None or run.ended:
            self.begin(key, x.run, *((x.op, ()) if run is None else (run.purpose, run.asks)))
            run = attached.runs[x.run]
        notes = _as_star(x, run)
        x = x if x.plan.name == _STAR.name else replace(x, plan=_STAR)
        began = time.monotonic()
        state = _submitted(attached, run, x)
        reached("driver.submitted")
        return _Asked(attached.client, f"{_path(x.run)}/exchanges/{x.number}", x.rule, state, notes, began)

    def held(self, key: str) -> Sequence[Shard]:
        """Nothing: rows stay where they are."""
        return ()

    def detach(self, key: str) -> None:
        """Forget the nodes; runs stay at the coordinator."""
        self._attached.pop(key, None)

    def close(self) -> None:
        """End all connections; runs stay at the coordinators, and go on under their names."""
        with self._lock:
            clients = list(self._clients.values())
            self._clients.clear()
            self._attached.clear()
        for client in clients:
            client.close()

    def save(self, key: str, run: str, saved: Saved) -> None:
        """Keep the state of a run at the coordinator, in place of the one before."""
        client, parts = self._attached[key].client, wire.frames(saved)
        if sum(part.nbytes for part in parts) <= api.INLINE:
            client.put(f"{_path(run)}/state", api.Named, parts)
        else:
            named = api.Named(blob=_brought(client, parts, brought=True))
            client.put(f"{_path(run)}/state", api.Named, named, headers={"Atoll-Body": "named"})
        reached("driver.saved")

    def saved(self, key: str, run: str) -> Saved | None:
        """The state of a run; None if there is none."""
        client = self._attached[key].client
        try:
            found = client.get(f"{_path(run)}/state", api.Named)
        except errors.NotFound:
            return None
        return wire.decode(client.download(found.blob), Saved)


class _Asked:
    """An exchange on its way."""

    def __init__(
        self, client: Client, path: str, rule: Rule, state: api.State, notes: tuple[str, ...], began: float
    ) -> None:
        self._client, self._path, self._state, self._notes = client, path, state, notes
        wait = rule.deadline is None or rule.late == "wait"
        self._until = None if wait else began + (rule.deadline or 0.0)
        self._outcome: Outcome | None = None

    def missing(self) -> list[int]:
        """Positions that had not answered when the coordinator was last asked."""
        return [] if self._outcome is not None else list(self._state.missing)

    def result(self) -> Outcome:
        """Wait until the coordinator ends the exchange, by its rule."""
        if self._outcome is None:
            while self._state.state == "open":
                self._overdue()
                self._state = self._client.get(self._path, api.State, wait=_POLL)
            self._outcome = self._read(self._state)
            reached("driver.outcome")
        return self._outcome

    def _overdue(self) -> None:
        if self._until is not None and time.monotonic() > self._until + self._client.patience:
            what = "the coordinator does not end a round whose deadline has passed"
            raise errors.Unavailable(explain(what, where=self._path, hint="look at the coordinator's log"))

    def _read(self, state: api.State) -> Outcome:
        if state.outcome is None:
            raise errors.Malformed(explain("a round ended without an outcome", where=self._path))
        outcome = wire.decode(state.outcome, Outcome)
        merged: Tree | None = None
        if state.inline is not None:
            merged = wire.decode(state.inline, Tree)
        elif state.merged is not None:
            merged = wire.decode(self._client.download(state.merged), Tree)
        return replace(outcome, merged=merged, notes=(*outcome.notes, *self._notes))


def make(n_workers: int | None) -> Silos:
    """The engine; there is nothing that it could have several of."""
    return Silos()


def _path(run: str) -> str:
    return f"/v1/runs/{quote(run, safe='')}"


def _submitted(attached: _Attached, run: _Run, x: Exchange) -> api.State:
    """Hand a question in. What may have been asked before is not brought again, before the coordinator wants it."""
    client, brought = attached.client, x.number >= run.exchanges
    each = {p: _brought(client, wire.frames(tree), brought) for p, tree in x.each.items()}
    parts = wire.frames(_task(attached, run, x, each))
    size = sum(part.nbytes for part in parts)
    if size <= api.INLINE:
        inline = b"".join(parts)
        task = blob_of(inline)
    else:
        inline, task = None, _brought(client, parts, brought)
    signature = attached.profile.key.sign(signed_text(task))
    news = run.news(_RECENT)
    told = api.Submission(
        number=x.number, digest=x.digest, task=task, signature=signature, inline=inline, told=_told(news)
    )
    try:
        state = client.post(f"{_path(x.run)}/exchanges", api.State, told)
        run.said.update(news)
        return state
    except errors.NotFound:
        if brought:
            raise
    run.exchanges = x.number
    return _submitted(attached, run, x)


def _told(news: dict[int, dict[str, float]]) -> dict[int, dict[str, float]]:
    """What of metrics can be told: finite numbers under short names."""
    return {number: dict(itertools.islice(_tellable(metrics), _NAMES)) for number, metrics in news.items()}


def _tellable(metrics: dict[str, float]) -> Iterator[tuple[str, float]]:
    return ((name, float(v)) for name, v in metrics.items() if 0 < len(name) <= _LETTERS and math.isfinite(v))


def _brought(client: Client, parts: list[memoryview], brought: bool) -> Blob:
    if not brought:
        return blob_of(b"".join(parts))
    blob = client.upload(parts)
    reached("driver.uploaded")
    return blob


def _task(attached: _Attached, run: _Run, x: Exchange, each: dict[int, Blob]) -> Task:
    profile, remote, now = attached.profile, attached.remote, time.time()
    deadline = None if x.rule.late == "wait" else x.rule.deadline
    return Task(
        federation=profile.federation, requester=profile.name, key=profile.key.fingerprint, purpose=run.purpose,
        data=remote.data or "", nodes=remote.nodes, starts=attached.starts, each=each, exchange=replace(x, each={}),
        issued=now, expires=now + (_WEEK if deadline is None else deadline + _HOUR), asks=run.asks,
    )  # fmt: skip


def _as_star(x: Exchange, run: _Run) -> tuple[str, ...]:
    """What is to be said, once a run, of a wiring that silos do not have."""
    if x.plan.name == _STAR.name or run.noted:
        return ()
    run.noted = True
    return (f"nodes answered the coordinator, not each other: the sums are those of topology {x.plan.name!r}",)


def _check(x: Exchange) -> None:
    """Refuse what cannot be asked of silos, before any of them is asked."""
    if is_mix(x.plan):
        what = "nodes of different owners do not speak to each other, so they cannot gossip"
        raise errors.Unsupported(explain(what, got=f"topology {x.plan.name!r}", hint="train through the coordinator"))
    program = x.settings.get("program")
    if isinstance(program, list | tuple) and program and program[0] == "torch":
        what = "nodes of other owners run no code of yours"
        raise Refused(explain(what, got="a module", expected=_INSTALLED, hint="atoll.train('name', None, federation)"))
    lent = next(_lent([x.settings, *(view.settings for view in x.view)]), None)
    if lent is not None:
        what = "nodes of other owners run no code of yours"
        raise Refused(
            explain(what, got=f"the function {lent.removeprefix('local:')}", expected="names of scikit-learn's")
        )


def _lent(value: Any) -> Iterator[str]:
    """Names of functions that are known in this process only."""
    if isinstance(value, str):
        if value.startswith("local:"):
            yield value
    elif isinstance(value, dict):
        yield from _lent(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _lent(item)


def _profile(remote: Remote) -> Profile:
    """The login of somebody who may ask."""
    newest = Profile.find(remote.url, remote.home)
    for profile in Profile.all(remote.home):
        if profile.url == newest.url and profile.role in _ASKS:
            return profile
    got, hint = f"{newest.name}, a {newest.role}", "log in with a token for a researcher"
    raise errors.Forbidden(explain("this login may not ask nodes", got=got, where=remote.url, hint=hint))


def _found(client: Client, remote: Remote) -> Remote:
    """The data set and the nodes that are meant, by name."""
    status = [s for s in client.get("/v1/nodes", list[api.NodeStatus]) if s.state != "revoked"]
    offers = {s.name: {data.name for data in s.data} for s in status}
    data = remote.data or _only(offers, remote.url)
    offering = sorted(name for name, has in offers.items() if data in has)
    if not offering:
        known = sorted(set().union(*offers.values()))
        hint = closest(data, known) if known else _JOIN
        raise errors.NotFound(explain(f"no node offers {data!r}", where=remote.url, hint=hint))
    for node in remote.nodes:
        if node not in offers:
            raise errors.NotFound(explain(f"there is no node {node!r}", where=remote.url, hint=closest(node, offers)))
        if node not in offering:
            got = ", ".join(sorted(offers[node])) or "nothing"
            raise errors.NotFound(explain(f"node {node!r} does not offer {data!r}", got=got, where=remote.url))
    return replace(remote, data=data, nodes=tuple(sorted(set(remote.nodes))) or tuple(offering))


def _only(offers: dict[str, set[str]], url: str) -> str:
    """The one data set that nodes offer."""
    known = sorted(set().union(*offers.values()))
    if len(known) == 1:
        return known[0]
    if not known:
        raise errors.NotFound(explain("no node offers any data yet", where=url, hint=_JOIN))
    raise InvalidData(explain("several data sets are offered: which one?", got=", ".join(known), where=url))
