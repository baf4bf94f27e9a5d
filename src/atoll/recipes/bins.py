"""What is made of the quantiles of columns, exact: quantile maps, bins and knots of splines."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder, QuantileTransformer, SplineTransformer

from atoll.combine import Moments, Sum, TopK
from atoll.recipes.base import recipe
from atoll.recipes.quantiles import quantiles, weighted_percentiles
from atoll.recipes.scaling import extreme_rows
from atoll.rounds import Rounds
from atoll.trees import Array, Tree

__all__ = ["fit_bins", "fit_quantile_map", "fit_splines", "kmeans_centers"]


def _note_all_rows(rounds: Rounds, subsample: int | None, name: str) -> None:
    n = rounds.schema.n_rows
    if subsample is not None and subsample < n:
        rounds.run.notes.append(f"{name}: all {n} rows count; scikit-learn would draw {subsample} of them")


@recipe(QuantileTransformer)
def fit_quantile_map(estimator: QuantileTransformer, rounds: Rounds) -> QuantileTransformer:
    """Exact: quantiles found by counting rows below thresholds.

    Every row counts, whatever `subsample` says: that parameter saves scikit-learn time, and nodes none.
    """
    schema, subsample = rounds.schema, estimator.subsample
    if subsample is not None and estimator.n_quantiles > subsample:
        raise ValueError(
            f"The number of quantiles cannot be greater than the number of samples used. Got {estimator.n_quantiles} "
            f"quantiles and {subsample} samples."
        )
    stored = estimator.ignore_implicit_zeros and schema.sparse
    if schema.sparse and not stored and (extreme_rows(rounds)[0] < 0).any():
        raise ValueError("QuantileTransformer only accepts non-negative sparse matrices.")
    if estimator.n_quantiles > schema.n_rows:
        _warn(
            f"n_quantiles ({estimator.n_quantiles}) is greater than the total number of samples ({schema.n_rows}). "
            "n_quantiles is set to n_samples."
        )
    if estimator.ignore_implicit_zeros and not schema.sparse:
        _warn("'ignore_implicit_zeros' takes effect only with sparse matrix. This parameter has no effect.")
    _note_all_rows(rounds, subsample, "QuantileTransformer")
    estimator.n_quantiles_ = max(1, min(estimator.n_quantiles, schema.n_rows))
    estimator.references_ = np.linspace(0, 1, estimator.n_quantiles_, endpoint=True)
    estimator.quantiles_ = quantiles(rounds, estimator.references_ * 100 / 100, stored=stored)
    return estimator


def _warn(message: str, category: type[Warning] = UserWarning) -> None:
    warnings.warn(message, category, stacklevel=3)


@recipe(SplineTransformer)
def fit_splines(estimator: SplineTransformer, rounds: Rounds) -> SplineTransformer:
    """Exact: nodes tell extremes or quantiles of columns; the splines over these knots are scikit-learn's own."""
    schema, knots = rounds.schema, estimator.knots
    if isinstance(knots, str):
        base = _quantile_knots if knots == "quantile" else _even_knots
        placed = base(rounds, estimator.n_knots)
        estimator._get_base_knot_positions = lambda *_, **__: placed
    try:
        estimator.fit(np.zeros((min(schema.n_rows, 2), schema.n_features), dtype=schema.dtype))
    finally:
        vars(estimator).pop("_get_base_knot_positions", None)
    return estimator


def _even_knots(rounds: Rounds, n_knots: int) -> Array:
    low, high = np.nan_to_num(extreme_rows(rounds, weighted=True).astype(np.float64))
    return np.linspace(low, high, n_knots, endpoint=True)


def _quantile_knots(rounds: Rounds, n_knots: int) -> Array:
    percents = 100 * np.linspace(start=0, stop=1, num=n_knots, dtype=np.float64)
    if rounds.schema.weighted:
        return weighted_percentiles(rounds, percents)
    return quantiles(rounds, percents / 100)


@recipe(KBinsDiscretizer)
def fit_bins(estimator: KBinsDiscretizer, rounds: Rounds) -> KBinsDiscretizer:
    """Exact: edges from extremes, from quantiles found by counting, or from one-dimensional k-means of all columns.

    Every row counts, whatever `subsample` says.
    """
    schema, strategy = rounds.schema, estimator.strategy
    n_bins = estimator._validate_n_bins(schema.n_features)
    _refuse_method(estimator, schema.weighted)
    _note_all_rows(rounds, estimator.subsample, "KBinsDiscretizer")
    low, high = extreme_rows(rounds, weighted=strategy != "quantile")
    if np.isnan(low).any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    n_bins[low == high] = 1
    edges = {"uniform": _even_edges, "quantile": _quantile_edges, "kmeans": _kmeans_edges}[strategy]
    estimator.bin_edges_ = np.zeros(schema.n_features, dtype=object)
    for j, found in enumerate(edges(estimator, rounds, low, high, n_bins)):
        estimator.bin_edges_[j] = _kept(found, j, n_bins[j], strategy)
        n_bins[j] = len(estimator.bin_edges_[j]) - 1
    estimator.n_bins_ = n_bins
    if "onehot" in estimator.encode:
        _encode(estimator, estimator.dtype or np.dtype(schema.dtype))
    return estimator


def _refuse_method(estimator: KBinsDiscretizer, weighted: bool) -> None:
    method = estimator.quantile_method
    if weighted and estimator.strategy == "quantile" and method not in ("inverted_cdf", "averaged_inverted_cdf"):
        raise ValueError(
            "When fitting with strategy='quantile' and sample weights, quantile_method should either be set to "
            f"'averaged_inverted_cdf' or 'inverted_cdf', got quantile_method='{method}' instead."
        )


def _kept(edges: Array, j: int, n_bins: int, strategy: str) -> Array:
    """The edges of a column, without those of bins that are too narrow."""
    if n_bins == 1:
        _warn(f"Feature {j} is constant and will be replaced with 0.")
        return np.array([-np.inf, np.inf])
    if strategy == "uniform":
        return edges
    edges = edges[np.ediff1d(edges, to_begin=np.inf) > 1e-8]
    if len(edges) - 1 != n_bins:
        _warn(
            f"Bins whose width are too small (i.e., <= 1e-8) in feature {j} are removed. Consider decreasing the "
            "number of bins."
        )
    return edges


def _encode(estimator: KBinsDiscretizer, dtype: Any) -> None:
    categories = [np.arange(n) for n in estimator.n_bins_]
    encoder = OneHotEncoder(categories=categories, sparse_output=estimator.encode == "onehot", dtype=dtype)
    estimator._encoder = encoder.fit(np.zeros((1, len(categories))))


def _even_edges(estimator: KBinsDiscretizer, rounds: Rounds, low: Array, high: Array, n_bins: Array) -> list[Array]:
    return [np.linspace(a, b, n + 1) for a, b, n in zip(low, high, n_bins, strict=True)]


def _quantile_edges(estimator: KBinsDiscretizer, rounds: Rounds, low: Array, high: Array, n_bins: Array) -> list[Array]:
    """Of all columns in one search, for every number of bins that is wanted."""
    method = estimator.quantile_method
    wanted = np.unique(n_bins)
    percents = np.concatenate([np.linspace(0, 100, n + 1) for n in wanted])
    if rounds.schema.weighted:
        found = weighted_percentiles(rounds, percents, average=method == "averaged_inverted_cdf")
    else:
        found = quantiles(rounds, percents / 100, method=method)
    first = dict(zip(wanted.tolist(), np.cumsum([0, *(wanted[:-1] + 1)]).tolist(), strict=True))
    return [found[first[n] : first[n] + n + 1, j] for j, n in enumerate(n_bins.tolist())]


def _kmeans_edges(estimator: KBinsDiscretizer, rounds: Rounds, low: Array, high: Array, n_bins: Array) -> list[Array]:
    """Half-way between the centres, which start evenly spread."""
    if (most := n_bins.max()) > rounds.schema.n_rows:
        raise ValueError(f"n_samples={rounds.schema.n_rows} should be >= n_clusters={most}.")
    centers = np.full((most, len(n_bins)), np.nan)
    for j, n in enumerate(n_bins):
        edges = np.linspace(low[j], high[j], n + 1)
        centers[:n, j] = (edges[1:] + edges[:-1]) * 0.5
    found = np.sort(kmeans_centers(rounds, centers, n_bins > 1), axis=0).astype(low.dtype)
    inner = (found[1:] + found[:-1]) * 0.5
    return [np.r_[low[j], inner[: n - 1, j], high[j]] for j, n in enumerate(n_bins)]


def kmeans_centers(rounds: Rounds, centers: Array, going: Array) -> Array:
    """One-dimensional k-means of each column, as scikit-learn's `KMeans` does it from given centres.

    Parameters
    ----------
    rounds : Rounds
        The way to the rows; their sample weights count.
    centers : ndarray of shape (k, d), float64
        Where clusters start, NaN where a column has fewer.
    going : ndarray of shape (d,), bool
        Columns that are wanted.

    Returns
    -------
    ndarray of shape (k, d), float64
    """
    default = KMeans()
    moments = rounds.round("columns.moments", combine=Moments(), settings={"weighted": False})
    mean, tolerance = moments["mean"], default.tol * moments["m2"] / moments["n"]
    centers = np.where(going, centers - mean, np.nan)
    for _ in range(default.max_iter):
        at = {"centers": np.where(going, centers, np.nan), "mean": mean}
        moved = _moved(rounds, at)
        centers = np.where(going, moved, centers)
        going = going & (np.nansum(np.square(moved - at["centers"]), axis=0) > tolerance)
        if not going.any():
            break
    held = rounds.round("columns.clusters", {"centers": centers, "mean": mean}, combine=Sum())["rows"]
    for distinct, n in zip((held > 0).sum(axis=0), (~np.isnan(centers)).sum(axis=0), strict=True):
        if distinct < n:
            _warn(
                f"Number of distinct clusters ({distinct}) found smaller than n_clusters ({n}). Possibly due to "
                "duplicate points in X.",
                ConvergenceWarning,
            )
    return centers + mean


def _moved(rounds: Rounds, at: Tree) -> Array:
    """One step of Lloyd's algorithm.

    A cluster without rows takes the place of the row farthest from its centre, or, where all rows lie on theirs, that
    of the biggest cluster; scikit-learn has not yet divided the latter's sum when it comes later in the list.
    """
    answer = rounds.round("columns.clusters", at, combine=Sum())
    mass, total = answer["mass"].copy(), answer["sum"].copy()  # what a worker sent cannot be written to
    empty = (mass == 0) & ~np.isnan(at["centers"])
    if empty.any():
        _relocate(rounds, at, mass, total, empty)
    moved = np.where(np.isnan(at["centers"]), np.nan, np.divide(total, mass, out=total.copy(), where=mass > 0))
    for i, j in np.argwhere((mass == 0) & ~np.isnan(at["centers"])):
        big = mass[:, j].argmax()
        moved[i, j] = total[big, j] if i < big else moved[big, j]
    return moved


def _relocate(rounds: Rounds, at: Tree, mass: Array, total: Array, empty: Array) -> None:
    """Give each empty cluster one of the farthest rows, which its own cluster loses (in place)."""
    k = int(empty.sum(axis=0).max())
    payload = at | {"centers": np.where(empty.any(axis=0), at["centers"], np.nan)}
    far = rounds.round("columns.farthest", payload, combine=TopK(k), settings={"k": k})
    for j in np.flatnonzero(empty.any(axis=0) & (far["distance"][:, 0] < 0)):
        for place, i in enumerate(np.flatnonzero(empty[:, j])):
            old, value, w = (far[name][j, place] for name in ("label", "value", "mass"))
            mass[old, j] -= w
            total[old, j] -= w * value
            mass[i, j], total[i, j] = w, w * value
