"""What the ways of local training share: a module with its loss, rows of nodes, one step, and what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from atoll.algorithms import Local
from atoll.learners import Part
from atoll.nets.flat import looked_at
from atoll.trees import Array

__all__ = ["Net", "Rows", "Step", "Sums", "descend", "joined", "piece", "step_of", "taken"]


class Net(NamedTuple):
    """A module and its loss, whose parameters lie in one flat array.

    Attributes
    ----------
    module : torch.nn.Module
        Only its structure is looked at, and the values of what is no parameter in `layout`.
    loss : torch.nn.Module
        ``(outputs, target) -> mean loss`` of a batch.
    layout : tuple of Part
        What lies where in the flat array, by the names of ``module.named_parameters()``.
    """

    module: torch.nn.Module
    loss: torch.nn.Module
    layout: tuple[Part, ...]


class Rows(NamedTuple):
    """One node's rows, and which of them every step takes.

    Attributes
    ----------
    inputs : ndarray or Tensor of shape (n, …), or tuple or dict of such
        What the module is given; rows that are to be taken elsewhere are tensors there.
    target : ndarray or Tensor of shape (n, …)
        What the loss holds its outputs against.
    batches : list of ndarray of shape (b,), int64
        Row numbers, one array per local step.
    """

    inputs: Any
    target: Array | torch.Tensor
    batches: Sequence[Array]


class Sums(NamedTuple):
    """What the local training of some nodes adds up to.

    Attributes
    ----------
    change : Tensor of shape (P,)
        ``Σ weight · (w − x)``.
    loss : float
        ``Σ weight · mean loss over the steps``, each before its step.
    weight : float
        ``Σ weight``.
    """

    change: torch.Tensor
    loss: float
    weight: float


class Step(NamedTuple):
    """One local step, ``v ← ρ v + g + λ w + μ (w − x); w ← w − η v``, as numbers.

    Attributes
    ----------
    rate : float
        η.
    momentum : float
        ρ.
    nesterov : bool
        Whether ``w ← w − η (g + ρ v)``, g with all that was added to it.
    decay : float
        λ.
    mu : float
        μ.
    clip : float or None
        Gradients longer than this are shortened to it, before anything is added.
    """

    rate: float
    momentum: float = 0.0
    nesterov: bool = False
    decay: float = 0.0
    mu: float = 0.0
    clip: float | None = None

    @property
    def bent(self) -> bool:
        """Whether anything is added to the gradient that depends on the parameters."""
        return bool(self.momentum or self.decay or self.mu)


def step_of(local: Local, mu: float = 0.0) -> Step | None:
    """The step of some local settings; None where it is no descent along gradients in full precision."""
    if local.optimizer != "sgd" or local.amp or local.settings or callable(local.lr):
        return None
    return Step(float(local.lr), local.momentum, local.nesterov, local.weight_decay, mu, local.clip)


def descend(
    w: torch.Tensor,
    g: torch.Tensor,
    v: torch.Tensor | None,
    step: Step,
    start: torch.Tensor | None = None,
    h: torch.Tensor | None = None,
) -> None:
    """One step, in place; `g` is used up.

    Parameters
    ----------
    w, g : Tensor
        Parameters and their gradient.
    v : Tensor or None
        Velocity, zero before the first step; None without momentum.
    step : Step
        Its numbers.
    start : Tensor or None
        What is pulled to; None is zero.
    h : Tensor or None
        Added to the gradient.
    """
    if step.decay:
        g.add_(w, alpha=step.decay)
    if step.mu:
        g.add_(w, alpha=step.mu)
        if start is not None:
            g.sub_(start, alpha=step.mu)
    if h is not None:
        g.add_(h)
    if v is not None:
        v.mul_(step.momentum).add_(g)
        g = g.add_(v, alpha=step.momentum) if step.nesterov else v
    w.sub_(g, alpha=step.rate)


def piece(x: torch.Tensor, part: Part) -> torch.Tensor:
    """The view of one parameter in a flat array."""
    return x[part.start : part.stop].view(part.shape)


def joined(own: Sequence[Any], orders: Sequence[Array] | None = None) -> Any:
    """Inputs or targets of several nodes as tensors, one node's below the other's.

    Parameters
    ----------
    own : sequence of ndarray or Tensor of shape (n, …), or of tuples or dicts of such
        One per node, all of a kind.
    orders : sequence of ndarray of shape (k,), int64, optional
        For each node, which rows and in which order; all as they stand by default.

    Returns
    -------
    Tensor of shape (N, …), or tuple or dict of such
    """
    first = own[0]
    if isinstance(first, dict):
        return {name: joined([each[name] for each in own], orders) for name in first}
    if isinstance(first, tuple):
        return tuple(joined(each, orders) for each in zip(*own, strict=True))
    if all(isinstance(each, np.ndarray) for each in own):
        return torch.from_numpy(np.concatenate(own) if orders is None else taken(own, orders))
    rows = [each if isinstance(each, torch.Tensor) else looked_at(each) for each in own]
    if orders is not None:
        rows = [each[torch.from_numpy(order).to(each.device)] for each, order in zip(rows, orders, strict=True)]
    return torch.cat(rows)


def taken(own: Sequence[Array], orders: Sequence[Array]) -> Array:
    """Rows of several nodes' arrays, copied once to where they end up.

    Parameters
    ----------
    own : sequence of ndarray of shape (n, …)
        One per node, all of one dtype.
    orders : sequence of ndarray of shape (k,), int64
        For each node, which rows and in which order.

    Returns
    -------
    ndarray of shape (N, …)
        One node's below the other's.
    """
    rows, start = np.empty((sum(map(len, orders)), *own[0].shape[1:]), own[0].dtype), 0
    for a, order in zip(own, orders, strict=True):
        end = start + len(order)
        a.take(order, axis=0, out=rows[start:end], mode="clip")
        start = end
    return rows
