"""Solvers in the driver whose function values are rounds.

`SummedLoss` is scikit-learn's `LinearModelLoss` with sums over rows that nodes compute, so scikit-learn's own solvers
(L-BFGS, Newton-CG, Newton-Cholesky) run over it unchanged, with their own iterations and warnings. `newton` is for the
objectives whose own solver walks from row to row (liblinear, SAG, SAGA) and for absolute values in the penalty: it
finds the same minimum.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
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

__all__ = [
    "Point",
    "Solution",
    "SummedLoss",
    "lbfgs",
    "lockstep",
    "newton",
    "newton_cg",
    "newton_cholesky",
    "signed_minimum",
    "solved",
]


class SummedLoss(LinearModelLoss):  # type: ignore[misc]
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


class Point(NamedTuple):
    """A smooth function at a point: value, gradient of shape (p,), Hessian of shape (p, p)."""

    value: float
    gradient: Array
    hessian: Array


class Solution(NamedTuple):
    """Where a solver ended.

    Attributes
    ----------
    w : ndarray of shape (p,)
        Parameters.
    n_iter : int
        Steps taken.
    converged : bool
        Whether it ended because it arrived.
    """

    w: Array
    n_iter: int
    converged: bool


_Steps = Generator[Array, Point, Solution]
_SHORTER, _DECREASE = 40, 1e-4
_ROUNDING, _BELOW = 64 * np.finfo(np.float64).eps, 2  # what is lost in a value; steps taken once the value cannot tell


def newton(w: Array, *, l2: Array, l1: Array, max_iter: int, accuracy: float = 1e-11) -> _Steps:
    """Minimise a smooth convex function plus ``l2·w²/2 + l1·|w|``.

    Proximal Newton (Lee, Sun & Saunders, 2014, "Proximal Newton-type methods for minimizing composite functions"): each
    step minimises the quadratic model with the penalty as it is, and is shortened until the objective falls.

    Parameters
    ----------
    w : ndarray of shape (p,)
        Where it starts.
    l2, l1 : ndarray of shape (p,)
        Strength of the penalties for each parameter.
    max_iter : int
        Most steps.
    accuracy : float, default=1e-11
        Ends with a step that is no longer than this part of the largest parameter.

    Yields
    ------
    ndarray of shape (p,)
        A point, to which the `Point` of the smooth function is to be sent.

    Returns
    -------
    Solution
    """
    here = yield w
    below = 0
    for n_iter in range(1, max_iter + 1):
        gradient, hessian = here.gradient + l2 * w, here.hessian + np.diag(l2)
        goal = signed_minimum(hessian, hessian @ w - gradient, l1, w) if l1.any() else w - solved(hessian, gradient)
        step, now = goal - w, _objective(here, w, l2, l1)
        slope = gradient @ step + l1 @ (np.abs(goal) - np.abs(w))
        rounding = _ROUNDING * abs(now)
        below += abs(slope) <= rounding
        if np.abs(step).max(initial=0) <= accuracy * np.abs(goal).max(initial=0) or below > _BELOW:
            return Solution(goal, n_iter, True)
        t = 1.0
        for _ in range(_SHORTER):
            tried = goal if t == 1.0 else w + t * step
            there = yield tried
            gain = _objective(there, tried, l2, l1) - now
            if gain <= max(_DECREASE * t * slope, rounding if below else -np.inf):
                break
            t *= _shorter(slope, (there.gradient + l2 * tried + l1 * np.sign(tried)) @ step)
        else:
            return Solution(w, n_iter, below > 0)
        w, here = tried, there
    return Solution(w, max_iter, False)


def _shorter(slope: float, beyond: float) -> float:
    """By how much to shorten a step: to where the slope along it would vanish if it changed evenly."""
    return float(np.clip(slope / (slope - beyond), 0.02, 0.5)) if np.isfinite(beyond) and beyond > 0 else 0.5


def _objective(point: Point, w: Array, l2: Array, l1: Array) -> float:
    return point.value + float(l2 @ np.square(w)) / 2 + float(l1 @ np.abs(w))


def solved(matrix: Array, right: Array) -> Array:
    """Solve with a symmetric, positive semi-definite matrix; the shortest solution where it is singular.

    Parameters
    ----------
    matrix : ndarray of shape (p, p)
    right : ndarray of shape (p,)

    Returns
    -------
    ndarray of shape (p,)
    """
    found = _definite(matrix, right)
    return np.asarray(np.linalg.lstsq(matrix, right, rcond=None)[0]) if found is None else found


def _definite(matrix: Array, right: Array) -> Array | None:
    """The solution; None where the matrix, its diagonal scaled to ones, is singular to some eight digits."""
    scale = np.sqrt(np.maximum(np.diagonal(matrix), np.finfo(np.float64).tiny))
    try:
        factor = scipy.linalg.cho_factor(matrix / np.outer(scale, scale))
    except np.linalg.LinAlgError:
        return None
    if np.diagonal(factor[0]).min(initial=1) <= 1e-7:
        return None
    return np.asarray(scipy.linalg.cho_solve(factor, right / scale) / scale)


def signed_minimum(matrix: Array, right: Array, l1: Array, v: Array) -> Array:
    """Minimise ``vᵀAv/2 − bᵀv + l1·|v|`` by searching for the signs of v.

    Feature-sign search (Lee, Battle, Raina & Ng, 2007, "Efficient sparse coding algorithms"): with signs known it is a
    linear system; entries that would change theirs stop at zero, and the entry at zero that pulls hardest is let go.

    Parameters
    ----------
    matrix : ndarray of shape (p, p)
        A, symmetric and positive semi-definite.
    right : ndarray of shape (p,)
        b.
    l1 : ndarray of shape (p,)
        Zero where an entry is free.
    v : ndarray of shape (p,)
        Where it starts; the nearer, the faster.

    Returns
    -------
    ndarray of shape (p,)
        After at most 10 p + 100 systems; each lowers the objective, so an earlier end does no harm.
    """
    v, tried, settled = v.copy(), -1, False
    for _ in range(10 * len(v) + 100):
        inside, sign = (v != 0) | (l1 == 0), np.where(l1 > 0, np.sign(v), 0.0)
        if settled:
            pull = np.where(inside, 0.0, np.abs(matrix @ v - right) - l1)
            strongest = int(pull.argmax())
            if strongest == tried or pull[strongest] <= 1e-13 * (l1.max() + np.abs(right).max()):
                break
            tried, inside[strongest] = strongest, True
            sign[strongest] = -np.sign(matrix[strongest] @ v - right[strongest])
        a = np.flatnonzero(inside)
        part = matrix[np.ix_(a, a)]
        goal = _damped(part, (right - l1 * sign)[a], v[a])
        v[a], settled = _towards(part, right[a], l1[a], v[a], goal, sign[a])
    return v


def _damped(matrix: Array, right: Array, v: Array) -> Array:
    """Solve; where the system is singular, go far along what it leaves open."""
    found = _definite(matrix, right)
    if found is not None:
        return found
    more = 1e-10 * max(np.diagonal(matrix).max(initial=0), np.finfo(np.float64).tiny)
    return np.asarray(v + np.linalg.solve(matrix + more * np.eye(len(v)), right - matrix @ v))


def _towards(matrix: Array, right: Array, l1: Array, v: Array, goal: Array, sign: Array) -> tuple[Array, bool]:
    """The best of the goal and the points on the way where a sign changes; whether none of the latter is better."""
    turning = np.flatnonzero((l1 > 0) & (sign * goal < 0) & (v != 0))
    turns = v[turning] / (v - goal)[turning]
    points = [goal]
    for t in np.unique(turns):
        point = v + t * (goal - v)
        point[turning[turns == t]] = 0
        points.append(point)
    values = [point @ matrix @ point / 2 - right @ point + l1 @ np.abs(point) for point in points]
    best = int(np.argmin(values))
    return points[best], best == 0


def lockstep(solvers: Sequence[_Steps], ask: Callable[[list[int], list[Array]], list[Point]]) -> list[Solution]:
    """Run some solvers together, so that one round answers all of them.

    Parameters
    ----------
    solvers : sequence of generator
        As `newton` makes them.
    ask : callable
        Takes the numbers of the solvers that still ask and their points; returns what is there.

    Returns
    -------
    list of Solution
        One per solver.
    """
    ended: dict[int, Solution] = {}
    asking = {i: next(solver) for i, solver in enumerate(solvers)}
    while asking:
        numbers = list(asking)
        for i, point in zip(numbers, ask(numbers, [asking[i] for i in numbers]), strict=True):
            try:
                asking[i] = solvers[i].send(point)
            except StopIteration as end:
                del asking[i]
                ended[i] = end.value
    return [ended[i] for i in range(len(solvers))]
