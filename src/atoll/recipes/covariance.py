"""Covariances, exact: a mean, then the scatter of the rows about it."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from sklearn.covariance import OAS, EmpiricalCovariance, LedoitWolf, ShrunkCovariance, shrunk_covariance

from atoll.combine import Moments, Sum
from atoll.recipes.base import recipe
from atoll.rounds import Rounds
from atoll.trees import Array

__all__ = ["Scatter", "fit_covariance", "ledoit_wolf", "oas", "scatter_about", "warn_of_one_row"]


class Scatter(NamedTuple):
    """The rows of one class, or of all, about a mean.

    Attributes
    ----------
    n : int
        How many rows.
    products : ndarray of shape (d, d)
        Products of centred columns, summed over rows.
    fourth : float
        Summed fourth powers of the lengths of the centred rows; 0 where it was not asked for.
    """

    n: int
    products: Array
    fourth: float = 0.0

    def covariance(self) -> Array:
        """The maximum likelihood covariance, shape (d, d); of a single row with scikit-learn's warning."""
        if self.n == 1:
            warn_of_one_row()
        return self.products / self.n


def warn_of_one_row() -> None:
    """Warn, as scikit-learn does, of a covariance of a single row."""
    warnings.warn("Only one sample available. You may want to reshape your data array", stacklevel=2)


@recipe(EmpiricalCovariance, ShrunkCovariance, LedoitWolf, OAS)
def fit_covariance(estimator: Any, rounds: Rounds) -> Any:
    """Exact: the mean of all rows, then their scatter about it, so that no digit is lost to a mean far from zero.

    For Ledoit-Wolf the shrinkage needs one more number of a node: the summed fourth powers of its rows' distances from
    the mean, to which the published sum over all pairs of columns reduces.
    """
    schema = rounds.schema
    dtype, d = np.dtype(schema.dtype), schema.n_features
    if estimator.assume_centered:
        mean, estimator.location_ = np.zeros((1, d)), np.zeros(d)
    else:
        settings = {"n_classes": None}
        mean = rounds.round("statistics.class_moments", combine=Moments(), settings=settings)["mean"]
        estimator.location_ = mean[0].astype(dtype)
    shrinks = isinstance(estimator, LedoitWolf)
    (scatter,) = scatter_about(rounds, [schema.n_rows], mean, n_classes=None, fourth=shrinks)
    # numpy's covariance is float64 whatever the rows are, a plain product is not: scikit-learn uses one or the other
    as_rows = estimator.assume_centered != isinstance(estimator, LedoitWolf | OAS)
    estimator._set_covariance(_shrunk(estimator, scatter, dtype if as_rows else np.dtype(np.float64)))
    return estimator


def _shrunk(estimator: Any, scatter: Scatter, dtype: np.dtype[Any]) -> Array:
    """The covariance that an estimator makes of a scatter; its shrinkage, where it finds one, is set."""
    if isinstance(estimator, ShrunkCovariance):
        covariance = shrunk_covariance(scatter.covariance(), estimator.shrinkage)
    elif isinstance(estimator, LedoitWolf | OAS):
        covariance, shrinkage = (ledoit_wolf if isinstance(estimator, LedoitWolf) else oas)(scatter)
        estimator.shrinkage_ = dtype.type(shrinkage) if isinstance(shrinkage, np.floating) else shrinkage
    else:
        covariance = scatter.covariance()
    as_asked: Array = covariance.astype(dtype)
    return as_asked


def scatter_about(
    rounds: Rounds, n: Any, mean: Array, *, n_classes: int | None, fourth: bool, scale: Array | None = None
) -> list[Scatter]:
    """The scatter of the rows of each class about its mean.

    Parameters
    ----------
    rounds : Rounds
        Seen through the view `codes`, unless `n_classes` is None.
    n : sequence of int
        Rows of each class.
    mean : ndarray of shape (C, d)
        Of each class.
    n_classes : int or None
        None: all rows are one class.
    fourth : bool
        Whether the fourth powers are wanted.
    scale : ndarray of shape (C, d), optional
        What the columns of each class are divided by.

    Returns
    -------
    list of Scatter
        One per class.
    """
    settings = {"n_classes": n_classes, "together": False, "fourth": fourth}
    payload = {"mean": mean} if scale is None else {"mean": mean, "factor": 1 / scale}
    sums = rounds.round("classes.scatter", payload, combine=Sum(), settings=settings)
    products = sums["scatter"] if scale is None else sums["scatter"] / (scale[:, :, None] * scale[:, None, :])
    fourths = sums["fourth"] if fourth else np.zeros(len(mean))
    return [Scatter(int(k), s, float(f)) for k, s, f in zip(n, products, fourths, strict=True)]


def ledoit_wolf(scatter: Scatter) -> tuple[Array, float]:
    """The shrunk covariance and its shrinkage (Ledoit & Wolf, 2004, section 3.2), as scikit-learn computes them.

    Parameters
    ----------
    scatter : Scatter
        With `fourth`.

    Returns
    -------
    covariance : ndarray of shape (d, d)
    shrinkage : float
        Between 0 and 1.
    """
    n, d = scatter.n, len(scatter.products)
    if d == 1:
        return scatter.products / n, 0.0
    covariance = scatter.covariance()
    mu = np.trace(covariance) / d
    squares = np.sum(covariance**2)
    beta = (scatter.fourth / n - squares) / (d * n)
    delta = (squares - 2.0 * mu * np.trace(covariance) + d * mu**2) / d
    beta = max(0.0, min(beta, delta))  # below zero by rounding alone
    shrinkage = 0 if beta == 0 else beta / delta
    return shrunk_covariance(covariance, shrinkage), shrinkage


def oas(scatter: Scatter) -> tuple[Array, float]:
    """The shrunk covariance and its shrinkage (Chen et al., 2010, eq. 23), as scikit-learn computes them.

    Parameters
    ----------
    scatter : Scatter
        Its `fourth` is not looked at.

    Returns
    -------
    covariance : ndarray of shape (d, d)
    shrinkage : float
        Between 0 and 1.
    """
    n, d = scatter.n, len(scatter.products)
    if d == 1:
        return scatter.products / n, 0.0
    covariance = scatter.covariance()
    alpha, mu = np.mean(covariance**2), np.trace(covariance) / d
    denominator = (n + 1) * (alpha - mu**2 / d)
    shrinkage = 1.0 if denominator == 0 else min((alpha + mu**2) / denominator, 1.0)
    return shrunk_covariance(covariance, shrinkage), shrinkage
