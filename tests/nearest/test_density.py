"""Sums of kernels over the rows of several nodes are those over all rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import KernelDensity

from atoll.nearest import Kernels, Metric
from nearest import oracle

TREE = ("metric", "algorithm", "leaf_size", "sample_weight")


def densities(X: np.ndarray, Q: np.ndarray, **settings: Any) -> np.ndarray:
    tree = {name: settings.pop(name) for name in TREE if name in settings}
    return Kernels(X, **tree).log_sum(Q, **settings)


KERNELS = ("gaussian", "tophat", "epanechnikov", "exponential", "linear", "cosine")


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["euclidean", "chebyshev", "haversine", "canberra"])
def test_nodes_add_up_to_the_pooled_estimator(name: str, weighted: bool, kernel: str) -> None:
    rng = np.random.default_rng(KERNELS.index(kernel))
    X, Q = oracle.rows("normal", rng, 200, 20, 2)
    weight = rng.integers(0, 4, 200).astype(float) if weighted else None
    pooled = KernelDensity(bandwidth=0.7, kernel=kernel, metric=name).fit(X, sample_weight=weight)
    total = 200.0 if weight is None else weight.sum()
    with np.errstate(divide="ignore"):  # scikit-learn's tree warns of weights of 0, pooled and on every node
        parts = [
            densities(
                X[node], Q, bandwidth=0.7, kernel=kernel, metric=Metric(name),
                sample_weight=None if weight is None else weight[node],
            )
            for node in oracle.split(200, rng)
        ]  # fmt: skip
        expected = pooled.score_samples(Q)
    found = np.logaddexp.reduce(parts, axis=0) - np.log(total)
    # compared as densities: where there is none, scikit-learn's differences of logarithms leave a rest of about 1e-16
    np.testing.assert_allclose(np.exp(found), np.exp(expected), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("algorithm", ["auto", "kd_tree", "ball_tree"])
@pytest.mark.parametrize("breadth_first", [True, False])
def test_one_node_is_plain_scikit_learn(algorithm: str, breadth_first: bool) -> None:
    X, Q = oracle.rows("normal", np.random.default_rng(0), 150, 10, 3)
    settings = {"leaf_size": 7, "atol": 1e-6, "rtol": 1e-4, "breadth_first": breadth_first, "algorithm": algorithm}
    pooled = KernelDensity(bandwidth=0.5, **settings).fit(X).score_samples(Q)
    assert np.array_equal(densities(X, Q, bandwidth=0.5, **settings) - np.log(150), pooled)


def test_nothing_to_sum() -> None:
    X, Q = oracle.rows("normal", np.random.default_rng(0), 6, 3, 2)
    assert np.array_equal(densities(X[:0], Q, bandwidth=1.0), np.full(3, -np.inf))
    assert np.array_equal(densities(X, Q, bandwidth=1.0, sample_weight=np.zeros(6)), np.full(3, -np.inf))
    assert densities(X, Q[:0], bandwidth=1.0).shape == (0,)


def test_an_unknown_metric_is_refused_as_scikit_learn_does() -> None:
    with pytest.raises(ValueError, match="cosine"):
        densities(np.zeros((4, 2)), np.zeros((1, 2)), bandwidth=1.0, metric=Metric("cosine"))
