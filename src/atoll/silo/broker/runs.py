"""Runs: who asks whom what for, how far a run has come, and its state."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from atoll import wire
from atoll.errors import explain
from atoll.messages import Outcome
from atoll.silo.api import INLINE, Opened, RunOpening, RunStatus
from atoll.silo.broker.nodes import Nodes
from atoll.silo.broker.types import Disclosed, RoundStatus, Stored
from atoll.silo.errors import Malformed, NotFound, WrongRun
from atoll.silo.tasks import Blob, blob_of

__all__ = ["Runs"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_MOST = 100_000
_TOLD = 1000  # rounds that are told of at once
_NAMES, _LETTERS = 32, 64  # of the metrics of a round


class Runs(Nodes):
    """The part of a broker that knows runs as wholes."""

    def open_run(self, owner: str, name: str, opening: RunOpening) -> Opened:
        """Begin a run, or go on with it.

        A run ends where too few answer; whoever goes on with it asks again, so the last exchange is forgotten if it
        missed its quorum. One that met it stays what it is for good, and so does all of a run that is done.

        Raises
        ------
        WrongRun
            If the run exists over other nodes or another data set.
        NotFound
            If a node is no member.
        Malformed
            If the name is not 1 to 128 of ``A-Z a-z 0-9 . _ -``, beginning with a letter or digit.
        """
        if not _NAME.match(name):
            expected = "1 to 128 letters, digits, '.', '_' or '-', the first a letter or digit"
            raise Malformed(explain("this cannot be a run's name", got=repr(name)[:150], expected=expected))
        nodes = opening.nodes
        if not nodes or len(set(nodes)) != len(nodes) or len(nodes) > _MOST:
            raise Malformed(explain("a run needs nodes, each once", got=len(nodes)))
        found = self._one("SELECT id, data, nodes FROM runs WHERE owner = ? AND name = ?", owner, name)
        if found is not None and (found[1], tuple(json.loads(found[2]))) != (opening.data, nodes):
            got, expected = f"{opening.data!r} of {_some(nodes)}", f"{found[1]!r} of {_some(json.loads(found[2]))}"
            hint = "give the run another name"
            text = explain(f"run {name!r} was begun over others", got=got, expected=expected, hint=hint)
            raise WrongRun(text)
        self._check_nodes(nodes)
        now = self._clock()
        with self._writing("run.opened"):
            if found is None:
                sql = """INSERT INTO runs (owner, name, purpose, data, nodes, state, started, changed)
                    VALUES (?, ?, ?, ?, ?, 'running', ?, ?)"""
                self._run(sql, owner, name, opening.purpose, opening.data, json.dumps(nodes), now, now)
                self._event("run", owner, f"{opening.purpose} over {opening.data!r} of {_some(nodes)}", name)
            else:
                self._forget_missed(found[0], owner, name)
                self._run("UPDATE runs SET state = 'running', note = '', changed = ? WHERE id = ?", now, found[0])
            sql = "SELECT coalesce(max(number) + 1, 0) FROM exchanges WHERE run = ?"
            return Opened(name=name, exchanges=self._one(sql, self._run_of(owner, name))[0])

    def _forget_missed(self, run: int, owner: str, name: str) -> None:
        """Forget the last exchange of a run that is not done, if fewer answered than its rule asks for."""
        sql = """SELECT x.id, number, op, x.n, needed,
            (SELECT count(*) FROM asked WHERE exchange = x.id AND asked.state = 'accepted')
            FROM exchanges x JOIN runs r ON r.id = x.run WHERE x.run = ? AND x.state = 'closed' AND r.state != 'done'
            AND number = (SELECT max(number) FROM exchanges WHERE run = x.run)"""
        last = self._one(sql, run)
        if last is None or last[5] >= last[4]:
            return
        exchange, number, op, n, needed, accepted = last
        self._release("merged", str(exchange))
        self._run("DELETE FROM exchanges WHERE id = ?", exchange)
        what = f"{accepted} of {n} had answered, {needed} are needed: round {number} ({op}) is asked again"
        self._event("again", owner, what, name)

    def _check_nodes(self, nodes: tuple[str, ...]) -> None:
        for node in nodes:
            known = self._member(node)
            if known is None or known.role != "node" or known.revoked is not None:
                raise NotFound(explain("there is no such node", got=node))

    def _run_of(self, owner: str, name: str) -> int:
        found = self._one("SELECT id FROM runs WHERE owner = ? AND name = ?", owner, name)
        if found is None:
            raise NotFound(explain("you have no run of this name", got=name[:150]))
        return int(found[0])

    def end_run(
        self,
        owner: str,
        name: str,
        state: Literal["done", "failed"],
        note: str = "",
        told: Mapping[int, Mapping[str, float]] | None = None,
    ) -> None:
        """End a run; exchanges that are still open are given up, and what was answered to them is deleted.

        Parameters
        ----------
        owner, name : str
            Of the run.
        state : {"done", "failed"}
            How it ended.
        note : str
            Why.
        told : mapping of int to mapping of str to float, optional
            What rounds came to, by their numbers; those of a run that has ended already are kept too.

        Raises
        ------
        NotFound
            If there is no such run.
        Malformed
            If metrics are too many, too long or not finite.
        """
        run = self._run_of(owner, name)
        self._tell_rounds(run, told or {})
        if self._one("SELECT state, note FROM runs WHERE id = ?", run) == (state, note[:2000]):
            return
        with self._writing("run.ended"):
            sql = "UPDATE runs SET state = ?, note = ?, changed = ? WHERE id = ?"
            self._run(sql, state, note[:2000], self._clock(), run)
            for (exchange,) in self._all(
                "SELECT id FROM exchanges WHERE run = ? AND state IN ('open', 'closing')", run
            ):
                self._give_up(exchange)
            self._event(state, owner, note or "ended", name)

    def _tell_rounds(self, run: int, told: Mapping[int, Mapping[str, float]]) -> None:
        """Keep what rounds came to, in place of what was said before; rounds that are not here are passed over."""
        _check_told(told)
        if not told:
            return
        with self._writing("rounds.told"):
            rows = [(json.dumps(dict(metrics)), run, number) for number, metrics in told.items()]
            self._db.executemany("UPDATE exchanges SET metrics = ? WHERE run = ? AND number = ?", rows)

    def _give_up(self, exchange: int) -> None:
        """End an exchange without an outcome."""

    def forget_run(self, owner: str, name: str, *, by: str | None = None, running: bool = False) -> None:
        """Delete a run with all its sums, and the counts of what left nodes for it.

        Parameters
        ----------
        owner, name : str
            Of the run.
        by : str, optional
            Who wants that; its owner by default.
        running : bool, default=False
            Whether a run that has not ended is given up first.

        Raises
        ------
        NotFound
            If there is no such run.
        WrongRun
            If it has not ended, and is not to be given up.
        """
        run, by = self._run_of(owner, name), by or owner
        (state,) = self._one("SELECT state FROM runs WHERE id = ?", run)
        if state == "running":
            if not running:
                hint = "end it first, or say that it is to be given up: atoll runs forget NAME --yes"
                raise WrongRun(explain("a run must end before it is forgotten", got=state, hint=hint))
            self.end_run(owner, name, "failed", f"given up by {by}")
        with self._writing("run.forgotten"):
            for (exchange,) in self._all("SELECT id FROM exchanges WHERE run = ? AND merged IS NOT NULL", run):
                self._release("merged", str(exchange))
            self._release("state", str(run))
            self._run("DELETE FROM runs WHERE id = ?", run)
            whose = "" if by == owner else f", a run of {owner}"
            self._event("forgotten", by, f"deleted with its sums{whose}", name)

    def runs(self) -> list[RunStatus]:
        """All runs, the last changed first."""
        sql = """SELECT id, name, owner, purpose, data, nodes, state, started, changed, note,
            (SELECT count(*) FROM exchanges x WHERE x.run = runs.id AND x.state = 'closed') FROM runs
            ORDER BY changed DESC, id DESC"""
        return [self._run_status(*row) for row in self._all(sql)]

    def _run_status(
        self, run: int, name: str, owner: str, purpose: str, data: str, nodes: str, *rest: Any
    ) -> RunStatus:
        state, started, changed, note, exchanges = rest
        if state == "running" and self._waits(run):
            state = "waiting"
        return RunStatus(
            name=name, owner=owner, purpose=purpose, data=data, nodes=tuple(json.loads(nodes)), state=state,
            exchanges=exchanges, started=started, changed=changed, note=note,
        )  # fmt: skip

    def _waits(self, run: int) -> bool:
        """Whether everybody that a run waits for is away."""
        sql = """SELECT a.node FROM asked a JOIN exchanges x ON x.id = a.exchange
            WHERE x.run = ? AND x.state = 'open' AND a.state = 'open'"""
        missing = self._all(sql, run)
        return bool(missing) and not any(self._here(node) for (node,) in missing)

    def rounds(self, owner: str, name: str, after: int = -1, limit: int = 1000) -> list[RoundStatus]:
        """Exchanges of a run with numbers above `after`, ascending.

        Raises
        ------
        NotFound
            If there is no such run.
        """
        sql = """SELECT id, number, step, op, state, n, submitted, closed, deadline, leaves, metrics
            FROM exchanges
            WHERE run = ? AND number > ? ORDER BY number LIMIT ?"""
        return [self._round(*row) for row in self._all(sql, self._run_of(owner, name), after, limit)]

    def _round(self, exchange: int, number: int, step: int, op: str, state: str, n: int, *rest: Any) -> RoundStatus:
        submitted, closed, deadline, leaves, metrics = rest
        sql = "SELECT count(*), coalesce(sum(bytes), 0) FROM asked WHERE exchange = ? AND state = 'accepted'"
        accepted, size = self._one(sql, exchange)
        missing = self._all("SELECT node FROM asked WHERE exchange = ? AND state = 'open' ORDER BY position", exchange)
        sql = "SELECT node, reason FROM asked WHERE exchange = ? AND state = 'refused' ORDER BY position"
        return RoundStatus(
            number=number, step=step, op=op, state=state, asked=n, accepted=accepted,
            refused=dict(self._all(sql, exchange)), bytes=size, submitted=submitted, closed=closed,
            deadline=deadline, discloses=tuple(json.loads(leaves)), missing=tuple(node for (node,) in missing),
            metrics=json.loads(metrics),
        )  # fmt: skip

    def disclosed(self, node: str | None = None) -> list[Disclosed]:
        """What left one node, or each: by node, run and operation."""
        sql = """SELECT node, owner, name, op, times, bytes FROM sent JOIN runs ON runs.id = sent.run
            WHERE node = coalesce(?, node) ORDER BY node, runs.id, op"""
        return [Disclosed(*row) for row in self._all(sql, node)]

    def outcome(self, owner: str, name: str, number: int) -> Outcome:
        """What came of an exchange that is closed, without its sum.

        Raises
        ------
        NotFound
            If there is none.
        """
        sql = "SELECT outcome FROM exchanges WHERE run = ? AND number = ? AND outcome IS NOT NULL"
        found = self._one(sql, self._run_of(owner, name), number)
        if found is None:
            raise NotFound(explain("this exchange is not there, or not closed", got=f"{name} {number}"))
        return wire.decode(found[0], Outcome)

    def save(self, owner: str, name: str, state: bytes | Blob) -> Blob:
        """Keep the state of a run in place of the one before; few bytes, or a blob that its owner uploaded.

        Raises
        ------
        NotFound
            If there is no such run, or the owner uploaded no such blob.
        """
        run = self._run_of(owner, name)
        blob = state if isinstance(state, Blob) else blob_of(state)
        if isinstance(state, Blob) and not self.has(owner, state):
            if self._one("SELECT saved, saved_size FROM runs WHERE id = ?", run) == tuple(blob):
                return blob  # said once more, since the answer was lost
            raise NotFound(explain("you have uploaded no such blob", got=state.digest))
        with self._writing("state.saved"):
            self._release("state", str(run))
            if isinstance(state, Blob):
                self._refer(state.digest, "state", str(run))
                self._release("upload", owner, state.digest)
            elif len(state) > INLINE:
                self._keep(state, "state", str(run))
            inline = state if isinstance(state, bytes) and len(state) <= INLINE else None
            sql = "UPDATE runs SET saved = ?, saved_size = ?, saved_inline = ?, changed = ? WHERE id = ?"
            self._run(sql, *blob, inline, self._clock(), run)
        return blob

    def saved(self, owner: str, name: str) -> Stored | None:
        """The state of a run; None if there is none.

        Raises
        ------
        NotFound
            If there is no such run.
        """
        sql = "SELECT saved, saved_size, saved_inline FROM runs WHERE id = ?"
        digest, size, inline = self._one(sql, self._run_of(owner, name))
        return None if digest is None else Stored(Blob(digest, size), inline)


def _check_told(told: Mapping[int, Mapping[str, float]]) -> None:
    if len(told) > _TOLD or not all(0 <= number < 1 << 31 for number in told):
        raise Malformed(explain("these are not rounds of a run", got=f"{len(told)} rounds", expected=f"up to {_TOLD}"))
    for number, metrics in told.items():
        if len(metrics) > _NAMES or not all(0 < len(name) <= _LETTERS for name in metrics):
            expected = f"up to {_NAMES} names of 1 to {_LETTERS} letters"
            raise Malformed(explain("these are not metrics of a round", where=f"round {number}", expected=expected))
        if not all(map(math.isfinite, metrics.values())):
            raise Malformed(explain("a metric is not finite", where=f"round {number}"))


def _some(nodes: Sequence[str]) -> str:
    return ", ".join(nodes[:8]) + (f" and {len(nodes) - 8} more" if len(nodes) > 8 else "")
