"""Local training: what a node does in a round of FedAvg and its family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from atoll.algorithms import Algorithm, Learner, Local, algorithms
from atoll.algorithms.base import with_loss
from atoll.context import Ctx
from atoll.errors import InvalidData, explain
from atoll.learners import Balance, Blocks, Idle, Program, Turn, node_weight, program_of
from atoll.messages import Reply
from atoll.operations.base import operation
from atoll.shards import Shard
from atoll.specs import Spec
from atoll.trees import Array, Tree

__all__ = [
    "SETTLED",
    "SLOT",
    "Task",
    "gradient",
    "judge",
    "judge_own",
    "local",
    "losses",
    "meet",
    "question",
    "remembering",
    "settle",
    "task_of",
    "trained",
    "written",
]

SLOT = "algorithm"
"""Where a node keeps what its algorithm keeps."""

SETTLED = "settled"
"""Where a node keeps what it made of its own when training was over; the next round does not see it."""


class Task(NamedTuple):
    """What is trained in a round, and how."""

    program: Program
    algorithm: Algorithm
    local: Local
    way: str
    x: Array
    buffers: Array
    message: Tree
    balance: Balance | None = None

    def turn(self, shard: Shard, payload: Tree, ctx: Ctx) -> Turn:
        """One node's turn."""
        weight = node_weight(shard, self.algorithm.weight)
        own = ctx.memory.get(SLOT, {}) if self.algorithm.own_buffers else {}
        balanced = None if self.balance is None else self.balance.on(_targets(shard))
        steps = int(payload["steps"][0]) if "steps" in payload else None
        return Turn(self.local, ctx, weight, own.get("buffers", self.buffers), payload.get("order"), balanced, steps)


def written(
    program: Spec, algorithm: Algorithm, local: Local, way: str, block: int, balance: Balance | None = None
) -> tuple[dict[str, Any], Tree]:
    """Settings and arrays of the exchanges of a training, as `task_of` reads them.

    Parameters
    ----------
    program : Spec
        What is trained.
    algorithm : Algorithm
        How.
    local : Local
        What nodes do between exchanges, the rate a number.
    way : str
        How several nodes are computed at once.
    block : int
        How many nodes at once, at most.
    balance : Balance, optional
        How unequal classes are answered.

    Returns
    -------
    settings : dict
    arrays : Tree
    """
    settings = {
        "program": [program.name, dict(program.settings)],
        "algorithm": [algorithm.spec.name, dict(algorithm.spec.settings)],
        "local": local._asdict(),
        "way": way,
        "block": block,
    }
    arrays = {f"program/{name}": array for name, array in program.arrays.items()}
    if balance is not None:
        settings["balance"] = [balance.kind, balance.prior, balance.strength]
        arrays["balance/counts"] = balance.counts
    return settings, arrays | {f"algorithm/{name}": array for name, array in algorithm.spec.arrays.items()}


def question(x: Array, buffers: Array, message: Tree) -> Tree:
    """The arrays of one exchange: the model, and what the algorithm sends besides."""
    return {"x": x, "buffers": buffers, **{f"message/{name}": array for name, array in message.items()}}


_last: tuple[Any, Any, Task] | None = None


def task_of(settings: dict[str, Any], payload: Tree) -> Task:
    """Read the task of an exchange; once for all its nodes."""
    global _last
    if _last is not None and _last[0] is settings and _last[1] is payload["x"]:
        return _last[2]
    (program, its), (algorithm, own) = settings["program"], settings["algorithm"]
    how = algorithms[algorithm](**own, **_within(payload, "algorithm/"))
    task = Task(
        program_of(Spec(program, its, _within(payload, "program/"))), how, Local(**settings["local"]),
        settings["way"], payload["x"], payload["buffers"], _within(payload, "message/"),
        _balance(settings, payload),
    )  # fmt: skip
    _last = (settings, payload["x"], task)
    return task


def _balance(settings: dict[str, Any], payload: Tree) -> Balance | None:
    if "balance" not in settings:
        return None
    kind, prior, strength = settings["balance"]
    return Balance(kind, payload["balance/counts"], prior, strength)


def _targets(shard: Shard) -> Array:
    """What rows are trained towards: class numbers where there are classes."""
    targets = shard.columns.get("code", shard.y)
    if targets is None:
        raise InvalidData(explain("these rows have no targets", hint="give y to simulate or from_shards"))
    return targets


def _within(payload: Tree, prefix: str) -> Tree:
    return {name.removeprefix(prefix): array for name, array in payload.items() if name.startswith(prefix)}


def _trained(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    return trained(task_of(ctx.settings, payload), shard, payload, ctx)


def trained(task: Task, shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """Train on a node: the contribution, and what the node keeps.

    Raises
    ------
    InvalidData
        If the loss is no longer a finite number, and clipping gradients does not help or is not wanted.
    """
    reply = _once(task, shard, payload, ctx)
    if task.local.rescue is not None and not _finite(reply.tree):
        clipped = task._replace(local=task.local._replace(clip=task.local.rescue))
        reply = _once(clipped, shard, payload, ctx)
    if not np.isfinite(reply.tree["loss"]).all():
        hint = "use a smaller rate, or clip=… or rescue=… in the local settings"
        got = float(reply.tree["loss"][0])
        raise InvalidData(explain("the loss is no longer a finite number", got=got, hint=hint))
    return reply


def _finite(tree: Tree) -> bool:
    return all(bool(np.isfinite(tree[name]).all()) for name in ("loss", "change") if name in tree)


def _once(task: Task, shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    algorithm, x = task.algorithm, task.x
    memory = ctx.memory.get(SLOT, {})
    learner = _learner(task, _fed(shard, payload), payload, ctx)
    if algorithm.local is not None:
        tree, keep = algorithm.local(learner, x, task.message, memory, ctx)
    else:
        done = learner.train(x, algorithm.before(x, task.message, memory, ctx))
        tree, keep = algorithm.after(x, task.message, memory, done, ctx)
        tree = with_loss(tree, done)
    if task.buffers.size:
        buffers = getattr(learner, "buffers", task.buffers)
        if algorithm.own_buffers:
            keep, buffers = {**keep, "buffers": buffers}, task.buffers
        tree = {**tree, "buffers": buffers * buffers.dtype.type(learner.weight)}
    return Reply(tree, {SLOT: keep} if keep else {})


def _fed(shard: Shard, payload: Tree) -> Shard:
    """The rows of this round, where they keep coming."""
    if "rows/ids" not in payload or not shard.n_rows:
        return shard
    return Shard.from_tree(shard.name, _within(payload, "rows/"))


def _learner(task: Task, shard: Shard, payload: Tree, ctx: Ctx) -> Learner:
    if not shard.n_rows:
        return Idle(float(task.local.lr))  # type: ignore[arg-type]
    return task.program.learner(shard, task.turn(shard, payload, ctx))


def _block(shards: Sequence[Shard], payloads: Sequence[Tree], ctxs: Sequence[Ctx]) -> Tree | None:
    task = task_of(ctxs[0].settings, payloads[0])
    if not isinstance(task.program, Blocks) or task.algorithm.local is not None:
        return None
    shards = [_fed(shard, payload) for shard, payload in zip(shards, payloads, strict=True)]
    turns = [task.turn(*each) for each in zip(shards, payloads, ctxs, strict=True)]
    return task.program.block(shards, turns, task.x, task.algorithm, task.message, task.way)


_CHANGE = (
    "how local training changed the model, and what it keeps besides its parameters (running means, momentum), times "
    "the node's weight, that weight, and the mean loss"
)


@operation("train.meet", discloses="that its rows suit the model")
def meet(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``rows`` of shape (1,), int64, where the program can be trained on a node's rows; otherwise the node says why."""
    if shard.n_rows:
        task_of(ctx.settings, payload).program.check(shard)
    return Reply({"rows": np.array([shard.n_rows], dtype=np.int64)})


@operation("train.local", discloses=_CHANGE, block=_block)
def local(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """One round of local training on a node that keeps nothing."""
    return _trained(shard, payload, ctx)


@operation("train.remembering", discloses=f"{_CHANGE}, and what its method adds to that", remembers=True)
def remembering(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """One round of local training on a node that keeps something between rounds."""
    return _trained(shard, payload, ctx)


@operation("train.gradient", discloses="the gradient of its mean loss, times the node's weight, and that weight")
def gradient(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """The gradient at the model of all, over all rows: what some methods ask before a round."""
    task = task_of(ctx.settings, payload)
    learner = _learner(task, shard, payload, ctx)
    g = learner.gradient(task.x)[1]
    return Reply({"gradient": g * g.dtype.type(learner.weight), "weight": np.array([float(learner.weight)])})


@operation("train.settle", discloses="that it has made a model of its own", remembers=True)
def settle(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``rows`` of shape (1,), int64; the node keeps its own model, for methods that make it when training is over."""
    task = task_of(ctx.settings, payload)
    make, keep = task.algorithm.settle, Reply({"rows": np.array([shard.n_rows], dtype=np.int64)})
    if make is None or not shard.n_rows:
        return keep
    learner, memory = _learner(task, shard, payload, ctx), ctx.memory.get(SLOT, {})
    made = make(learner, shard.columns.get("code", shard.y), task.x, task.message, memory, ctx)
    return Reply(keep.tree, {SETTLED: made})


@operation("train.losses", discloses="the mean loss of the model on its rows")
def losses(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``loss`` of shape (1,), float64, of each node: what some selections choose by."""
    if not shard.n_rows:
        return Reply({"loss": np.full(1, np.nan)})
    task = task_of(ctx.settings, payload)
    sums = task.program.judge(shard, task.x, task.buffers)
    return Reply({"loss": sums["loss"] / sums["rows"]})


_SUMS = "sums over its rows: their loss, how many were answered right, how many there are"


@operation("train.judge", discloses=_SUMS)
def judge(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """How good the model of all is on a node's rows."""
    task = task_of(ctx.settings, payload)
    return Reply(task.program.judge(shard, task.x, task.buffers) if shard.n_rows else _nothing())


@operation("train.judge_own", discloses=_SUMS, remembers=True)
def judge_own(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """How good a node's own model is on its rows, where the method gives it one."""
    task = task_of(ctx.settings, payload)
    if not shard.n_rows:
        return Reply(_nothing())
    algorithm, memory = task.algorithm, {**ctx.memory.get(SLOT, {}), **ctx.memory.get(SETTLED, {})}
    if algorithm.says is not None and memory:
        learner = _learner(task, shard, payload, ctx)
        return Reply(_scored(algorithm.says(learner, task.x, task.message, memory, ctx), _targets(shard)))
    w = algorithm.model(task.x, task.message, memory, ctx)
    return Reply(task.program.judge(shard, w, memory.get("buffers", task.buffers)))


def _nothing() -> Tree:
    """Sums over no rows; what is right may be NaN, where answers are not right or wrong."""
    return {"loss": np.zeros(1), "right": np.full(1, np.nan), "rows": np.zeros(1)}


def _scored(probabilities: Array, targets: Array) -> Tree:
    """Sums over rows of which a method says how likely each class is."""
    labels = targets.astype(np.int64)
    likely = probabilities[np.arange(len(labels)), labels]
    loss = -np.log(np.maximum(likely, np.finfo(np.float64).tiny)).sum()
    right = (probabilities.argmax(axis=1) == labels).sum()
    return {"loss": np.array([loss]), "right": np.array([float(right)]), "rows": np.array([float(len(labels))])}
