"""Personal models by memory: what the shared representation makes of a node's own rows stays on the node."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import softmax

from atoll.algorithms.averaging import fedavg
from atoll.algorithms.base import Algorithm, Learner, Rate, algorithms
from atoll.algorithms.settings import at_least, positive, whole
from atoll.context import Ctx
from atoll.errors import InvalidData, explain
from atoll.specs import Spec
from atoll.trees import Array, Tree

__all__ = ["knn_per"]


@algorithms.register("knn_per")
def knn_per(
    *,
    k: int = 10,
    scale: float = 1.0,
    capacity: int | None = None,
    grid: int = 11,
    validation: float = 0.2,
    share: float | None = None,
    server_lr: float | Rate = 1.0,
) -> Algorithm:
    """kNN-Per: FedAvg, and a memory of each node's own rows that is looked up beside it.

    When training is over, a node keeps φ(x) and the label of its rows, where φ is what comes before the last layer of
    the model of all. It predicts ``p = λᵢ p_kNN + (1 − λᵢ) softmax(model)``; in p_kNN each of the k nearest neighbours
    votes for its label with the weight ``exp(−‖φ − φⱼ‖² / (dim(φ) · scale))``, and the votes are divided by their sum.

    λᵢ is the value of the grid with which the node is right most often on some rows of its own that are left out of the
    memory meanwhile; of several, the one with the least loss, then the smallest. The model of all has seen those rows.

    Parameters
    ----------
    k : int, default=10
        Neighbours.
    scale : float, default=1
        How fast votes fade with the distance.
    capacity : int, optional
        Rows that a node remembers at most, drawn at random; all by default.
    grid : int, default=11
        Values of λ between 0 and 1.
    validation : float, default=0.2
        Share of a node's rows by which it chooses λ.
    share : float, optional
        λ for all nodes, in place of a choice; 0 is FedAvg.
    server_lr : float or callable, default=1
        The server's rate.

    Returns
    -------
    Algorithm

    References
    ----------
    Marfoq, Neglia, Kameni & Vidal, "Personalized federated learning through local memorization", ICML 2022,
    equations 3 to 6.
    """
    positive(scale=scale)
    whole(k=k, capacity=capacity, grid=grid)
    at_least(0, 1, validation=validation, share=0.0 if share is None else share)
    at_least(2, grid=grid)

    def settle(
        learner: Learner, targets: Array | None, x: Array, message: Tree, memory: Mapping[str, Array], ctx: Ctx
    ) -> Tree:
        outputs, features = learner.outputs(x)
        model = _probabilities(outputs)
        labels = _labels(targets, model.shape[1]) if len(model) else np.zeros(0, dtype=np.int64)
        mixed = share
        if mixed is None:
            store, left_out = _apart(len(labels), validation, ctx)
            near = _votes(features[store], labels[store], features[left_out], model.shape[1], k, scale)
            mixed = _best_share(near, model[left_out], labels[left_out], grid)
        kept = _some(len(labels), capacity, ctx)
        return {"features": features[kept], "labels": labels[kept], "share": np.array([float(mixed)])}

    def says(learner: Learner, x: Array, message: Tree, memory: Mapping[str, Array], ctx: Ctx) -> Array:
        outputs, features = learner.outputs(x)
        model, mixed = _probabilities(outputs), float(memory["share"][0])
        if not mixed:
            return model
        near = _votes(memory["features"], memory["labels"], features, model.shape[1], k, scale)
        return model + mixed * (near - model)

    settings = {
        "k": k, "scale": scale, "capacity": capacity, "grid": grid, "validation": validation, "share": share,
        "server_lr": server_lr,
    }  # fmt: skip
    return fedavg(server_lr=server_lr)._replace(spec=Spec("knn_per", settings), settle=settle, says=says)


def _probabilities(outputs: Array) -> Array:
    """Of all classes, from what a classifier says before its softmax."""
    wide = outputs.astype(np.float64)
    if wide.shape[1] == 1:
        wide = np.hstack([np.zeros_like(wide), wide])
    found: Array = softmax(wide, axis=1)
    return found


def _labels(targets: Array | None, n_classes: int) -> Array:
    if targets is None or targets.ndim != 1 or targets.dtype.kind not in "biuf":
        got = "none" if targets is None else f"{targets.dtype} of shape {targets.shape}"
        raise InvalidData(explain("knn_per remembers class numbers, one per row", got=got))
    labels = targets.astype(np.int64)
    if (labels != targets).any() or (len(labels) and not 0 <= labels.min() <= labels.max() < n_classes):
        got = f"from {targets.min()} to {targets.max()}"
        raise InvalidData(explain("knn_per remembers class numbers", got=got, expected=f"from 0 to {n_classes - 1}"))
    return labels


def _apart(n: int, validation: float, ctx: Ctx) -> tuple[Array, Array]:
    """Rows to remember meanwhile, and rows to choose by: none of those where there is but one row."""
    out = min(max(1, round(validation * n)), n - 1) if n > 1 and validation else 0
    order = ctx.rng("validation").permutation(n)
    return np.sort(order[out:]), np.sort(order[:out])


def _some(n: int, capacity: int | None, ctx: Ctx) -> Array:
    if capacity is None or n <= capacity:
        return np.arange(n)
    return np.sort(ctx.rng("capacity").choice(n, capacity, replace=False))


def _votes(store: Array, labels: Array, queries: Array, n_classes: int, k: int, scale: float) -> Array:
    """What the neighbours say of each query: shape (m, C); the nearest has weight 1 before the votes are divided."""
    from atoll.nearest import Metric, build  # loaded with the first search

    found = np.zeros((len(queries), n_classes))
    if not len(queries) or not len(store):
        return found
    wide = np.ascontiguousarray(store, dtype=np.float64)
    index = build(wide, method="brute", metric=Metric("sqeuclidean"))
    near = index.query(np.ascontiguousarray(queries, dtype=np.float64), min(k, len(store)), np.arange(len(store)))
    weight = np.exp(-(near.dist - near.dist[:, :1]) / (max(wide.shape[1], 1) * scale))
    np.add.at(found, (np.arange(len(queries))[:, None], labels[near.row]), weight)
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def _best_share(near: Array, model: Array, labels: Array, grid: int) -> float:
    """λ by accuracy, then by loss, then the smallest; 0 where there is no row to choose by."""
    if not len(labels):
        return 0.0
    ranked = []
    for mixed in np.linspace(0, 1, grid):
        p = model + mixed * (near - model)
        loss = -np.log(np.maximum(p[np.arange(len(labels)), labels], np.finfo(np.float64).tiny)).sum()
        ranked.append((-int((p.argmax(axis=1) == labels).sum()), float(loss), float(mixed)))
    return min(ranked)[2]
