"""Lasso and elastic net, for one task or several: scikit-learn's coordinate descent on the rows that stand for all.

The objective divides squared errors by the number of rows n, and scikit-learn multiplies the penalty by it; so over m
rows the penalty is multiplied by n / m. Which column is visited, screened or dropped depends on products alone, so
steps, duality gap and warnings are those over all rows.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.linear_model import ElasticNet, Lasso, MultiTaskElasticNet, MultiTaskLasso

from atoll.recipes.least_squares.summary import NUMBERS, Ask, StandIn, Summary, changed, least_squares
from atoll.rounds import Rounds

__all__ = ["descend", "fit_elastic_net", "own_gram", "weighed"]


@least_squares(Lasso, ElasticNet, MultiTaskLasso, MultiTaskElasticNet)
def fit_elastic_net(estimator: Any, rounds: Rounds, ask: Ask) -> Any:
    """Exact: the same steps of coordinate descent."""
    return descend(estimator, ask(rounds, NUMBERS))


def descend(estimator: Any, summary: Summary) -> Any:
    """Fit an elastic net to summarised rows.

    Parameters
    ----------
    estimator : Lasso, ElasticNet, MultiTaskLasso or MultiTaskElasticNet
        Is given scikit-learn's fitted attributes.
    summary : Summary
        Of the rows.

    Returns
    -------
    estimator
    """
    rows = weighed(summary, estimator.fit_intercept)
    share = len(rows.X) / summary.n
    other: dict[str, Any] = {"fit_intercept": False, "alpha": estimator.alpha / share}
    if hasattr(estimator, "precompute"):
        other["precompute"] = own_gram(estimator.precompute, estimator.fit_intercept, rows)
    with changed(estimator, **other):
        estimator.fit(rows.X, rows.y)
    estimator.dual_gap_ *= share
    estimator._set_intercept(rows.X_offset, rows.y_offset)
    return estimator


def weighed(summary: Summary, fit_intercept: bool) -> StandIn:
    """The rows that stand for all, as if weights summed to the number of rows."""
    rows = summary.stand_in(fit_intercept)
    return rows if summary.weight == summary.n else rows.scaled(np.sqrt(summary.n / summary.weight))


def own_gram(precompute: Any, fit_intercept: bool, rows: StandIn) -> Any:
    """`precompute` as scikit-learn takes it: a Gram matrix that was given holds only where nothing was subtracted."""
    if hasattr(precompute, "__array__") and fit_intercept and not np.allclose(rows.X_offset, 0):
        warnings.warn(
            "Gram matrix was provided but X was centered to fit intercept: recomputing Gram matrix.",
            UserWarning,
            stacklevel=2,
        )
        return rows.X.shape[0] > rows.X.shape[1]
    return precompute
