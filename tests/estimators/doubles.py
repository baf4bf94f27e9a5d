"""What stands in for sites in these tests."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.cluster import KMeans
from sklearn.covariance import EmpiricalCovariance
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import PoissonRegressor, Ridge, RidgeClassifier
from sklearn.mixture import GaussianMixture
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.validation import _num_samples

from atoll import Distributed, Federated
from atoll.recipes import supported

__all__ = ["NEIGHBORS", "OTHERS", "WRAPPERS", "FederatedOverSites"]


class FederatedOverSites(Federated):
    """The rows belong to three sites in turn, so that arrays alone make a federation of three."""

    def fit(self, X: Any, y: Any = None, **fit_params: Any) -> Self:
        return super().fit(X, y, node=np.arange(_num_samples(X)) % 3, **fit_params)


def _over_three(estimator: Any) -> Distributed:
    return Distributed(estimator, n_nodes=3)


WRAPPERS = [_over_three, FederatedOverSites]


NEIGHBORS = [kind for kind in supported() if kind.__module__.startswith("sklearn.neighbors.")]
OTHERS = [
    EmpiricalCovariance, GaussianMixture, GaussianNB, KMeans, LinearDiscriminantAnalysis, OneHotEncoder, PCA,
    PoissonRegressor, Ridge, RidgeClassifier, StandardScaler,
]  # fmt: skip
