"""What a node tells while a mixture of Gaussians is fitted: responsibilities, means and spreads, in all.

Rows are looked at about an agreed origin, the pooled mean, so nothing is lost where that is far from zero. The step of
expectation is scikit-learn's own, called on a model whose attributes come with the message.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.random import RandomState
from sklearn.cluster._kmeans import _labels_inertia
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

from atoll.context import Ctx
from atoll.messages import Reply
from atoll.operations.base import operation
from atoll.shards import Shard
from atoll.trees import Array, Tree

__all__ = ["PARAMETERS", "add_assigned", "add_drawn", "expect"]

PARAMETERS = {
    "GaussianMixture": ("weights_", "means_", "precisions_cholesky_"),
    "BayesianGaussianMixture": (
        "weight_concentration_", "mean_precision_", "means_", "degrees_of_freedom_", "precisions_cholesky_",
    ),
}  # fmt: skip
"""The fitted attributes on which the step of expectation depends, by kind."""

_KINDS = {"GaussianMixture": GaussianMixture, "BayesianGaussianMixture": BayesianGaussianMixture}
_SPREAD = "for each component: the sum of its responsibilities, and the weighted mean and spread of its rows"
_DRAWS = 1 << 17


@operation("mixtures.expect", discloses=f"{_SPREAD}; and the log-likelihood of all its rows together", pieces=True)
def expect(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """Responsibilities under a model, as sums; Dempster, Laird & Rubin (1977).

    Settings: `kind`, a class name; `covariance_type`; `weight_concentration_prior_type`; `second`, see `add_assigned`.
    Payload: the attributes in `PARAMETERS`, the means about the origin; `origin` (d,); `about` (K, d).

    Answers with what `add_assigned` answers; `log_likelihood` (1,), the sum over rows; and `entropy` (1,), that of the
    responsibilities, for BayesianGaussianMixture only.
    """
    X = _centred(shard, payload)
    answer: Tree = {}
    log_norm, log_resp = np.zeros(0), np.zeros((0, len(payload["means_"])))
    if len(X):
        log_norm, log_resp = _model(payload, ctx.settings)._estimate_log_prob_resp(X)
    resp = np.exp(log_resp)
    if ctx.settings["kind"] == "BayesianGaussianMixture":
        answer["entropy"] = np.array([-np.sum(resp * log_resp)])
    answer["log_likelihood"] = np.array([log_norm.sum()])
    return Reply(answer | _sums(X, resp, payload["about"], ctx.settings["second"]))


@operation("mixtures.assigned", discloses=_SPREAD.replace("component", "centre"), pieces=True)
def add_assigned(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """Each row belongs to the nearest centre.

    Settings: `second`, the form of the spread: ``full``, ``diag`` or ``none``. Payload: `origin` (d,) and `about`
    (K, d), the centres less the origin.

    Answers with `n` (K,), the sums of responsibilities; `first` (K, d), the weighted sums of rows less the origin; and
    `second`: ``full``, (K, d, d), the weighted scatter about `about`; ``diag``, (K, d), the weighted squares of rows
    less the origin.
    """
    X, about = _centred(shard, payload), payload["about"]
    resp = np.zeros((len(X), len(about)))
    if len(X):
        label = _labels_inertia(X, np.ones(len(X)), np.ascontiguousarray(about), return_inertia=False)
        resp[np.arange(len(X)), label] = 1
    return Reply(_sums(X, resp, about, ctx.settings["second"]))


@operation("mixtures.drawn", discloses=_SPREAD)
def add_drawn(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """Responsibilities drawn at random: row i takes what scikit-learn would draw for row i of the pooled rows.

    Every node replays the one stream and keeps the draws of its own rows, so that no draw depends on the partition.
    Settings: `second` and `dtype`, that of the rows. Payload: `origin`; `about`; `key` (624,) and `position` (1,), the
    state of the stream. Answers as `add_assigned`.
    """
    about, second = payload["about"], ctx.settings["second"]
    answer = _sums(_centred(shard.take(slice(0)), payload), np.zeros((0, len(about))), about, second)
    order = np.argsort(shard.ids, kind="stable")
    for rows, draws in _draws(shard.ids[order], payload, len(about)):
        resp = draws.astype(ctx.settings["dtype"])
        resp /= resp.sum(axis=1)[:, None]
        part = _sums(_centred(shard.take(order[rows]), payload), resp.astype(np.float64), about, second)
        answer = {name: array + part[name] for name, array in answer.items()}
    return Reply(answer)


def _model(payload: Tree, settings: dict[str, Any]) -> Any:
    """A fitted mixture that knows what its step of expectation needs."""
    kind = settings["kind"]
    model = _KINDS[kind](n_components=len(payload["means_"]), covariance_type=settings["covariance_type"])
    if kind == "BayesianGaussianMixture":
        model.weight_concentration_prior_type = settings["weight_concentration_prior_type"]
    vars(model).update({name: payload[name] for name in PARAMETERS[kind]})
    return model


def _centred(shard: Shard, payload: Tree) -> Array:
    rows: Array = shard.X - payload["origin"]
    return rows


def _sums(X: Array, resp: Array, about: Array, second: str) -> Tree:
    answer = {"n": resp.sum(axis=0), "first": resp.T @ X}
    if second == "diag":
        answer["second"] = resp.T @ np.square(X)
    elif second == "full":
        answer["second"] = np.stack([_scatter(X - centre, r) for centre, r in zip(about, resp.T, strict=True)])
    return answer


def _scatter(X: Array, weight: Array) -> Array:
    half = X * np.sqrt(weight)[:, None]
    product: Array = half.T @ half
    return product


def _draws(ids: Array, payload: Tree, K: int) -> Iterator[tuple[slice, Array]]:
    """For sorted ids: slices of them, and the K uniform draws of each."""
    stream = RandomState()
    stream.set_state(("MT19937", payload["key"], int(payload["position"][0]), 0, 0.0))
    last = int(ids[-1]) if len(ids) else -1
    size = max(1, _DRAWS // K)
    for start in range(0, last + 1, size):
        draws = stream.random_sample((size, K))
        rows = slice(*np.searchsorted(ids, [start, start + size]).tolist())
        if rows.start < rows.stop:
            yield rows, draws[ids[rows] - start]
