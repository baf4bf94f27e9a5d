"""One dense layer under a plain cross-entropy, trained on many nodes at once, in numpy.

It is what `atoll.nets.implicit` does of any chain of layers, for the one case in which calls cost as much as
arithmetic: gradients are known in closed form (shares of the classes, less 1 for a row's own), so a step is a dozen
array operations for all nodes together. Its outputs are ``a W₀ᵀ + b + (a Aᵀ + 1) D``, A and D of the steps before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from atoll.nets.chains import Chain
from atoll.nets.parts import Step
from atoll.trees import Array

__all__ = ["Shown", "suits", "trained"]


class Shown(NamedTuple):
    """What some nodes are shown, each the same number of rows, and none of them twice.

    Attributes
    ----------
    rows : ndarray of shape (n, k, inputs)
        In the order in which they are shown.
    labels : ndarray of shape (n, k), int64
        Their classes.
    lengths : sequence of int
        Rows of every step, k in all.
    """

    rows: Array
    labels: Array
    lengths: Sequence[int]


def suits(chain: Chain, loss: nn.Module, step: Step, x: torch.Tensor) -> bool:
    """Whether a training is of this kind: one layer, plain steps, and a cross-entropy without weights or smoothing."""
    if len(chain.layers) > 1 or chain.before or chain.layers[0].after or x.device.type != "cpu":
        return False
    if type(loss) is not nn.CrossEntropyLoss or loss.weight is not None or loss.label_smoothing:
        return False
    return not step.bent and step.clip is None


def trained(chain: Chain, loss: nn.Module, step: Step, x: Array, shown: Shown, p: Array, change: Array) -> float | None:
    """Train nodes.

    Parameters
    ----------
    chain : Chain
        One dense layer.
    loss : torch.nn.CrossEntropyLoss
        The mean or the sum over the rows of a step.
    step : Step
        A plain one.
    x : ndarray of shape (P,)
        Where all begin.
    shown : Shown
        Rows of the dtype of `x`.
    p : ndarray of shape (n,)
        What each node counts for.
    change : ndarray of shape (P,)
        The sum of the nodes' changes, times p, is added to it.

    Returns
    -------
    float or None
        The sum of the nodes' mean losses over their steps, times p; None where a label is no class.
    """
    layer, (n, k, inputs) = chain.layers[0], shown.rows.shape
    w, bias = layer.weight, layer.bias
    if shown.labels.min() < 0 or shown.labels.max() >= w.shape[0]:
        return None
    flat = shown.rows.reshape(n * k, inputs)
    with np.errstate(all="ignore"):
        z = flat @ x[w.start : w.stop].reshape(w.shape).T
        if bias is not None:
            z += x[bias.start : bias.stop]
        d, losses = _descended(shown, z.reshape(n, k, -1), step.rate, loss.reduction == "mean", bias is not None)
        d *= p.astype(x.dtype)[:, None, None]
        d = d.reshape(n * k, -1)
        change[w.start : w.stop] += (d.T @ flat).reshape(-1)
        if bias is not None:
            change[bias.start : bias.stop] += d.sum(axis=0)
    return float(losses @ p) / len(shown.lengths)


def _descended(shown: Shown, z: Array, rate: float, mean: bool, bias: bool) -> tuple[Array, Array]:
    """D of all steps, in the shape of z, which is used up; and the sum over the steps of each node's loss."""
    d, losses, start = np.empty_like(z), np.zeros(len(z)), 0
    for length in shown.lengths:
        stop = start + length
        now = z[:, start:stop]
        if start:
            near = np.matmul(shown.rows[:, start:stop], shown.rows[:, :start].transpose(0, 2, 1))
            if bias:
                near += 1
            now += np.matmul(near, d[:, :start])
        share = 1 / length if mean else 1.0
        d[:, start:stop], each = _slopes(now, shown.labels[:, start:stop], -rate * share)
        losses += each.sum(axis=1, dtype=np.float64) * share
        start = stop
    return d, losses


def _slopes(z: Array, labels: Array, factor: float) -> tuple[Array, Array]:
    """The gradient of each row's loss at its outputs, times a factor, shape (n, b, classes); and the losses, (n, b)."""
    e = z - z.max(axis=2, keepdims=True)
    flat = e.reshape(-1)
    own = labels.reshape(-1) + np.arange(labels.size) * z.shape[2]
    chosen = flat[own]
    total = np.exp(e, out=e).sum(axis=2, keepdims=True)
    losses = np.log(total[:, :, 0]) - chosen.reshape(labels.shape)
    e *= factor / total
    flat[own] -= z.dtype.type(factor)
    return e, losses
