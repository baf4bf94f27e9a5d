"""Models of the nodes' own; none of these ways is exact, so no law compares them with the pooled fit."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from atoll import models
from atoll.operations.neighbors import query_payload
from atoll.trees import Tree
from atoll.views import codes
from cases import Asked, data
from examples_base import Example

EXAMPLES: dict[type, list[Example]] = {}


def _estimator(estimator: Any) -> Tree:
    return {"estimator": np.frombuffer(models.to_bytes(estimator), dtype=np.uint8)}


def asked(name: str) -> dict[str, Asked]:
    """An example of each operation."""
    X, y = data(name)
    seen, C = (codes([np.unique(y)]),), len(np.unique(y))
    tree, forest = (
        _estimator(DecisionTreeClassifier(random_state=0)),
        _estimator(RandomForestClassifier(random_state=0)),
    )
    return {
        "generic.fit": Asked({}, tree, "Sum", seen),
        "generic.vote": Asked({"n_classes": [C], "n_outputs": 0}, {**tree, **query_payload(X[:7])}, "Sum", seen),
        "forest.grow": Asked({"n_classes": [C], "n_outputs": 1}, {**forest, "share": np.array([2])}, "Each", seen),
    }
