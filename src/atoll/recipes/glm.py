"""Poisson, gamma and Tweedie regression: scikit-learn's own solver in the driver, function values by rounds."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.linear_model import GammaRegressor, PoissonRegressor, TweedieRegressor
from sklearn.utils.optimize import _check_optimize_result

from atoll.combine import Sum
from atoll.operations.losses import loss_settings
from atoll.recipes.base import recipe
from atoll.recipes.solvers import SummedLoss, lbfgs, newton_cholesky
from atoll.rounds import Rounds
from atoll.trees import Array

__all__ = ["fit_glm", "fit_glm_newton"]


@recipe(PoissonRegressor, GammaRegressor, TweedieRegressor, iterative=True)
def fit_glm(estimator: Any, rounds: Rounds) -> Any:
    """The solver that the estimator names; a round for each value and gradient, or Hessian, that it asks for.

    Starts, as scikit-learn does, at the model that is constant.
    """
    return _fit(estimator, rounds, estimator.solver)


@recipe(PoissonRegressor, GammaRegressor, TweedieRegressor, method="newton", iterative=True)
def fit_glm_newton(estimator: Any, rounds: Rounds) -> Any:
    """scikit-learn's Newton-Cholesky whatever the solver: value, gradient and Hessian in one round per step."""
    return _fit(estimator, rounds, "newton-cholesky")


def _fit(estimator: Any, rounds: Rounds, solver: Any) -> Any:
    loss = estimator._get_loss()
    totals = rounds.round("losses.targets", combine=Sum(), settings=loss_settings(loss))
    if totals["outside"][0]:
        raise ValueError(f"Some value(s) of y are out of the valid range of the loss {type(loss).__name__!r}.")
    total = float(totals["total"][0])
    if estimator.warm_start and hasattr(estimator, "coef_"):
        last = [estimator.intercept_] if estimator.fit_intercept else []
        w0 = np.concatenate([estimator.coef_, last]).astype(np.float64)
    else:
        w0 = np.zeros(rounds.schema.n_features + int(estimator.fit_intercept))
        if estimator.fit_intercept:
            w0[-1] = loss.link.link(totals["target"] / total)[0]
    summed = SummedLoss(rounds, loss, estimator.fit_intercept, total, curved=solver != "lbfgs")
    w, estimator.n_iter_ = _minimise(estimator, summed, w0, solver)
    w = w.astype(rounds.schema.dtype)
    estimator._base_loss = loss
    estimator.intercept_, estimator.coef_ = (w[-1], w[:-1]) if estimator.fit_intercept else (0.0, w)
    return estimator


def _minimise(estimator: Any, loss: SummedLoss, w0: Array, solver: Any) -> tuple[Array, int]:
    settings = {"tol": estimator.tol, "max_iter": estimator.max_iter}
    if solver == "lbfgs":
        result = lbfgs(loss, w0, estimator.alpha, **settings, iprint=estimator.verbose - 1)
        return result.x, _check_optimize_result("lbfgs", result, max_iter=estimator.max_iter)
    return newton_cholesky(loss, w0, estimator.alpha, **settings, verbose=estimator.verbose)
