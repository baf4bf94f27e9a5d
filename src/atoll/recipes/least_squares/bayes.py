"""Bayesian regressions: scikit-learn's own fit on the rows that stand for all.

Both count rows where they estimate the noise. Weights make the few rows count for all where the estimator has weights;
where it has none, the prior takes the difference, since the two only occur in one sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.linear_model import ARDRegression, BayesianRidge

from atoll.recipes.least_squares.summary import NUMBERS, Ask, StandIn, changed, least_squares, no_weight
from atoll.rounds import Rounds

__all__ = ["fit_ard", "fit_bayesian_ridge"]


@least_squares(BayesianRidge)
def fit_bayesian_ridge(estimator: BayesianRidge, rounds: Rounds, ask: Ask) -> BayesianRidge:
    """Exact: the same steps; a row that stands for all has the weight of n / m of them."""
    summary = ask(rounds, NUMBERS)
    if not summary.weight > 0:
        raise no_weight()
    rows, variance = summary.stand_in(estimator.fit_intercept), summary.spread[0] / summary.weight
    share = summary.weight / len(rows.X)
    few = rows.scaled(1 / np.sqrt(share))
    start = 1 / (variance + np.finfo(np.float64).eps) if estimator.alpha_init is None else estimator.alpha_init
    with changed(estimator, fit_intercept=False, alpha_init=start):
        estimator.fit(few.X, few.y, sample_weight=np.full(len(few.X), share))
    return _settled(estimator, rows)


@least_squares(ARDRegression)
def fit_ard(estimator: ARDRegression, rounds: Rounds, ask: Ask) -> ARDRegression:
    """Exact: the same steps; `alpha_1` is raised by half the rows that are stood for.

    The noise is first taken for the variance of the targets, so the rows are turned until theirs is that of all.
    """
    summary = ask(rounds, NUMBERS)
    rows = summary.stand_in(estimator.fit_intercept)
    few = _with_variance(rows, summary.spread[0] / summary.n)
    with changed(estimator, fit_intercept=False, alpha_1=estimator.alpha_1 + (summary.n - len(few.X)) / 2):
        estimator.fit(few.X, few.y)
    return _settled(estimator, rows)


def _with_variance(rows: StandIn, variance: float) -> StandIn:
    """The same rows turned so that `np.var` of their targets is this; turning changes no product of columns."""
    m, square = len(rows.y), float(rows.y @ rows.y)
    target = np.full(m, np.sqrt(max(square / m - variance, 0)))
    target[:2] += np.sqrt(m * variance / 2) * np.array([1, -1])[:m]
    mirror = rows.y + target if rows.y @ target >= 0 else rows.y - target
    size = float(mirror @ mirror)
    if not size > 0:
        return rows
    both = np.column_stack([rows.X, rows.y])
    both = (both - np.outer(mirror, 2 / size * (mirror @ both))).astype(rows.X.dtype)
    return rows._replace(X=np.ascontiguousarray(both[:, :-1]), y=np.ascontiguousarray(both[:, -1]))


def _settled(estimator: Any, rows: StandIn) -> Any:
    estimator.X_offset_, estimator.X_scale_ = rows.X_offset, np.ones_like(rows.X_offset)
    estimator._set_intercept(rows.X_offset, rows.y_offset)
    return estimator
