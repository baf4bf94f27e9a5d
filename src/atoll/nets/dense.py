"""One dense layer of many nodes at once: with weights formed for every node, or without.

After some plain steps the weights of a node are ``W = W₀ + Dᵀ A``; see `atoll.nets.implicit`.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple, Protocol

import numpy as np
import torch

from atoll.learners import Part
from atoll.nets.chains import Dense
from atoll.nets.parts import Step, descend, piece

__all__ = ["Formed", "Grown", "Known", "Layer", "Turn"]


class Turn(NamedTuple):
    """One step of all nodes that still take one.

    Attributes
    ----------
    at : Tensor of shape (m, b), int64
        The rows of each node's batch, within all rows as they lie one after the other.
    real : Tensor of shape (m, b) or None
        0 where a batch is shorter than the longest; None: nowhere.
    """

    at: torch.Tensor
    real: torch.Tensor | None

    @property
    def active(self) -> int:
        """Nodes that take it."""
        return self.at.shape[0]

    @property
    def length(self) -> int:
        """Rows of the longest batch."""
        return self.at.shape[1]


class Layer(Protocol):
    """A dense layer of every node of a group."""

    def outputs(self, turn: Turn, a: torch.Tensor) -> torch.Tensor:
        """What it says of its inputs, shape (m, b, outputs); the first layer is shown all rows of the group."""
        ...

    def squares(self, turn: Turn, g: torch.Tensor) -> torch.Tensor:
        """The squared length of each node's gradient, shape (m,), from that at the outputs."""
        ...

    def descend(self, turn: Turn, g: torch.Tensor) -> None:
        """One step along the gradient at the outputs."""
        ...

    def add_to(self, change: torch.Tensor, p: torch.Tensor) -> None:
        """Add the sum of the nodes' changes, times p."""
        ...


class _Share:
    """How much of the shared start is left in each node's parameters: 1, unless steps bend."""

    def __init__(self, n: int, x: torch.Tensor, step: Step) -> None:
        self.step, self.of = step, x.new_ones(n) if step.bent else None
        self._one = x.new_ones(()) if step.bent else None
        self._v = x.new_zeros(n) if step.momentum else None

    def times(self, z: torch.Tensor, m: int) -> torch.Tensor:
        """Outputs of the shared start, times what is left of it."""
        return z if self.of is None else z * self.of[:m, None, None]

    def descend(self, m: int) -> None:
        """A step changes it where something pulls towards the start or towards zero."""
        if self.of is not None:
            v = None if self._v is None else self._v[:m]
            descend(self.of[:m], torch.zeros_like(self.of[:m]), v, self.step, self._one)

    def add_to(self, change: torch.Tensor, dense: Dense, x: torch.Tensor, p: torch.Tensor) -> None:
        """Add what is gone of it."""
        if self.of is not None:
            for part in _parts(dense):
                change[part.start : part.stop].add_(x[part.start : part.stop] * (p @ (self.of - 1)))


class Known:
    """A first layer: its inputs are the rows, each of which has one slot in D, however often it is shown.

    Parameters
    ----------
    dense : Dense
        Which layer.
    x : Tensor of shape (P,)
        Where all begin.
    step : Step
        How they descend.
    rows : Tensor of shape (N, inputs)
        Of all nodes, one node's below the other's.
    sizes : list of int
        Of how many rows each node has.
    """

    def __init__(self, dense: Dense, x: torch.Tensor, step: Step, rows: torch.Tensor, sizes: list[int]) -> None:
        self.dense, self.x, self.step, self.rows, self.sizes = dense, x, step, rows, sizes
        self.n, self.room = len(sizes), max(sizes)
        self.z = _of_many(rows, piece(x, dense.weight), _bias(dense, x))
        self.gram = self._grams()
        self.d = x.new_zeros(self.n, self.room, self.z.shape[1])
        self.v = torch.zeros_like(self.d) if step.momentum else None
        self.share = _Share(self.n, x, step)
        ends = torch.tensor([0, *itertools.accumulate(sizes)], device=x.device)
        self._first = ends[:-1, None]
        self._slot = self.room * torch.arange(self.n, device=x.device)[:, None] - self._first

    def _grams(self) -> torch.Tensor:
        """``A Aᵀ`` of every node, plus 1 for a bias."""
        if min(self.sizes) == self.room:
            rows = self.rows.view(self.n, self.room, -1)
            grams = _products(rows, rows)
        else:
            grams = self.x.new_zeros(self.n, self.room, self.room)
            for gram, rows, n in zip(grams, torch.split(self.rows, self.sizes), self.sizes, strict=True):
                gram[:n, :n] = rows @ rows.T
        return grams if self.dense.bias is None else grams.add_(1.0)

    def _slots(self, turn: Turn) -> torch.Tensor:
        """The rows of a step where each node has room for as many as the largest."""
        return turn.at + self._slot[: turn.active]

    def _near(self, turn: Turn) -> torch.Tensor:
        return self.gram.view(self.n * self.room, self.room)[self._slots(turn)]

    def outputs(self, turn: Turn, a: torch.Tensor) -> torch.Tensor:
        """See `Layer`."""
        z = self.share.times(self.z[turn.at], turn.active)
        return torch.baddbmm(z, self._near(turn), self.d[: turn.active])

    def squares(self, turn: Turn, g: torch.Tensor) -> torch.Tensor:
        """See `Layer`."""
        rows = turn.at - self._first[: turn.active]
        return _squares(g, self._near(turn).gather(2, rows[:, None, :].expand(-1, turn.length, -1)))

    def descend(self, turn: Turn, g: torch.Tensor) -> None:
        """See `Layer`."""
        m, outputs, slots = turn.active, self.d.shape[2], self._slots(turn).view(-1)
        if self.share.of is None:
            self.d.view(-1, outputs).index_add_(0, slots, g.reshape(-1, outputs), alpha=-self.step.rate)
            return
        spread = torch.zeros_like(self.d[:m])
        spread.view(-1, outputs).index_add_(0, slots, g.reshape(-1, outputs))
        descend(self.d[:m], spread, None if self.v is None else self.v[:m], self.step)
        self.share.descend(m)

    def add_to(self, change: torch.Tensor, p: torch.Tensor) -> None:
        """See `Layer`."""
        d = (self.d * p[:, None, None]).view(self.n * self.room, -1)
        if min(self.sizes) < self.room:
            d = torch.cat([own[:size] for own, size in zip(torch.split(d, self.room), self.sizes, strict=True)])
        _add_product(change, self.dense, d, self.rows)
        self.share.add_to(change, self.dense, self.x, p)


class Grown:
    """A layer that keeps its inputs: a deeper one those of every step; a first one is given all in the order of steps.

    Parameters
    ----------
    dense : Dense
        Which layer.
    x : Tensor of shape (P,)
        Where all begin.
    step : Step
        How they descend.
    n, shown : int
        Nodes, and rows shown to each.
    rows : Tensor of shape (n × shown, inputs), optional
        Of a first layer; it is shown each of them once.
    """

    def __init__(
        self, dense: Dense, x: torch.Tensor, step: Step, n: int, shown: int, rows: torch.Tensor | None = None
    ) -> None:
        outputs, inputs = dense.weight.shape
        self.dense, self.x, self.step = dense, x, step
        self.w, self.b, self.filled = piece(x, dense.weight), _bias(dense, x), 0
        self.a = x.new_zeros(n, shown, inputs) if rows is None else rows.view(n, shown, inputs)
        self.z = None if rows is None else _of_many(rows, self.w, self.b).view(n, shown, outputs)
        self.d = x.new_zeros(n, shown, outputs)
        self.v = torch.zeros_like(self.d) if step.momentum else None
        self.share = _Share(n, x, step)

    def outputs(self, turn: Turn, a: torch.Tensor) -> torch.Tensor:
        """See `Layer`."""
        m, r, most = turn.active, self.filled, self.filled + turn.length
        if self.z is None:
            self.a[:m, r:most], z = a.detach(), torch.nn.functional.linear(a, self.w, self.b)
        else:
            a, z = self.a[:m, r:most], self.z[:m, r:most]
        z = self.share.times(z, m)
        if not r:
            return z
        near = _products(a, self.a[:m, :r])
        return torch.baddbmm(z, near if self.b is None else near + 1.0, self.d[:m, :r])

    def squares(self, turn: Turn, g: torch.Tensor) -> torch.Tensor:
        """See `Layer`."""
        a = self.a[: turn.active, self.filled : self.filled + turn.length]
        return _squares(g, _products(a, a), self.b is not None)

    def descend(self, turn: Turn, g: torch.Tensor) -> None:
        """See `Layer`."""
        m, r, most = turn.active, self.filled, self.filled + turn.length
        self.filled = most
        if self.share.of is None:
            torch.mul(g, -self.step.rate, out=self.d[:m, r:most])
            return
        spread = torch.zeros_like(self.d[:m, :most])
        spread[:, r:] = g
        descend(self.d[:m, :most], spread, None if self.v is None else self.v[:m, :most], self.step)
        self.share.descend(m)

    def add_to(self, change: torch.Tensor, p: torch.Tensor) -> None:
        """See `Layer`."""
        d = (self.d * p[:, None, None]).view(-1, self.d.shape[2])
        _add_product(change, self.dense, d, self.a.view(-1, self.a.shape[2]))
        self.share.add_to(change, self.dense, self.x, p)


class Formed:
    """A layer with weights of its own for every node: where it is shown more rows than it is wide.

    Parameters
    ----------
    dense : Dense
        Which layer.
    x : Tensor of shape (P,)
        Where all begin.
    step : Step
        How they descend.
    n : int
        Nodes.
    """

    def __init__(self, dense: Dense, x: torch.Tensor, step: Step, n: int) -> None:
        self.dense, self.step = dense, step
        self.starts = [piece(x, part) for part in _parts(dense)]
        self.values = [start.expand(n, *start.shape).clone() for start in self.starts]
        self.v = [torch.zeros_like(value) for value in self.values] if step.momentum else [None, None]
        self.a = x

    def outputs(self, turn: Turn, a: torch.Tensor) -> torch.Tensor:
        """See `Layer`."""
        a = a if a.ndim == 3 else a[turn.at]
        self.a, m = a.detach(), turn.active
        if self.dense.bias is None:
            return torch.bmm(a, self.values[0][:m].mT)
        return torch.baddbmm(self.values[1][:m, None], a, self.values[0][:m].mT)

    def squares(self, turn: Turn, g: torch.Tensor) -> torch.Tensor:
        """See `Layer`."""
        return _squares(g, _products(self.a, self.a), self.dense.bias is not None)

    def descend(self, turn: Turn, g: torch.Tensor) -> None:
        """See `Layer`."""
        m = turn.active
        if not self.step.bent:
            self.values[0][:m].baddbmm_(g.mT, self.a, alpha=-self.step.rate)
            if self.dense.bias is not None:
                self.values[1][:m].sub_(g.sum(1), alpha=self.step.rate)
            return
        gradients = [torch.bmm(g.mT, self.a), g.sum(1)]
        for value, own, v, start in zip(self.values, gradients, self.v, self.starts, strict=False):
            descend(value[:m], own, None if v is None else v[:m], self.step, start)

    def add_to(self, change: torch.Tensor, p: torch.Tensor) -> None:
        """See `Layer`."""
        for part, value, start in zip(_parts(self.dense), self.values, self.starts, strict=True):
            change[part.start : part.stop].add_(p @ value.sub_(start).view(len(p), -1))


def _parts(dense: Dense) -> list[Part]:
    return [dense.weight] if dense.bias is None else [dense.weight, dense.bias]


def _bias(dense: Dense, x: torch.Tensor) -> torch.Tensor | None:
    return None if dense.bias is None else piece(x, dense.bias)


def _of_many(rows: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None) -> torch.Tensor:
    """What a layer says of many rows."""
    z = _products(rows, w)
    return z if b is None else z.add_(b)


def _products(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """``A Bᵀ``, of every node; numpy's BLAS takes a fifth less time than torch's, and for small matrices a fourth."""
    if a.requires_grad or a.device.type != "cpu":
        return a @ b.mT
    return torch.from_numpy(np.matmul(a.numpy(), b.mT.numpy()))


def _squares(g: torch.Tensor, near: torch.Tensor, bias: bool = False) -> torch.Tensor:
    """``‖Gᵀ A‖²`` of each node, from ``G Gᵀ`` and ``A Aᵀ``."""
    return (torch.bmm(g, g.mT) * (near + 1.0 if bias else near)).sum((1, 2))


def _add_product(change: torch.Tensor, dense: Dense, d: torch.Tensor, a: torch.Tensor) -> None:
    """Add ``Dᵀ A``, and for a bias the sum of D."""
    piece(change, dense.weight).add_(_products(d.T, a.T))
    if dense.bias is not None:
        piece(change, dense.bias).add_(d.sum(0))
