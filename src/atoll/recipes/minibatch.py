"""MiniBatchKMeans, exact: scikit-learn's batches, drawn by row number; nodes add up what they hold of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import RandomState
from sklearn.cluster import MiniBatchKMeans
from sklearn.cluster._kmeans import _labels_inertia_threadpool_limit

from atoll.combine import Moments, Sum
from atoll.recipes.base import recipe
from atoll.recipes.cluster import Described, checked_init
from atoll.recipes.seeding import Rows, batches, initial, of_nodes, random_state
from atoll.rounds import Rounds
from atoll.shards import Shard
from atoll.trees import Array, Tree

__all__ = ["fit_minibatch"]


def _labels(model: Any, rows: Shard) -> Array:
    """The nearest centre of each row."""
    ones = np.ones(rows.n_rows, dtype=rows.X.dtype)
    labels: Array = _labels_inertia_threadpool_limit(
        rows.X, ones, model.cluster_centers_, model._n_threads, return_inertia=False
    )
    return labels


@recipe(MiniBatchKMeans, iterative=True, per_row={"labels_": _labels})
def fit_minibatch(estimator: MiniBatchKMeans, rounds: Rounds) -> MiniBatchKMeans:
    """Exact: a batch is a list of row numbers, and per batch each node tells the sum of its rows in each cluster.

    Batches, first centres, reassigned ones and the end are scikit-learn's on the pooled rows in the order of their ids.
    Rows leave a node where they are candidates for a centre, or become one.
    """
    n, d = rounds.schema.n_rows, rounds.schema.n_features
    init = checked_init(estimator, Described(rounds, _variance(estimator, rounds)), rounds)
    rng = random_state(estimator, rounds)
    rows = of_nodes(rounds, np.zeros(d))
    centers = _first_centers(estimator, init, rows, rng)
    estimator._counts = np.zeros(estimator.n_clusters)
    estimator._ewa_inertia = estimator._ewa_inertia_min = None
    estimator._no_improvement = estimator._n_since_last_reassign = 0
    next_batch, step = batches(rows, estimator._batch_size, rng), 0
    n_steps = (estimator.max_iter * n) // estimator._batch_size
    for step in range(n_steps):
        moved, inertia = _step(estimator, rows, next_batch(), centers, rng)
        difference = np.sum((moved - centers) ** 2) if estimator._tol > 0.0 else 0
        centers = moved
        if estimator._mini_batch_convergence(step, n_steps, n, difference, inertia):
            break
    estimator.n_steps_ = step + 1
    estimator.n_iter_ = int(np.ceil(((step + 1) * estimator._batch_size) / n))
    estimator.inertia_ = _inertia(estimator, rows, centers)
    estimator.cluster_centers_ = centers.astype(rounds.schema.dtype)
    estimator._counts = estimator._counts.astype(rounds.schema.dtype)
    estimator._n_features_out = len(centers)
    return estimator


def _variance(estimator: MiniBatchKMeans, rounds: Rounds) -> Array:
    """Variances of columns, where the tolerance needs them."""
    if estimator.tol == 0:
        return np.zeros(rounds.schema.n_features)
    told = rounds.round("columns.moments", combine=Moments(), settings={"weighted": False})
    return told["m2"] / rounds.schema.n_rows


def _first_centers(estimator: MiniBatchKMeans, init: Array | None, rows: Rows, rng: RandomState) -> Array:
    """The best of some first centres, judged by a sample; they are drawn from samples too."""
    size = estimator._init_size
    judges = rows.sampled(rng.randint(0, rows.n, size))
    best, least = np.zeros((0, 0)), np.inf
    for i in range(estimator._n_init):
        if estimator.verbose:
            print(f"Init {i + 1}/{estimator._n_init} with method {estimator.init if init is None else init}")
        drawn = rows.sampled(rng.randint(0, rows.n, size)) if size < rows.n else rows
        centers = initial(drawn, estimator, init, rng, about_mean=False)
        inertia = float(_told(judges, centers)["inertia"][0])
        if estimator.verbose:
            print(f"Inertia for init {i + 1}/{estimator._n_init}: {inertia}")
        if i == 0 or inertia < least:
            best, least = centers, inertia
    return best


def _told(rows: Rows, centers: Array) -> Tree:
    return rows.rounds.round("clusters.inertia", rows.payload(centers=centers, by=centers), combine=Sum())


def _step(
    estimator: MiniBatchKMeans, rows: Rows, batch: Array, centers: Array, rng: RandomState
) -> tuple[Array, float]:
    """Move the centres by the rows of one batch (Sculley, "Web-scale k-means clustering", WWW 2010)."""
    reassign = estimator._random_reassign()
    payload, settings = {**rows.payload(centers=centers), "sample": batch}, {"weighted": False, "inertia": True}
    told = rows.rounds.round("clusters.assign", payload, combine=Sum(), settings=settings)
    counts, some = estimator._counts, (told["total"] > 0)[:, None]
    before = counts.copy()
    counts += told["total"]
    share = np.divide(1, counts, out=np.zeros_like(counts), where=counts > 0)
    moved = np.where(some, (centers * before[:, None] + told["sum"]) * share[:, None], centers)
    if reassign and estimator.reassignment_ratio > 0:
        _reassign(estimator, rows, batch, moved, rng)
    return moved, float(told["inertia"][0])


def _reassign(estimator: MiniBatchKMeans, rows: Rows, batch: Array, centers: Array, rng: RandomState) -> None:
    """Put centres with few rows, in place, where rows of the batch are."""
    counts, half = estimator._counts, int(0.5 * len(batch))
    to_reassign = counts < estimator.reassignment_ratio * counts.max()
    if to_reassign.sum() > 0.5 * len(batch):
        to_reassign[np.argsort(counts)[half:]] = False
    n_reassigns = to_reassign.sum()
    if n_reassigns:
        drawn = rng.choice(len(batch), replace=False, size=n_reassigns)
        if estimator.verbose:
            print(f"[MiniBatchKMeans] Reassigning {n_reassigns} cluster centers.")
        centers[to_reassign] = rows.values(batch[drawn])
    counts[to_reassign] = np.min(counts[~to_reassign])


def _inertia(estimator: MiniBatchKMeans, rows: Rows, centers: Array) -> float:
    if estimator.compute_labels:
        return float(_told(rows, centers)["inertia"][0])
    total = rows.rounds.round("statistics.weight", combine=Sum())["total"][0]
    return float(estimator._ewa_inertia * total)
