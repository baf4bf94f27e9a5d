"""Least angle regression: scikit-learn's own path over the rows that stand for all.

The path depends on products of columns alone; penalties along it are correlations divided by the number of rows, which
scikit-learn's solver takes as a number.
"""

from __future__ import annotations

import warnings
from math import log
from typing import Any

import numpy as np
from scipy.interpolate import interp1d
from sklearn.linear_model import Lars, LarsCV, LassoLars, LassoLarsCV, LassoLarsIC, LinearRegression
from sklearn.linear_model._least_angle import _lars_path_solver
from sklearn.utils import check_random_state

from atoll.operations.linear import jittered
from atoll.recipes.base import recipe
from atoll.recipes.least_squares.parts import joined, split, summaries
from atoll.recipes.least_squares.summary import NUMBERS, Ask, StandIn, Summary, least_squares
from atoll.rounds import Rounds
from atoll.trees import Array

__all__ = ["fit_lars", "fit_lars_cv", "fit_lars_ic"]


@least_squares(Lars, LassoLars)
def fit_lars(estimator: Any, rounds: Rounds, ask: Ask) -> Any:
    """Exact, `jitter` included: each node draws the noise of all targets and adds that of its own."""
    if estimator.jitter is not None:
        state = check_random_state(estimator.random_state).get_state()
        rounds = rounds.through(jittered(state, estimator.jitter, rounds.schema.n_rows))
    by_count = hasattr(estimator, "n_nonzero_coefs")
    alpha, steps = (0.0, estimator.n_nonzero_coefs) if by_count else (estimator.alpha, estimator.max_iter)
    return _walk(estimator, ask(rounds, NUMBERS), alpha, steps, estimator.fit_path)


def _walk(estimator: Any, summary: Summary, alpha: float, max_iter: int, fit_path: bool) -> Any:
    """Every target's path, its end as coefficients; sets scikit-learn's fitted attributes."""
    rows = summary.stand_in(estimator.fit_intercept)
    Y = rows.y if rows.y.ndim == 2 else rows.y[:, None]
    gram = estimator._get_gram(estimator.precompute, rows.X, Y)
    paths = [_path(estimator, rows._replace(y=y), summary.n, gram, alpha, max_iter, return_path=fit_path) for y in Y.T]
    alphas, active, coefs, n_iter = (list(several) for several in zip(*paths, strict=True))
    estimator.alphas_, estimator.n_iter_ = alphas, n_iter
    estimator.coef_ = np.stack([path[:, -1] for path in coefs] if fit_path else coefs).astype(rows.X.dtype, copy=False)
    if fit_path:
        estimator.active_, estimator.coef_path_ = active, coefs
    if len(paths) == 1:
        for name in ("alphas_", "n_iter_", *(("active_", "coef_path_", "coef_") if fit_path else ())):
            setattr(estimator, name, getattr(estimator, name)[0])
    estimator._set_intercept(rows.X_offset, rows.y_offset)
    return estimator


def _path(
    estimator: Any, rows: StandIn, n: int, gram: Any, alpha: float, max_iter: int, *, return_path: bool = True
) -> Any:
    """``(alphas, active, coefs, n_iter)`` of scikit-learn's solver."""
    return _lars_path_solver(
        X=rows.X, y=rows.y, Gram=gram, n_samples=n, alpha_min=alpha, method=estimator.method, max_iter=max_iter,
        verbose=max(0, estimator.verbose - 1), eps=estimator.eps, positive=estimator.positive, copy_X=True,
        return_path=return_path, return_n_iter=True,
    )  # fmt: skip


@least_squares(LassoLarsIC)
def fit_lars_ic(estimator: LassoLarsIC, rounds: Rounds, ask: Ask) -> LassoLarsIC:
    """Exact: residuals along the path, and the noise, follow from the triangle."""
    summary = ask(rounds, NUMBERS)
    n, rows = summary.n, summary.stand_in(estimator.fit_intercept)
    alphas, _, path, estimator.n_iter_ = _path(estimator, rows, n, estimator.precompute, 0.0, estimator.max_iter)
    squares = np.square(rows.y[:, None] - rows.X @ path).sum(axis=0)
    free = (np.abs(path) > np.finfo(path.dtype).eps).sum(axis=0)
    noise = estimator.noise_variance
    estimator.noise_variance_ = _noise(estimator, rows, n) if noise is None else noise
    factor = {"aic": 2, "bic": log(n)}[estimator.criterion]
    variance = estimator.noise_variance_
    estimator.criterion_ = n * np.log(2 * np.pi * variance) + squares / variance + factor * free
    best = np.argmin(estimator.criterion_)
    estimator.alphas_, estimator.alpha_, estimator.coef_ = alphas, alphas[best], path[:, best]
    estimator._set_intercept(rows.X_offset, rows.y_offset)
    return estimator


def _noise(estimator: LassoLarsIC, rows: StandIn, n: int) -> Any:
    """The variance that an ordinary linear regression leaves."""
    free = n - rows.X.shape[1] - estimator.fit_intercept
    if free <= 0:
        raise ValueError(
            "You are using LassoLarsIC in the case where the number of samples is smaller than the number of features. "
            "In this setting, getting a good estimate for the variance of the noise is not possible. Provide an "
            "estimate of the noise variance in the constructor."
        )
    ordinary = LinearRegression(positive=estimator.positive, fit_intercept=False).fit(rows.X, rows.y)
    return np.square(rows.y - ordinary.predict(rows.X)).sum() / free


@recipe(LarsCV, LassoLarsCV)
def fit_lars_cv(estimator: Any, rounds: Rounds) -> Any:
    """Exact: what scikit-learn interpolates between residuals along a path is interpolated between coefficients."""
    parts = split(estimator.cv, rounds.schema.n_rows, type(estimator).__name__)
    of_part = summaries(rounds, parts)
    folds = [
        (joined(of_part[k] for k in np.flatnonzero(train)), joined(of_part[k] for k in np.flatnonzero(test)))
        for train, test in zip(parts.train, parts.test, strict=True)
    ]
    gram = estimator.precompute
    if hasattr(gram, "__array__"):
        name = type(estimator).__name__
        warnings.warn(
            f'Parameter "precompute" cannot be an array in {name}. Automatically switch to "auto" instead.',
            stacklevel=2,
        )
        gram = "auto"
    rows = [_unlike(train, estimator.fit_intercept) for train, _ in folds]
    paths = [
        _path(estimator, few, train.n, gram, 0.0, estimator.max_iter)
        for few, (train, _) in zip(rows, folds, strict=True)
    ]
    alphas = np.unique(np.concatenate([path[0] for path in paths]))
    alphas = alphas[:: int(max(1, int(len(alphas) / float(estimator.max_n_alphas))))]
    errors = np.stack(
        [
            _errors_at(alphas, few, found, coefs, test)
            for few, (found, _, coefs, _), (_, test) in zip(rows, paths, folds, strict=True)
        ],
        axis=1,
    )
    finite = np.isfinite(errors).all(axis=-1)
    estimator.cv_alphas_, estimator.mse_path_ = alphas[finite], errors[finite]
    estimator.alpha_ = estimator.cv_alphas_[np.argmin(estimator.mse_path_.mean(axis=-1))]
    return _walk(estimator, joined(of_part), estimator.alpha_, estimator.max_iter, fit_path=True)


def _unlike(train: Summary, fit_intercept: bool) -> StandIn:
    """Rows in the dtype of the data and targets in float64, as scikit-learn's folds have them."""
    rows, wide = train.stand_in(fit_intercept), train.stand_in(fit_intercept, np.float64)
    return rows._replace(y=wide.y, y_offset=wide.y_offset)


def _errors_at(alphas: Array, rows: StandIn, found: Array, coefs: Array, test: Summary) -> Array:
    """Mean squared errors on test rows at each penalty, between those that a path stopped at, (A,)."""
    found, along = found[::-1], coefs.T[::-1]
    if found[0] != 0:
        found, along = np.r_[0, found], np.r_[along[:1], along]
    if found[-1] != alphas[-1]:
        found, along = np.r_[found, alphas[-1]], np.r_[along, along[-1:]]
    at = interp1d(found, along, axis=0)(alphas).T
    intercept = rows.y_offset - rows.X_offset @ at
    errors: Array = test.errors(at[None], intercept[None])[0][0] / test.n
    return errors
