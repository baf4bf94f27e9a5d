"""The neighbours family."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.neighbors import (
    KernelDensity,
    KNeighborsClassifier,
    KNeighborsRegressor,
    NearestCentroid,
    NearestNeighbors,
    RadiusNeighborsClassifier,
    RadiusNeighborsRegressor,
)

from atoll.nearest import Metric
from atoll.operations.neighbors import metric_payload, query_payload
from atoll.trees import Tree
from atoll.views import codes
from cases import Asked, data, queries
from examples_base import Example

CLASSES = ("iris", "digits", "wine", "breast_cancer")


def radius(name: str) -> float:
    """A radius within which every query of `queries` has neighbours, and few of them."""
    distance = NearestNeighbors(n_neighbors=8).fit(data(name)[0]).kneighbors(queries(name))[0]
    return float(distance[:, -1].max() * 1.000123)


EXAMPLES: dict[type, list[Example]] = {
    KNeighborsClassifier: [
        Example(lambda name: KNeighborsClassifier(n_neighbors=3), CLASSES),
        Example(lambda name: KNeighborsClassifier(n_neighbors=7, weights="distance", algorithm="brute"), CLASSES),
    ],
    KNeighborsRegressor: [Example(lambda name: KNeighborsRegressor(n_neighbors=4, algorithm="ball_tree"))],
    NearestNeighbors: [Example(lambda name: NearestNeighbors(n_neighbors=5, radius=radius(name), metric="manhattan"))],
    RadiusNeighborsClassifier: [
        Example(lambda name: RadiusNeighborsClassifier(radius=radius(name), algorithm="brute"), CLASSES)
    ],
    RadiusNeighborsRegressor: [Example(lambda name: RadiusNeighborsRegressor(radius=radius(name), weights="distance"))],
    NearestCentroid: [
        Example(lambda name: NearestCentroid(shrink_threshold=0.1), CLASSES),
        Example(lambda name: NearestCentroid(metric="manhattan"), CLASSES),
    ],
    KernelDensity: [Example(lambda name: KernelDensity(bandwidth=radius(name), rtol=0, atol=0))],
}


def _search(**settings: Any) -> dict[str, Any]:
    metric, _ = metric_payload(Metric("euclidean", {}, {}, None))
    return {"method": "brute", "leaf_size": 30, **metric, **settings}


def _wine(name: str) -> Tree:
    return query_payload(data(name)[0][:7] + 0.05)


def asked(name: str) -> dict[str, Asked]:
    """An example of each operation."""
    seen = (codes([np.unique(data(name)[1])]),)
    return {
        "neighbors.nearest": Asked(_search(k=3, labels="code"), _wine(name), "TopK", seen, {"k": 3}),
        "neighbors.within": Asked(_search(radius=60.0, labels="target"), _wine(name), "Each"),
        "neighbors.density": Asked(
            _search(bandwidth=9.0, kernel="gaussian", algorithm="kd_tree", atol=0.0, rtol=0.0, breadth_first=True),
            _wine(name),
            "LogSum",
        ),
    }
