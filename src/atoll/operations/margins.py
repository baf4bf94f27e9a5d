"""Losses of linear support vector machines, summed over rows, for several machines at once.

The squared hinge and the squared error have slopes everywhere. The plain hinge and the plain absolute error have not;
they are asked about through their Moreau envelope at multipliers from 0 to 1 (or from -1 to 1), one per row. No node
keeps multipliers and none sends any: they follow from the models of earlier rounds, which travel with the question.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.linear_model._linear_loss import sandwich_dot

from atoll.context import Ctx
from atoll.messages import Reply
from atoll.operations.base import operation
from atoll.operations.losses import packed, with_ones
from atoll.shards import Shard, weights
from atoll.trees import Array, Tree

__all__ = ["enveloped_margins", "joint_margins", "squared_margins"]


class _Rows(NamedTuple):
    """Rows as m machines look at them.

    `X` (n, p) has a column of ones where there is an intercept; `target` (n,) or (n, m): what is predicted, or the side
    (-1 or 1) on which a row belongs; `weight` (n, m). An error up to `epsilon` costs nothing.
    """

    X: Any
    target: Array
    weight: Array
    parts: bool
    epsilon: float

    def residual(self, w: Array) -> Array:
        """How far each row is from where it costs nothing, (n, m)."""
        score = self.X @ w.T
        return np.asarray(1 - self.target * score if self.parts else score - self.target[:, None])

    def turn(self) -> Array:
        """The slope of the residual along the score: (n, m), or a number."""
        return -self.target if self.parts else np.ones(1)

    def multiplier(self, before: Array, residual: Array, sigma: Array) -> Array:
        """The next multiplier of each row before it is clipped, (n, m): a step of length sigma (m,), less epsilon."""
        return _soft(before + sigma * residual, sigma * self.epsilon)

    def clip(self, multiplier: Array) -> Array:
        """Multipliers within their limits."""
        return np.clip(multiplier, 0.0 if self.parts else -1.0, 1.0)


def _soft(values: Array, threshold: Any) -> Array:
    return np.asarray(np.sign(values) * np.maximum(np.abs(values) - threshold, 0))


def _look(shard: Shard, payload: Tree, ctx: Ctx) -> _Rows:
    weight, which = weights(shard), payload["class"]
    X = with_ones(shard.X.astype(np.float64, copy=False), payload["w"].shape[1])
    parts = bool((which >= 0).all())
    if parts:
        own = shard.columns["code"][:, None] == which
        target, counts = np.where(own, 1.0, -1.0), np.where(own, payload["weight"][:, 1], payload["weight"][:, 0])
    else:
        target, counts = np.asarray(shard.y, dtype=np.float64), np.tile(payload["weight"][:, 1], (shard.n_rows, 1))
    return _Rows(X, target, counts if weight is None else counts * weight[:, None], parts, ctx.settings["epsilon"])


def _reply(rows: _Rows, each: Array, slope: Array, bend: Array) -> Reply:
    """Sum losses, slopes and curvatures along the score, all (n, m); rows without curvature are left out early."""
    bend = rows.weight * bend
    curved = [np.flatnonzero(column) for column in bend.T]
    hessian = [packed(sandwich_dot(rows.X[i], column[i])) for i, column in zip(curved, bend.T, strict=True)]
    gradient = rows.X.T @ (rows.weight * slope * rows.turn())
    loss = (rows.weight * each).sum(axis=0)
    return Reply({"loss": loss, "gradient": np.ascontiguousarray(gradient.T), "hessian": np.stack(hessian)})


@operation(
    "margins.squared",
    discloses="for each machine that was sent: the sum of its squared losses, its gradient, and the matrix of its "
    "second derivatives",
    pieces=True,
)
def squared_margins(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """For m machines ``loss`` (m,), ``gradient`` (m, p) and ``hessian`` (m, p (p + 1) / 2), `packed`; float64.

    Payload: ``w`` of shape (m, p), float64, the intercept last where there is one; ``class`` (m,), int64: which class a
    machine parts from the rest, -1: it predicts the target; ``weight`` (m, 2), float64: of the rest, of the class.
    Settings: `epsilon`. Labels want the view `codes`.
    """
    rows = _look(shard, payload, ctx)
    residual = rows.residual(payload["w"])
    excess = np.maximum(residual, 0) if rows.parts else _soft(residual, rows.epsilon)
    return _reply(rows, np.square(excess), 2 * excess, np.where(excess != 0, 2.0, 0.0))


@operation(
    "margins.enveloped",
    discloses="for each machine that was sent: the sum of its smoothed losses, its gradient, the matrix of its second "
    "derivatives, and the sum of its losses as they are",
    pieces=True,
)
def enveloped_margins(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """As `squared_margins`, for the hinge and the absolute error; and ``plain`` (m,), the losses themselves.

    Payload: besides, ``history`` (K, m, p), the models that multipliers follow from, in order, and ``sigma``
    (K + 1, m), how far they stepped, the last for now. All float64.
    """
    rows, w, sigma = _look(shard, payload, ctx), payload["w"], payload["sigma"]
    before = np.zeros((shard.n_rows, len(w)))
    for earlier, length in zip(payload["history"], sigma[:-1], strict=True):
        before = rows.clip(rows.multiplier(before, rows.residual(earlier), length))
    residual = rows.residual(w)
    free = rows.multiplier(before, residual, sigma[-1])
    now = rows.clip(free)
    each = now * residual - rows.epsilon * np.abs(now) - np.square(now - before) / (2 * sigma[-1])
    inside = (free == now) & ((free != 0) | (rows.epsilon == 0 and not rows.parts))
    reply = _reply(rows, each, now, np.where(inside, sigma[-1], 0.0))
    plain = np.maximum(residual, 0) if rows.parts else np.maximum(np.abs(residual) - rows.epsilon, 0)
    return Reply({**reply.tree, "plain": (rows.weight * plain).sum(axis=0)})


@operation(
    "margins.joint",
    discloses="for the machine that was sent: the sum of its smoothed losses, its gradient, and the matrix of its "
    "second derivatives",
    pieces=True,
)
def joint_margins(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """For one machine over all C classes ``loss`` (1,), ``gradient`` (1, C p), ``hessian`` (1, ...), `packed`; float64.

    A row costs what the best score of another class, and one more, is above that of its own (Crammer & Singer, 2001).
    Message as for `enveloped_margins`, with m = 1 and parameters of class after class; a row's multipliers, one for
    each class, are those of a mean. Settings: `n_classes`. Wants the view `codes`.
    """
    code, C, weight = shard.columns["code"], ctx.settings["n_classes"], weights(shard)
    own = np.eye(C)[code]
    w, sigma = payload["w"].reshape(C, -1), payload["sigma"][:, 0]
    history = payload["history"].reshape(-1, *w.shape)
    X = with_ones(shard.X.astype(np.float64, copy=False), w.shape[1])
    before = own
    for earlier, length in zip(history, sigma[:-1], strict=True):
        before = _mean_weights(before + length * _excess(X @ earlier.T, own))
    excess = _excess(X @ w.T, own)
    now = _mean_weights(before + sigma[-1] * excess)
    each = (now * excess - np.square(now - before) / (2 * sigma[-1])).sum(axis=1)
    slope, counts = now - own, np.ones(len(code)) if weight is None else weight
    gradient = (X.T @ (slope * counts[:, None])).T.reshape(1, -1)
    hessian = packed(_joint_hessian(X, now > 0, counts * sigma[-1]))[None]
    return Reply({"loss": np.array([(counts * each).sum()]), "gradient": gradient, "hessian": hessian})


def _excess(score: Array, own: Array) -> Array:
    """How far each class is above the own one, and one more where it is another: (n, C)."""
    return np.asarray(score - (score * own).sum(axis=1)[:, None] + 1 - own)


def _mean_weights(values: Array) -> Array:
    """The nearest weights of a mean, none negative and one in sum, row by row (Held, Wolfe & Crowder, 1974)."""
    falling = -np.sort(-values, axis=1)
    above = (np.cumsum(falling, axis=1) - 1) / np.arange(1, values.shape[1] + 1)
    last = (falling > above).sum(axis=1) - 1
    return np.maximum(values - np.take_along_axis(above, last[:, None], axis=1), 0)


def _joint_hessian(X: Any, inside: Array, weight: Array) -> Array:
    """Second derivatives of `joint_margins`: sums of (diag(s) - s sᵀ / |s|) ⊗ x xᵀ, s the classes with a multiplier."""
    C, p = inside.shape[1], X.shape[1]
    hessian = np.zeros((C, p, C, p))
    several = np.flatnonzero(inside.sum(axis=1) > 1)
    X, inside, weight = X[several], inside[several].astype(np.float64), weight[several]
    share = inside / inside.sum(axis=1, keepdims=True).clip(1)
    for k in range(C):
        for other in range(k, C):
            bend = inside[:, k] * (float(k == other) - share[:, other])
            rows = np.flatnonzero(bend)
            hessian[k, :, other] = sandwich_dot(X[rows], (weight * bend)[rows])
            hessian[other, :, k] = hessian[k, :, other].T
    return hessian.reshape(C * p, C * p)
