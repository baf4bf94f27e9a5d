"""Orthogonal matching pursuit: scikit-learn's own steps over the rows that stand for all."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import OrthogonalMatchingPursuit, OrthogonalMatchingPursuitCV, orthogonal_mp

from atoll.recipes.base import recipe
from atoll.recipes.least_squares.parts import joined, split, summaries
from atoll.recipes.least_squares.summary import NUMBERS, Ask, Summary, changed, least_squares
from atoll.rounds import Rounds
from atoll.trees import Array

__all__ = ["fit_matching_pursuit", "fit_matching_pursuit_cv"]


@least_squares(OrthogonalMatchingPursuit)
def fit_matching_pursuit(estimator: OrthogonalMatchingPursuit, rounds: Rounds, ask: Ask) -> OrthogonalMatchingPursuit:
    """Exact: which column comes next depends on products alone."""
    return _pursue(estimator, ask(rounds, NUMBERS))


def _pursue(estimator: OrthogonalMatchingPursuit, summary: Summary) -> OrthogonalMatchingPursuit:
    rows = summary.stand_in(estimator.fit_intercept)
    with changed(estimator, fit_intercept=False):
        estimator.fit(rows.X, rows.y)
    estimator._set_intercept(rows.X_offset, rows.y_offset, np.ones_like(rows.X_offset))
    return estimator


@recipe(OrthogonalMatchingPursuitCV)
def fit_matching_pursuit_cv(estimator: OrthogonalMatchingPursuitCV, rounds: Rounds) -> OrthogonalMatchingPursuitCV:
    """Exact: the error of each step on a fold's test rows follows from their triangle."""
    n, d = rounds.schema.n_rows, rounds.schema.n_features
    if d < 2:
        raise ValueError(
            f"Found array with {d} feature(s) (shape=({n}, {d})) while a minimum of 2 is required by "
            f"{type(estimator).__name__}."
        )
    parts = split(estimator.cv, n, type(estimator).__name__)
    of_part = summaries(rounds, parts)
    steps = estimator.max_iter or min(max(int(0.1 * d), 5), d)
    folds = [
        _errors(
            joined(of_part[k] for k in np.flatnonzero(train)),
            joined(of_part[k] for k in np.flatnonzero(test)),
            estimator.fit_intercept,
            steps,
        )
        for train, test in zip(parts.train, parts.test, strict=True)
    ]
    shortest = min(len(errors) for errors in folds)
    best = np.argmin(np.mean([errors[:shortest] for errors in folds], axis=0)) + 1
    model = OrthogonalMatchingPursuit(n_nonzero_coefs=best, fit_intercept=estimator.fit_intercept)
    _pursue(model, joined(of_part))
    estimator.n_nonzero_coefs_ = best
    estimator.coef_, estimator.intercept_, estimator.n_iter_ = model.coef_, model.intercept_, model.n_iter_
    return estimator


def _errors(train: Summary, test: Summary, fit_intercept: bool, steps: int) -> Array:
    """Mean squared errors on test rows after each step."""
    rows = train.stand_in(fit_intercept)
    path = orthogonal_mp(rows.X, rows.y, n_nonzero_coefs=steps, precompute=False, return_path=True)
    path = path[:, None] if path.ndim == 1 else path
    intercept = rows.y_offset - rows.X_offset @ path
    errors: Array = test.errors(path[None], intercept[None])[0][0] / test.n
    return errors
