"""LogisticRegression: scikit-learn's own solver in the driver, function values by rounds.

``lbfgs``, ``newton-cg`` and ``newton-cholesky`` are scikit-learn's, so iterations and warnings are too. ``liblinear``,
``sag`` and ``saga`` walk from row to row; here the objective that they minimise is minimised by Newton's method, and
the record says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
from sklearn import config_context
from sklearn._loss.loss import HalfBinomialLoss, HalfMultinomialLoss
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model._logistic import _LOGISTIC_SOLVER_CONVERGENCE_MSG
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.optimize import _check_optimize_result

from atoll.combine import Extrema, Sum
from atoll.operations.losses import unpacked
from atoll.recipes.base import recipe
from atoll.recipes.checks import check_labels
from atoll.recipes.newton import Point, lockstep, newton
from atoll.recipes.solvers import SummedLoss, lbfgs, newton_cg, newton_cholesky
from atoll.rounds import Rounds
from atoll.trees import Array
from atoll.views import class_weighted, codes

__all__ = [
    "Problem",
    "check_two_classes",
    "class_sums",
    "class_weights",
    "effective_penalty",
    "fit_logistic",
    "fit_logistic_newton",
    "heed_parameters",
    "layout",
    "one_class",
    "regularisation_path",
    "weigh",
]

_OTHERWISE = (
    "{solver} walks from row to row; the objective that it minimises was minimised by Newton's method, whose steps "
    "n_iter_ counts"
)
_IPRINT = (-1, 50, 1, 100, 101)


class Problem(NamedTuple):
    """What is minimised, apart from the strength of the penalty.

    Attributes
    ----------
    rounds : Rounds
        Through the view `codes`, and `class_weighted` where classes have weights.
    classes : ndarray of shape (C,)
        All labels.
    total : float
        The sum of all weights.
    solver : str
        scikit-learn's name of it.
    penalty : str or None
        ``l1``, ``l2`` or ``elasticnet``.
    fit_intercept : bool
    intercept_scaling : float
        For liblinear, which penalises the intercept.
    tol : float
    max_iter : int
    verbose : int
    """

    rounds: Rounds
    classes: Array
    total: float
    solver: str
    penalty: str | None
    fit_intercept: bool
    intercept_scaling: float
    tol: float
    max_iter: int
    verbose: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the parameters as scikit-learn has them: (p,) for two classes, (C, p) for more."""
        p = self.rounds.schema.n_features + int(self.fit_intercept)
        return (p,) if len(self.classes) == 2 else (len(self.classes), p)


@recipe(LogisticRegression, iterative=True)
def fit_logistic(estimator: LogisticRegression, rounds: Rounds) -> LogisticRegression:
    """The solver that the estimator names; a round for each value, gradient or product with the Hessian it asks for.

    Penalties with absolute values, and liblinear, sag and saga: proximal Newton, whose steps `n_iter_` then counts.
    """
    return _fit(estimator, rounds, estimator.solver)


@recipe(LogisticRegression, method="newton", iterative=True)
def fit_logistic_newton(estimator: LogisticRegression, rounds: Rounds) -> LogisticRegression:
    """Newton's method whatever the solver: value, gradient and Hessian in one round per step, so few rounds.

    Smooth penalties go to scikit-learn's Newton-Cholesky, which falls back to L-BFGS with a warning where the Hessian
    is singular.
    """
    return _fit(estimator, rounds, "newton-cholesky")


def _fit(estimator: LogisticRegression, rounds: Rounds, solver: str) -> LogisticRegression:
    heed_parameters(estimator)
    penalty, C = effective_penalty(estimator), np.inf if estimator.penalty is None else estimator.C
    check_labels(rounds.schema)
    (classes,) = rounds.schema.classes
    _refuse(estimator, rounds, classes)
    asked = estimator.solver if estimator.solver == "liblinear" or penalty in ("l1", "elasticnet") else solver
    seen, total = weigh(rounds, estimator.class_weight)
    problem = Problem(
        seen, classes, total, asked, penalty, estimator.fit_intercept, estimator.intercept_scaling, estimator.tol,
        estimator.max_iter, estimator.verbose,
    )  # fmt: skip
    coefs, n_iter = regularisation_path(problem, [C], estimator.l1_ratio, _last(estimator))
    estimator.classes_ = classes
    estimator.n_iter_ = np.asarray(n_iter, dtype=np.int32)
    dtype = np.float64 if asked == "liblinear" else rounds.schema.dtype
    estimator.coef_, estimator.intercept_ = layout(coefs[0], estimator.fit_intercept, dtype)
    if asked == "liblinear" and not estimator.fit_intercept:
        estimator.intercept_ = 0.0
    return estimator


def _last(estimator: LogisticRegression) -> Array | None:
    """The parameters of the fit before, (1 or C, p), where this one is to go on from there."""
    if not estimator.warm_start or not hasattr(estimator, "coef_"):
        return None
    parts = [estimator.coef_, estimator.intercept_[:, None]] if estimator.fit_intercept else [estimator.coef_]
    return np.concatenate(parts, axis=1)


class _AtTheRows(Exception):
    """Raised by what stands in for rows."""


class _NoRows:
    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise _AtTheRows


def heed_parameters(estimator: Any) -> None:
    """Have scikit-learn's own `fit` warn about parameters and refuse them; it stops where it would look at rows."""
    rows: Any = _NoRows()
    try:
        with config_context(array_api_dispatch=False):
            clone(estimator).fit(rows, np.zeros(1))
    except _AtTheRows:
        return


def effective_penalty(estimator: LogisticRegression) -> str | None:
    """The penalty, read off `l1_ratio` and C where `penalty` is left alone.

    Parameters
    ----------
    estimator : LogisticRegression

    Returns
    -------
    {"l1", "l2", "elasticnet"} or None
    """
    if estimator.penalty != "deprecated":
        return estimator.penalty  # type: ignore[no-any-return]
    if np.inf == estimator.C:
        return None
    if estimator.l1_ratio in (0, None):
        return "l2"
    return "l1" if estimator.l1_ratio == 1 else "elasticnet"


def _refuse(estimator: LogisticRegression, rounds: Rounds, classes: Array) -> None:
    if estimator.solver == "liblinear":
        check_two_classes(classes)
        if rounds.round("statistics.extrema", combine=Extrema())["max"].max() > 1e30:
            raise ValueError(
                "Using the 'liblinear' solver while X contains a maximum value > 1e30 results in a frozen fit. Please "
                "choose another solver or rescale the input X."
            )
    if len(classes) < 2:
        raise ValueError(one_class(classes))


def check_two_classes(classes: Array) -> None:
    """Raise scikit-learn's ValueError of the solver liblinear, if there are not two classes."""
    if len(classes) != 2:
        raise ValueError(
            "The 'liblinear' solver does not support multiclass classification (n_classes >= 3). Either use another "
            "solver or wrap the estimator in a OneVsRestClassifier to keep applying a one-versus-rest scheme."
        )


def one_class(classes: Array) -> str:
    """What scikit-learn says where all labels are the same."""
    return (
        "This solver needs samples of at least 2 classes in the data, but the data contains only one class: "
        f"{classes[0]!r}"
    )


def class_sums(rounds: Rounds, n_classes: int) -> Array:
    """The sum of the weights of each class, shape (C,); wants the view `codes`."""
    return rounds.round("losses.classes", combine=Sum(), settings={"n_classes": n_classes})["total"]


def class_weights(class_weight: Any, classes: Array, sums: Array) -> Array:
    """scikit-learn's weight of each class, from the sums of the classes' sample weights.

    Parameters
    ----------
    class_weight : dict, "balanced" or None
    classes : ndarray of shape (C,)
    sums : ndarray of shape (C,)

    Returns
    -------
    ndarray of shape (C,)
    """
    return np.asarray(compute_class_weight(class_weight, classes=classes, y=classes, sample_weight=sums))


def weigh(rounds: Rounds, class_weight: Any) -> tuple[Rounds, float]:
    """Nodes seen with label codes and weighted classes, and the sum of all weights then."""
    (classes,) = rounds.schema.classes
    seen = rounds.through(codes(rounds.schema.classes))
    if class_weight is None and not rounds.schema.weighted:
        return seen, float(rounds.schema.n_rows)
    sums = class_sums(seen, len(classes))
    if class_weight is None:
        return seen, float(sums.sum())
    weight = class_weights(class_weight, classes, sums)
    return seen.through(class_weighted(weight)), float(sums @ weight)


def layout(coef: Array, fit_intercept: bool, dtype: Any) -> tuple[Array, Array]:
    """Parameters as `coef_` of shape (1 or C, d) and `intercept_` of shape (1 or C,)."""
    w = np.atleast_2d(coef).astype(dtype, order="C")
    return (w[:, :-1], w[:, -1]) if fit_intercept else (w, np.zeros(len(w), dtype=dtype))


def regularisation_path(
    problem: Problem, Cs: Sequence[float], l1_ratio: float | None, coef: Array | None = None
) -> tuple[list[Array], list[int]]:
    """Minimise for several C, each starting where the one before ended, as scikit-learn does.

    Parameters
    ----------
    problem : Problem
    Cs : sequence of float
    l1_ratio : float or None
        Share of absolute values in the penalty ``elasticnet``.
    coef : ndarray of shape (1 or C, p), optional
        Where to start.

    Returns
    -------
    coefs : list of ndarray
        In the shape of `Problem.shape`, float64.
    n_iter : list of int

    Raises
    ------
    ValueError
        If `coef` has another shape.
    """
    flat = np.zeros(int(np.prod(problem.shape)))
    if coef is not None:
        if coef.shape != np.atleast_2d(np.empty(problem.shape)).shape:
            also = f" or (1, {problem.shape[0]})" if len(problem.shape) == 1 else ""
            raise ValueError(f"Initialization coef is of shape {coef.shape}, expected shape {problem.shape}{also}")
        flat[:] = coef.ravel(order="F")
    two = len(problem.classes) == 2
    loss = HalfBinomialLoss() if two else HalfMultinomialLoss(n_classes=len(problem.classes))
    curved = problem.solver == "newton-cholesky"
    summed = SummedLoss(problem.rounds, loss, problem.fit_intercept, problem.total, curved=curved)
    coefs, n_iter = [], []
    for C in Cs:
        flat, steps = _minimise(problem, summed, flat, C, l1_ratio)
        coefs.append(flat.copy().reshape(problem.shape, order="F"))
        n_iter.append(steps)
    return coefs, n_iter


def _minimise(problem: Problem, loss: SummedLoss, w0: Array, C: float, l1_ratio: float | None) -> tuple[Array, int]:
    l2 = 1.0 / (C * problem.total)
    settings: dict[str, Any] = {"tol": problem.tol, "max_iter": problem.max_iter}
    if problem.solver == "lbfgs":
        iprint = _IPRINT[int(np.searchsorted(np.arange(4), problem.verbose))]
        result = lbfgs(loss, w0, l2, **settings, iprint=iprint)
        more = _LOGISTIC_SOLVER_CONVERGENCE_MSG
        steps = _check_optimize_result("lbfgs", result, problem.max_iter, extra_warning_msg=more)
        return result.x, steps
    if problem.solver == "newton-cg":
        return newton_cg(loss, w0, l2, **settings, verbose=problem.verbose)
    if problem.solver == "newton-cholesky":
        return newton_cholesky(loss, w0, l2, **settings, verbose=problem.verbose)
    return _otherwise(problem, loss, w0, C, l1_ratio)


def _otherwise(problem: Problem, loss: SummedLoss, w0: Array, C: float, l1_ratio: float | None) -> tuple[Array, int]:
    """The objective of liblinear, sag or saga, by proximal Newton."""
    n_classes = 1 if len(problem.classes) == 2 else len(problem.classes)
    share = {"l1": 1.0, "elasticnet": l1_ratio}.get(problem.penalty or "", 0.0) or 0.0
    l2, l1 = (np.full(w0.size, part / (C * problem.total)) for part in (1 - share, share))
    if problem.fit_intercept:
        scale = 1.0 / problem.intercept_scaling if problem.solver == "liblinear" else 0.0
        l2[-n_classes:] *= scale**2
        l1[-n_classes:] *= scale
    anchor = _anchor(n_classes, l2 + l1) if n_classes > 1 else 0.0

    def ask(numbers: list[int], points: list[Array]) -> list[Point]:
        found = loss.at(points[0], curved=True)
        hessian = unpacked(found["hessian"], w0.size) / problem.total + anchor
        return [Point(float(found["loss"][0]) / problem.total, found["gradient"].ravel() / problem.total, hessian)]

    (end,) = lockstep([newton(w0, l2=l2, l1=l1, max_iter=problem.max_iter)], ask)
    if not end.converged:
        warnings.warn(_NOT_CONVERGED[problem.solver], ConvergenceWarning, stacklevel=2)
    note = _OTHERWISE.format(solver=problem.solver)
    if note not in problem.rounds.run.notes:
        problem.rounds.run.notes.append(note)
    return end.w, end.n_iter


_NOT_CONVERGED = {
    "liblinear": "Liblinear failed to converge, increase the number of iterations.",
    "sag": "The max_iter was reached which means the coef_ did not converge",
    "saga": "The max_iter was reached which means the coef_ did not converge",
}


def _anchor(n_classes: int, penalty: Array) -> Array:
    """Keeps what has no penalty from shifting all classes alike, which the multinomial loss does not notice."""
    free = np.diag((penalty.reshape(-1, n_classes)[:, 0] == 0).astype(np.float64))
    return np.kron(free, np.full((n_classes, n_classes), 1.0 / n_classes))
