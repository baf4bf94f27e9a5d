"""Questions: taken from who asks, handed to who is asked, and how far they are."""

from __future__ import annotations

import contextlib
import json
import mmap
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from atoll import wire
from atoll.combine import Combine, combines
from atoll.errors import AtollError, WireError, explain
from atoll.messages import Exchange
from atoll.silo.api import INLINE, Assignment, State, Submission, Work
from atoll.silo.broker.runs import Runs
from atoll.silo.broker.types import Known
from atoll.silo.errors import (
    BadSignature,
    Digest,
    ExpiredTask,
    Malformed,
    NotFound,
    OtherQuestion,
    Unauthenticated,
    Unsupported,
    WrongFederation,
    WrongRound,
    WrongRun,
)
from atoll.silo.keys import verify
from atoll.silo.tasks import Blob, Task, blob_of, signed_text
from atoll.topology import is_mix, plans
from atoll.transforms import build
from atoll.trees import Tree, TreeSpec

__all__ = ["Exchanges", "Open"]

_TASK = wire.Limits(max_bytes=1 << 40, max_body=1 << 22)
_STAR = "the plan {!r} was carried out as a star: silos send to the coordinator only; the sum has the same bits"


class Open:
    """An exchange that waits for answers, as it is remembered; everything in it can be read from disk again.

    Attributes
    ----------
    id : int
        In the database.
    uid : str
        In URLs.
    nodes : list of str
        By position.
    missing : set of int
        Positions that have neither answered nor been refused.
    """

    def __init__(self, row: tuple[Any, ...], asked: list[tuple[int, str, str]], task: Task) -> None:
        self.id: int = row[0]
        self.uid: str = row[1]
        self.submitted: float = row[2]
        self.deadline: float | None = row[3]
        self.nodes = [node for _, node, _ in asked]
        self.missing = {position for position, _, state in asked if state == "open"}
        x = task.exchange
        self.expects: TreeSpec = x.expects
        self.combine: Combine = combines[x.combine.name](**x.combine.settings)
        self.expand: Callable[[Tree], Tree] | None = build(x.transform).expand if x.transform else None

    @property
    def n(self) -> int:
        """Size of the cohort."""
        return len(self.nodes)


class _Asked(NamedTuple):
    """A submission that was looked at."""

    run: int
    owner: Known
    task: Task
    data: bytes | None


class Exchanges(Runs, ABC):
    """The part of a broker that takes questions and hands them out."""

    federation = ""

    def _forget(self, *, whole: bool = False) -> None:
        super()._forget(whole=whole)
        self._opened: dict[int, Open] = {}

    def submit(self, owner: str, run: str, submission: Submission) -> State:
        """Ask a question; repeated with the same digest it is the same question, and may be answered already.

        Raises
        ------
        OtherQuestion
            If another question has this number.
        WrongRun, WrongRound, WrongFederation
            If the task says another run, number or federation than the request; or the run is not open.
        BadSignature, Digest, Malformed, ExpiredTask
            If the task is not signed by its owner, is not what its name says, cannot be read, or is over; or if what
            is told of earlier rounds cannot be kept.
        Unsupported
            If it cannot be asked of silos.
        NotFound
            If the task was not uploaded.
        """
        found = self._one("SELECT id, state FROM runs WHERE owner = ? AND name = ?", owner, run)
        if found is None or found[1] != "running":
            raise WrongRun(explain("the run is not open", got=run))
        before = self._one(
            "SELECT id, digest, state, expires FROM exchanges WHERE run = ? AND number = ?", found[0], submission.number
        )
        if before is not None and before[1] != submission.digest:
            where, hint = f"exchange {submission.number} of run {run!r}", "give the run another name"
            raise OtherQuestion(
                explain(
                    "another question has this number",
                    got=submission.digest,
                    expected=before[1],
                    where=where,
                    hint=hint,
                )
            )
        self._tell_rounds(found[0], submission.told)
        if before is None or before[2] == "ended" or (before[2] == "open" and before[3] <= self._clock()):
            asked = self._look(owner, run, found[0], submission)
            with self._writing("exchange.submitted"):
                self._ask(asked, submission, before)
        else:
            self._drop_uploads(owner, submission)
        return self.state(owner, run, submission.number)

    def _drop_uploads(self, owner: str, submission: Submission) -> None:
        """Let go of what a driver that was started again has brought once more, for a question that is here already."""
        if self._one("SELECT 1 FROM refs WHERE kind = 'upload' AND holder = ? LIMIT 1", owner) is None:
            return
        digests = {submission.task.digest}
        own = submission.inline is not None and blob_of(submission.inline) == submission.task
        if own or (submission.inline is None and self.has(owner, submission.task)):
            with contextlib.suppress(Malformed):
                task = self._read_task(submission.task.digest, submission.inline)
                digests |= {blob.digest for blob in task.each.values()}
        with self._writing():
            for digest in sorted(digests):
                self._release("upload", owner, digest)

    def _look(self, owner: str, run: str, run_id: int, submission: Submission) -> _Asked:
        """Everything that may be wrong with a task is found here."""
        known = self._member(owner)
        if known is None:
            raise Unauthenticated
        if submission.inline is not None:
            if blob_of(submission.inline) != submission.task:
                raise Digest(explain("the task is not what its name says", expected=submission.task.digest))
        elif not self.has(owner, submission.task):
            raise NotFound(explain("the task was not uploaded", got=submission.task.digest))
        if not verify(known.public, signed_text(submission.task), submission.signature):
            raise BadSignature(explain("the task is not signed by who asks", got=owner))
        task = self._read_task(submission.task.digest, submission.inline)
        self._check_task(task, known, run, run_id, submission)
        return _Asked(run_id, known, task, submission.inline)

    def _read_task(self, digest: str, inline: bytes | None) -> Task:
        """A task without its arrays, which may be larger than memory."""
        try:
            if inline is not None:
                task = wire.decode(inline, Task, _TASK)
            else:
                with open(self.path(digest), "rb") as file:
                    task = wire.decode(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), Task, _TASK)  # type: ignore[arg-type]
        except (WireError, ValueError) as error:  # an empty file cannot be mapped
            raise Malformed(explain("the task cannot be read", got=error)) from error
        if task.exchange.each:
            raise Malformed(explain("arrays for single positions travel as blobs of their own"))
        return task._replace(exchange=replace(task.exchange, payload={}, each={}, view=()))

    def _check_task(self, task: Task, known: Known, run: str, run_id: int, submission: Submission) -> None:
        x = task.exchange
        if self.federation and task.federation != self.federation:
            raise WrongFederation(explain("the task is for another federation", got=task.federation))
        if (task.requester, task.key) != (known.name, known.key):
            raise BadSignature(explain("the task names another requester", got=task.requester, expected=known.name))
        if x.run != run:
            raise WrongRun(explain("the task is for another run", got=x.run, expected=run))
        if x.number != submission.number or not 0 <= x.number < 1 << 31:
            raise WrongRound(explain("the task has another number", got=x.number, expected=submission.number))
        data, nodes = self._one("SELECT data, nodes FROM runs WHERE id = ?", run_id)
        if (task.data, list(task.nodes)) != (data, json.loads(nodes)):
            raise WrongRun(explain("the task is over other nodes than the run", got=task.data, expected=data))
        if task.expires <= self._clock():
            raise ExpiredTask
        self._check_cohort(task)
        for blob in task.each.values():
            if not self.has(known.name, blob):
                raise NotFound(explain("what a task names was not uploaded", got=blob.digest))
        _check_question(x)

    def _check_cohort(self, task: Task) -> None:
        cohort, n = task.exchange.cohort, len(task.nodes)
        if not cohort or len(set(cohort)) != len(cohort) or not all(0 <= node < n for node in cohort):
            raise Malformed(explain("a cohort is some of the run's nodes, each once", got=f"{len(cohort)} of {n}"))
        if len(task.exchange.base) != len(cohort) or not all(0 <= p < len(cohort) for p in task.each):
            raise Malformed(explain("the task does not fit its cohort", got=f"{len(cohort)} positions"))

    def _ask(self, asked: _Asked, submission: Submission, before: tuple[Any, ...] | None) -> None:
        """Store a question. One that had expired, or was given up, takes the place of its older self."""
        x, now, task = asked.task.exchange, self._clock(), submission.task
        uid = secrets.token_hex(12)
        inline = asked.data if asked.data is not None and len(asked.data) <= INLINE else None
        if before is not None and before[2] == "open":
            exchange = before[0]
            self._release_task(exchange)
            sql = """UPDATE exchanges SET uid = ?, key = ?, task = ?, task_size = ?, task_inline = ?, signature = ?,
                expires = ? WHERE id = ?"""
            self._run(sql, uid, asked.owner.public, *task, inline, submission.signature, asked.task.expires, exchange)
            self._run("UPDATE asked SET own = NULL, own_size = NULL WHERE exchange = ?", exchange)
        else:
            if before is not None:
                self._run("DELETE FROM exchanges WHERE id = ?", before[0])
            exchange = self._insert(asked, submission, uid, inline, now)
        self._hold(exchange, asked, task, inline)
        self._run("UPDATE runs SET changed = ? WHERE id = ?", now, asked.run)
        self._opened.pop(exchange, None)
        nodes = [asked.task.nodes[node] for node in x.cohort]
        for position in self._refuse_gone(exchange, nodes):
            self._advance(self._open(exchange), position)
        self._changed("due", "events", *(f"work:{node}" for node in nodes))

    def _insert(self, asked: _Asked, submission: Submission, uid: str, inline: bytes | None, now: float) -> int:
        x = asked.task.exchange
        deadline = None if x.rule.deadline is None or x.rule.late == "wait" else now + x.rule.deadline
        note = "" if x.plan.name == "star" else _STAR.format(x.plan.name)
        sql = """INSERT INTO exchanges (uid, run, number, digest, key, task, task_size, task_inline, signature, expires,
            op, step, leaves, n, state, submitted, deadline, note, needed)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'open', ?, ?, ?, ?)"""
        cursor = self._run(
            sql, uid, asked.run, x.number, submission.digest, asked.owner.public, *submission.task, inline,
            submission.signature, asked.task.expires, x.op, x.step, json.dumps(sorted(x.expects.leaves)),
            len(x.cohort), now, deadline, note, x.rule.needed(len(x.cohort)),
        )  # fmt: skip
        exchange = int(cursor.lastrowid or 0)
        rows = [(exchange, position, asked.task.nodes[node]) for position, node in enumerate(x.cohort)]
        self._db.executemany("INSERT INTO asked (exchange, position, node, state) VALUES (?, ?, ?, 'open')", rows)
        return exchange

    def _hold(self, exchange: int, asked: _Asked, task: Blob, inline: bytes | None) -> None:
        """Keep the blobs of a question for as long as it is open."""
        owner = asked.owner.name
        if inline is None:
            if asked.data is not None:
                self._keep(asked.data, "task", str(exchange))
            self._refer(task.digest, "task", str(exchange))
            self._release("upload", owner, task.digest)
        for position, blob in asked.task.each.items():
            self._refer(blob.digest, "task", str(exchange))
            sql = "UPDATE asked SET own = ?, own_size = ? WHERE exchange = ? AND position = ?"
            self._run(sql, *blob, exchange, position)
        for blob in set(asked.task.each.values()):
            self._release("upload", owner, blob.digest)

    def _release_task(self, exchange: int) -> None:
        self._release("task", str(exchange))

    def _refuse_gone(self, exchange: int, nodes: list[str]) -> list[int]:
        """Positions whose node is no member any more, which are refused at once."""
        gone = [p for p, node in enumerate(nodes) if (k := self._member(node)) is None or k.revoked is not None]
        for position in gone:
            sql = (
                "UPDATE asked SET state = 'refused', reason = ? WHERE exchange = ? AND position = ? AND state = 'open'"
            )
            self._run(sql, "Revoked: the node is no member any more", exchange, position)
        return gone

    @abstractmethod
    def _advance(self, o: Open, position: int) -> None:
        """Go on after a position was answered or refused."""

    def _open(self, exchange: int) -> Open:
        """An exchange that waits, from memory or else from disk."""
        o = self._opened.get(exchange)
        if o is None:
            sql = "SELECT id, uid, submitted, deadline, task, task_inline FROM exchanges WHERE id = ?"
            *row, task, inline = self._one(sql, exchange)
            sql = "SELECT position, node, state FROM asked WHERE exchange = ? ORDER BY position"
            asked = self._all(sql, exchange)
            o = self._opened[exchange] = Open(tuple(row), asked, self._read_task(task, inline))
        return o

    def _find(self, owner: str, run: str, number: int) -> tuple[int, str]:
        sql = """SELECT x.id, x.uid FROM exchanges x JOIN runs r ON r.id = x.run
            WHERE owner = ? AND name = ? AND number = ?"""
        found = self._one(sql, owner, run, number)
        if found is None:
            raise NotFound(explain("there is no such exchange", got=f"{run[:150]} {number}"))
        return int(found[0]), str(found[1])

    def exchange_id(self, owner: str, run: str, number: int) -> str:
        """The name of an exchange, as in the topics; raises `NotFound`."""
        return self._find(owner, run, number)[1]

    def state(self, owner: str, run: str, number: int) -> State:
        """How far an exchange is; raises `NotFound`, and `WrongRun` if it was given up."""
        exchange, _ = self._find(owner, run, number)
        sql = "SELECT state, outcome, merged, merged_size, merged_inline FROM exchanges WHERE id = ?"
        state, outcome, merged, size, inline = self._one(sql, exchange)
        if state == "closed":
            blob = None if merged is None else Blob(merged, size)
            return State(state="closed", outcome=outcome, merged=blob, inline=inline)
        if state == "ended":
            raise WrongRun(explain("the run was ended before this was answered", got=f"{run} {number}"))
        sql = "SELECT position, node FROM asked WHERE exchange = ? AND state = 'open' ORDER BY position"
        missing = self._all(sql, exchange)
        away = tuple(position for position, node in missing if not self._here(node))
        return State(state="open", missing=tuple(position for position, _ in missing), away=away)

    def work(self, node: str, have: frozenset[tuple[str, int]] | set[tuple[str, int]] = frozenset()) -> Work:
        """Everything a node has not answered, but for what it has already."""
        now = self._clock()
        sql = """SELECT x.uid, r.owner, r.name, x.number, a.position, x.task, x.task_size, x.signature, x.key, a.own,
            a.own_size, x.task_inline, x.deadline FROM asked a JOIN exchanges x ON x.id = a.exchange
            JOIN runs r ON r.id = x.run WHERE a.node = ? AND a.state = 'open' AND x.state = 'open' AND x.expires > ?
            ORDER BY x.id, a.position"""
        rows = [row for row in self._all(sql, node, now) if (row[0], row[4]) not in have]
        return Work(tasks=tuple(_assignment(row, now) for row in rows), time=now)


def _assignment(row: tuple[Any, ...], now: float) -> Assignment:
    uid, owner, run, number, position, task, size, signature, key, own, own_size, inline, deadline = row
    return Assignment(
        exchange=uid, owner=owner, run=run, number=number, position=position, task=Blob(task, size),
        signature=signature, key=key, each=None if own is None else Blob(own, own_size), inline=inline,
        seconds=None if deadline is None else max(deadline - now, 0.0),
    )  # fmt: skip


def _check_question(x: Exchange) -> None:
    """What silos cannot be asked, and what nobody can."""
    try:
        x.rule.validated()
        known = x.plan.name in plans
        combines[x.combine.name](**x.combine.settings)
        build(x.transform)
    except (AtollError, TypeError, ValueError) as error:
        raise Malformed(explain("the question cannot be understood here", got=error)) from error
    if not known:
        raise Malformed(explain("no such plan is known here", got=x.plan.name))
    if is_mix(x.plan):
        hint = "use a plan that ends in one sum: star, tree or ring"
        raise Unsupported(explain("nodes of silos do not speak to each other", got=f"plan {x.plan.name!r}", hint=hint))
