"""Kernel density sums over the rows of one node."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.neighbors import BallTree, KDTree

from atoll.nearest.metrics import Metric
from atoll.trees import Array

__all__ = ["Kernels"]

_TREES = {"kd_tree": KDTree, "ball_tree": BallTree}


class Kernels:
    """The rows of one node in a tree, whose kernels can be summed.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        The rows; there may be none.
    metric : Metric, optional
        Default: Euclidean.
    algorithm : {"auto", "kd_tree", "ball_tree"}, default="auto"
        Which tree; "auto" takes the k-d tree where it knows the metric.
    leaf_size : int, default=40
        As in scikit-learn.
    sample_weight : ndarray of shape (n,), optional
        Weights of the rows, not negative.

    Raises
    ------
    ValueError
        If the tree does not know the metric.
    """

    def __init__(
        self,
        X: Array,
        *,
        metric: Metric | None = None,
        algorithm: str = "auto",
        leaf_size: int = 40,
        sample_weight: Array | None = None,
    ) -> None:
        metric = metric or Metric()
        weight = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        self._total = float(len(X)) if weight is None else float(weight.sum())
        self._tree: Any = None
        if self._total:
            if algorithm == "auto":
                algorithm = "kd_tree" if metric.name in KDTree.valid_metrics else "ball_tree"
            rows: Any = np.ascontiguousarray(X, dtype=np.float64)
            settings: dict[str, Any] = {"metric": metric.name, "sample_weight": weight, **metric.params}
            self._tree = _TREES[algorithm](rows, leaf_size, **settings)

    def log_sum(
        self,
        Q: Array,
        *,
        bandwidth: float,
        kernel: str = "gaussian",
        atol: float = 0.0,
        rtol: float = 0.0,
        breadth_first: bool = True,
    ) -> Array:
        """Logarithm of each query's sum of kernels over the rows, normalisation of the kernel included.

        `KernelDensity.score_samples` is this less the logarithm of the number (or weight) of rows. Sums over several
        nodes add up: `logaddexp` their results, then subtract the logarithm of the total.

        Parameters
        ----------
        Q : ndarray of shape (m, d)
            Queries.
        bandwidth : float
            Of the kernel.
        kernel : str, default="gaussian"
            One of scikit-learn's kernels.
        atol, rtol : float, default=0
            Tolerances of `KernelDensity`. `atol` is per row, so the errors of all nodes together stay within what the
            pooled estimator allows.
        breadth_first : bool, default=True
            As in scikit-learn.

        Returns
        -------
        ndarray of shape (m,)
            Float64; minus infinity where there are no rows or no weight.
        """
        if not len(Q) or self._tree is None:
            return np.full(len(Q), -np.inf)
        queries = np.ascontiguousarray(Q, dtype=np.float64)
        settings = {"atol": atol * self._total, "rtol": rtol, "breadth_first": breadth_first, "return_log": True}
        found: Array = self._tree.kernel_density(queries, h=bandwidth, kernel=kernel, **settings)
        return found
