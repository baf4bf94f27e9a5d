"""Calibrating the scores of a model: losses summed over rows, with the slopes that solvers want.

The rows are seen through the views `codes` and `answered`, so the scores stand beside them. Losses are scikit-learn's
own (`sklearn._loss`), in float64 whatever the scores are in.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn._loss import HalfBinomialLoss, HalfMultinomialLoss
from sklearn.calibration import _convert_to_logits
from sklearn.model_selection._validation import _enforce_prediction_order

from atoll.context import Ctx
from atoll.messages import Reply
from atoll.operations.base import operation
from atoll.shards import Shard, weights
from atoll.specs import Spec
from atoll.trees import Array, Tree
from atoll.views import views

__all__ = ["aligned", "in_order", "score_extent", "sigmoid_loss", "temperature_loss"]

_EPS = 1e-12  # of `sklearn.calibration._convert_to_logits`


def aligned(method: str, labels: Array, n_classes: int) -> Spec:
    """The view of scores with a column for every class, where the model knows fewer; wants the view `answered`.

    Parameters
    ----------
    method : {"decision_function", "predict_proba"}
        Which scores.
    labels : ndarray of shape (k,), int64
        The classes of the model, by number.
    n_classes : int
        How many classes there are.

    Returns
    -------
    Spec
        Scores of shape (n, n_classes), or (n, 1) for two classes: those of the second.
    """
    return Spec("aligned", {"method": method, "n_classes": int(n_classes)}, {"labels": np.asarray(labels, np.int64)})


@views.register("aligned")
def _aligned(shard: Shard, settings: dict[str, Any], arrays: Tree) -> Shard:
    method, scores, labels = settings["method"], shard.columns[settings["method"]], arrays["labels"]
    if method == "predict_proba" and len(labels) == 2:
        scores = np.hstack([1 - scores, scores])
    scores = scores if shard.n_rows else np.zeros((0, len(labels)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it was said once where the fit was asked for
        return shard.with_columns(**{method: in_order(scores, labels, settings["n_classes"], method)})


def in_order(scores: Array, labels: Array, n_classes: int, method: str) -> Array:
    """Scores with one column per class, as `cross_val_predict` lays them out; of two classes, the second.

    Parameters
    ----------
    scores : ndarray of shape (n,) or (n, k)
        As the model gives them.
    labels : ndarray of shape (k,)
        The classes of the model, by number.
    n_classes : int
        How many classes there are.
    method : {"decision_function", "predict_proba"}
        What the scores are.

    Returns
    -------
    ndarray of shape (n, n_classes), or (n, 1) for two classes

    Raises
    ------
    ValueError, IndexError
        As `cross_val_predict`.
    """
    made: Array = _enforce_prediction_order(labels, scores, n_classes, method)
    return made[:, 1:] if n_classes == 2 else made


@operation(
    "calibration.extent",
    discloses="the largest absolute scores that its rows are given, and whether the scores are probabilities",
    pieces=True,
)
def score_extent(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``max_abs`` of shape (c,), float64; ``max_double`` and ``max_strange`` of shape (1,), int64.

    The first of these is 1 where scores are in float64, the second where a row of several scores is no probability
    distribution, as `sklearn.calibration._convert_to_logits` tells it. Settings: `scores`, a column; `n_scores`;
    `pair`, whether the only score is the probability of the second of two classes.
    """
    scores, strange = shard.columns[ctx.settings["scores"]], False
    largest = np.zeros(ctx.settings["n_scores"])
    if shard.n_rows:
        largest = np.abs(scores.astype(np.float64)).max(axis=0)
        both = _both(scores, ctx)
        strange = both.shape[1] > 1 and np.array_equal(_convert_to_logits(both), both)
    flags = {
        "max_double": np.array([shard.n_rows and scores.dtype == np.float64], dtype=np.int64),
        "max_strange": np.array([strange], dtype=np.int64),
    }
    return Reply({"max_abs": largest, **flags})


@operation(
    "calibration.sigmoid",
    discloses="the summed loss of the calibration that was sent, of one score, and its slopes",
    pieces=True,
)
def sigmoid_loss(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``loss`` of shape (1,) and ``gradient`` of shape (2,), float64: Platt's objective.

    Payload: ``ab`` of shape (2,), slope and offset; ``scale`` of shape (1,), by which scores are divided; ``target`` of
    shape (C,), the wanted probability by class. Settings: `scores`, a column; `place`, which of its columns.
    """
    scores, code = shard.columns[ctx.settings["scores"]], shard.columns["code"]
    F = scores[:, ctx.settings["place"]].astype(np.float64) if shard.n_rows else np.zeros(0)
    F = F / payload["scale"]
    a, b = payload["ab"]
    with np.errstate(over="ignore", invalid="ignore"):
        loss, slope = HalfBinomialLoss().loss_gradient(
            y_true=payload["target"][code], raw_prediction=-(a * F + b), sample_weight=weights(shard)
        )
        return _open({"loss": np.array([loss.sum()]), "gradient": np.array([-slope @ F, -slope.sum()])}, ctx)


@operation("calibration.temperature", discloses="the summed loss of its scores at the temperature sent", pieces=True)
def temperature_loss(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``loss`` of shape (1,), float64: the logarithmic loss.

    Payload: ``beta`` of shape (1,), the inverse temperature. Settings: `scores`, a column; `n_scores`; `pair` as in
    `score_extent`; `probabilities`, whether logits are logarithms of the scores.
    """
    scores = shard.columns[ctx.settings["scores"]] if shard.n_rows else np.zeros((0, ctx.settings["n_scores"]))
    both = _both(scores, ctx).astype(np.float64)
    if both.shape[1] == 1:
        logits = np.hstack([-both, both])
    else:
        logits = np.log(both + _EPS) if ctx.settings["probabilities"] else both
    with np.errstate(over="ignore", invalid="ignore"):
        loss = HalfMultinomialLoss(n_classes=logits.shape[1]).loss(
            y_true=shard.columns["code"].astype(np.float64),
            raw_prediction=payload["beta"] * logits,
            sample_weight=weights(shard),
        )
        return _open({"loss": np.array([loss.sum()])}, ctx)


def _both(scores: Array, ctx: Ctx) -> Array:
    return np.hstack([1 - scores, scores]) if ctx.settings["pair"] else scores


def _open(tree: Tree, ctx: Ctx) -> Reply:
    """The answer; as a contract, one that holds undefined values, so that any may be answered."""
    return Reply(tree if ctx.node >= 0 else {name: np.full_like(array, np.nan) for name, array in tree.items()})
