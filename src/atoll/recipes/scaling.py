"""Scalers, exact: moments, extrema or quantiles of each column; what follows from them is scikit-learn's own code."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy import stats
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.preprocessing._data import _handle_zeros_in_scale, _is_constant_feature

from atoll.combine import Extrema, Moments
from atoll.recipes.base import recipe
from atoll.recipes.quantiles import interpolated, missing_where_empty, order_statistics, present, ranks_of
from atoll.rounds import Rounds
from atoll.schema import Schema
from atoll.trees import Array, Tree

__all__ = ["extreme_rows", "fit_extremes", "fit_robust", "fit_standard", "in_form", "standardise"]


@recipe(StandardScaler)
def fit_standard(estimator: StandardScaler, rounds: Rounds) -> StandardScaler:
    """Exact: a count, a mean and a spread of each column, merged by Chan, Golub & LeVeque (1979)."""
    schema = rounds.schema
    if schema.sparse and estimator.with_mean:
        raise ValueError(
            "Cannot center sparse matrices: pass `with_mean=False` instead. See docstring for motivation and "
            "alternatives."
        )
    only_counted = not estimator.with_std and (schema.sparse or not estimator.with_mean)
    settings = {"weighted": schema.sparse or not only_counted}
    moments = rounds.round("columns.moments", combine=Moments(), settings=settings)
    if not only_counted:
        return standardise(estimator, moments, schema)
    whole = not schema.weighted
    n = moments["n"].astype(np.int64 if whole else schema.dtype)
    estimator.n_samples_seen_ = n[0] if (n == n[0]).all() else n
    estimator.mean_ = estimator.var_ = estimator.scale_ = None
    return estimator


def standardise(scaler: StandardScaler, moments: Tree, schema: Schema) -> StandardScaler:
    """Give a scaler the attributes that follow from the moments of columns, dtypes and warnings included.

    Parameters
    ----------
    scaler : StandardScaler
        Not fitted.
    moments : Tree
        ``n``, ``mean`` and ``m2``, each of shape (d,).
    schema : Schema
        What the rows look like; those of sparse float32 have statistics rounded to it, as in scikit-learn.

    Returns
    -------
    StandardScaler
        The same, fitted.
    """
    n = moments["n"]
    with np.errstate(invalid="ignore" if schema.sparse else "warn"):  # as scikit-learn
        mean = moments["mean"] + np.zeros_like(n) / n  # NaN where there is nothing
        var = moments["m2"] / n
    if schema.sparse:
        n = n.astype(schema.dtype)
        mean, var = (v.astype(schema.dtype).astype(np.float64) for v in (mean, var))
    scaler.mean_, scaler.var_, scaler.scale_ = mean, None, None
    scaler.n_samples_seen_ = n[0] if (n == n[0]).all() else n
    if scaler.with_std:
        constant = _is_constant_feature(var, mean, scaler.n_samples_seen_)
        scaler.var_ = var
        scaler.scale_ = _handle_zeros_in_scale(np.sqrt(var), copy=False, constant_mask=constant)
    return scaler


@recipe(MinMaxScaler, MaxAbsScaler)
def fit_extremes(estimator: MinMaxScaler | MaxAbsScaler, rounds: Rounds) -> MinMaxScaler | MaxAbsScaler:
    """Exact: scikit-learn's own fit on two rows, which hold the smallest and largest value of each column."""
    estimator.fit(in_form(extreme_rows(rounds), rounds.schema))
    estimator.n_samples_seen_ = rounds.schema.n_rows
    return estimator


def extreme_rows(rounds: Rounds, *, weighted: bool = False) -> Array:
    """The smallest and the largest value of each column; NaN where all are missing.

    Parameters
    ----------
    rounds : Rounds
        The way to the rows.
    weighted : bool, default=False
        Whether rows of weight zero are left out.

    Returns
    -------
    ndarray of shape (2, d)
        In the dtype of the rows.
    """
    found = rounds.round("columns.extrema", combine=Extrema(), settings={"weighted": weighted})
    rows = np.stack([found["min"], found["max"]]).astype(rounds.schema.dtype)
    return np.where(rows[0] > rows[1], rows.dtype.type(np.nan), rows)


def in_form(rows: Array, schema: Schema) -> Any:
    """Made-up rows as nodes hold theirs: sparse where those are.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        In the dtype of the schema.
    schema : Schema
        What nodes agreed on.

    Returns
    -------
    ndarray or CSR matrix of shape (n, d)
    """
    return sp.csr_matrix(rows) if schema.sparse else rows


@recipe(RobustScaler)
def fit_robust(estimator: RobustScaler, rounds: Rounds) -> RobustScaler:
    """Exact: medians and quantiles found by counting rows below thresholds."""
    schema = rounds.schema
    low, high = estimator.quantile_range
    if not 0 <= low <= high <= 100:
        raise ValueError(f"Invalid quantile range: {estimator.quantile_range}")
    if estimator.with_centering and schema.sparse:
        raise ValueError(
            "Cannot center sparse matrices: use `with_centering=False` instead. See docstring for motivation and "
            "alternatives."
        )
    values, share = _around(estimator, rounds)
    estimator.center_ = values[:2].mean(axis=0) if estimator.with_centering else None
    estimator.scale_ = None
    if estimator.with_scaling:
        bottom, top = interpolated(values[-4:-2], values[-2:], share)
        scale = _handle_zeros_in_scale(top - bottom, copy=False)
        unit = stats.norm.ppf(high / 100.0) - stats.norm.ppf(low / 100.0)
        estimator.scale_ = scale / unit if estimator.unit_variance else scale
    return estimator


def _around(estimator: RobustScaler, rounds: Rounds) -> tuple[Array, Array]:
    """The values on both sides of the median, those below the two quantiles, those above them; and shares between."""
    n = present(rounds)
    edges = ranks_of(n, np.true_divide(estimator.quantile_range, 100))
    centre = np.stack([np.maximum(n - 1, 0) // 2, n // 2])
    wanted = [*([centre] if estimator.with_centering else []), *(edges[:2] if estimator.with_scaling else [])]
    if not wanted:
        return np.zeros((0, len(n))), edges.share
    return missing_where_empty(n, order_statistics(rounds, np.concatenate(wanted))), edges.share
