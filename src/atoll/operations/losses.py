"""Losses of linear models, summed over rows, with their slopes and curvatures.

The loss of one row, its slope and its curvature are scikit-learn's own (`sklearn._loss`). Nothing here is averaged or
penalised: a solver in the driver does that once, after adding.

A step of a line search may go too far for a double, and scikit-learn's solvers know what to do then. So the contract of
these operations (what they answer for node -1) allows infinite and undefined values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.special import expit
from sklearn._loss.loss import (
    BaseLoss,
    HalfBinomialLoss,
    HalfGammaLoss,
    HalfMultinomialLoss,
    HalfPoissonLoss,
    HalfSquaredError,
    HalfTweedieLoss,
    HalfTweedieLossIdentity,
)
from sklearn.linear_model._huber import _huber_loss_and_gradient
from sklearn.linear_model._linear_loss import sandwich_dot
from sklearn.utils.extmath import softmax

from atoll.context import Ctx
from atoll.messages import Reply
from atoll.operations.base import operation
from atoll.shards import Shard, is_sparse, weights
from atoll.trees import Array, Tree

__all__ = [
    "class_totals",
    "huber",
    "loss_curvature",
    "loss_gradient",
    "loss_product",
    "loss_settings",
    "packed",
    "prediction_scores",
    "target_totals",
    "unpacked",
    "with_ones",
]

_LOSSES: dict[str, type[BaseLoss]] = {
    kind.__name__: kind
    for kind in (
        HalfBinomialLoss,
        HalfGammaLoss,
        HalfMultinomialLoss,
        HalfPoissonLoss,
        HalfSquaredError,
        HalfTweedieLoss,
        HalfTweedieLossIdentity,
    )
}


def loss_settings(loss: BaseLoss) -> dict[str, Any]:
    """One of scikit-learn's losses as the settings of an operation.

    Parameters
    ----------
    loss : BaseLoss
        With a class of `sklearn._loss.loss`.

    Returns
    -------
    dict
        `loss`, its name, and what it was made with.
    """
    settings: dict[str, Any] = {"loss": type(loss).__name__}
    if isinstance(loss, HalfMultinomialLoss):
        settings["n_classes"] = int(loss.n_classes)
    if isinstance(loss, HalfTweedieLoss | HalfTweedieLossIdentity):
        settings["power"] = float(loss.closs.power)
    return settings


def packed(matrix: Array) -> Array:
    """The upper triangle of a symmetric matrix of shape (p, p), row by row: p (p + 1) / 2 numbers."""
    return matrix[np.triu_indices(len(matrix))]


def unpacked(triangle: Array, p: int) -> Array:
    """The symmetric matrix of shape (p, p) whose upper triangle was `packed`."""
    matrix = np.empty((p, p))
    rows, columns = np.triu_indices(p)
    matrix[rows, columns] = triangle
    matrix[columns, rows] = triangle
    return matrix


def with_ones(X: Any, p: int) -> Any:
    """Rows with a column of ones at the end, where there are more parameters than columns.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n, d)
    p : int
        d or d + 1.

    Returns
    -------
    ndarray or CSR matrix of shape (n, p)
    """
    if X.shape[1] == p:
        return X
    ones = np.ones((X.shape[0], 1))
    return sp.csr_matrix(sp.hstack([X, sp.csr_matrix(ones)])) if is_sparse(X) else np.concatenate([X, ones], axis=1)


@operation(
    "losses.classes",
    discloses="for each class, the sum of its sample weights, or how many rows it has",
    pieces=True,
)
def class_totals(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``total`` of shape (C,), float64. Wants the view `codes`. Settings: `n_classes`."""
    code, weight = shard.columns["code"], weights(shard)
    total = np.bincount(code, weights=weight, minlength=ctx.settings["n_classes"])
    return Reply({"total": total.astype(np.float64)})


@operation(
    "losses.targets",
    discloses="the sum of its sample weights, or how many rows it has, the weighted sum of its targets, and how many "
    "targets the loss has no meaning for",
    pieces=True,
)
def target_totals(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``total`` and ``target`` of shape (1,), float64; ``outside`` of shape (1,), int64. Settings: `loss_settings`."""
    loss, y = _loss_and_target(shard, ctx)
    weight = _weight(shard)
    valid = loss.interval_y_true
    inside = (y >= valid.low) if valid.low_inclusive else (y > valid.low)
    inside &= (y <= valid.high) if valid.high_inclusive else (y < valid.high)
    return Reply({"total": _sum(weight), "target": _sum(weight * y), "outside": np.array([(~inside).sum()])})


@operation("losses.gradient", discloses="the summed loss of the model that was sent, and its gradient", pieces=True)
def loss_gradient(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``loss`` of shape (1,) and ``gradient`` of the shape of ``w``, float64.

    Payload: ``w`` of shape (p,), or (p, C) for the multinomial loss, float64; p is the number of columns, and one more
    where there is an intercept, which comes last. Settings: `loss_settings`. The multinomial and the binomial loss want
    the view `codes`.
    """
    loss, y = _loss_and_target(shard, ctx)
    w, X = payload["w"], _float64(shard.X)
    d = X.shape[1]
    with _quiet():
        each, slope = loss.loss_gradient(y_true=y, raw_prediction=_raw(X, w), sample_weight=weights(shard))
        gradient = np.empty_like(w)
        gradient[:d] = X.T @ slope
        gradient[d:] = slope.sum(axis=0)
        return _open({"loss": _sum(each), "gradient": gradient}, ctx)


@operation(
    "losses.curvature",
    discloses="the summed loss of the model that was sent, its gradient, and the matrix of its second derivatives",
    pieces=True,
)
def loss_curvature(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``loss``, ``gradient``, ``hessian`` and ``concave``, float64; message and settings as of `loss_gradient`.

    ``hessian`` is the `packed` matrix over all parameters in the order of ``w.ravel()``. A negative second derivative
    of one row enters it as its absolute value; ``concave``, of shape (1,), is the weight of rows where it is not
    positive, as `sklearn.linear_model._linear_loss` counts them.
    """
    loss, y = _loss_and_target(shard, ctx)
    w, weight = payload["w"], weights(shard)
    X = with_ones(_float64(shard.X), len(w))
    with _quiet():
        raw = X @ w
        each = loss.loss(y_true=y, raw_prediction=raw, sample_weight=weight)
        if loss.is_multiclass:
            slope, share = loss.gradient_proba(y_true=y, raw_prediction=raw, sample_weight=weight)
            hessian, concave = _multinomial_hessian(X, share, weight), np.zeros(1)
        else:
            slope, bend = loss.gradient_hessian(y_true=y, raw_prediction=raw, sample_weight=weight)
            hessian, concave = sandwich_dot(X, np.abs(bend)), _sum(_weight(shard) * (bend <= 0))
        return _open({"loss": _sum(each), "gradient": X.T @ slope, "hessian": packed(hessian), "concave": concave}, ctx)


def _multinomial_hessian(X: Array, share: Array, weight: Array | None) -> Array:
    """Second derivatives of the multinomial loss: for rows x with shares p, sums of (diag(p) - p pᵀ) ⊗ x xᵀ."""
    p, C = X.shape[1], share.shape[1]
    hessian = np.empty((p, C, p, C))
    for k in range(C):
        for other in range(k, C):
            bend = share[:, k] * (1 - share[:, k]) if k == other else -share[:, k] * share[:, other]
            block = sandwich_dot(X, bend if weight is None else bend * weight)
            hessian[:, k, :, other] = block
            hessian[:, other, :, k] = block
    return hessian.reshape(p * C, p * C)


@operation(
    "losses.product",
    discloses="the second derivatives of the summed loss of the model that was sent, in one direction",
    pieces=True,
)
def loss_product(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``product`` of the shape of ``w``, float64: the Hessian at ``w`` times ``direction``, of that shape too.

    Settings as of `loss_gradient`.
    """
    loss, y = _loss_and_target(shard, ctx)
    w, weight, X = payload["w"], weights(shard), _float64(shard.X)
    d = X.shape[1]
    with _quiet():
        raw, along = _raw(X, w), _raw(X, payload["direction"])
        if loss.is_multiclass:
            _, share = loss.gradient_proba(y_true=y, raw_prediction=raw, sample_weight=weight)
            along = share * (along - (share * along).sum(axis=1)[:, None])
            along = along if weight is None else along * weight[:, None]
        else:
            along = along * loss.gradient_hessian(y_true=y, raw_prediction=raw, sample_weight=weight)[1]
        product = np.empty_like(w)
        product[:d] = X.T @ along
        product[d:] = along.sum(axis=0)
        return _open({"product": product}, ctx)


@operation("losses.huber", discloses="the summed Huber loss of the model that was sent, and its gradient", pieces=True)
def huber(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``loss`` of shape (1,) and ``gradient`` of the shape of ``w``, float64, without the penalty.

    Payload: ``w`` as `sklearn.linear_model._huber` lays it out: coefficients, the intercept if there is one, the scale.
    Settings: `epsilon`.
    """
    y = np.asarray(shard.y, dtype=np.float64)
    with _quiet():
        loss, gradient = _huber_loss_and_gradient(
            payload["w"], _float64(shard.X), y, ctx.settings["epsilon"], 0.0, sample_weight=_weight(shard)
        )
    return _open({"loss": np.array([loss]), "gradient": gradient}, ctx)


@operation(
    "losses.scores",
    discloses="for each model that was sent: how its predictions and the labels meet (a table of classes by classes), "
    "its summed logarithmic loss and its summed squared error of probabilities",
    pieces=True,
)
def prediction_scores(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """For each of q models ``confusion`` (q, C, C), labels by predictions, ``log_loss`` and ``brier`` (q,), float64.

    Payload: ``w`` of shape (q, p) for two classes, (q, p, C) for more, as in `loss_gradient`. Wants the view `codes`.
    Settings: `n_classes`, and `weighted`, whether sample weights count. Probabilities are clipped as in
    `sklearn.metrics.log_loss`.
    """
    w, C, X = payload["w"], ctx.settings["n_classes"], _float64(shard.X)
    code, weight = shard.columns["code"], _weight(shard) if ctx.settings["weighted"] else np.ones(shard.n_rows)
    confusion, log_loss, brier = np.zeros((len(w), C, C)), np.zeros(len(w)), np.zeros(len(w))
    eps = np.finfo(np.float64).eps
    for q, one in enumerate(w):
        raw = _raw(X, one)
        guess = raw.argmax(axis=1) if raw.ndim == 2 else (raw > 0).astype(np.intp)
        confusion[q] = np.bincount(code * C + guess, weights=weight, minlength=C * C).reshape(C, C)
        share = softmax(raw, copy=False) if raw.ndim == 2 else np.stack([1 - expit(raw), expit(raw)], axis=1)
        own = np.take_along_axis(share, code[:, None], axis=1)[:, 0]
        log_loss[q] = -(weight * np.log(np.clip(own, eps, 1 - eps))).sum()
        brier[q] = (weight * (np.square(share).sum(axis=1) - 2 * own + 1)).sum()
    return Reply({"confusion": confusion, "log_loss": log_loss, "brier": brier})


def _loss_and_target(shard: Shard, ctx: Ctx) -> tuple[BaseLoss, Array]:
    """The loss that the settings name, and the target as it wants it: labels by number, or numbers; float64."""
    more: Mapping[str, Any] = {k: v for k, v in ctx.settings.items() if k != "loss"}
    loss = _LOSSES[ctx.settings["loss"]](**more)
    y = shard.columns["code"] if isinstance(loss, HalfBinomialLoss | HalfMultinomialLoss) else shard.y
    return loss, np.asarray(y, dtype=np.float64)


def _float64(X: Any) -> Any:
    return X.astype(np.float64, copy=False)


def _raw(X: Any, w: Array) -> Array:
    """Scores of each row; the last of the parameters is an intercept where there are more of them than columns."""
    d = X.shape[1]
    raw: Array = X @ w[:d]
    if len(w) > d:
        raw += w[d]
    return raw


def _weight(shard: Shard) -> Array:
    weight = weights(shard)
    return np.ones(shard.n_rows) if weight is None else weight


def _sum(each: Array) -> Array:
    return np.array([each.sum()])


def _quiet() -> np.errstate:
    return np.errstate(over="ignore", invalid="ignore", divide="ignore")


def _open(tree: Tree, ctx: Ctx) -> Reply:
    """The answer; as a contract, one that holds undefined values, so that any may be answered."""
    return Reply(tree if ctx.node >= 0 else {name: np.full_like(array, np.nan) for name, array in tree.items()})
