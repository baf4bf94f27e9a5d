"""What the law suites compare: the answers of a fitted model, and which of them pooled scikit-learn leaves open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.neighbors import (
    KernelDensity,
    KNeighborsClassifier,
    KNeighborsRegressor,
    NearestCentroid,
    NearestNeighbors,
    RadiusNeighborsClassifier,
    RadiusNeighborsRegressor,
)

from cases import TASK, data

METHODS = (
    "predict",
    "predict_proba",
    "decision_function",
    "transform",
    "score_samples",
    "kneighbors",
    "radius_neighbors",
)
CLOSE = 1e-9


def radius(name: str) -> float:
    """A radius within which every query of `queries` has neighbours, and few of them."""
    distance = NearestNeighbors(n_neighbors=8).fit(data(name)[0]).kneighbors(queries(name))[0]
    return float(distance[:, -1].max() * 1.000123)


def queries(name: str) -> np.ndarray:
    """Rows that are near training rows, and some that are training rows."""
    X = data(name)[0]
    rng = np.random.default_rng(11)
    rows = X[rng.choice(len(X), size=40, replace=False)]
    spread = X.std(axis=0) * 0.05
    return np.concatenate([rows[:10], rows[10:] + rng.normal(size=rows[10:].shape) * spread])


# One or more settings of every estimator that a recipe is registered for; the suites fail until an example stands here.
EXAMPLES: dict[type, list[Callable[[str], Any]]] = {
    KNeighborsClassifier: [
        lambda name: KNeighborsClassifier(n_neighbors=3),
        lambda name: KNeighborsClassifier(n_neighbors=7, weights="distance", algorithm="brute"),
    ],
    KNeighborsRegressor: [lambda name: KNeighborsRegressor(n_neighbors=4, algorithm="ball_tree")],
    NearestNeighbors: [lambda name: NearestNeighbors(n_neighbors=5, radius=radius(name), metric="manhattan")],
    RadiusNeighborsClassifier: [lambda name: RadiusNeighborsClassifier(radius=radius(name), algorithm="brute")],
    RadiusNeighborsRegressor: [lambda name: RadiusNeighborsRegressor(radius=radius(name), weights="distance")],
    NearestCentroid: [
        lambda name: NearestCentroid(shrink_threshold=0.1),
        lambda name: NearestCentroid(metric="manhattan"),
    ],
    KernelDensity: [lambda name: KernelDensity(bandwidth=radius(name), rtol=0, atol=0)],
}


def fits(estimator: Any, name: str) -> bool:
    """Whether an estimator is for the targets of a data set."""
    return not (is_classifier(estimator) and TASK.get(name) == "regression")


def answers(model: Any, Q: np.ndarray) -> dict[str, np.ndarray]:
    """Everything a fitted model says about some queries, by name."""
    found: dict[str, np.ndarray] = {}
    for method in METHODS:
        if not hasattr(model, method):
            continue
        got = getattr(model, method)(Q)
        if method == "radius_neighbors":
            distance, index = got
            order = [np.lexsort((i, d)) for d, i in zip(distance, index, strict=True)]
            found["hits"] = np.array([len(i) for i in index])
            found["hit distances"] = np.concatenate([d[o] for d, o in zip(distance, order, strict=True)])
        elif method == "kneighbors":
            found["distances"], found["ids"] = got
        else:
            found[method] = got
    return found


def attributes(model: Any) -> dict[str, np.ndarray]:
    """Public fitted arrays and numbers, by name."""
    public = {n: v for n, v in vars(model).items() if n.endswith("_") and not n.startswith("_")}
    return {n: np.asarray(v) for n, v in public.items() if np.asarray(v).dtype.kind in "biuf"}


def rounding(pooled: Any, name: str) -> float:
    """scikit-learn's brute search forms |q|² − 2qx + |x|², so its distances err by up to √ε times a row's norm."""
    if getattr(pooled, "_fit_method", None) != "brute":
        return 1e-12
    return float(1e-7 * np.linalg.norm(data(name)[0], axis=1).max())


def settled(estimator: Any, pooled: Any, name: str) -> np.ndarray:
    """Queries whose pooled answer is no tie: the last neighbour is nearer than the next, no row lies on the radius.

    A query that is a training row counts as open where distances are weights and scikit-learn's brute search rounds
    them: there its answer is the rounding's.
    """
    Q, clear = queries(name), np.ones(len(queries(name)), dtype=bool)
    if getattr(pooled, "weights", None) == "distance":
        nearest = np.array([d.min() for d in _distances(pooled, Q)])
        clear &= nearest > rounding(pooled, name)
    if getattr(pooled, "n_neighbors", None) and hasattr(pooled, "kneighbors"):
        k = pooled.n_neighbors
        distance = pooled.kneighbors(Q, n_neighbors=k + 1)[0]
        clear &= distance[:, k] - distance[:, k - 1] > CLOSE * distance[:, k]
    elif hasattr(pooled, "radius_neighbors"):
        clear &= [not (np.abs(d - pooled.radius) <= CLOSE * d).any() for d in _distances(pooled, Q)]
    return clear


def _distances(pooled: Any, Q: np.ndarray) -> Any:
    if hasattr(pooled, "kneighbors"):
        return pooled.kneighbors(Q)[0]
    return pooled.radius_neighbors(Q, radius=pooled.radius * (1 + CLOSE))[0]
