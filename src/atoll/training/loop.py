"""The rounds of a training: select, send, train, add, go on from the sum."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from atoll.algorithms import Algorithm, Local, Told
from atoll.algorithms.decentralized import Decentralized
from atoll.clock import Pace
from atoll.combine import Combine, Each, Sum
from atoll.datasets import Stream
from atoll.errors import InvalidData, explain
from atoll.learners import Balance, Model
from atoll.operations.training import question, written
from atoll.rounds import Rounds
from atoll.run import Run
from atoll.selection import Selection, uniform
from atoll.specs import Spec
from atoll.training.cohort import Cohort, called_up
from atoll.trees import Array, Tree

__all__ = [
    "At",
    "Callback",
    "Course",
    "Judge",
    "Judged",
    "Trained",
    "check_answers",
    "check_course",
    "judge_of",
    "node_weights",
    "train_in_rounds",
    "trained_at",
]

Callback = Callable[["Trained"], bool | None]


class Course(NamedTuple):
    """How a training goes.

    Attributes
    ----------
    algorithm : Algorithm
        How parameters are trained in rounds.
    local : Local
        What nodes do between exchanges.
    rounds : int
        How many.
    nodes_per_round : int or None
        Nodes asked in a round; None: all.
    selection : Selection
        Which ones.
    way : str
        How several nodes are computed at once: ``"auto"``, ``"sequential"``, ``"stacked"`` or ``"implicit"``.
    block : int or None
        How many nodes at once, at most; None: what suits the way, or 1.
    order : callable or None
        ``(step, node) -> row numbers``: the order of a node's rows, where it is not drawn.
    callbacks : sequence of callable
        Called after every round, and once where a training is resumed, with the `Trained` so far; True ends it.
    balance : Balance or None
        How unequal classes are answered.
    pace : Pace or None
        How fast nodes are, by a virtual clock.
    mixing : Decentralized or None
        How nodes train where they have no server; None: as `dpsgd` says.
    streams : mapping of int to Stream
        By node number, where rows keep coming.
    start : At or None
        How far it had come before, where it goes on from a checkpoint.
    replayed : bool
        Whether a program that is run again over a journal goes through all rounds again, which the journal answers, and
        not on from the last one: where what callbacks keep decides.
    """

    algorithm: Algorithm
    local: Local
    rounds: int
    nodes_per_round: int | None = None
    selection: Selection = uniform()
    way: str = "auto"
    block: int | None = None
    order: Callable[[int, int], Array] | None = None
    callbacks: Sequence[Callback] = ()
    balance: Balance | None = None
    pace: Pace | None = None
    mixing: Decentralized | None = None
    streams: Mapping[int, Stream] = {}
    start: At | None = None
    replayed: bool = False

    @property
    def at_once(self) -> int:
        """How many nodes are computed at once."""
        return 1 if self.block is None else self.block


class Judged(NamedTuple):
    """How good a model is on some rows.

    Attributes
    ----------
    loss : float
        Mean over the rows.
    accuracy : float
        Share of rows answered right; NaN where that is not counted.
    rows : int
        How many.
    """

    loss: float
    accuracy: float
    rows: int


class Trained(NamedTuple):
    """How far a training has come.

    Attributes
    ----------
    step : int
        Rounds done.
    model : Model
        Parameters and buffers.
    state : Tree
        What the server keeps.
    losses : tuple of float
        Mean training loss of every round.
    judge : Judge
        Asks the nodes how good the model is on their rows: ``judge(own) -> Judged``, with `own` their own models; and
        ``judge.by_node(own)`` for each of them.
    picked : Tree
        What the selection keeps.
    now : float
        Virtual seconds so far.
    course : Course or None
        How it goes.
    run : Run or None
        The record.
    """

    step: int
    model: Model
    state: Tree
    losses: tuple[float, ...]
    judge: Judge
    picked: Tree = {}
    now: float = 0.0
    course: Course | None = None
    run: Run | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """What the record says of the last round: its loss, and what was measured after it."""
        rows = () if self.run is None else reversed(self.run.rows)
        return next((dict(row.metrics) for row in rows if row.round == self.step), {})


def check_course(course: Course, n_nodes: int) -> None:
    """Refuse what contradicts itself, before anybody is asked.

    Raises
    ------
    InvalidData
        Naming the setting.
    """
    if not isinstance(course.rounds, int) or course.rounds < 1:
        raise InvalidData(explain("rounds must be a whole number of at least 1", got=repr(course.rounds)))
    asked = course.nodes_per_round
    if asked is not None and (not isinstance(asked, int) or not 1 <= asked <= n_nodes):
        expected = f"from 1 to {n_nodes}, or None for all"
        raise InvalidData(explain("nodes_per_round is a number of nodes", got=repr(asked), expected=expected))
    if course.algorithm.everyone and asked not in (None, n_nodes):
        hint = "leave nodes_per_round out, or use another method"
        what = f"{course.algorithm.spec.name} needs every node in every round"
        raise InvalidData(explain(what, got=f"nodes_per_round={asked}", hint=hint))
    if not all(callable(callback) for callback in course.callbacks):
        got = repr(course.callbacks)
        raise InvalidData(explain("callbacks are functions that are called after every round", got=got))
    if not isinstance(course.at_once, int) or course.at_once < 1:
        raise InvalidData(explain("block is a number of nodes", got=repr(course.block), expected="at least 1"))


def check_answers(algorithm: Algorithm, trained: str, *, classifies: bool) -> None:
    """Refuse a method that answers by the labels of a node's rows, where what is trained answers with numbers.

    Parameters
    ----------
    algorithm : Algorithm
        How it is trained.
    trained : str
        What is trained, or its loss.
    classifies : bool
        Whether its targets are classes.

    Raises
    ------
    InvalidData
        With the reason.
    """
    if algorithm.says is not None and not classifies:
        what = f"{algorithm.spec.name} lets rows vote for their classes, and {trained} is for numbers"
        raise InvalidData(explain(what, got=repr(algorithm), hint="use a classifier, or ditto() or fedper(…)"))


def train_in_rounds(rounds: Rounds, program: Spec, model: Model, course: Course) -> Trained:
    """Train over nodes that have met, with a server that adds up what they learn in each round; see `train_over`."""
    nodes = node_weights(rounds, course.algorithm)
    check_course(course, len(nodes))
    nodes = {node: weight for node, weight in nodes.items() if weight}  # of the others nothing would count
    number = {name: i for i, name in enumerate(rounds.link.names)}
    rows = {number[name]: n for name, n in zip(rounds.schema.nodes, rounds.schema.rows, strict=True)}
    began = rounds.number
    at = _begin(rounds, model, course, began)
    ended = at.step > 0 and _told(rounds, program, course, at)
    settled = course.algorithm.settle is not None
    while at.step < course.rounds and not ended:
        try:
            at = _round(rounds, program, course, nodes, rows, at, began)
            ended = _told(rounds, program, course, at)
        except KeyboardInterrupt:
            rounds.run.notes.append(f"interrupted after {at.step} of {course.rounds} rounds")
            settled = False
            break
    if settled:
        _settle(rounds, program, course, at)
    return trained_at(rounds, program, course, at, settled)


class At(NamedTuple):
    """How far a training has come; see `Trained`."""

    step: int
    model: Model
    state: Tree
    losses: tuple[float, ...]
    picked: Tree = {}
    now: float = 0.0


def _told(rounds: Rounds, program: Spec, course: Course, at: At) -> bool:
    """Whether one of the callbacks ends the training; of one that is resumed they are told once."""
    seen = trained_at(rounds, program, course, at)
    told = [callback(seen) for callback in course.callbacks]
    return any(told)


def trained_at(rounds: Rounds, program: Spec, course: Course, at: At, settled: bool = False) -> Trained:
    """What callbacks and callers are shown of a training; see `Trained`."""
    judge = judge_of(rounds, program, course, at, settled)
    return Trained(at.step, at.model, at.state, at.losses, judge, at.picked, at.now, course, rounds.run)


def _begin(rounds: Rounds, model: Model, course: Course, began: int) -> At:
    saved = None if course.replayed else rounds.saved(began)
    if saved is None:
        return course.start or At(0, model, course.algorithm.init(model.w), ())
    step, tree = saved
    state, picked = _within(tree, "state/"), _within(tree, "picked/")
    model, losses = model._replace(w=tree["x"], buffers=tree["buffers"]), tuple(tree["losses"].tolist())
    return At(step, model, state, losses, picked, float(tree["now"][0]))


def _within(tree: Tree, prefix: str) -> Tree:
    return {name.removeprefix(prefix): array for name, array in tree.items() if name.startswith(prefix)}


def _round(
    rounds: Rounds, program: Spec, course: Course, nodes: dict[int, float], rows: dict[int, int], at: At, began: int
) -> At:
    algorithm, local, x = course.algorithm.at(at.step), course.local.at(at.step), at.model.w
    settings, arrays = written(program, algorithm, local, course.way, course.at_once, course.balance)
    called = _called(rounds, program, course, nodes, rows, at)
    cohort, each = called.nodes, _each(course, called, at.step)
    if not cohort:
        return _kept(
            rounds, course, at._replace(step=at.step + 1, losses=(*at.losses, math.nan), now=called.now), began
        )
    message, ahead = algorithm.message(x, at.state), np.zeros(0)
    if algorithm.ahead:
        payload = {**question(x, at.model.buffers, message), **arrays}
        sums = rounds.round("train.gradient", payload, combine=Sum(), settings=settings, cohort=cohort, step=at.step)
        ahead = sums["gradient"] / x.dtype.type(sums["weight"][0])
        message = {**message, "gradient": ahead}
    total = rounds.round(
        "train.remembering" if algorithm.remembers else "train.local",
        {**question(x, at.model.buffers, message), **arrays},
        combine=Sum(), settings=settings, each=each, cohort=cohort, step=at.step,
        metrics=lambda total: _metrics(total) | ({} if course.pace is None else _virtual(called)),
    )  # fmt: skip
    answered, rate = rounds.run.rows[-1].answered, float(local.lr)  # type: ignore[arg-type]
    told = Told(len(nodes), sum(nodes.values()), answered, at.step, rate, ahead)
    new, state = algorithm.update(x, at.state, total, told)
    buffers = at.model.buffers
    if buffers.size:
        buffers = total["buffers"] / buffers.dtype.type(total["weight"][0])
    losses = (*at.losses, _metrics(total)["loss"])
    model = at.model._replace(w=new, buffers=buffers)
    return _kept(rounds, course, At(at.step + 1, model, state, losses, called.picked, called.now), began)


def _kept(rounds: Rounds, course: Course, at: At, began: int) -> At:
    """Save how far training has come, where it would go on from there; returns it."""
    if course.replayed:
        return at
    tree = {"x": at.model.w, "buffers": at.model.buffers, "losses": np.array(at.losses), "now": np.array([at.now])}
    tree |= {f"state/{name}": array for name, array in at.state.items()}
    tree |= {f"picked/{name}": array for name, array in at.picked.items()}
    rounds.save(at.step, {**tree, "began": np.array([began])})
    return at


def _called(
    rounds: Rounds, program: Spec, course: Course, nodes: dict[int, float], rows: dict[int, int], at: At
) -> Cohort:
    def losses(cohort: Sequence[int]) -> Array:
        settings, payload = _after(program, course, at)
        told = rounds.round("train.losses", payload, combine=Each(), settings=settings, cohort=cohort, step=at.step)
        return told["loss"]

    return called_up(
        course.selection, course.pace, seed=rounds.run.seed, step=at.step, now=at.now, picked=at.picked,
        weights=nodes, rows=rows, n=course.nodes_per_round or len(nodes), local=course.local.at(at.step),
        nbytes=2.0 * (at.model.w.nbytes + at.model.buffers.nbytes), losses=losses, at_once=course.at_once,
        together=course.way in ("implicit", "stacked"),
    )  # fmt: skip


def _each(course: Course, called: Cohort, step: int) -> dict[int, Tree]:
    """What single positions are told: the order of their rows, how many steps they have time for, and fresh rows."""
    each: dict[int, Tree] = {p: {"steps": np.array([n])} for p, n in called.steps.items()}
    for p, node in enumerate(called.nodes):
        if course.order is not None:
            each.setdefault(p, {})["order"] = course.order(step, node)
        fresh = course.streams[node].next() if node in course.streams else None
        if fresh is not None:
            each.setdefault(p, {}).update({f"rows/{name}": array for name, array in fresh.to_tree().items()})
    return each


def _virtual(called: Cohort) -> dict[str, float]:
    return {"virtual_seconds": called.now, "dropped": float(len(called.dropped))}


def _metrics(total: Tree) -> dict[str, float]:
    weight = float(total["weight"][0])
    return {"loss": float(total["loss"][0]) / weight if weight else math.nan}


def node_weights(rounds: Rounds, algorithm: Algorithm) -> dict[int, float]:
    """The nodes that take part, and what each counts for."""
    schema = rounds.schema
    number = {name: i for i, name in enumerate(rounds.link.names)}
    equal, counts = algorithm.weight == "equal", [float(n) for n in schema.rows]
    if schema.weighted and not equal:
        counts = rounds.round("statistics.weight", combine=Each())["total"].tolist()
    return {number[name]: 1.0 if equal else n for name, n in zip(schema.nodes, counts, strict=True)}


def _after(program: Spec, course: Course, at: At) -> tuple[dict[str, Any], Tree]:
    """Settings and arrays of a question about the model as it is now."""
    algorithm, local = course.algorithm.at(at.step), course.local.at(at.step)
    settings, arrays = written(program, algorithm, local, course.way, course.at_once, course.balance)
    return settings, {**question(at.model.w, at.model.buffers, algorithm.message(at.model.w, at.state)), **arrays}


def _settle(rounds: Rounds, program: Spec, course: Course, at: At) -> None:
    """Have every node make its own model."""
    settings, payload = _after(program, course, at)
    rounds.round("train.settle", payload, combine=Sum(), settings=settings, step=at.step)


class Judge:
    """Asks the nodes how good the model is on their rows; made by `judge_of`."""

    def __init__(self, ask: Callable[[bool, Rounds | None, Combine], Tree], nodes: Callable[[Rounds | None], Any]):
        self._ask, self._nodes = ask, nodes

    def __call__(self, own: bool = False, over: Rounds | None = None) -> Judged:
        """On the rows of all nodes.

        Parameters
        ----------
        own : bool, default=False
            Whether each node uses its own model, where the method gives it one.
        over : Rounds, optional
            The same run seen through other views; that of the training by default.

        Returns
        -------
        Judged
        """
        return _judged(self._ask(own, over, Sum()), 0)

    def by_node(self, own: bool = False, over: Rounds | None = None) -> dict[str, Judged]:
        """On the rows of each node, by its name; parameters as of a call."""
        told = self._ask(own, over, Each())
        return {name: _judged(told, i) for i, name in enumerate(self._nodes(over))}


def _judged(told: Tree, i: int) -> Judged:
    rows = float(told["rows"][i])
    return Judged(float(told["loss"][i]) / rows, float(told["right"][i]) / rows, int(rows))


def judge_of(rounds: Rounds, program: Spec, course: Course, at: At, settled: bool = False) -> Judge:
    """What asks the nodes how good the model is on their rows; see `Trained.judge`."""

    def ask(own: bool, over: Rounds | None, combine: Combine) -> Tree:
        nonlocal settled
        if own and course.algorithm.settle is not None and not settled:
            _settle(rounds, program, course, at)
            settled = True
        settings, payload = _after(program, course, at)
        op = "train.judge_own" if own and course.algorithm.personal else "train.judge"
        return (over or rounds).round(op, payload, combine=combine, settings=settings, step=at.step)

    return Judge(ask, lambda over: (over or rounds).schema.nodes)
