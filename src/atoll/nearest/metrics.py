"""Distances by name: what a metric is, which search scikit-learn would choose for it, and blocks of distances.

Where scikit-learn searches by brute force it takes distances from its own `DistanceMetric` or from SciPy's `cdist`.
Both walk over the features of one pair at a time, so an entry of a block depends on its query and its row only, and
`distances` asks them too. For the Euclidean family, cosine and NaN-Euclidean scikit-learn multiplies matrices, and
the bits of an entry depend on the block around it: the former live in `atoll.nearest.exact`, the last is below.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial.distance import cdist
from sklearn.metrics import DistanceMetric, pairwise_distances
from sklearn.metrics.pairwise import manhattan_distances
from sklearn.neighbors import NearestNeighbors

from atoll.errors import InvalidData, explain
from atoll.trees import Array, Tree

__all__ = ["BOOLEAN", "COSINE", "EUCLIDEAN", "SPARSE", "Metric", "choose_method", "distances"]

BOOLEAN = frozenset({"dice", "jaccard", "rogerstanimoto", "russellrao", "sokalsneath", "yule"})
"""Metrics whose data scikit-learn converts to booleans before a brute-force search."""

EUCLIDEAN = frozenset({"euclidean", "l2", "sqeuclidean"})
"""Metrics that order rows like the Euclidean distance."""

COSINE = frozenset({"cosine"})
"""Metrics that order rows by the angle between query and row."""

SPARSE = frozenset({"cityblock", "cosine", "euclidean", "l1", "l2", "manhattan", "precomputed"})
"""Metrics that scikit-learn offers for sparse rows."""

_CDIST = {
    "canberra": "canberra", "chebyshev": "chebyshev", "cityblock": "cityblock", "correlation": "correlation",
    "hamming": "hamming", "infinity": "chebyshev", "l1": "cityblock", "mahalanobis": "mahalanobis",
    "manhattan": "cityblock", "minkowski": "minkowski", "p": "minkowski",
} | {name: name for name in BOOLEAN}  # fmt: skip


class Metric(NamedTuple):
    """A distance: its name in scikit-learn and what it needs to know.

    Attributes
    ----------
    name : str
        One of scikit-learn's names. Ignored where `function` is given.
    settings : dict
        Plain values, such as `p`.
    arrays : Tree
        Array-valued parameters: `V`, `VI`, `w`.
    function : callable or None
        The user's own distance between two rows; it cannot leave the process.
    """

    name: str = "euclidean"
    settings: dict[str, Any] = {}
    arrays: Tree = {}
    function: Callable[..., float] | None = None

    @property
    def params(self) -> dict[str, Any]:
        """Settings and arrays together, as scikit-learn takes them."""
        return {**self.settings, **self.arrays}


def choose_method(
    n_rows: int, n_features: int, n_neighbors: int | None, algorithm: str, metric: Metric, sparse: bool = False
) -> str:
    """Which search scikit-learn's `fit` would choose on the pooled rows.

    scikit-learn itself is asked, by fitting it on four rows of zeros: its rule reads the number of rows only to
    compare it with the number of neighbours. What it refuses, it refuses here, in its own words.

    Parameters
    ----------
    n_rows, n_features : int
        Size of the pooled training data.
    n_neighbors : int or None
        The estimator's `n_neighbors`; None for a search by radius.
    algorithm : {"auto", "brute", "kd_tree", "ball_tree"}
        The estimator's setting.
    metric : Metric
        What scikit-learn calls `effective_metric_`, with its parameters.
    sparse : bool, default=False
        Whether the training data are sparse.

    Returns
    -------
    {"brute", "kd_tree", "ball_tree"}
        What the fitted estimator calls `_fit_method`.

    Raises
    ------
    ValueError
        Where scikit-learn's `fit` raises it: metric and algorithm do not go together.
    """
    many = n_neighbors is not None and n_neighbors >= n_rows // 2
    shape = (1, n_features) if many else (4, n_features)
    params = {name: value for name, value in metric.params.items() if name != "p"}
    estimator = NearestNeighbors(
        n_neighbors=None if n_neighbors is None else 1,
        algorithm=algorithm,
        metric=_zero if metric.function is not None else metric.name,
        p=metric.settings.get("p", 2),
        metric_params=None if metric.function is not None else params or None,
    )
    rows = np.zeros((shape[0], shape[0]) if metric.name == "precomputed" else shape)
    return str(estimator.fit(csr_array(rows) if sparse else rows)._fit_method)


def _zero(x: Array, y: Array) -> float:
    return 0.0


def distances(metric: Metric, *, sparse: bool = False) -> Callable[[Any, Any], Array]:
    """The function that turns queries (m, d) and rows (n, d) into their distances (m, n).

    Parameters
    ----------
    metric : Metric
        Any metric but the Euclidean family, cosine and precomputed distances.
    sparse : bool, default=False
        Whether rows and queries are CSR matrices.

    Returns
    -------
    callable
        Takes float64 arrays (boolean ones for a metric in `BOOLEAN`), gives float64; entry (i, j) is a function of
        query i and row j alone.

    Raises
    ------
    InvalidData
        If scikit-learn does not offer the metric for such data, or a parameter it needs is missing.
    """
    if metric.function is not None:
        return partial(pairwise_distances, metric=metric.function, n_jobs=1, **metric.params)
    if sparse:
        return _sparse(metric.name)
    if metric.name == "nan_euclidean":
        return _nan_euclidean
    if metric.name == "mahalanobis" and "VI" not in metric.arrays:
        raise InvalidData(
            explain("the mahalanobis distance by brute force needs 'VI'", hint="pass metric_params={'VI': ...}")
        )
    if metric.name in _CDIST:
        return partial(cdist, metric=_CDIST[metric.name], **metric.params)
    return DistanceMetric.get_metric(metric.name, **metric.params).pairwise  # type: ignore[no-any-return]


def _sparse(name: str) -> Callable[[Any, Any], Array]:
    if name in ("manhattan", "cityblock", "l1"):
        return manhattan_distances  # type: ignore[no-any-return]
    raise InvalidData(
        explain(f"the metric {name!r} does not take sparse rows", expected=sorted(SPARSE), hint="densify the rows")
    )


def _nan_euclidean(queries: Array, rows: Array) -> Array:
    """Euclidean distance over the features that both have, scaled up to all (Dixon 1979); NaN where they share none."""
    missing, absent = np.isnan(queries), np.isnan(rows)
    left, right = np.where(missing, 0.0, queries).T.copy(), np.where(absent, 0.0, rows).T.copy()
    here, there = (~missing).T.astype(float), (~absent).T.astype(float)
    total = np.zeros((len(queries), len(rows)))
    term = np.empty_like(total)
    for j in range(queries.shape[1]):
        np.subtract(left[j][:, None], right[j], out=term)
        term *= term
        if missing[:, j].any():
            term *= here[j][:, None]
        if absent[:, j].any():
            term *= there[j]
        total += term
    shared = here.T @ there
    with np.errstate(invalid="ignore", divide="ignore"):
        total /= shared
    total *= queries.shape[1]
    return np.sqrt(total)
