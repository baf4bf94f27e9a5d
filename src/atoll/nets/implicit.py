"""Dense layers trained on many nodes at once, without ever forming a node's weights.

After some plain steps the weights of a node are ``W = W₀ + Dᵀ A``: the rows of A are the inputs the layer was shown,
those of D are ``−η`` times the gradients at its outputs. So all that training asks of W comes from products with W₀,
which all nodes share, and from small products of inputs with inputs: the outputs for inputs a are
``a W₀ᵀ + (a Aᵀ) D``. The first layer is shown the rows themselves: what it says of them with W₀ is one product for all
nodes, and ``A Aᵀ`` is a Gram matrix per node. At the end the sum of all changes, ``Σ p Dᵀ A``, is one product again.
Momentum, decay, a pull towards the start and clipped gradients are linear in (W₀, D) too, so they stay exact.

A layer that is shown many more rows than it is wide is better formed after all. Each layer is computed in the way that
takes fewer operations (`_known_pays`, `_grown_pays`); both are descent as it is written, up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from atoll.algorithms import Local
from atoll.algorithms.local import n_steps
from atoll.nets.chains import Chain, apply, by_class, chain_of, row_losses, row_weights, single, splits
from atoll.nets.dense import Formed, Grown, Known, Layer, Turn
from atoll.nets.parts import Net, Rows, Step, Sums, joined, step_of, taken
from atoll.nets.softmax import Shown, suits, trained

__all__ = ["pays", "total"]

_NUMBERS = 1 << 26  # held for a group of nodes
_WITHIN = 3  # the largest node of a group has at most so many times the rows of the smallest
_SMALL = 1 << 20  # weights that are formed for every node without a second thought
_PASS = 30  # a step reads and writes every weight that is formed, which takes as long as so many multiplications


def pays(net: Net, local: Local, n_rows: int) -> bool:
    """Whether this way exists for a training, and saves something.

    Parameters
    ----------
    net : Net
        What is trained.
    local : Local
        How.
    n_rows : int
        Rows of a typical node.

    Returns
    -------
    bool
        True where the first layer need not be formed, or all layers are small: then calls cost more than arithmetic.
    """
    chain = chain_of(net)
    if chain is None or step_of(local) is None or not splits(net.loss):
        return False
    taken = n_steps(local, n_rows)
    shown = taken * min(local.batch_size or n_rows, n_rows)
    first = chain.layers[0].weight.shape
    return _known_pays(first, n_rows, shown, taken) or sum(layer.weights for layer in chain.layers) <= _SMALL


def total(
    net: Net,
    x: torch.Tensor,
    blocks: Sequence[Rows],
    local: Local,
    weights: Sequence[float],
    *,
    mu: float = 0.0,
) -> Sums | None:
    """The sum of what some nodes learn, each from `x`.

    Parameters
    ----------
    net : Net
        A chain of dense layers with a loss that is a mean or a sum over rows.
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

    Returns
    -------
    Sums or None
        None where this is no such training.
    """
    chain, step = chain_of(net), step_of(local, mu)
    if chain is None or step is None or not splits(net.loss):
        return None
    nodes = [_node(rows, weight) for rows, weight in zip(blocks, weights, strict=True)]
    change, loss = torch.zeros_like(x), 0.0
    with torch.no_grad():
        for group in _groups([node for node in nodes if len(node.batches)], chain):
            found = _trained(chain, net.loss, step, x, group, change)
            if found is None:
                return None
            loss += found
    return Sums(change, loss, float(sum(weights)))


class _Node(NamedTuple):
    size: int
    inputs: Any
    target: Any
    batches: Sequence[np.ndarray]
    weight: float


def _node(rows: Rows, weight: float) -> _Node:
    inputs = rows.inputs
    alone = isinstance(inputs, tuple) and len(inputs) == 1
    return _Node(len(rows.target), inputs[0] if alone else inputs, rows.target, rows.batches, weight)


def _groups(nodes: list[_Node], chain: Chain) -> Iterator[list[_Node]]:
    """Nodes of similar size, those with most steps first, and not too many for memory."""
    nodes = sorted(nodes, key=lambda node: -node.size)
    wide = sum(sum(layer.weight.shape) for layer in chain.layers)
    weights = sum(layer.weights for layer in chain.layers)
    while nodes:
        most, shown = nodes[0].size, sum(map(len, nodes[0].batches))
        held = most * (most + wide) + min(shown * wide, weights)
        fits = max(1, _NUMBERS // held)
        n = sum(1 for node in nodes[:fits] if node.size * _WITHIN >= most)
        yield sorted(nodes[:n], key=lambda node: -len(node.batches))
        nodes = nodes[n:]


def _trained(
    chain: Chain, loss: torch.nn.Module, step: Step, x: torch.Tensor, group: list[_Node], change: torch.Tensor
) -> float | None:
    """Train a group; its changes are added to `change`, its weighted loss is returned."""
    once = _once(group)
    if once is not None and _first_known(chain, group) and suits(chain, loss, step, x):
        found = _of_one_layer(chain, loss, step, x, group, once, change)
        if found is not None:
            return found
    rows = joined([node.inputs for node in group], once)
    if not isinstance(rows, torch.Tensor) or rows.dtype != x.dtype or rows.ndim < 2:
        return None
    rows = apply(chain.before, rows)
    if rows.ndim != 2 or rows.shape[1] != chain.layers[0].weight.shape[1]:
        return None
    turns = _turns(group, x) if once is None else _in_order(group, x)
    target = joined([node.target for node in group], once)
    aim = _Aim(single(loss), target, row_weights(loss, target), loss.reduction == "mean")
    layers = _layers(chain, x, step, rows, group, turns, once is not None)
    losses = x.new_zeros(len(group))
    for turn in turns:
        lost = _stepped(chain, layers, aim, step, turn, rows)
        if lost is None:
            return None
        losses[: turn.active] += lost
    p = x.new_tensor([node.weight for node in group])
    for layer in layers:
        layer.add_to(change, p)
    steps = x.new_tensor([len(node.batches) for node in group])
    return float((losses / steps).double() @ p.double())


def _of_one_layer(
    chain: Chain, loss: torch.nn.Module, step: Step, x: torch.Tensor, group: list[_Node], once: list[np.ndarray],
    change: torch.Tensor,
) -> float | None:  # fmt: skip
    """The same for one layer under a plain cross-entropy; None where rows or targets are not as that takes them."""
    inputs, dtype = chain.layers[0].weight.shape[1], x.numpy().dtype
    for node in group:
        a, y = node.inputs, node.target
        if not isinstance(a, np.ndarray) or a.dtype != dtype or a.ndim != 2 or a.shape[1] != inputs:
            return None
        if not isinstance(y, np.ndarray) or y.dtype != np.int64 or y.ndim != 1:
            return None
    n, lengths = len(group), [len(batch) for batch in group[0].batches]
    rows, labels = taken([node.inputs for node in group], once), taken([node.target for node in group], once)
    shown = Shown(rows.reshape(n, -1, inputs), labels.reshape(n, -1), lengths)
    return trained(chain, loss, step, x.numpy(), shown, np.array([node.weight for node in group]), change.numpy())


def _once(group: list[_Node]) -> list[np.ndarray] | None:
    """Which rows each node is shown and in which order.

    None where nodes are shown different numbers of rows in a step, or one of them the same row twice.
    """
    lengths = [len(batch) for batch in group[0].batches]
    if any([len(batch) for batch in node.batches] != lengths for node in group):
        return None
    orders = np.concatenate([batch for node in group for batch in node.batches]).reshape(len(group), -1)
    along = np.sort(orders, axis=1)
    return None if (along[:, 1:] == along[:, :-1]).any() else list(orders)


def _in_order(group: list[_Node], x: torch.Tensor) -> list[Turn]:
    """Steps of nodes whose rows lie in the order in which they are shown."""
    lengths = [len(batch) for batch in group[0].batches]
    at = torch.arange(len(group) * sum(lengths), device=x.device).view(len(group), -1)
    return [Turn(cut, None) for cut in torch.split(at, lengths, dim=1)]


def _turns(group: list[_Node], x: torch.Tensor) -> list[Turn]:
    """Steps of nodes whose rows lie as they stand."""
    sizes = np.array([node.size for node in group])
    first, found = np.cumsum(sizes) - sizes, []
    for t in range(len(group[0].batches)):
        cut = [node.batches[t] for node in group if len(node.batches) > t]
        lengths = np.array([len(b) for b in cut])
        real = np.arange(lengths.max()) < lengths[:, None]
        at = np.zeros(real.shape, np.int64)
        at[real] = np.concatenate(cut)
        at += first[: len(cut), None]
        weights = None if real.all() else torch.from_numpy(real).to(x.device, x.dtype)
        found.append(Turn(torch.from_numpy(at).to(x.device), weights))
    return found


class _Aim(NamedTuple):
    """The loss of a group: of single rows, what these are held against, what each weighs in the mean of its batch."""

    each: torch.nn.Module
    target: torch.Tensor
    own: torch.Tensor | None
    mean: bool

    def of(self, outputs: torch.Tensor, turn: Turn) -> torch.Tensor | None:
        """Each node's loss of its batch, shape (m,); None where outputs and targets do not fit row by row."""
        at = turn.at.reshape(-1)
        found = row_losses(self.each, outputs, self.target[at], self.mean)
        if found is None:
            return None
        found = found.view(turn.active, turn.length)
        weight = turn.real
        if self.own is not None:
            own = self.own[at].view_as(found)
            weight = own if weight is None else weight * own
        if turn.real is not None:
            found = found * turn.real
        if not self.mean:
            return found.sum(1)
        return found.mean(1) if weight is None else found.sum(1) / weight.sum(1)

    def slope(self, outputs: torch.Tensor, turn: Turn) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Each node's loss of its batch, and the gradient of their sum at the outputs, of their shape."""
        if self.own is None and by_class(self.each, outputs, self.target):
            return self._of_classes(outputs, turn)
        with torch.enable_grad():
            found = self.of(outputs.requires_grad_(), turn)
        if found is None:
            return None
        return found.detach(), torch.autograd.grad(found, outputs, torch.ones_like(found))[0]

    def _of_classes(self, outputs: torch.Tensor, turn: Turn) -> tuple[torch.Tensor, torch.Tensor]:
        """The same for a plain cross-entropy, in closed form: shares of the classes, less 1 for its own."""
        logs, own = torch.log_softmax(outputs, 1), self.target[turn.at].view(-1, 1)
        losses = -logs.gather(1, own).view(turn.active, turn.length)
        g = logs.exp_().scatter_add_(1, own, outputs.new_full((), -1.0).expand_as(own))
        if turn.real is not None:
            losses = losses * turn.real
            g.mul_(turn.real.view(-1, 1))
        if not self.mean:
            return losses.sum(1), g
        if turn.real is None:
            return losses.mean(1), g.mul_(1 / turn.length)
        n = turn.real.sum(1, keepdim=True)
        return losses.sum(1) / n[:, 0], g.div_(n.expand_as(turn.real).reshape(-1, 1))


def _stepped(
    chain: Chain, layers: list[Layer], aim: _Aim, step: Step, turn: Turn, rows: torch.Tensor
) -> torch.Tensor | None:
    """One step of all nodes that still take one; their losses before it."""
    z, zs = layers[0].outputs(turn, rows), []
    last = len(layers) == 1 and not chain.layers[0].after
    z.requires_grad_(not last)
    with torch.enable_grad():
        for dense, layer in zip(chain.layers, [*layers[1:], None], strict=True):
            zs.append(z)
            a = apply(dense.after, z.reshape(-1, z.shape[-1]))
            if layer is not None:
                z = layer.outputs(turn, a.view(turn.active, turn.length, -1))
    found = aim.slope(a.detach(), turn)
    if found is None:
        return None
    losses, slope = found
    gradients = [slope.view_as(z)] if last else list(torch.autograd.grad(a, zs, slope))
    if step.clip is not None:
        squares = torch.stack([layer.squares(turn, g) for layer, g in zip(layers, gradients, strict=True)])
        factor = torch.clamp(step.clip / torch.sqrt(squares.sum(0)), max=1.0)
        gradients = [g * factor[:, None, None] for g in gradients]
    for layer, g in zip(layers, gradients, strict=True):
        layer.descend(turn, g)
    return losses


def _known_pays(shape: tuple[int, ...], n_rows: int, shown: int, steps: int) -> bool:
    """Whether a first layer is better not formed: multiplications of one node either way."""
    outputs, inputs = shape
    known = n_rows * inputs * (2 * outputs + n_rows) + shown * n_rows * outputs
    return known < (2 * shown + _PASS * steps) * inputs * outputs


def _grown_pays(shape: tuple[int, ...], shown: int, steps: int) -> bool:
    """The same for a deeper layer; what both ways have in common is left out."""
    outputs, inputs = shape
    return shown * shown * (outputs + inputs) < _PASS * steps * inputs * outputs


def _first_known(chain: Chain, group: list[_Node]) -> bool:
    """Whether the weights of the first layer are better left unformed: nodes have few rows for their width."""
    batches = max((node.batches for node in group), key=len)
    most, shown = max(node.size for node in group), sum(map(len, batches))
    return _known_pays(chain.layers[0].weight.shape, most, shown, len(batches))


def _layers(
    chain: Chain, x: torch.Tensor, step: Step, rows: torch.Tensor, group: list[_Node], turns: list[Turn], once: bool
) -> list[Layer]:
    n, shown, steps = len(group), sum(turn.length for turn in turns), len(turns)
    first, *rest = chain.layers
    layers: list[Layer] = []
    if not _first_known(chain, group):
        layers.append(Formed(first, x, step, n))
    elif once:
        layers.append(Grown(first, x, step, n, shown, rows))
    else:
        layers.append(Known(first, x, step, rows, [node.size for node in group]))
    for dense in rest:
        grown = _grown_pays(dense.weight.shape, shown, steps)
        layers.append(Grown(dense, x, step, n, shown) if grown else Formed(dense, x, step, n))
    return layers
