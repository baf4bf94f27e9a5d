"""HuberRegressor: SciPy's L-BFGS-B in the driver as scikit-learn calls it, loss and gradient by rounds."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import optimize
from sklearn.linear_model import HuberRegressor
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.fixes import _get_additional_lbfgs_options_dict
from sklearn.utils.optimize import _check_optimize_result

from atoll.combine import Sum
from atoll.recipes.base import recipe
from atoll.rounds import Rounds
from atoll.shards import Shard
from atoll.trees import Array

__all__ = ["fit_huber", "outliers"]


def outliers(model: HuberRegressor, rows: Shard) -> Array:
    """Which rows the fitted model takes for outliers.

    Parameters
    ----------
    model : HuberRegressor
        Fitted.
    rows : Shard
        The pooled rows.

    Returns
    -------
    ndarray of shape (n,), bool
    """
    residual = np.abs(rows.y - safe_sparse_dot(rows.X, model.coef_) - model.intercept_)
    return np.asarray(residual > model.scale_ * model.epsilon)


@recipe(HuberRegressor, iterative=True, per_row={"outliers_": outliers})
def fit_huber(estimator: HuberRegressor, rounds: Rounds) -> HuberRegressor:
    """A round for each value and gradient, summed by scikit-learn's own function; the penalty is added once."""
    d, settings = rounds.schema.n_features, {"epsilon": float(estimator.epsilon)}

    def loss_and_gradient(w: Array) -> tuple[float, Array]:
        found = rounds.round("losses.huber", {"w": w}, combine=Sum(), settings=settings)
        slopes = np.concatenate([estimator.alpha * 2.0 * w[:d], np.zeros(len(w) - d)])
        return float(found["loss"][0] + estimator.alpha * np.dot(w[:d], w[:d])), found["gradient"] + slopes

    if estimator.warm_start and hasattr(estimator, "coef_"):
        start = np.concatenate([estimator.coef_, [estimator.intercept_, estimator.scale_]])
    else:
        start = np.zeros(d + 1 + int(estimator.fit_intercept))
        start[-1] = 1
    bounds = np.tile([-np.inf, np.inf], (len(start), 1))
    bounds[-1][0] = np.finfo(np.float64).eps * 10
    options = {
        "maxiter": estimator.max_iter,
        "gtol": estimator.tol,
        **_get_additional_lbfgs_options_dict("iprint", -1),
    }
    minimize: Any = optimize.minimize
    result = minimize(loss_and_gradient, start, method="L-BFGS-B", jac=True, options=options, bounds=bounds)
    if result.status == 2:
        raise ValueError(f"HuberRegressor convergence failed: l-BFGS-b solver terminated with {result.message}")
    estimator.n_iter_ = _check_optimize_result("lbfgs", result, estimator.max_iter)
    estimator.scale_ = result.x[-1]
    estimator.intercept_ = result.x[-2] if estimator.fit_intercept else 0.0
    estimator.coef_ = result.x[:d]
    return estimator
