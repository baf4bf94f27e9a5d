"""From a task to an answer: hold it against the policy, ask the rows, write it into the log."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from atoll import wire
from atoll.errors import AtollError, explain
from atoll.silo import errors
from atoll.silo.api import Assignment, Refusal
from atoll.silo.client import Closed
from atoll.silo.durable import reached
from atoll.silo.errors import SiloError
from atoll.silo.keys import fingerprint
from atoll.silo.node.check import Asked, Me, check_rows, check_signature, fewest, read_task
from atoll.silo.node.folder import Folder
from atoll.silo.node.lean import load_worker
from atoll.silo.node.ledger import WINDOW, Ledger
from atoll.silo.node.log import Log, entries
from atoll.silo.node.memory import of_run
from atoll.silo.node.policy import Policy, Question, Rule, Used
from atoll.silo.node.requests import Wish, record
from atoll.silo.node.rows import Held, Rows, Seen, project
from atoll.silo.node.sources import Source
from atoll.silo.tasks import Blob
from atoll.trees import Tree

if TYPE_CHECKING:
    from atoll.shards import Shard
    from atoll.worker import Bound

__all__ = ["ATTACH", "Answer", "Answerer", "Fetch"]

ATTACH = "describe.rows"
"""The operation with which a driver begins; rows are read anew for it, where they have changed."""

Fetch = Callable[[Blob], "bytes | memoryview"]

_LARGE = 1 << 26
_REASON = 4000
_ANNOUNCED = 100  # operations that a task may declare
_SURE = (errors.NotFound, errors.Digest, errors.TooLarge, errors.DiskFull)
_POLICY = (errors.NotApproved, errors.Quota, errors.TooFewNodes, errors.TooFewRows)
_LABELS = frozenset({"chosen", "codes", "fold", "nodes_but", "of_class", "raveled", "step_weights", "class_weighted"})


class Answer(NamedTuple):
    """What goes back.

    Attributes
    ----------
    frames : list of memoryview, or None
        A written tree, in pieces.
    refusal : Refusal or None
        Or why there is none.
    blob : Blob or None
        The name of the tree's bytes.
    """

    frames: list[memoryview] | None
    refusal: Refusal | None = None
    blob: Blob | None = None


class Answerer:
    """What a node does with tasks; one at a time.

    Parameters
    ----------
    folder : Folder
        Of the node.
    me : Me
        Who it is.
    clock : callable, optional
        Unix seconds.

    Attributes
    ----------
    log : Log
        The owner's log.
    """

    def __init__(self, folder: Folder, me: Me, clock: Callable[[], float] = time.time) -> None:
        self._folder, self._me, self._clock = folder, me, clock
        self.log = Log(folder.log, clock)
        self._ledger = Ledger(entries(folder.log, clock() - WINDOW))
        self._sources = _Watched(folder / "node.toml", lambda _: folder.data())
        self._policy = _Watched(folder.policy, Policy.of)
        self._rows = Rows(me.name, self.sources)
        self._seen = Seen(folder / "seen.json")
        self._policy_told = ""

    def sources(self) -> dict[str, Source]:
        """The data sets that are offered now."""
        return self._sources.get()  # type: ignore[no-any-return]

    def held(self, data: str) -> Held:
        """The rows of a data set."""
        return self._rows.get(data)

    def policy(self) -> Policy:
        """The policy as it stands now; a change is logged."""
        policy: Policy = self._policy.get()
        if policy.digest + policy.broken != self._policy_told:
            self._policy_told = policy.digest + policy.broken
            self.log.append("policy", sha256=policy.digest, rules=len(policy.rules), broken=policy.broken)
        return policy

    def answer(self, a: Assignment, fetch: Fetch) -> Answer:
        """Answer a task, or say why not; what leaves is in the log when this returns.

        Parameters
        ----------
        a : Assignment
            The task.
        fetch : callable
            Gives the bytes of a blob, held against its hash.

        Raises
        ------
        SiloError, Closed
            If bytes cannot be fetched now; then nothing is known about the task, and it is to be tried again.
        """
        asked: Asked | None = None
        try:
            check_signature(a)
            self._spare_download(a)
            data = a.inline if a.inline is not None else _fetched(fetch, a.task)
            reached("node.task.fetched")
            asked = read_task(a, data, self._me, self._clock())
            frames, rows, rule = self._computed(asked, a, fetch)
            return Answer(frames, None, self._log_answer(asked, a, frames, rows, rule))
        except _NotNow as error:
            raise error.why from None
        except (Exception, SystemExit) as error:
            return self._refused(a, asked, error)

    def _spare_download(self, a: Assignment) -> None:
        """A large task of somebody about whom there is no rule is not fetched first."""
        if a.task.size <= _LARGE or a.inline is not None:
            return
        key = fingerprint(a.key)
        if not any(rule.is_for(a.owner, key) for rule in self.policy().rules):
            raise errors.NotApproved(explain(f"the owner has allowed nothing to {a.owner} ({key})"))

    def _computed(self, asked: Asked, a: Assignment, fetch: Fetch) -> tuple[list[memoryview], int, Rule]:
        """The answer as it is written, the rows behind it, and the rule that allowed it."""
        task, x = asked.task, asked.x
        before = self._ledger.answered(asked.digest, asked.position)
        if before not in (None, a.exchange):
            raise errors.Replayed(explain("this task was answered before, for another exchange", got=a.exchange))
        used = self._ledger.used(task.key, task.data, self._clock()) if before is None else Used()
        question = Question(task.requester, task.key, task.data, x.op, _fewest(asked))
        passing = self.policy().passing(question, used, self._clock())
        load_worker()
        bound = _bound(asked)
        held = self._read(asked)
        shard, rows, rule = self._allowed(asked, bound, held, passing)
        self._same_rows(asked, held)
        if a.each is not None:
            bound = _bound(asked, wire.decode(_fetched(fetch, a.each), Tree))
        frames = wire.frames(self._asked_rows(asked, bound, shard))
        size = used.bytes + sum(part.nbytes for part in frames)
        if rule.bytes_per_day is not None and size > rule.bytes_per_day and before is None:
            got = f"{size} bytes with this answer"
            raise errors.Quota(
                explain("today's bytes would be exceeded", got=got, expected=f"{rule.bytes_per_day} a day")
            )
        return frames, rows, rule

    def _asked_rows(self, asked: Asked, bound: Bound, shard: Shard) -> Tree:
        from atoll.blas import one_thread
        from atoll.worker import allow

        memory = of_run(self._folder / "memory", asked.task.key, asked.x.run)
        with one_thread():
            tree = bound.answer(asked.position, shard, memory, allow, values=True)
        reached("node.answer.computed")
        return tree

    def _read(self, asked: Asked) -> Held:
        """The rows; what stands in their way is told in one line, the rest of it stays in the log."""
        name = asked.task.data
        try:
            begins = self._seen.begins(asked.task.key, asked.x.run, name)
            return self._rows.get(name, anew=asked.x.op == ATTACH, again=begins)
        except SiloError:
            raise
        except Exception as error:
            first = str(error).partition("\n")[0] if isinstance(error, AtollError) else type(error).__name__
            what = f"data set {name!r} of node {self._me.name!r} cannot be read: {first}"
            raise errors.Failed(explain(what, hint="the node's owner finds the reason in its log")) from error

    def _allowed(self, asked: Asked, bound: Bound, held: Held, passing: list[Rule]) -> tuple[Shard, int, Rule]:
        """The rows that the first fitting rule lets be seen."""
        refused: SiloError | None = None
        for rule in passing:
            try:
                shard = self._shown(held, rule, asked)
                _check_columns(asked, shard, rule)
                rows = _rows_behind(bound, shard)
                if 0 < rows < rule.min_rows:
                    raise errors.TooFewRows(
                        explain("too few rows stand behind the answer", expected=f"at least {rule.min_rows}")
                    )
                return shard, rows, rule
            except SiloError as error:
                refused = error
        assert refused is not None  # noqa: S101 - there is at least one rule
        raise refused

    def _shown(self, held: Held, rule: Rule, asked: Asked) -> Shard:
        where = f"node {self._me.name!r}, data set {asked.task.data!r}"

        def made() -> Shard:
            shard = project(held, rule.columns, where)
            ids = np.arange(asked.start, asked.start + shard.n_rows, dtype=np.int64)
            return replace(shard, ids=ids)

        return held.shard.memo(("shown", rule.columns, asked.start), made)

    def _same_rows(self, asked: Asked, held: Held) -> None:
        """Rows must be those that this run and its owner have seen before, and as many as they count."""
        task, x = asked.task, asked.x
        if x.op == ATTACH:
            self._seen.attach(task.key, task.data, held.version)
            return
        check_rows(asked, held.shard.n_rows)
        self._seen.check(task.key, x.run, task.data, held.version, self._me.name)

    def _log_answer(self, asked: Asked, a: Assignment, frames: list[memoryview], rows: int, rule: Rule) -> Blob:
        state, size = hashlib.sha256(), 0
        for part in frames:
            state.update(part)
            size += part.nbytes
        again = self._ledger.answered(asked.digest, asked.position) is not None
        facts = {
            **_facts(asked, a),
            "rows": rows,
            "bytes": size,
            "sha256": state.hexdigest(),
            "rule": _rule_facts(rule),
        }
        self._ledger.add(self.log.append("answered", **facts, **({"again": True} if again else {})))
        return Blob(state.hexdigest(), size)

    def _refused(self, a: Assignment, asked: Asked | None, error: BaseException) -> Answer:
        code = error.code if isinstance(error, SiloError) else "failed"
        reason = _reason(error)
        facts = _facts(asked, a) if asked else _claims(a)
        try:
            if asked is not None and isinstance(error, _POLICY):
                facts["request"] = self._request(asked, error)
            cause = {"error": repr(error.__cause__ or error)[:_REASON]} if code == "failed" else {}
            self.log.append("refused", code=code, reason=reason, **cause, **facts)
        except (errors.DiskFull, OSError):
            code, reason = errors.DiskFull.code, "DiskFull: the node cannot write its log, so it answers nothing"
        return Answer(None, Refusal(code=code, reason=reason))

    def _request(self, asked: Asked, error: BaseException) -> int:
        task, x = asked.task, asked.x
        words, size = _words(x.op), _size(asked)
        wish = Wish(words, 0, size, _fewest(asked), str(error).partition("\n")[0][:300], self._clock())
        announced = self._announced(asked) if isinstance(error, errors.NotApproved) else {}
        return record(self._folder, task.requester, task.key, task.data, task.purpose, x.op, wish, announced)

    def _announced(self, asked: Asked) -> dict[str, str]:
        """What the task declares that its run may ask too, if this node knows it and its owner has not allowed it."""
        task, policy, now = asked.task, self.policy(), self._clock()
        known = importlib.import_module("atoll.operations").operations
        asks = [op for op in task.asks[:_ANNOUNCED] if op in known]
        ours = Question(task.requester, task.key, task.data, "", 1)
        return {op: known[op].discloses for op in asks if not policy.covers(ours._replace(op=op), now)}


class _NotNow(Exception):
    """Bytes could not be fetched, for a reason that may pass."""

    def __init__(self, why: Exception) -> None:
        super().__init__(str(why))
        self.why = why


def _fetched(fetch: Fetch, blob: Blob) -> bytes | memoryview:
    try:
        return fetch(blob)
    except _SURE:
        raise
    except (SiloError, Closed) as error:
        raise _NotNow(error) from None


class _Watched:
    """A file's content as it is now; read again when it has changed."""

    def __init__(self, path: os.PathLike[str], read: Callable[[Any], Any]) -> None:
        self._path, self._read = path, read
        self._stat: tuple[int, ...] | None = None
        self._value: Any = None

    def get(self) -> Any:
        stat: tuple[int, ...] = ()
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(self._path)
            stat = (found.st_size, found.st_mtime_ns, found.st_ino)
        if stat != self._stat:
            self._value = self._read(self._path)
            self._stat = stat
        return self._value


def _bound(asked: Asked, own: Tree | None = None) -> Bound:
    """The question with its names looked up."""
    Bound = importlib.import_module("atoll.worker").Bound
    x = asked.x if own is None else replace(asked.x, each={asked.position: own})
    try:
        return Bound(x)  # type: ignore[no-any-return]
    except AtollError as error:
        hint = "install the version of atoll, or the package, that the others have"
        raise errors.Unsupported(explain("this node cannot answer that", got=error, hint=hint)) from None


def _check_columns(asked: Asked, shard: Shard, rule: Rule) -> None:
    """Name a column that the question asks for and that is not there, or not served."""
    names = shard.feature_names
    for view in asked.x.view:
        wanted = view.settings.get("names") if view.name == "arrange" else None
        missing = [n for n in wanted or () if names is not None and n not in names]
        if missing:
            why = "is not among those that the owner serves" if rule.columns is not None else "is not there"
            raise errors.ColumnMissing(explain(f"column {missing[0]!r} of data set {asked.task.data!r} {why}"))


def _rows_behind(bound: Bound, shard: Shard) -> int:
    """How many rows an answer is about, seen through the views of the question."""
    from atoll.shards import on_file
    from atoll.views import viewer

    if bound.see is None:
        return shard.n_rows
    if not on_file(shard.X):
        return bound.see(shard).n_rows
    thin = replace(shard, X=np.zeros((shard.n_rows, 0)), feature_names=None)
    return viewer([view for view in bound.x.view if view.name in _LABELS])(thin).n_rows


def _claims(a: Assignment) -> dict[str, Any]:
    """What the coordinator says of a task that could not be read."""
    return {"who": a.owner, "run": a.run, "number": a.number, "exchange": a.exchange, "task": a.task.digest}


def _facts(asked: Asked, a: Assignment) -> dict[str, Any]:
    task, x = asked.task, asked.x
    return {
        "who": task.requester, "key": task.key, "purpose": task.purpose[:300], "data": task.data, "run": x.run,
        "number": x.number, "op": x.op, "position": asked.position, "exchange": a.exchange, "task": asked.digest,
    }  # fmt: skip


def _rule_facts(rule: Rule) -> dict[str, Any]:
    return {k: v for k, v in rule._asdict().items() if v not in (None, "") and v != 1}


def _reason(error: BaseException) -> str:
    """Why there is no answer, for who asks: what Atoll and scikit-learn say about rows, of anything else the kind only.

    Paths of this machine stay here; the log has all of it.
    """
    name = type(error).__name__
    if isinstance(error, OSError) and not isinstance(error, AtollError):
        return f"{name}: the node could not read or write a file; its log says which"
    if not isinstance(error, AtollError | ValueError):
        return f"{name}: the operation failed on the node; its log says how"
    lines = [line for line in str(error).splitlines() if not line.lstrip().startswith(("where:", "at:"))]
    return f"{name}: " + "\n".join(lines)[:_REASON]


def _words(op: str) -> str:
    load_worker()
    operations = importlib.import_module("atoll.operations").operations
    return str(operations[op].discloses) if op in operations else "not known to this node"


def _size(asked: Asked) -> int:
    """Bytes of one answer, where the contract says; otherwise 0."""
    leaves = asked.x.expects.leaves.values()
    if any(leaf.dtype == "U" or -1 in leaf.shape for leaf in leaves):
        return 0
    return sum(np.dtype(leaf.dtype).itemsize * math.prod(leaf.shape) for leaf in leaves)


def _fewest(asked: Asked) -> int:
    try:
        return fewest(asked)
    except AtollError as error:
        raise errors.Unsupported(explain("this node cannot add like that", got=error)) from None
