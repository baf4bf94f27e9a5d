"""Discriminant analysis."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis

from atoll.trees import Tree
from atoll.views import codes
from cases import Asked, data
from examples_base import Example

CLASSES = ("iris", "digits", "wine", "breast_cancer")
FULL = ("iris", "wine")  # the covariances of the others are singular, or so nearly that squares lose most digits

SIGNS = ("rotations_",)  # permuting the rows of the pooled fit turns some of these axes round

EXAMPLES: dict[type, list[Example]] = {
    LinearDiscriminantAnalysis: [
        Example(lambda name: LinearDiscriminantAnalysis(), CLASSES),
        Example(lambda name: LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto", n_components=1), FULL),
    ],
    QuadraticDiscriminantAnalysis: [
        Example(
            lambda name: QuadraticDiscriminantAnalysis(reg_param=1e-3, store_covariance=True), CLASSES, leave=SIGNS
        ),
        Example(lambda name: QuadraticDiscriminantAnalysis(solver="eigen", shrinkage="auto"), FULL, leave=SIGNS),
    ],
}


def asked(name: str) -> dict[str, Asked]:
    """An example of each operation."""
    X, y = data(name)
    classes = np.unique(y)
    seen = (codes([classes]),)
    settings: dict[str, Any] = {"n_classes": len(classes), "together": False}
    mean = np.stack([X[y == c].mean(axis=0) for c in classes])
    payload: Tree = {"mean": mean, "factor": np.full_like(mean, 0.5)}
    return {
        "classes.scatter": Asked({**settings, "fourth": True}, payload, "Sum", seen),
        "classes.triangle": Asked(settings, {"mean": mean}, "Triangle", seen),
    }
