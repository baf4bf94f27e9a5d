"""Solvers in the driver whose function values are rounds.

`SummedLoss` is scikit-learn's `LinearModelLoss` with sums over rows that nodes compute, so scikit-learn's own solvers
(L-BFGS, Newton-CG, Newton-Cholesky) run over it unchanged, with their own iterations and warnings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import optimize
from sklearn._loss.loss import BaseLoss
from sklearn.linear_model._glm.glm import NewtonCholeskySolver
from sklearn.linear_model._linear_loss import LinearModelLoss
from sklearn.utils.fixes import _get_additional_lbfgs_options_dict
from sklearn.utils.optimize import _newton_cg

from atoll.combine import Sum
from atoll.operations.losses import loss_settings, unpacked
from atoll.rounds import Rounds
from atoll.trees import Array, Tree

__all__ = ["SummedLoss", "lbfgs", "newton_cg", "newton_cholesky"]


class SummedLoss(LinearModelLoss):
    """The average loss of a linear model over the rows of all nodes, as scikit-learn's solvers ask for it.

    The arguments `X`, `y`, `sample_weight` and `raw_prediction` of its methods are there for the solvers and are not
    looked at. Parameters are one-dimensional, classes varying fastest, as `LinearModelLoss` lays them out.

    A point that was asked about is kept, since solvers come back to it. Once second derivatives were used, the next
    point is asked about with them, for that is what a Newton solver wants next.

    Parameters
    ----------
    rounds : Rounds
        The way to the rows, through the view `codes` where the loss wants labels.
    loss : BaseLoss
        The loss of one row.
    fit_intercept : bool
        Whether there is an intercept.
    total : float
        The sum of all sample weights.
    curved : bool, default=False
        Whether the first point is asked about with second derivatives.
    """

    def __init__(
        self, rounds: Rounds, loss: BaseLoss, fit_intercept: bool, total: float, *, curved: bool = False
    ) -> None:
        super().__init__(base_loss=loss, fit_intercept=fit_intercept)
        self.rounds, self.total = rounds, total
        self.settings = loss_settings(loss)
        self._curved = curved
        self._point: tuple[bytes, Tree] = (b"", {})

    def weights(self, coef: Array) -> Array:
        """Parameters as they travel: shape (p,), or (p, C) for several classes."""
        return coef.reshape(-1, self.base_loss.n_classes) if self.base_loss.is_multiclass else coef

    def at(self, coef: Array, *, curved: bool = False) -> Tree:
        """What all nodes together say about a point: ``loss``, ``gradient``, perhaps ``hessian`` and ``concave``."""
        key, known = self._point
        if key == coef.tobytes() and (not curved or "hessian" in known):
            return known
        op = "losses.curvature" if curved or self._curved else "losses.gradient"
        w = np.ascontiguousarray(self.weights(coef), dtype=np.float64)
        found = self.rounds.round(op, {"w": w}, combine=Sum(), settings=self.settings)
        self._point, self._curved = (coef.tobytes(), found), False
        return found

    def weight_intercept_raw(self, coef: Array, X: Any) -> tuple[Array, Array, Array]:
        """Coefficients, intercept, and in place of the rows' scores the parameters that they are linear in."""
        return (*self.weight_intercept(coef), coef)

    def loss(self, coef: Array, X: Any, y: Any, sample_weight: Any = None, l2_reg_strength: float = 0.0,
             n_threads: int = 1, raw_prediction: Any = None) -> float:  # fmt: skip
        """The average loss, penalised."""
        return self.loss_gradient(coef, X, y, sample_weight, l2_reg_strength)[0]

    def gradient(self, coef: Array, X: Any, y: Any, sample_weight: Any = None, l2_reg_strength: float = 0.0,
                 n_threads: int = 1, raw_prediction: Any = None) -> Array:  # fmt: skip
        """The gradient of `loss`."""
        return self.loss_gradient(coef, X, y, sample_weight, l2_reg_strength)[1]

    def loss_gradient(self, coef: Array, X: Any, y: Any, sample_weight: Any = None, l2_reg_strength: float = 0.0,
                      n_threads: int = 1, raw_prediction: Any = None) -> tuple[float, Array]:  # fmt: skip
        """The average loss, penalised, and its gradient, in one round."""
        return self._penalised(self.at(coef), coef, l2_reg_strength)

    def _penalised(self, found: Tree, coef: Array, l2_reg_strength: float) -> tuple[float, Array]:
        loss = float(found["loss"][0] / self.total) + self.l2_penalty(self.weight_intercept(coef)[0], l2_reg_strength)
        return loss, found["gradient"].reshape(-1) / self.total + self._penalty_slopes(coef, l2_reg_strength)

    def _penalty_slopes(self, coef: Array, l2_reg_strength: float) -> Array:
        slopes = self.weights(l2_reg_strength * coef)
        if self.fit_intercept:
            slopes[-1] = 0
        return slopes.reshape(-1)

    def gradient_hessian(self, coef: Array, X: Any, y: Any, sample_weight: Any = None, l2_reg_strength: float = 0.0,
                         n_threads: int = 1, gradient_out: Any = None, hessian_out: Any = None,
                         raw_prediction: Any = None) -> tuple[Array, Array, bool]:  # fmt: skip
        """The gradient, the Hessian, and whether more than a quarter of the rows are not convex there."""
        found = self.at(coef, curved=True)
        self._curved = True
        gradient = np.empty_like(coef) if gradient_out is None else gradient_out
        hessian = np.empty((coef.size, coef.size)) if hessian_out is None else hessian_out
        gradient[:] = self._penalised(found, coef, l2_reg_strength)[1]
        hessian[:] = unpacked(found["hessian"], coef.size) / self.total
        np.einsum("ii->i", hessian)[:] += self._penalty_slopes(np.ones(coef.size), l2_reg_strength)
        return gradient, hessian, bool(found["concave"][0] / self.total > 0.25)

    def gradient_hessian_product(
        self, coef: Array, X: Any, y: Any, sample_weight: Any = None, l2_reg_strength: float = 0.0, n_threads: int = 1
    ) -> tuple[Array, Callable[[Array], Array]]:
        """The gradient, and a function that multiplies the Hessian by a direction; each product is a round."""
        w = np.ascontiguousarray(self.weights(coef))

        def product(s: Array) -> Array:
            payload = {"w": w, "direction": np.ascontiguousarray(self.weights(s))}
            found = self.rounds.round("losses.product", payload, combine=Sum(), settings=self.settings)
            return found["product"].reshape(-1) / self.total + self._penalty_slopes(s, l2_reg_strength)

        return self.gradient(coef, X, y, sample_weight, l2_reg_strength), product


def lbfgs(loss: SummedLoss, w0: Array, l2: float, *, tol: float, max_iter: int, iprint: int) -> Any:
    """SciPy's L-BFGS-B as `LogisticRegression` and the generalised linear regressors call it.

    Parameters
    ----------
    loss : SummedLoss
        What is minimised.
    w0 : ndarray of shape (p,) or (p * C,)
        Where it starts.
    l2 : float
        Strength of the penalty.
    tol, max_iter, iprint
        Of the estimator.

    Returns
    -------
    OptimizeResult
    """
    options = {
        "maxiter": max_iter,
        "maxls": 50,
        "gtol": tol,
        "ftol": 64 * np.finfo(float).eps,
        **_get_additional_lbfgs_options_dict("iprint", iprint),
    }
    args = (None, None, None, l2)
    minimize: Any = optimize.minimize
    return minimize(loss.loss_gradient, w0, method="L-BFGS-B", jac=True, args=args, options=options)


def newton_cg(loss: SummedLoss, w0: Array, l2: float, *, tol: float, max_iter: int, verbose: int) -> tuple[Array, int]:
    """scikit-learn's Newton-CG.

    Parameters
    ----------
    loss : SummedLoss
        What is minimised.
    w0 : ndarray of shape (p,) or (p * C,)
        Where it starts.
    l2 : float
        Strength of the penalty.
    tol, max_iter, verbose
        Of the estimator.

    Returns
    -------
    w : ndarray of the shape of `w0`
    n_iter : int
    """
    found: tuple[Array, int] = _newton_cg(
        grad_hess=loss.gradient_hessian_product, func=loss.loss, grad=loss.gradient, x0=w0, args=(None, None, None, l2),
        maxiter=max_iter, tol=tol, verbose=verbose,
    )  # fmt: skip
    return found


def newton_cholesky(
    loss: SummedLoss, w0: Array, l2: float, *, tol: float, max_iter: int, verbose: int
) -> tuple[Array, int]:
    """scikit-learn's Newton-Cholesky, which goes on by L-BFGS, with a warning, where the Hessian is singular.

    Parameters
    ----------
    loss : SummedLoss
        What is minimised.
    w0 : ndarray of shape (p,) or (p * C,)
        Where it starts.
    l2 : float
        Strength of the penalty.
    tol, max_iter, verbose
        Of the estimator.

    Returns
    -------
    w : ndarray of the shape of `w0`
    n_iter : int
    """
    solver = NewtonCholeskySolver(
        coef=w0, linear_loss=loss, l2_reg_strength=l2, tol=tol, max_iter=max_iter, verbose=verbose
    )
    coef = solver.solve(X=np.zeros((0, 0)), y=None, sample_weight=None)
    return coef.reshape(-1, order="F"), int(solver.iteration)
