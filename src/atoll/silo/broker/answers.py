"""Answers: held against their contract as they arrive, counted once, and added in the aligned tree.

Small answers are kept in the database and added in the writer's thread, a group of neighbours as soon as all of them
have come. Large ones are files, which a second thread examines and adds (`Examination`, `FoldJob`). A sum takes the
place of its parts in one transaction; so whatever is killed, the parts or the sum are there, never both and never none.
"""

from __future__ import annotations

import math
from collections import deque
from pathlib import Path
from typing import Any

from atoll import wire
from atoll.errors import AtollError, WireError, explain
from atoll.messages import Outcome
from atoll.silo.api import INLINE, Ack
from atoll.silo.broker.exchanges import Exchanges, Open
from atoll.silo.broker.jobs import Examination, FoldJob
from atoll.silo.broker.types import Known
from atoll.silo.errors import Contract, Digest, DiskFull, Forbidden, NotFound
from atoll.silo.fold import Misfit, Part, fold, reason, width
from atoll.silo.outlines import LIMITS
from atoll.silo.tasks import Blob, blob_of
from atoll.trees import Tree, TreeSpec, check, nbytes

__all__ = ["LATE", "Answers"]

LATE = "late"
"""The reason recorded of an answer that came after the deadline; as in `atoll.worker`."""

_GROUP = 32  # small answers that are added as soon as all have come
_FILES = 8  # the same of large ones: all are read at once, and only their sum is written
_PATIENCE = 5.0
_GONE = ("Away", "Revoked")


class Answers(Exchanges):
    """The part of a broker that takes answers, adds them and closes exchanges."""

    lost_after = 60.0
    _not_before = 0.0
    _folding: FoldJob | None = None

    def _begin(self) -> None:
        """Find out what is left to add: after a start, and after a transaction was undone."""
        self._queue: deque[tuple[int, int, int]] = deque()
        self._scan = False
        for exchange, state in self._all("SELECT id, state FROM exchanges WHERE state IN ('open', 'closing')"):
            try:
                o = self._open(exchange)
            except (AtollError, OSError) as error:  # written by another version, or the file is gone
                self._abandon(exchange, error)
                continue
            if state == "closing":
                self._enqueue(o, 0, width(o.n))
                continue
            for lo in range(0, o.n, _FILES):
                self._group(o, lo, _FILES)

    def _forget(self, *, whole: bool = False) -> None:
        super()._forget(whole=whole)
        self._scan = True
        if whole:
            self._folding = None  # whoever was to be given it was given an error

    # answers

    def _asked(self, node: str, exchange: str, position: int) -> tuple[int, Ack | None]:
        """The exchange in which a node is asked at a position, and what to say if it no longer is."""
        row = self._one("SELECT id, state FROM exchanges WHERE uid = ?", exchange)
        if row is None:
            raise NotFound(explain("there is no such exchange", got=exchange[:80]))
        sql = "SELECT node, state, reason FROM asked WHERE exchange = ? AND position = ?"
        asked = self._one(sql, row[0], position) if 0 <= position < 1 << 31 else None
        if asked is None or asked[0] != node:
            raise Forbidden(explain("this position is not yours", got=f"position {position}", where=exchange))
        if asked[1] == "accepted":
            return row[0], Ack(state="duplicate")
        if asked[1] == "refused":
            late = asked[2] == LATE or asked[2].split(":")[0] in _GONE
            return row[0], Ack(state="late" if late else "closed")
        return row[0], None if row[1] == "open" else Ack(state="closed")

    def answer(self, node: str, exchange: str, position: int, what: bytes | Blob | Examination) -> Ack:
        """Take an answer: a written tree, or an examined blob (a bare `Blob` is examined here, which takes time).

        Raises
        ------
        Contract
            If it breaks the contract of the exchange: this is recorded, and the position refused.
        NotFound, Forbidden
            If there is no such exchange, or the position is another node's.
        Digest
            If no such blob was uploaded by the node.
        """
        number, ack = self._asked(node, exchange, position)
        if ack is not None:
            return ack
        o = self._open(number)
        if isinstance(what, Blob):
            found = self.examine(node, exchange, position, what)
            if isinstance(found, Ack):
                return found
            what = found.run()
        size, fault = _judged(what, o.expects) if isinstance(what, bytes) else (what.nbytes, what.fault)
        if fault is not None:
            with self._writing("answer.refused"):
                self._settle(o, position, "refused", reason(fault))
                if isinstance(what, Examination):
                    self._release("upload", node, what.blob.digest)
            raise Contract(str(fault))
        with self._writing("answer.stored"):
            self._store(o, node, position, what)
            self._settle(o, position, "accepted", None, size)
        return Ack(state="accepted")

    def _store(self, o: Open, node: str, position: int, what: bytes | Examination) -> None:
        """Keep an answer as a part of its own."""
        inline, blob = what if isinstance(what, bytes) else None, None
        holder = f"{o.id}/{position}"
        if isinstance(what, Examination):
            if not what.done or not self.has(node, what.blob):
                raise Digest(explain("no such answer was uploaded, or nobody looked at it", got=what.blob.digest))
            blob = what.blob.digest
            self._refer(blob, "part", holder)
            self._release("upload", node, blob)
        elif len(what) > INLINE:
            inline, blob = None, self._keep(what, "part", holder).digest
        sql = "INSERT INTO parts (exchange, lo, hi, expanded, inline, blob) VALUES (?, ?, ?, ?, ?, ?)"
        self._run(sql, o.id, position, position + 1, o.expand is None, inline, blob)

    def examine(self, node: str, exchange: str, position: int, named: Blob) -> Examination | Ack:
        """Prepare to look at an uploaded answer; an `Ack` if it is no longer wanted. Then `run` it, then `answer`.

        Raises
        ------
        NotFound, Forbidden
            If there is no such exchange, or the position is another node's.
        Digest
            If no such blob was uploaded by the node.
        """
        number, ack = self._asked(node, exchange, position)
        if ack is not None:
            if self.has(node, named):
                with self._writing():
                    self._release("upload", node, named.digest)
            return ack
        if not self.has(node, named):
            raise Digest(explain("no such answer was uploaded", got=named.digest))
        return Examination(named, self.path(named.digest), self._open(number).expects)

    def refuse(self, node: str, exchange: str, position: int, code: str, reason: str) -> Ack:
        """Record that a node does not answer, and why.

        A task that has expired is not refused for good: whoever asks may ask again.

        Raises
        ------
        NotFound, Forbidden
            If there is no such exchange, or the position is another node's.
        """
        number, ack = self._asked(node, exchange, position)
        if ack is not None:
            return ack
        if code == "expired-task":
            return Ack(state="closed")
        with self._writing("refusal.stored"):
            self._settle(self._open(number), position, "refused", reason[:4000] or code)
        return Ack(state="accepted")

    def _settle(self, o: Open, position: int, state: str, why: str | None, size: int = 0) -> None:
        """A position has answered, or will not; every position comes here once."""
        sql = "UPDATE asked SET state = ?, reason = ?, bytes = ?, at = ? WHERE exchange = ? AND position = ?"
        self._run(sql, state, why, size, self._clock(), o.id, position)
        if why is not None and why != LATE:
            self._event("refused", o.nodes[position], why, self._run_name(o.id))
        self._changed(f"progress:{o.uid}")
        if state == "refused":
            self._changed(f"work:{o.nodes[position]}")
        o.missing.discard(position)
        self._advance(o, position)

    def _run_name(self, exchange: int) -> str:
        sql = "SELECT r.name FROM runs r JOIN exchanges x ON x.run = r.id WHERE x.id = ?"
        return str(self._one(sql, exchange)[0])

    # adding

    def _advance(self, o: Open, position: int) -> None:
        """Add what can be added; close when nobody is missing."""
        if not o.missing:
            self._complete(o)
            return
        self._group(o, position - position % _FILES, _FILES)
        self._group(o, position - position % _GROUP, _GROUP)

    def _group(self, o: Open, lo: int, size: int) -> None:
        """Add a group of neighbours, if all of them have come."""
        hi = lo + size
        if hi - lo >= width(o.n) or any(p in o.missing for p in range(lo, min(hi, o.n))):
            return
        parts = self._parts(o, lo, hi)
        files = [part for part in parts if isinstance(part.what, Path)]
        if len(parts) < 2 or bool(files) != (size == _FILES):
            return
        if files:
            self._enqueue(o, lo, hi)
        else:
            self._add(o, lo, hi, parts)

    def _add(self, o: Open, lo: int, hi: int, parts: list[Part]) -> None:
        """Put a sum in the place of its parts, here and now."""
        try:
            made = fold(parts, lo, hi, o.combine, o.expand)
        except Misfit as misfit:
            self._leave_out(o, misfit)
            self._advance(o, lo)
            return
        if isinstance(made, bytes):
            self._replace(o, lo, hi, made)

    def _replace(self, o: Open, lo: int, hi: int, made: bytes | Blob, target: Path | None = None) -> None:
        self._drop(o, lo, hi)
        holder, inline, blob = f"{o.id}/{lo}", None, None
        if isinstance(made, Blob):
            if target is not None:
                self._adopt(target, made, "part", holder)
            blob = made.digest
        elif len(made) > INLINE:
            blob = self._keep(made, "part", holder).digest
        else:
            inline = made
        sql = "INSERT INTO parts (exchange, lo, hi, expanded, inline, blob) VALUES (?, ?, ?, 1, ?, ?)"
        self._run(sql, o.id, lo, hi, inline, blob)

    def _drop(self, o: Open, lo: int, hi: int) -> None:
        """Parts of a segment are needed no more."""
        sql = "SELECT lo FROM parts WHERE exchange = ? AND lo >= ? AND lo < ? AND blob IS NOT NULL"
        for (at,) in self._all(sql, o.id, lo, hi):
            self._release("part", f"{o.id}/{at}")
        self._run("DELETE FROM parts WHERE exchange = ? AND lo >= ? AND lo < ?", o.id, lo, hi)

    def _leave_out(self, o: Open, misfit: Misfit) -> None:
        """Answers that cannot be added to those left of them are refused after all."""
        self._drop(o, misfit.lo, misfit.hi)
        sql = """UPDATE asked SET state = 'refused', reason = ?, bytes = 0
            WHERE exchange = ? AND position >= ? AND position < ? AND state = 'accepted'"""
        self._run(sql, f"WireError: {misfit}", o.id, misfit.lo, misfit.hi)

    def _parts(self, o: Open, lo: int, hi: int) -> list[Part]:
        sql = "SELECT lo, hi, inline, blob, expanded FROM parts WHERE exchange = ? AND lo >= ? AND lo < ? ORDER BY lo"
        return [
            Part(at, end, self.path(blob) if inline is None else inline, bool(expanded))
            for at, end, inline, blob, expanded in self._all(sql, o.id, lo, hi)
        ]

    def _complete(self, o: Open) -> None:
        """Nobody is missing any more: add the rest, or have it added, and close."""
        parts, root = self._parts(o, 0, width(o.n)), width(o.n)
        if any(isinstance(part.what, Path) for part in parts):
            if len(parts) == 1 and (parts[0].expanded or o.expand is None):
                digest = parts[0].what.name if isinstance(parts[0].what, Path) else ""
                (size,) = self._one("SELECT size FROM blobs WHERE digest = ?", digest)
                self._close(o, Blob(digest, size))
                return
            self._run("UPDATE exchanges SET state = 'closing' WHERE id = ?", o.id)
            self._changed(*(f"work:{node}" for node in o.nodes))
            self._enqueue(o, 0, root)
            return
        try:
            made = fold(parts, 0, root, o.combine, o.expand)
        except Misfit as misfit:
            self._leave_out(o, misfit)
            self._complete(o)
            return
        self._close(o, made)

    def _enqueue(self, o: Open, lo: int, hi: int) -> None:
        self._after.append(lambda: self._queue.append((o.id, lo, hi)))
        self._changed("fold")
        if not self._batch:
            self._committed()

    def next_fold(self) -> FoldJob | None:
        """Large segments to add next, if any; run it in a second thread, then call `folded`."""
        if self._scan and self._folding is None and self._clock() >= self._not_before:
            self._begin()
        while self._queue and self._folding is None and self._clock() >= self._not_before:
            exchange, lo, hi = self._queue.popleft()
            row = self._one("SELECT state, n FROM exchanges WHERE id = ?", exchange)
            last = row is not None and row[0] == "closing" and (lo, hi) == (0, width(row[1]))
            if not last and (row is None or row[0] != "open"):
                continue  # the last sum takes all parts as they are
            o = self._open(exchange)
            parts = self._parts(o, lo, hi)
            if len(parts) > 1 or (parts and last):
                self._folding = FoldJob(
                    exchange, lo, hi, parts, o.combine, o.expand, self._folds / f"{exchange}-{lo}-{hi}"
                )
                return self._folding
        return None

    def folded(self, job: FoldJob) -> None:
        """Record a fold that was run: its sum replaces its parts. Without room it is tried again after a while."""
        row = self._one("SELECT state FROM exchanges WHERE id = ?", job.exchange)
        if job is not self._folding or row is None or row[0] not in ("open", "closing"):
            self._folding = None if job is self._folding else self._folding
            job.target.unlink(missing_ok=True)
            return
        self._folding = None
        o = self._open(job.exchange)
        try:
            with self._writing("fold.stored"):
                self._record(o, job, row[0] == "closing" and job.hi - job.lo == width(o.n))
                self._after.append(lambda: job.target.unlink(missing_ok=True))
        except BaseException:
            self._not_before = self._clock() + _PATIENCE
            job.target.unlink(missing_ok=True)
            raise
        self.changes.add("fold")

    def _record(self, o: Open, job: FoldJob, last: bool) -> None:
        if isinstance(job.error, Misfit):
            self._leave_out(o, job.error)
            if last:
                self._complete(o)
            else:
                self._enqueue(o, job.lo, job.hi)
        elif isinstance(job.error, DiskFull | MemoryError):
            raise job.error
        elif job.error is not None:
            self._abandon(o.id, job.error)
        elif job.made is not None:
            self._replace(o, job.lo, job.hi, job.made, job.target)
            if last:
                self._close(o, job.made)

    # closing

    def _close(self, o: Open, made: bytes | Blob | None) -> None:
        """Store the outcome and the sum, and let go of everything else: one transaction, with what led to it."""
        digest, size, inline = None, None, None
        if isinstance(made, Blob):
            (digest, size) = made
            self._refer(made.digest, "merged", str(o.id))
        elif made is not None:
            blob = blob_of(made)
            digest, size = blob
            if len(made) <= INLINE:
                inline = made
            else:
                self._keep(made, "merged", str(o.id))
        self._drop(o, 0, width(o.n))
        self._release_task(o.id)
        outcome = self._outcome(o)
        sql = """UPDATE exchanges SET state = 'closed', closed = ?, outcome = ?, merged = ?, merged_size = ?,
            merged_inline = ?, task_inline = NULL WHERE id = ?"""
        self._run(sql, self._clock(), wire.encode(outcome), digest, size, inline, o.id)
        self._run(
            "UPDATE runs SET changed = ? WHERE id = (SELECT run FROM exchanges WHERE id = ?)", self._clock(), o.id
        )
        self._run(_SENT, o.id)
        what = f"{len(outcome.accepted)} of {o.n} answered"
        self._event("closed", "", what, self._run_name(o.id))
        self._changed(f"exchange:{o.uid}")
        self._steps.append("exchange.closed")
        self._opened.pop(o.id, None)

    def _outcome(self, o: Open) -> Outcome:
        """What `atoll.worker.assemble` says of a star."""
        sql = "SELECT position, state, reason, bytes, coalesce(at, 0) FROM asked WHERE exchange = ? ORDER BY position"
        asked = self._all(sql, o.id)
        (note,) = self._one("SELECT note FROM exchanges WHERE id = ?", o.id)
        sizes = {position: size for position, state, _, size, _ in asked if state == "accepted"}
        return Outcome(
            merged=None,
            accepted=tuple(sizes),
            refused={position: why for position, state, why, *_ in asked if state != "accepted"},
            bytes=sizes,
            links=dict(sorted((f"{position}>-1", size) for position, size in sizes.items())),
            seconds=max(max(at for *_, at in asked) - o.submitted, 0.0),
            notes=(note,) if note else (),
        )

    def _give_up(self, exchange: int) -> None:
        """End an exchange without an outcome."""
        o = self._open(exchange)
        self._drop(o, 0, width(o.n))
        self._release_task(exchange)
        self._run("UPDATE exchanges SET state = 'ended', task_inline = NULL WHERE id = ?", exchange)
        self._changed(f"exchange:{o.uid}", *(f"work:{node}" for node in o.nodes))
        self._opened.pop(exchange, None)

    def _abandon(self, exchange: int, error: Exception) -> None:
        """What is on disk cannot be read: end the exchange, say so, and let the others go on."""
        with self._writing("exchange.abandoned"):
            sql = "SELECT lo FROM parts WHERE exchange = ? AND blob IS NOT NULL"
            for (at,) in self._all(sql, exchange):
                self._release("part", f"{exchange}/{at}")
            self._run("DELETE FROM parts WHERE exchange = ?", exchange)
            self._release_task(exchange)
            self._run("UPDATE exchanges SET state = 'ended', task_inline = NULL WHERE id = ?", exchange)
            self._event("broken", "", f"an exchange was given up: {reason(error)}", self._run_name(exchange))
            (uid,) = self._one("SELECT uid FROM exchanges WHERE id = ?", exchange)
            self._changed(f"exchange:{uid}")
            self._opened.pop(exchange, None)

    def _let_go(self, known: Known) -> None:
        sql = """SELECT a.exchange, a.position FROM asked a JOIN exchanges x ON x.id = a.exchange
            WHERE a.node = ? AND a.state = 'open' AND x.state = 'open'"""
        for exchange, position in self._all(sql, known.name):
            self._settle(self._open(exchange), position, "refused", f"Revoked: {known.name} is no member any more")
        for (run,) in self._all("SELECT name FROM runs WHERE owner = ? AND state = 'running'", known.name):
            self.end_run(known.name, run, "failed", "the membership of its owner was revoked")

    def due(self) -> float | None:
        """When `close_due` has something to do next, in Unix seconds; None: not before something else happens."""
        times = [self._next_leaving()]
        for (exchange,) in self._all("SELECT id FROM exchanges WHERE state IN ('open', 'closing') AND state = 'open'"):
            times.append(self._ends(self._open(exchange)))
        if (self._queue or self._scan) and self._folding is None:
            times.append(self._not_before)
        first = min(times)
        return None if first == math.inf else first

    def _ends(self, o: Open) -> float:
        """When the next thing happens to an exchange of which nobody is heard."""
        ends: float = math.inf if o.deadline is None else o.deadline
        return min([ends, *(self._lost(o, p) for p in o.missing)])

    def _lost(self, o: Open, position: int) -> float:
        """From when on a position is answered by nobody."""
        return max(self._away_since(o.nodes[position]), o.submitted) + self.lost_after

    def close_due(self, now: float | None = None) -> list[str]:
        """Leave out who is late or lost, and close exchanges that wait for nobody else; returns the names of these."""
        now = self._clock() if now is None else now
        ended: list[str] = []
        for (exchange,) in self._all("SELECT id FROM exchanges WHERE state IN ('open', 'closing') AND state = 'open'"):
            o = self._open(exchange)
            if self._ends(o) > now:
                continue
            with self._writing("deadline.stored"):
                self._leave_behind(o, now)
            if not o.missing:
                ended.append(o.uid)
        self._note_leaving(now)
        if self._queue or self._scan:
            self.changes.add("fold")
        return ended

    def _leave_behind(self, o: Open, now: float) -> None:
        late = o.deadline is not None and o.deadline <= now
        for position in sorted(o.missing):
            if late:
                self._settle(o, position, "refused", LATE)
            elif self._lost(o, position) <= now:
                why = f"Away: {o.nodes[position]} has not been heard of for {self.lost_after:g} seconds"
                self._settle(o, position, "refused", why)


_SENT = """INSERT INTO sent (node, run, op, times, bytes)
    SELECT a.node, x.run, x.op, 1, a.bytes FROM asked a JOIN exchanges x ON x.id = a.exchange
    WHERE x.id = ? AND a.state = 'accepted'
    ON CONFLICT (node, run, op) DO UPDATE SET times = times + 1, bytes = bytes + excluded.bytes"""


def _judged(what: bytes, expects: TreeSpec) -> tuple[int, WireError | None]:
    """Bytes of the arrays of a small answer, or what is wrong with it."""
    try:
        tree: Any = wire.decode(what, Tree, LIMITS)
        check(tree, expects)
    except WireError as error:
        return 0, error
    return nbytes(tree), None
