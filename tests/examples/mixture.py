"""Mixtures of Gaussians."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

from cases import Asked, data
from examples_base import Example

NAMES = ("iris", "wine", "diabetes")


def given(name: str, **settings: Any) -> GaussianMixture:
    """A mixture with a start of its own: three rows, and the variances of all."""
    X = data(name)[0]
    precisions = np.tile(1 / X.var(axis=0), (3, 1))
    means = X[[0, len(X) // 2, len(X) - 1]]
    return GaussianMixture(
        3,
        covariance_type="diag",
        weights_init=[0.2, 0.3, 0.5],
        means_init=means,
        precisions_init=precisions,
        **settings,
    )


EXAMPLES: dict[type, list[Example]] = {
    GaussianMixture: [
        Example(lambda name: given(name, tol=1e-6), NAMES),
        Example(lambda name: GaussianMixture(2, tol=1e-5, random_state=0), ("iris", "diabetes"), sends_rows=True),
        # wine's columns differ by 1e4 in scale, so covariances lose that many digits in scikit-learn's own steps
        Example(
            lambda name: GaussianMixture(2, init_params="random", random_state=1, reg_covar=1e-3, max_iter=200),
            ("iris", "diabetes"),
            close=1e-8,
        ),
    ],
    BayesianGaussianMixture: [
        Example(
            lambda name: BayesianGaussianMixture(
                n_components=2, covariance_type="tied", init_params="random", random_state=2, max_iter=200, tol=1e-2
            ),
            ("iris", "diabetes"),
            close=1e-8,
        ),
    ],
}


def asked(name: str) -> dict[str, Asked]:
    """An example of each operation."""
    X = data(name)[0]
    K, origin = 2, X.mean(axis=0)
    about = {"origin": origin, "about": X[[0, -1]] - origin}
    key, position = np.random.RandomState(0).get_state(legacy=True)[1:3]
    model = {
        "weights_": np.full(K, 1 / K),
        "means_": about["about"],
        "precisions_cholesky_": np.tile(1 / X.std(axis=0), (K, 1)),
    }
    return {
        "mixtures.expect": Asked(
            {"kind": "GaussianMixture", "covariance_type": "diag", "second": "diag"}, {**about, **model}, "Sum"
        ),
        "mixtures.assigned": Asked({"second": "full"}, about, "Sum"),
        "mixtures.drawn": Asked(
            {"second": "full", "dtype": "<f8"}, {**about, "key": key, "position": np.array([position])}, "Sum"
        ),
    }
