"""LinearSVC and LinearSVR: the primal objective of liblinear, its intercept penalised, minimised by Newton's method.

liblinear walks from row to row, or along the dual, whose unknowns are rows. Sums over rows lead to the same minimum:
the squared losses by Newton's method with generalised Hessians (Mangasarian, 2002, "A finite Newton method for
classification"); the others, which have corners, by the method of multipliers (Rockafellar, 1976, "Augmented
Lagrangians and applications of the proximal point algorithm in convex programming"), each of whose problems is as
smooth as the squared losses.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC, LinearSVR
from sklearn.svm._base import _get_liblinear_solver_type
from sklearn.svm._classes import _validate_dual_parameter

from atoll.combine import Sum
from atoll.errors import UnsupportedEstimator, explain
from atoll.operations.losses import unpacked
from atoll.recipes.base import recipe
from atoll.recipes.logistic import class_sums, class_weights, one_class
from atoll.recipes.solvers import Point, Solution, lockstep, newton
from atoll.rounds import Rounds
from atoll.trees import Array, Tree
from atoll.views import codes

__all__ = ["fit_linear_svc", "fit_linear_svr"]

_NOTE = (
    "liblinear walks from row to row; the objective that it minimises was minimised by Newton's method, whose steps "
    "n_iter_ counts"
)
_GROWTH, _OUTER, _ROUGH, _FINE, _TINY = 4.0, 25, 1e-2, 1e-11, np.finfo(np.float64).tiny


class _Machines(NamedTuple):
    """Some machines over the same rows.

    `classes` (m,) and `weights` (m, 2) as operations want them; `C`; `l2` and `l1` (p,), the penalties; `epsilon`;
    whether losses are `squared`; `max_iter`.
    """

    rounds: Rounds
    classes: Array
    weights: Array
    C: float
    l2: Array
    l1: Array
    epsilon: float
    squared: bool
    max_iter: int

    def ask(self, chosen: Array | list[int], points: list[Array], more: Tree) -> list[Point]:
        """Loss, gradient and Hessian of some machines at a point each."""
        payload = {"w": np.stack(points), "class": self.classes[chosen], "weight": self.weights[chosen], **more}
        op = "margins.squared" if self.squared else "margins.enveloped"
        found = self.rounds.round(op, payload, combine=Sum(), settings={"epsilon": self.epsilon})
        parts = zip(found["loss"], found["gradient"], found["hessian"], strict=True)
        p = len(self.l2)
        return [Point(self.C * float(f), self.C * g, self.C * unpacked(h, p)) for f, g, h in parts]


@recipe(LinearSVC, iterative=True)
def fit_linear_svc(estimator: LinearSVC, rounds: Rounds) -> LinearSVC:
    """One machine per class, all of them asked in the same rounds."""
    (classes,) = rounds.schema.classes
    _check(estimator, rounds, estimator.penalty, estimator.multi_class)
    if len(classes) < 2:
        raise ValueError(one_class(classes))
    seen = rounds.through(codes(rounds.schema.classes))
    weight = np.ones(len(classes))
    if estimator.class_weight is not None:
        weight = class_weights(estimator.class_weight, classes, class_sums(seen, len(classes)))
    two = len(classes) == 2
    which = np.array([1]) if two else np.arange(len(classes))
    against = weight[:1] if two else np.ones(len(classes))
    machines = _machines(
        estimator, seen, which, np.stack([against, weight[which]], axis=1), 0.0, estimator.loss == "squared_hinge",
        estimator.penalty,
    )  # fmt: skip
    estimator.classes_ = classes
    estimator.coef_, estimator.intercept_, estimator.n_iter_ = _fit(machines, estimator)
    return estimator


@recipe(LinearSVR, iterative=True)
def fit_linear_svr(estimator: LinearSVR, rounds: Rounds) -> LinearSVR:
    """The support vector machine that predicts a number."""
    _check(estimator, rounds, "l2", "ovr")
    squared = estimator.loss == "squared_epsilon_insensitive"
    machines = _machines(estimator, rounds, np.array([-1]), np.ones((1, 2)), float(estimator.epsilon), squared, "l2")
    coef, estimator.intercept_, estimator.n_iter_ = _fit(machines, estimator)
    estimator.coef_ = coef.ravel()
    return estimator


def _check(estimator: Any, rounds: Rounds, penalty: str, multi_class: str) -> None:
    """Refuse what liblinear refuses; and what is not made of one machine per class."""
    shape = np.broadcast_to(0.0, (rounds.schema.n_rows, rounds.schema.n_features))
    dual = _validate_dual_parameter(estimator.dual, estimator.loss, penalty, multi_class, shape)
    _get_liblinear_solver_type(multi_class, penalty, estimator.loss, dual)
    if multi_class == "crammer_singer":
        raise UnsupportedEstimator(
            explain("LinearSVC with multi_class='crammer_singer' cannot be fitted over nodes", hint="use 'ovr'")
        )


def _machines(
    estimator: Any, rounds: Rounds, which: Array, weight: Array, epsilon: float, squared: bool, penalty: str
) -> _Machines:
    strength = np.ones(rounds.schema.n_features + int(estimator.fit_intercept))
    if estimator.fit_intercept:
        strength[-1] /= estimator.intercept_scaling
    l2, l1 = (np.square(strength), 0 * strength) if penalty == "l2" else (0 * strength, strength)
    return _Machines(rounds, which, weight, estimator.C, l2, l1, epsilon, squared, estimator.max_iter)


def _fit(machines: _Machines, estimator: Any) -> tuple[Array, Any, int]:
    """`coef_`, `intercept_` and the number of steps of the machine that took most."""
    ends = _smooth(machines) if machines.squared else _with_corners(machines)
    if not all(end.converged for end in ends):
        text = "Liblinear failed to converge, increase the number of iterations."
        warnings.warn(text, ConvergenceWarning, stacklevel=2)
    machines.rounds.run.notes.append(_NOTE)
    w, n_iter = np.stack([end.w for end in ends]), max(end.n_iter for end in ends)
    return (w[:, :-1], w[:, -1], n_iter) if estimator.fit_intercept else (w, 0.0, n_iter)


def _smooth(machines: _Machines) -> list[Solution]:
    start = np.zeros(len(machines.l2))
    steps = [newton(start, l2=machines.l2, l1=machines.l1, max_iter=machines.max_iter) for _ in machines.classes]
    return lockstep(steps, lambda numbers, points: machines.ask(numbers, points, {}))


def _with_corners(machines: _Machines) -> list[Solution]:
    """Multipliers step from model to model, ever further, until the models stay the same."""
    m, p = len(machines.classes), len(machines.l2)
    w, n_iter, converged = np.zeros((m, p)), np.zeros(m, dtype=int), np.zeros(m, dtype=bool)
    accuracy = np.full(m, _ROUGH)
    history, sigma = np.zeros((0, m, p)), _first_step(machines)[None]
    for _ in range(_OUTER):
        unfinished = np.flatnonzero(~converged & (n_iter < machines.max_iter))
        if not len(unfinished):
            break
        steps = [
            newton(w[i], l2=machines.l2, l1=machines.l1, max_iter=machines.max_iter - n_iter[i], accuracy=accuracy[i])
            for i in unfinished
        ]
        for i, end in zip(
            unfinished, lockstep(steps, partial(_ask_enveloped, machines, history, sigma, unfinished)), strict=True
        ):
            moved = np.abs(end.w - w[i]).max() / max(np.abs(end.w).max(), _TINY)
            converged[i] = end.converged and moved <= _FINE and accuracy[i] <= _FINE
            accuracy[i] = np.clip(_ROUGH * moved, _FINE, accuracy[i])
            w[i], n_iter[i] = end.w, n_iter[i] + end.n_iter
        history, sigma = np.concatenate([history, w[None]]), np.concatenate([sigma, sigma[-1:] * _GROWTH])
    return [Solution(w[i], int(n_iter[i]), bool(converged[i])) for i in range(m)]


def _ask_enveloped(
    machines: _Machines, history: Array, sigma: Array, which: Array, numbers: list[int], points: list[Array]
) -> list[Point]:
    """The smoothed losses of some of the machines in `which`."""
    chosen = which[numbers]
    return machines.ask(chosen, points, {"history": history[:, chosen], "sigma": sigma[:, chosen]})


def _first_step(machines: _Machines) -> Array:
    """How far multipliers step at first, (m,): one over the average loss of the model that is zero."""
    if machines.classes[0] >= 0:
        return np.ones(len(machines.classes))
    payload = {
        "w": np.zeros((1, len(machines.l2))), "class": machines.classes, "weight": machines.weights,
        "history": np.zeros((0, 1, len(machines.l2))), "sigma": np.ones((1, 1)),
    }  # fmt: skip
    settings = {"epsilon": machines.epsilon}
    plain = machines.rounds.round("margins.enveloped", payload, combine=Sum(), settings=settings)["plain"]
    total = machines.rounds.round("statistics.weight", combine=Sum())["total"]
    return total / np.where(plain > 0, plain, total)
