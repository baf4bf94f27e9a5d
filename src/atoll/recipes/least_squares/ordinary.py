"""Linear regression: scikit-learn's own fit on the rows that stand for all."""

from __future__ import annotations

import scipy.sparse as sp
from sklearn.linear_model import LinearRegression

from atoll.recipes.least_squares.summary import NUMBERS, Ask, changed, least_squares
from atoll.rounds import Rounds

__all__ = ["fit_linear_regression"]


@least_squares(LinearRegression)
def fit_linear_regression(estimator: LinearRegression, rounds: Rounds, ask: Ask) -> LinearRegression:
    """Exact: singular values, rank, non-negative coefficients and the steps of `lsqr` depend on products alone.

    Sparse rows go through `lsqr`, as in scikit-learn.
    """
    schema = rounds.schema
    rows = ask(rounds, NUMBERS).stand_in(estimator.fit_intercept)
    with changed(estimator, fit_intercept=False):
        estimator.fit(sp.csr_matrix(rows.X) if schema.sparse else rows.X, rows.y)
    estimator._set_intercept(rows.X_offset, rows.y_offset)
    return estimator
