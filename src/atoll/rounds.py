"""What a recipe calls: one exchange, then decode and finish.

The engine executes and adds; here nodes are selected, exchanges numbered, sums decoded, finished and recorded; the
recipe thinks. A secure sum can therefore stand between adding and decoding (`after`), and no engine needs to know about
it.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

from numpy.random import Generator

from atoll.blas import one_thread
from atoll.combine import Combine, Each
from atoll.engines import Engine, Remote, Reporting
from atoll.errors import InvalidData, NodeFailed, NodeValueError, QuorumNotMet, explain
from atoll.messages import Exchange, Outcome, Rule, Saved, digest
from atoll.operations import operations
from atoll.progress import Progress, Silent
from atoll.rng import stream
from atoll.run import Row, Run
from atoll.schema import Schema, agree
from atoll.shards import Shard, blank
from atoll.specs import Spec
from atoll.table import Table
from atoll.topology import is_mix
from atoll.transforms import Transform, chain
from atoll.trees import Tree, TreeSpec, nbytes, row_major
from atoll.views import numbers, viewer
from atoll.worker import LATE, promise

__all__ = ["Keeper", "Link", "Rounds"]

_KEPT = 1 << 24
_TRAINING = "train."


class Link(Protocol):
    """The way to some nodes.

    Attributes
    ----------
    names : tuple of str
        Node names, in order of their numbers.
    rule : Rule
        When a round ends.
    plan : Spec
        Who sends what to whom, unless a round says otherwise.
    remote : Remote or None
        Where the rows are, if nodes keep them.
    max_norm : float or None
        Largest norm of a contribution to a round of training.
    """

    @property
    def names(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def rule(self) -> Rule: ...  # noqa: D102
    @property
    def plan(self) -> Spec: ...  # noqa: D102
    @property
    def remote(self) -> Remote | None: ...  # noqa: D102
    @property
    def max_norm(self) -> float | None: ...  # noqa: D102

    def live(self) -> tuple[Engine, str]:
        """A running engine, and the key of these nodes there."""
        ...


@runtime_checkable
class Keeper(Protocol):
    """An engine that keeps the state of runs, as a journal does."""

    def save(self, key: str, run: str, saved: Saved) -> None:
        """Keep the state of a run in place of the one before."""
        ...

    def saved(self, key: str, run: str) -> Saved | None:
        """The state of a run; None if there is none."""
        ...


@dataclass
class _State:
    """What all views of one run share."""

    number: int = 0
    base: dict[int, int] = field(default_factory=dict)
    saved: tuple[int, Tree] | None = None
    known: dict[str, Tree] | None = None


class _Met(NamedTuple):
    """What a round 0 agreed on, a shard like every node's without rows, who takes part, and how it was asked."""

    schema: Schema
    empty: Shard
    members: tuple[int, ...]
    settings: dict[str, Any]


class Rounds:
    """The rounds of one run.

    Parameters
    ----------
    link : Link
        The nodes.
    run : Run
        Where rounds are recorded.
    progress : Progress, optional
        Told about every round.

    Attributes
    ----------
    wish : object
        How models that are trained in rounds are to be trained, as the user asked for it; such recipes read it.
    """

    def __init__(self, link: Link, run: Run, progress: Progress | None = None) -> None:
        self.link = link
        self.run = run
        self.wish: Any = None
        self.progress: Progress = progress or Silent()
        self._views: tuple[Spec, ...] = ()
        self._raw = False
        self._state = _State()
        self._met: _Met | None = None
        self._schema: Schema | None = None

    @property
    def schema(self) -> Schema:
        """What all nodes agreed on in round 0, the rows as these views show them."""
        if self._met is None:
            raise RuntimeError("round 0 has not been held")
        if self._schema is None:
            self._schema = self._met.schema.seen(self.seen)
        return self._schema

    @property
    def seen(self) -> Shard:
        """A shard without rows that looks like every node's through these views."""
        if self._met is None:
            raise RuntimeError("round 0 has not been held")
        return viewer(self.views)(self._met.empty)

    def meet(self, *, classes: bool, ensure_all_finite: bool | str = False, ensure_targets: bool = False) -> Schema:
        """Hold round 0: agree on columns, types and, for a classifier, the union of classes.

        Parameters
        ----------
        classes : bool
            Whether nodes tell which classes occur.
        ensure_all_finite : bool or "allow-nan", default=False
            Whether a node with NaN or infinity in X refuses, as in scikit-learn.
        ensure_targets : bool, default=False
            Whether a node with NaN or infinity among its targets refuses.

        Raises
        ------
        SchemaMismatch
            Naming the node and column that do not fit.
        NodeValueError
            Naming the node and column with values that are not finite, or with weights that are no weights.
        """
        settings = {"classes": classes, "ensure_all_finite": ensure_all_finite, "ensure_targets": ensure_targets}
        schema, members = self._agreed(settings, tuple(range(len(self.link.names))))
        self._met, self._schema = _Met(schema, schema.empty(), members, settings), None
        self._views = (*schema.arranged, *self._views)
        return schema

    def _agreed(
        self, settings: dict[str, Any], asked: tuple[int, ...], *, empty: bool = False
    ) -> tuple[Schema, tuple[int, ...]]:
        answers = self.round("describe.schema", combine=Each(), settings=settings, cohort=asked)
        refused = self.run.rows[-1].refused
        members = [i for i in asked if self.link.names[i] not in refused]
        schema = agree([self.link.names[i] for i in members], answers, empty=empty)
        with_rows = [i for i, n in enumerate(schema.rows) if n]
        nodes, rows = tuple(schema.nodes[i] for i in with_rows), tuple(schema.rows[i] for i in with_rows)
        return schema._replace(nodes=nodes, rows=rows), tuple(members[i] for i in with_rows)

    def only(self, view: Spec) -> Rounds:
        """The same run over the rows that a view keeps; round 0 is held again among them.

        Parameters
        ----------
        view : Spec
            A view that leaves rows out. Nodes that have none left take no part.

        Returns
        -------
        Rounds
        """
        met = self._met
        if met is None:
            raise RuntimeError("round 0 has not been held")
        other = self.through(view)
        schema, members = other.raw._agreed(met.settings, met.members, empty=True)
        other._met, other._schema = _Met(schema, met.empty, members, met.settings), None
        return other

    @property
    def raw(self) -> Rounds:
        """The same run, its rows as they were given: text, categories and whole numbers stay what they are.

        What comes after a further view is a matrix of floats again, unless that is asked for `raw` too.
        """
        other = copy.copy(self)
        other._raw, other._schema = True, None
        return other

    @property
    def views(self) -> tuple[Spec, ...]:
        """How rows look to what is asked here; a table is a matrix of floats unless it is asked for `raw`."""
        if self._met is None or self._raw:
            return self._views
        seen = viewer(self._views)(self._met.empty)
        return (*self._views, numbers()) if isinstance(seen.X, Table) else self._views

    def through(self, *views: Spec) -> Rounds:
        """The same run, its nodes seen through further views."""
        other = copy.copy(self)
        laid = tuple(view._replace(arrays=row_major(view.arrays)) for view in views)
        other._views, other._raw, other._schema = self._views + laid, False, None
        return other

    def rng(self, use: str) -> Generator:
        """The driver's own random stream for one use."""
        return stream(self.run.seed, 0, -1, use)

    def save(self, step: int, state: Tree) -> None:
        """Remember how far a long recipe has come, so that a program that is run again starts there.

        Parameters
        ----------
        step : int
            Position in the schedule.
        state : Tree
            Everything that the recipe needs to go on.
        """
        self._state.saved = (step, state)
        engine, key = self.link.live()
        if isinstance(engine, Keeper) and not self._state.base:
            engine.save(key, self.run.name, Saved(self._state.number, step, state))

    def saved(self, began: int | None = None) -> tuple[int, Tree] | None:
        """The step and state of the last `save`, also of a program that was killed; None if there is none.

        What was saved in a journal skips the rounds before it. Where nodes remember something (control variates)
        nothing is skipped: their memory died with the program, and replaying the rounds rebuilds it.

        Parameters
        ----------
        began : int, optional
            The `number` at which the caller began, where a run may hold several long recipes: each saves its own as
            ``began`` of shape (1,), and what another one saved is not returned.
        """
        engine, key = self.link.live()
        found = None
        if isinstance(engine, Keeper) and self._state.saved is None:
            found = engine.saved(key, self.run.name)
        if found is not None and _is_of(found.state, began):
            self._state.number = found.number
            self._state.saved = (found.step, found.state)
        saved = self._state.saved
        return saved if saved is not None and _is_of(saved[1], began) else None

    @property
    def number(self) -> int:
        """The number of the next exchange."""
        return self._state.number

    @contextmanager
    def ending(self) -> Iterator[None]:
        """What runs in this context is what the run is for: where others see the run, they are told how it ended."""
        failed: BaseException | None = None
        try:
            yield
            self.run.ended = True
        except BaseException as error:
            failed = error
            raise
        finally:
            engine, key = self.link.live()
            if isinstance(engine, Reporting):
                engine.end(key, self.run.name, failed)

    def round(
        self,
        op: str,
        payload: Tree | None = None,
        *,
        combine: Combine,
        settings: Mapping[str, Any] | None = None,
        each: Mapping[int, Tree] | None = None,
        cohort: Sequence[int] | None = None,
        transform: Sequence[Transform] = (),
        plan: Spec | None = None,
        step: int = 0,
        after: Callable[[Tree, tuple[int, ...]], Tree] | None = None,
        metrics: Callable[[Tree], dict[str, float]] | None = None,
    ) -> Tree:
        """Ask nodes one question and return the finished sum of their answers.

        Parameters
        ----------
        op : str
            Name of the operation.
        payload : Tree, optional
            Arrays for every node.
        combine : Combine
            How answers become one.
        settings : mapping, optional
            Settings of the operation: plain values.
        each : mapping of int to Tree, optional
            Arrays for one position of the cohort only.
        cohort : sequence of int, optional
            Node numbers; by default everyone who took part in round 0.
        transform : sequence of Transform, optional
            What is done to contributions on their way.
        plan : Spec, optional
            Who sends what to whom.
        step : int, default=0
            Position in a schedule; keys random streams.
        after : callable, optional
            Stands between adding and decoding: takes the raw sum and the accepted positions, returns the raw sum.
        metrics : callable, optional
            What the record says of the finished sum: names and numbers.

        Returns
        -------
        Tree

        Raises
        ------
        NodeFailed
            If so many nodes raised, or answered what breaks the contract, that the quorum is missed.
        QuorumNotMet
            If too few answered before the deadline.
        """
        plain = not transform and after is None
        question = self._question(op, payload, combine, settings, each, cohort, plan, step) if plain else None
        if question is not None and (known := (self._state.known or {}).get(question)) is not None:
            return dict(known)
        code = chain(*transform)
        x = self._exchange(op, payload or {}, combine, settings or {}, each or {}, cohort, code, plan, step)
        start = time.perf_counter()
        engine, key = self.link.live()
        pending = engine.submit(key, x)
        self.progress.waiting(x.op, lambda: [self.link.names[x.cohort[p]] for p in pending.missing()], x.rule.deadline)
        outcome = pending.result()
        self._judge(x, outcome)
        raw: Tree = outcome.merged or {}
        with one_thread():
            merged = after(raw, outcome.accepted) if after else raw
            merged = code.decode(merged) if code.decode else merged
            finished = combine.finish(merged)
        self._record(x, outcome, time.perf_counter() - start, metrics(finished) if metrics else {})
        if question is not None and self._state.known is not None and nbytes(finished) <= _KEPT:
            self._state.known[question] = dict(finished)
        return finished

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Within this context the same question to the same nodes through the same views is asked once.

        What candidates of a search have in common (a Gram matrix, the steps of a pipeline that come first) then costs
        one round for all of them.
        """
        before, self._state.known = self._state.known, {}
        try:
            yield
        finally:
            self._state.known = before

    @property
    def _reduce(self) -> Spec:
        """How answers reach the hub: as the nodes are wired, or directly where they talk only to each other."""
        return Spec("star") if is_mix(self.link.plan) else self.link.plan

    def _question(self, op: str, *parts: Any) -> str | None:
        """Names a question whose answer depends on nothing else; None where answers are not remembered."""
        if self._state.known is None or operations[op].remembers:
            return None
        payload, combine, settings, each, cohort, plan, step = parts
        members = self._met.members if cohort is None and self._met is not None else cohort
        specs = [tuple(spec) for spec in (combine.spec, plan or self._reduce, *self.views)]
        return digest([op, payload or {}, dict(settings or {}), dict(each or {}), tuple(members or ()), step, specs])

    def _exchange(
        self, op: str, payload: Tree, combine: Combine, settings: Mapping[str, Any], each: Mapping[int, Tree],
        cohort: Sequence[int] | None, code: Transform, plan: Spec | None, step: int,
    ) -> Exchange:  # fmt: skip
        state = self._state
        everyone = tuple(range(len(self.link.names))) if self._met is None else self._met.members
        asked = everyone if cohort is None else tuple(cohort)
        if not asked:
            raise InvalidData(explain("nobody is asked", where=f"operation {op}"))
        wiring = self._reduce if plan is None else plan
        _check_kinds(combine, code, wiring)
        state.number += 1
        x = Exchange(
            run=self.run.name, number=state.number - 1, step=step, seed=self.run.seed, op=op, settings=dict(settings),
            payload=row_major(payload), each={p: row_major(tree) for p, tree in each.items()}, view=self.views,
            cohort=asked, base=tuple(state.base.get(node, -1) for node in asked), combine=combine.spec,
            transform=code.specs, plan=wiring, rule=self.link.rule, expects=TreeSpec({}),
        )  # fmt: skip
        empty = blank() if self._met is None else self._met.empty
        most = math.inf if self._met is None or self._met.schema.weights else float(max(self._met.schema.rows))
        expects = promise(x, empty, most)
        if self.link.max_norm is not None and op.startswith(_TRAINING) and "weight" in expects.leaves:
            expects = expects._replace(max_norm=float(self.link.max_norm))
        return replace(x, expects=expects)

    def _judge(self, x: Exchange, outcome: Outcome) -> None:
        """End the run when the rule of the round is not met."""
        needed = x.rule.needed(len(x.cohort))
        if len(outcome.accepted) >= needed:
            return
        names = [self.link.names[node] for node in x.cohort]
        late = [names[p] for p, why in outcome.refused.items() if why == LATE]
        if late and len(late) == len(outcome.refused):
            raise QuorumNotMet(
                explain(
                    f"{len(outcome.accepted)} of {len(names)} nodes answered in time, {needed} are needed",
                    got=f"no answer from {', '.join(late)}",
                    where=f"round {x.number} ({x.op}), deadline {x.rule.deadline:g} s",
                    hint="raise the deadline, lower the quorum, or set late='wait'",
                )
            )
        raise _failure(x, outcome, names)

    def _record(self, x: Exchange, outcome: Outcome, seconds: float, metrics: dict[str, float]) -> None:
        names = [self.link.names[node] for node in x.cohort]
        operation = operations[x.op]
        if operation.remembers or x.transform:
            self._state.base.update({x.cohort[p]: x.number for p in outcome.accepted})
        to_all = nbytes(x.payload) + sum(nbytes(view.arrays) for view in x.view)
        down = to_all * len(names) + sum(nbytes(t) for t in x.each.values())
        row = Row(
            number=x.number, step=x.step, op=x.op, asked=len(names), answered=len(outcome.accepted), bytes_down=down,
            bytes_up=sum(outcome.bytes.values()), seconds=seconds,
            refused={names[p]: why for p, why in outcome.refused.items()}, links=outcome.links, metrics=metrics,
        )  # fmt: skip
        self.run.add(row, {names[p]: size for p, size in outcome.bytes.items()}, operation.discloses)
        self.run.notes.extend(outcome.notes)
        engine, key = self.link.live()
        if isinstance(engine, Reporting):
            engine.told(key, self.run.name, row)
        self.progress.round(row)


def _is_of(state: Tree, began: int | None) -> bool:
    return began is None or ("began" in state and int(state["began"][0]) == began)


def _check_kinds(combine: Combine, code: Transform, plan: Spec) -> None:
    """Law 4: which kinds compose."""
    name = combine.spec.name
    if combine.kind != "sum" and code.decode is not None:
        raise InvalidData(
            explain(
                f"{name} is not a plain sum, so a code that is undone after adding cannot be used with it",
                got=", ".join(s.name for s in code.specs),
                hint="leave the transform out, or use Sum or Mean",
            )
        )
    if is_mix(plan) and (combine.kind != "sum" or code.specs):
        got = ", ".join([name, *(s.name for s in code.specs)])
        raise InvalidData(explain(f"{plan.name} adds as it goes, and undoes nothing", got=got, expected="Sum alone"))
    if combine.kind == "gather" and plan.name != "star":
        raise InvalidData(explain(f"{name} needs all contributions at once", got=plan.name, expected="star"))


def _failure(x: Exchange, outcome: Outcome, names: Sequence[str]) -> NodeFailed:
    """One error for all nodes, the same reason said once."""
    by_reason: dict[str, list[str]] = {}
    for position, why in outcome.refused.items():
        by_reason.setdefault(why, []).append(names[position])
    (why, nodes), *others = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    same = "the same error" if len(nodes) > 1 else "an error"
    shown = ", ".join(nodes[:8]) + (f" and {len(nodes) - 8} more" if len(nodes) > 8 else "")
    also = f"{sum(len(n) for _, n in others)} more with other errors" if others else None
    text = explain(
        f"{len(nodes)} of {len(names)} nodes: {same}\n  {why}",
        got=also,
        where=f"round {x.number} ({x.op}) on {shown}",
        hint="mend the rows of the nodes named, or lower the quorum of the rule to go on without them",
    )
    kinds = {w.split(":")[0] for w in by_reason}
    return NodeValueError(text) if kinds <= {"ValueError", "InvalidData", "SchemaMismatch"} else NodeFailed(text)
