"""Clusters of nodes: several models, each for the nodes that it suits best."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from atoll.algorithms.base import Algorithm, Learner, Rate, Told, algorithms, with_loss
from atoll.algorithms.settings import at_least, positive, whole
from atoll.context import Ctx
from atoll.errors import InvalidData, explain
from atoll.specs import Spec
from atoll.trees import Array, Tree

__all__ = ["ifca"]


@algorithms.register("ifca")
def ifca(
    *, clusters: int = 2, spread: float = 0.1, seed: int = 0, server_lr: float | Rate = 1.0, starts: Array | None = None
) -> Algorithm:
    """IFCA: a node trains the one of k models that has the least loss on its rows; each is averaged over its nodes.

    ``jᵢ = argmin_j fᵢ(x_j)``; the node trains from x_jᵢ; ``x_j ← x_j + η_g Σ_{jᵢ=j} pᵢ (yᵢ − x_j)``, where pᵢ sums to
    one over the nodes of the cluster. A cluster that nobody chose stays as it is. The model of the training is the
    first of the k; the others are ``others`` in what the server keeps. When training is over, each node keeps the
    number of the model that suits its rows best, and predicts with that. What a model keeps besides parameters is one
    for all k.

    Parameters
    ----------
    clusters : int, default=2
        How many, k; with 1 it is FedAvg.
    spread : float, default=0.1
        The others begin around the first: normal deviates with this standard deviation are added.
    seed : int, default=0
        Of those.
    server_lr : float or callable, default=1
        The server's rate η_g.
    starts : ndarray of shape (k - 1, P), optional
        Where the others begin, in place of that. Only the server knows it.

    Returns
    -------
    Algorithm

    References
    ----------
    Ghosh et al., "An efficient framework for clustered federated learning", NeurIPS 2020, Algorithm 1 with model
    averaging.
    """
    positive(server_lr=server_lr)
    at_least(0, spread=spread, seed=seed)
    whole(clusters=clusters)

    def init(x: Array) -> Tree:
        shape = (clusters - 1, x.size)
        if starts is not None and starts.shape != shape:
            raise InvalidData(explain("starts has one row for each further cluster", got=starts.shape, expected=shape))
        noise = np.random.Generator(np.random.Philox(seed)).standard_normal(shape)
        return {"others": (x + spread * noise if starts is None else starts).astype(x.dtype)}

    def message(x: Array, state: Tree) -> Tree:
        return {"others": state["others"]}

    def local(learner: Learner, x: Array, message: Tree, memory: Mapping[str, Array], ctx: Ctx) -> tuple[Tree, Tree]:
        models = _models(x, message)
        best = _best(learner, models)
        done = learner.train(models[best])
        weights, change = np.zeros(clusters), np.zeros_like(models)
        weights[best], change[best] = done.weight, (done.w - models[best]) * x.dtype.type(done.weight)
        sent = {"change": change, "weight": np.array([done.weight]), "weights": weights}
        return with_loss(sent, done), {}

    def settle(
        learner: Learner, targets: Array | None, x: Array, message: Tree, memory: Mapping[str, Array], ctx: Ctx
    ) -> Tree:
        return {"cluster": np.array([_best(learner, _models(x, message))])}

    def model(x: Array, message: Tree, memory: Mapping[str, Array], ctx: Ctx) -> Array:
        best: Array = _models(x, message)[int(memory["cluster"][0]) if memory else 0]
        return best

    def update(x: Array, state: Tree, total: Tree, told: Told) -> tuple[Array, Tree]:
        models, weights = _models(x, state), total["weights"].astype(x.dtype)
        chosen = weights > 0
        models[chosen] += x.dtype.type(server_lr) * (total["change"][chosen] / weights[chosen, None])
        return models[0], {"others": models[1:]}

    settings = {"clusters": clusters, "spread": spread, "seed": seed, "server_lr": server_lr}
    return Algorithm(
        Spec("ifca", settings), update, init, message, local=local, settle=settle, model=model,
        discloses="which of the models suits it best",
    )  # fmt: skip


def _models(x: Array, others: Tree) -> Array:
    """All models, of shape (k, P)."""
    return np.concatenate([x[None], others["others"]])


def _best(learner: Learner, models: Array) -> int:
    """Which model has the least loss on the node's rows; of several the first."""
    return int(np.argmin([learner.gradient(w)[0] for w in models])) if len(models) > 1 else 0
