"""Any module trained on several nodes at once: their parameters lie one upon the other, and each call does all.

What a module does with one node's parameters and batch is turned by `torch.func.vmap` into the same for many. Nothing
is padded: the nodes whose next batch is of the commonest length take their next step together. So a node meets the
batches that it would meet alone, whatever the module and the loss do with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, grad_and_value, vmap

from atoll.algorithms import Local
from atoll.learners import Part
from atoll.nets.losses import Loss
from atoll.nets.parts import Net, Rows, Step, Sums, descend, joined, piece, step_of
from atoll.trees import Array

__all__ = ["possible", "total"]

_NUMBERS = {"cpu": 1 << 24}
_NUMBERS_ELSEWHERE = 1 << 30
_DRAWS = (nn.modules.dropout._DropoutNd, nn.RReLU, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)


def possible(net: Net, local: Local) -> bool:
    """Whether nothing speaks against this way before it is tried.

    Parameters
    ----------
    net : Net
        What is trained.
    local : Local
        How.

    Returns
    -------
    bool
        False for steps other than those of stochastic gradient descent, and for modules that draw at random or keep
        running statistics.
    """
    return step_of(local) is not None and not any(_own_state(module) for module in net.module.modules())


def _own_state(module: nn.Module) -> bool:
    if isinstance(module, _DRAWS):
        return bool(getattr(module, "p", 1.0))
    if isinstance(module, nn.RNNBase) and module.dropout:
        return True
    return getattr(module, "running_mean", None) is not None


def total(
    net: Net,
    x: torch.Tensor,
    blocks: Sequence[Rows],
    local: Local,
    weights: Sequence[float],
    *,
    mu: float = 0.0,
    h: Sequence[torch.Tensor] | None = None,
) -> Sums | None:
    """The sum of what some nodes learn, each from `x`.

    Parameters
    ----------
    net : Net
        Any module that neither draws at random nor changes its buffers.
    x : Tensor of shape (P,)
        Where all begin.
    blocks : sequence of Rows
        One per node.
    local : Local
        Steps of stochastic gradient descent, the rate a number.
    weights : sequence of float
        What each node counts for.
    mu : float, default=0
        Pull towards `x`.
    h : sequence of Tensor of shape (P,), optional
        What is added to the gradients of each node.

    Returns
    -------
    Sums or None
        None where the module is none for this way.
    """
    step = step_of(local, mu)
    if step is None or not possible(net, local):
        return None
    nodes = [_Node(i, *rows, weights[i], None if h is None else h[i]) for i, rows in enumerate(blocks) if rows.batches]
    held = [
        (module, name, buffer) for module in net.module.modules() for name, buffer in module.named_buffers("", False)
    ]
    net.module.train()
    change, loss = torch.zeros_like(x), torch.zeros((), dtype=torch.float64, device=x.device)
    try:
        for chunk in _chunks(nodes, len(x), step, x.device):
            loss += _trained(net, step, x, chunk, change)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        return None
    finally:
        changed = _put_back(held)
    return None if changed else Sums(change, float(loss), float(sum(weights)))


def _put_back(held: list[tuple[nn.Module, str, torch.Tensor]]) -> bool:
    """Give modules back the buffers they had; whether any had set another. In place torch lets them change none."""
    others = [each for each in held if getattr(each[0], each[1]) is not each[2]]
    for module, name, buffer in others:
        setattr(module, name, buffer)
    return bool(others)


class _Node(NamedTuple):
    number: int
    inputs: Any
    target: Array | torch.Tensor
    batches: Sequence[np.ndarray]
    weight: float
    h: torch.Tensor | None


def _chunks(nodes: list[_Node], size: int, step: Step, device: torch.device) -> Iterator[list[_Node]]:
    """As many nodes as memory is meant to hold, those with most steps first."""
    nodes = sorted(nodes, key=lambda node: -sum(len(batch) for batch in node.batches))
    copies = 3 + bool(step.momentum) + any(node.h is not None for node in nodes)
    n = max(1, _NUMBERS.get(device.type, _NUMBERS_ELSEWHERE) // (copies * size))
    for i in range(0, len(nodes), n):
        yield nodes[i : i + n]


class _Stack(NamedTuple):
    """Parameters of some nodes, one upon the other, by name: where they began, where they are, velocities, drifts."""

    starts: dict[str, torch.Tensor]
    w: dict[str, torch.Tensor]
    v: dict[str, torch.Tensor]
    h: dict[str, torch.Tensor]


def _stack(parts: list[Part], step: Step, x: torch.Tensor, nodes: list[_Node]) -> _Stack:
    n, starts = len(nodes), {part.name: piece(x, part) for part in parts}
    w = {name: start.expand(n, *start.shape).clone() for name, start in starts.items()}
    v = {name: torch.zeros_like(own) for name, own in w.items()} if step.momentum else {}
    drifts = [node.h for node in nodes if node.h is not None]
    h = {part.name: torch.stack([piece(drift, part) for drift in drifts]) for part in parts} if drifts else {}
    return _Stack(starts, w, v, h)


def _trained(net: Net, step: Step, x: torch.Tensor, nodes: list[_Node], change: torch.Tensor) -> torch.Tensor:
    """Train some nodes; their changes are added to `change`, their weighted loss is returned."""
    moving = {name for name, p in net.module.named_parameters() if p.requires_grad}
    parts = [part for part in net.layout if part.name in moving]
    stack = _stack(parts, step, x, nodes)
    slope = _slope(net, {part.name: piece(x, part) for part in net.layout if part.name not in moving})
    inputs, target = joined([node.inputs for node in nodes]), joined([node.target for node in nodes])
    losses = x.new_zeros(len(nodes))
    for members, rows in _steps(nodes):
        at, who = torch.from_numpy(rows).to(x.device), _selection(members, x.device)
        own = {name: a[who] for name, a in stack.w.items()}
        g, found = slope(own, _taken(inputs, at), target[at])
        _descend(stack, who, own, _clipped(g, step.clip), step)
        losses[who] += found
    p = x.new_tensor([node.weight for node in nodes])
    for part in parts:
        moved = stack.w[part.name].sub_(stack.starts[part.name]).view(len(nodes), -1)
        change[part.start : part.stop].add_(p @ moved)
    taken = x.new_tensor([len(node.batches) for node in nodes])
    return (losses / taken).double() @ p.double()


def _descend(
    stack: _Stack, who: slice | torch.Tensor, own: dict[str, torch.Tensor], g: dict[str, torch.Tensor], step: Step
) -> None:
    """One step of some nodes; `own` are their parameters: views, or copies that are put back."""
    for name, w in own.items():
        v = stack.v[name][who] if stack.v else None
        descend(w, g[name], v, step, stack.starts[name], stack.h[name][who] if stack.h else None)
        if isinstance(who, torch.Tensor):
            stack.w[name][who] = w
            if v is not None:
                stack.v[name][who] = v


def _slope(net: Net, fixed: dict[str, torch.Tensor]) -> Callable[..., Any]:
    loss = Loss(net.loss)

    def of_one(w: dict[str, torch.Tensor], x: Any, y: torch.Tensor) -> torch.Tensor:
        return loss(lambda *args, **kw: functional_call(net.module, (w, fixed), args, kw), x, y)  # type: ignore[arg-type]

    slope: Callable[..., Any] = vmap(grad_and_value(of_one))
    return slope


def _steps(nodes: list[_Node]) -> Iterator[tuple[list[int], np.ndarray]]:
    """Who takes the next step, and with which of all rows, shape (m, b), until no batch is left."""
    sizes = np.array([node.target.shape[0] for node in nodes])
    first, at = np.cumsum(sizes) - sizes, [0] * len(nodes)
    while True:
        ready: dict[int, list[int]] = {}
        for i, node in enumerate(nodes):
            if at[i] < len(node.batches):
                ready.setdefault(len(node.batches[at[i]]), []).append(i)
        if not ready:
            return
        length = max(ready, key=lambda b: (len(ready[b]), b))
        members = ready[length]
        yield members, np.stack([nodes[i].batches[at[i]] + first[i] for i in members])
        for i in members:
            at[i] += 1


def _selection(members: list[int], device: torch.device) -> slice | torch.Tensor:
    """A slice where nodes lie next to each other, so that nothing is copied."""
    if members[-1] - members[0] + 1 == len(members):
        return slice(members[0], members[-1] + 1)
    return torch.tensor(members, device=device)


def _clipped(g: dict[str, torch.Tensor], most: float | None) -> dict[str, torch.Tensor]:
    if most is None:
        return g
    length = torch.sqrt(torch.stack([a.flatten(1).square().sum(1) for a in g.values()]).sum(0))
    factor = torch.clamp(most / length, max=1.0)
    return {name: a * factor.view(-1, *[1] * (a.ndim - 1)) for name, a in g.items()}


def _taken(inputs: Any, at: torch.Tensor) -> Any:
    if isinstance(inputs, torch.Tensor):
        return inputs[at]
    if isinstance(inputs, dict):
        return {name: own[at] for name, own in inputs.items()}
    return tuple(own[at] for own in inputs)
