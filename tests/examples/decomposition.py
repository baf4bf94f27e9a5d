"""Decompositions."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA, FactorAnalysis, TruncatedSVD

from cases import Asked, data
from examples_base import Example

EXAMPLES: dict[type, list[Example]] = {
    PCA: [
        Example(lambda name: PCA(n_components=2)),
        Example(
            lambda name: PCA(n_components=0.9, whiten=True, svd_solver="full"),
            close=1e-8,
            why="only `score_samples`: the one component that is kept is a thousand times the rest, and scikit-learn's "
            "precision matrix loses that ratio",
        ),
        Example(lambda name: PCA(n_components=3, svd_solver="randomized", random_state=0)),
    ],
    TruncatedSVD: [
        Example(lambda name: TruncatedSVD(n_components=2, random_state=0)),
        Example(lambda name: TruncatedSVD(n_components=3, algorithm="arpack", random_state=0)),
    ],
    # breast_cancer's columns differ by 1e5 in scale, and the iterations start from noise of scale 1: the digits that
    # this costs scikit-learn are lost otherwise here
    FactorAnalysis: [
        Example(lambda name: FactorAnalysis(n_components=2), ("iris", "digits", "diabetes"), atol=1e-11),
        Example(lambda name: FactorAnalysis(n_components=2, rotation="varimax"), ("wine", "digits"), close=1e-8),
    ],
}


def asked(name: str) -> dict[str, Asked]:
    """An example of each operation."""
    X = data(name)[0]
    directions = {"directions": np.eye(X.shape[1])[:, :2].copy(), "mean": X.mean(axis=0)}
    return {
        "decomposition.triangle": Asked({}, {}, "Triangle"),
        "decomposition.reach": Asked({}, directions, "Extrema"),
        "decomposition.products": Asked({}, directions, "Sum"),
    }
