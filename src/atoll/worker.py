"""What happens on a node. `execute` is the one function that answers an exchange there, in every engine."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from atoll.blas import one_thread
from atoll.combine import Combine, Part, close, combines, push
from atoll.context import Ctx
from atoll.errors import AtollError, InvalidData
from atoll.memory import Memory
from atoll.messages import Exchange, Outcome, Reply, n_blocks
from atoll.operations import Operation, operations
from atoll.shards import Shard, is_sparse, on_file
from atoll.topology import HUB, Plan, Routed, is_mix, plans, route, traffic
from atoll.transforms import Transform, build
from atoll.trees import Tree, TreeSpec, check, check_claims, contract, finite, nbytes, row_major, too_wild
from atoll.views import viewer

__all__ = [
    "LATE",
    "Block",
    "Bound",
    "Gate",
    "allow",
    "assemble",
    "block",
    "execute",
    "piece_rows",
    "promise",
    "segments",
]

Gate = Callable[[Exchange, Shard], None]
LATE = "late"
_WAITING = 1 << 16
_NO_SLOTS: dict[str, Tree] = {}


def allow(x: Exchange, shard: Shard) -> None:
    """The gate of a node that belongs to the user's own process: everything may pass."""


class Bound:
    """An exchange with every name looked up, once, so that a thousand nodes share the cost.

    Parameters
    ----------
    x : Exchange
        The question.
    """

    def __init__(self, x: Exchange) -> None:
        self.x = x
        self.operation: Operation = operations[x.op]
        self.combine: Combine = combines[x.combine.name](**x.combine.settings)
        self.transform: Transform | None = build(x.transform) if x.transform else None
        self.see = viewer(x.view) if x.view else None
        self._weighed = "weight" in x.expects.leaves or x.expects.max_norm < math.inf

    @cached_property
    def nbytes(self) -> int:
        """Bytes of every contribution, where the contract leaves no length open; otherwise 0."""
        leaves = self.x.expects.leaves.values()
        if any(leaf.dtype == "U" or -1 in leaf.shape for leaf in leaves):
            return 0
        return sum(np.dtype(leaf.dtype).itemsize * math.prod(leaf.shape) for leaf in leaves)

    @cached_property
    def _leaves(self) -> list[tuple[str, Any, tuple[int, ...]]]:
        leaves = self.x.expects.leaves.items()
        return [(name, None if leaf.dtype == "U" else np.dtype(leaf.dtype), leaf.shape) for name, leaf in leaves]

    @property
    def joins(self) -> bool:
        """Whether blocks of positions are answered as one, their sum formed and no single contribution."""
        x, can = self.x, self.operation.block is not None and "block" in self.x.settings
        return can and self.combine.kind == "sum" and not x.transform and not is_mix(x.plan) and not x.rule.deadline

    @cached_property
    def plan(self) -> Plan:
        """Who sends what to whom in this cohort."""
        return plans[self.x.plan.name](len(self.x.cohort), **self.x.plan.settings)

    def answer(self, position: int, shard: Shard, memory: Memory, gate: Gate, values: bool) -> Tree:
        """The contribution of one position, as it leaves the node; see `execute`."""
        x, operation, transform = self.x, self.operation, self.transform
        gate(x, shard)
        node = x.cohort[position]
        slots = memory.read(node, x.base[position]) if operation.remembers else _NO_SLOTS
        ctx = Ctx(node, x.number, x.step, x.seed, x.settings, slots, x.cohort)
        payload = x.payload if position not in x.each else {**x.payload, **x.each[position]}
        tree, keep = self._ask(shard, payload, ctx)
        if transform is not None:
            tree, kept = transform.encode(tree, ctx)
            keep = {**keep, "transform": kept} if kept else keep
        tree = row_major(tree)
        if values or self._weighed or not self._as_agreed(tree):
            _hold(tree, x.expects, values=values or self._weighed)
        if operation.remembers or keep:
            memory.write(node, x.number, x.base[position], {slot: row_major(own) for slot, own in keep.items()})
        return tree

    def joint(self, positions: list[int], shards: Any) -> Tree | None:
        """The sum of the contributions of some positions; None where the operation has no faster way to it.

        Raises
        ------
        WireError
            If it breaks the contract; any node may be the reason.
        """
        x, ask = self.x, self.operation.block
        seen = [shards[x.cohort[p]] for p in positions]
        seen = seen if self.see is None else [self.see(shard) for shard in seen]
        payloads = [x.payload if p not in x.each else {**x.payload, **x.each[p]} for p in positions]
        ctxs = [Ctx(x.cohort[p], x.number, x.step, x.seed, x.settings, _NO_SLOTS, x.cohort) for p in positions]
        tree = None if ask is None else ask(seen, payloads, ctxs)
        if tree is not None:
            check(tree, _times(x.expects, len(positions)))
        return tree

    def _ask(self, shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
        """The operation's answer; piece by piece where it allows that, and added in the same aligned tree as nodes.

        Rows that lie in a file are seen through the views piece by piece too, so that none are ever in memory together.
        """
        fn, see = self.operation.fn, self.see or _as_they_are
        if not self.operation.pieces:
            return fn(see(shard), payload, ctx)
        late = on_file(shard.X)
        shard = shard if late else see(shard)
        rows = piece_rows(shard, self.operation.piece)
        if shard.n_rows <= rows:
            return fn(see(shard) if late else shard, payload, ctx)
        parts: list[Part] = []
        starts = range(0, shard.n_rows, rows)
        for i, start in enumerate(starts):
            piece = shard.take(slice(start, start + rows))
            answer = fn(see(piece) if late else piece, payload, ctx)
            with _quiet():
                push(self.combine.add, parts, (i, i + 1, answer.tree))
        with _quiet():
            return Reply(close(self.combine.add, parts, len(starts)) or {})

    def _as_agreed(self, tree: Tree) -> bool:
        """Whether names, dtypes and shapes are as agreed to the letter; where not, `check` looks closer."""
        if len(tree) != len(self._leaves):
            return False
        for name, dtype, shape in self._leaves:
            array = tree.get(name)
            if array is None or array.dtype is not dtype or array.shape != shape:
                return False
        return True


def _hold(tree: Tree, expects: TreeSpec, *, values: bool) -> None:
    """`check`; what is not finite is an error of the rows: round 0 saw that they are, so they are too large to add."""
    check(tree, expects, values=False)
    if values and (wild := too_wild(tree, expects)):
        raise InvalidData(f"{wild}\n  next:     scale the columns down: their sums or squares are not finite")
    if values:
        check_claims(tree, expects)


def _times(expects: TreeSpec, n: int) -> TreeSpec:
    """The contract of the sum of so many contributions."""
    return expects._replace(max_weight=expects.max_weight * n, max_norm=expects.max_norm * n)


def _as_they_are(shard: Shard) -> Shard:
    return shard


def piece_rows(shard: Shard, size: int) -> int:
    """Rows of one piece of about so many numbers, and as many rows as columns at least.

    A function of the rows' form and the operation alone, so that bits do not depend on anything else.
    """
    width = shard.n_features if not is_sparse(shard.X) else shard.X.nnz // max(shard.n_rows, 1)
    return max(256, shard.n_features, size // max(width, 1))


def execute(x: Exchange, position: int, shard: Shard, memory: Memory, gate: Gate) -> Tree:
    """Answer an exchange on one node.

    Parameters
    ----------
    x : Exchange
        The question.
    position : int
        The node's position in the cohort.
    shard : Shard
        Its rows.
    memory : Memory
        What it kept.
    gate : callable
        The owner's policy; may raise `Refused`.

    Returns
    -------
    Tree
        The contribution, encoded, and checked against the contract of the exchange.

    Raises
    ------
    Refused
        If the owner does not allow it.
    WireError
        If the answer breaks the contract.
    """
    with one_thread():
        return Bound(x).answer(position, shard, memory, gate, values=True)


def promise(x: Exchange, empty: Shard, max_weight: float) -> TreeSpec:
    """The contract of an exchange: what its operation answers for a shard without rows.

    Parameters
    ----------
    x : Exchange
        The question; its `expects` is not looked at.
    empty : Shard
        A shard without rows that looks like every node's.
    max_weight : float
        The largest weight that one node may claim.

    Returns
    -------
    TreeSpec
    """
    with one_thread():
        bound = Bound(x)
        ctx = Ctx(-1, x.number, x.step, x.seed, x.settings, {}, x.cohort)
        payload = {**x.payload, **next(iter(x.each.values()))} if x.each else x.payload
        tree = bound.operation.fn(bound.see(empty) if bound.see else empty, payload, ctx).tree
        if bound.transform is not None:
            tree, _ = bound.transform.encode(tree, ctx)
        return contract(tree, max_weight)


class Block(NamedTuple):
    """What some positions of a cohort answered, joined as far as it can be.

    Attributes
    ----------
    held : dict of int to list of Part
        By holder (-1: the hub), as in `atoll.topology.Routed`.
    accepted : list of int
        Positions that are in the sums.
    refused : dict of int to str
        Position to reason.
    bytes : dict of int to int
        Position to the bytes that left it.
    links : dict of str to int
        Links used within the block.
    done : list of int
        Positions that have passed on what they hold.
    """

    held: dict[int, list[Part]]
    accepted: list[int]
    refused: dict[int, str]
    bytes: dict[int, int]
    links: dict[str, int]
    done: list[int]


def block(
    x: Exchange,
    positions: Iterable[int],
    shards: Sequence[Shard] | Mapping[int, Shard],
    memory: Memory,
    gate: Gate = allow,
    *,
    until: float | None = None,
) -> Block:
    """Answer an exchange on several nodes of this process and join the answers.

    Parameters
    ----------
    x : Exchange
        The question.
    positions : iterable of int
        Positions of the cohort, ascending.
    shards : sequence or mapping of Shard
        By node number.
    memory : Memory
        What the nodes kept.
    gate : callable, optional
        The owner's policy.
    until : float, optional
        Value of `time.monotonic` after which no further node is started; the rest is late.

    Returns
    -------
    Block
        A node that raises is refused with the reason and does not stop the others.
    """
    with one_thread():
        bound, wanted = Bound(x), list(positions)
        if bound.joins:
            return _jointly(bound, wanted, shards, memory, gate)
        by_block = bound.combine.kind == "sum"
        answers = _answers(bound, wanted, shards, memory, gate, until, values=not by_block)
        if by_block and not _all_finite(bound, answers):
            answers = _answers(bound, wanted, shards, memory, gate, until, values=True)
        return answers


def _answers(
    bound: Bound, positions: list[int], shards: Any, memory: Memory, gate: Gate, until: float | None, values: bool
) -> Block:
    x, add = bound.x, bound.combine.add
    expand = bound.transform.expand if bound.transform else None
    star = bound.joins or x.plan.name == "star"
    parts, waiting, waiting_bytes = list[Part](), list[Part](), 0
    leaves: dict[int, list[Part]] = {}
    sizes: dict[int, int] = {}
    refused: dict[int, str] = {}
    for position in positions:
        if until is not None and time.monotonic() > until:
            refused[position] = LATE
            continue
        try:
            tree = bound.answer(position, shards[x.cohort[position]], memory, gate, values)
        except Exception as error:
            refused[position] = _reason(error)
            continue
        sizes[position] = bound.nbytes or nbytes(tree)
        part = (position, position + 1, tree if expand is None else expand(tree))
        if not star:
            leaves[position] = [part]
            continue
        waiting.append(part)
        waiting_bytes += sizes[position]
        if waiting_bytes > _WAITING:
            _join(add, parts, waiting)
            waiting_bytes = 0
    if is_mix(x.plan):
        return Block(dict(leaves), list(sizes), refused, {}, {}, [])
    if star:
        _join(add, parts, waiting)
        return Block({HUB: parts}, list(sizes), refused, sizes, {}, [])
    with _quiet():
        routed = route(bound.plan, add, Routed(leaves, {}, frozenset()), here=set(positions))
    return Block(dict(routed.held), list(sizes), refused, sizes, routed.links, sorted(routed.done))


def _jointly(bound: Bound, positions: list[int], shards: Any, memory: Memory, gate: Gate) -> Block:
    """Answer blocks of consecutive positions as one, each of which is a segment of the aligned tree."""
    x, star, parts = bound.x, Block({HUB: []}, [], {}, {}, {}, []), list[Part]()
    for lo, hi, members in segments(x, positions):
        allowed = [p for p in members if _passes(gate, x, shards[x.cohort[p]], star.refused, p)]
        tree, alone = _together(bound, allowed, shards, memory, gate)
        with _quiet():
            if tree is None:
                tree = close(bound.combine.add, alone.held.get(HUB, []), len(x.cohort))
            if tree is not None:
                push(bound.combine.add, parts, (lo, hi, tree))
        star.accepted.extend(alone.accepted)
        star.refused.update(alone.refused)
        star.bytes.update(alone.bytes)
    return star._replace(held={HUB: parts})


def segments(x: Exchange, positions: Iterable[int]) -> list[tuple[int, int, list[int]]]:
    """The blocks of a cohort, each a segment of the aligned tree, with those of some positions that lie in it.

    There is a power of two of blocks, all of about the same number of consecutive positions; or each position is one.

    Parameters
    ----------
    x : Exchange
        Its setting ``block`` is the most positions of a block.
    positions : iterable of int
        Ascending.

    Returns
    -------
    list of (lo, hi, positions)
    """
    size = int(x.settings["block"])
    if size == 1:
        return [(p, p + 1, [p]) for p in positions]
    n, found = len(x.cohort), dict[int, list[int]]()
    blocks = n_blocks(n, size)
    for p in positions:
        found.setdefault(p * blocks // n, []).append(p)
    span = n_blocks(n, 1) // blocks
    return [(k * span, (k + 1) * span, members) for k, members in found.items()]


def _passes(gate: Gate, x: Exchange, shard: Shard, refused: dict[int, str], position: int) -> bool:
    try:
        gate(x, shard)
    except Exception as error:
        refused[position] = _reason(error)
        return False
    return True


def _together(bound: Bound, members: list[int], shards: Any, memory: Memory, gate: Gate) -> tuple[Tree | None, Block]:
    """The sum of a block, and who is in it. Where it fails, nodes are asked one by one, and those at fault left out."""
    refused: dict[int, str] = {}
    for _ in range(2):
        try:
            with _quiet():
                tree = bound.joint(members, shards) if members else None
        except Exception:
            alone = _answers(bound, members, shards, memory, gate, None, values=True)
            if not alone.refused:
                return None, alone
            refused, members = alone.refused, alone.accepted
            continue
        if tree is None:
            break
        return tree, Block({}, list(members), refused, dict.fromkeys(members, bound.nbytes), {}, [])
    alone = _answers(bound, members, shards, memory, gate, None, values=True)
    return None, alone._replace(refused={**refused, **alone.refused})


def _quiet() -> np.errstate:
    """While adding, numpy says nothing about what is not finite: that is looked for afterwards, and its node named."""
    return np.errstate(over="ignore", invalid="ignore")


def _join(add: Callable[[Tree, Tree], Tree], parts: list[Part], waiting: list[Part]) -> None:
    """Add what waits, and empty the list; some kilobytes wait at most, for quiet costs as much as an addition."""
    with _quiet():
        for part in waiting:
            push(add, parts, part)
    waiting.clear()


def _all_finite(bound: Bound, answers: Block) -> bool:
    leaves = bound.x.expects.leaves
    for parts in answers.held.values():
        for _, _, tree in parts:
            if any(finite(a) != "finite" for n, a in tree.items() if n not in leaves or leaves[n].allows == "finite"):
                return False
    return True


def _reason(error: Exception) -> str:
    """Type, message and, for an error that is not Atoll's own, the line it came from."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, AtollError) or error.__traceback__ is None:
        return text
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{text}\n  at:       {frame.filename}:{frame.lineno} in {frame.name}"


def assemble(x: Exchange, blocks: Sequence[Block], seconds: float, notes: Sequence[str] = ()) -> Outcome:
    """Add up what several blocks answered.

    Parameters
    ----------
    x : Exchange
        The question.
    blocks : sequence of Block
        In any order; together they cover the cohort.
    seconds : float
        Since submission.
    notes : sequence of str
        What a person should know.

    Returns
    -------
    Outcome
    """
    bound, n = Bound(x), len(x.cohort)
    with one_thread(), _quiet():
        held: dict[int, list[Part]] = {}
        for b in blocks:
            for at, parts in b.held.items():
                held.setdefault(at, []).extend(parts)
        sizes = {p: size for b in blocks for p, size in b.bytes.items()}
        links = {link: size for b in blocks for link, size in b.links.items()}
        if x.plan.name == "star":
            links = {f"{p}>{HUB}": size for p, size in sizes.items()}
        elif bound.joins:
            links = traffic(bound.plan, sizes)
        else:
            done = frozenset(p for b in blocks for p in b.done)
            held, links, _ = route(bound.plan, bound.combine.add, Routed(held, links, done))
        merged = close(bound.combine.add, held.get(HUB, []), n)
    return Outcome(
        merged=merged,
        accepted=tuple(sorted(p for b in blocks for p in b.accepted)),
        refused=dict(sorted((p, why) for b in blocks for p, why in b.refused.items())),
        bytes=dict(sorted(sizes.items())),
        links=dict(sorted(links.items())),
        seconds=seconds,
        notes=tuple(notes),
    )
