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
from atoll.operations.losses import unpacked
from atoll.recipes.base import recipe
from atoll.recipes.checks import check_labels
from atoll.recipes.logistic import class_sums, class_weights, one_class
from atoll.recipes.newton import Point, Solution, lockstep, newton
from atoll.rounds import Rounds
from atoll.trees import Array, Tree
from atoll.views import class_weighted, codes

__all__ = ["fit_linear_svc", "fit_linear_svr"]

_NOTE = (
    "liblinear walks from row to row; the objective that it minimises was minimised by Newton's method, whose steps "
    "n_iter_ counts"
)
_GROWTH, _OUTER, _ROUGH, _FINE, _TINY = 4.0, 25, 1e-2, 1e-11, np.finfo(np.float64).tiny


class _Machines(NamedTuple):
    """Some machines over the same rows, each with p parameters.

    `op` and `settings` say what is asked, `each` what goes with the question: arrays with an entry per machine. The
    losses count `C` times, `l2` and `l1` (p,) are the penalties.
    """

    rounds: Rounds
    op: str
    settings: dict[str, Any]
    each: Tree
    C: float
    l2: Array
    l1: Array
    max_iter: int

    def __len__(self) -> int:
        return len(self.each["class"])

    def ask(self, chosen: Array | list[int], points: list[Array], more: Tree) -> list[Point]:
        """Loss, gradient and Hessian of some machines at a point each."""
        payload = {"w": np.stack(points), **{name: array[chosen] for name, array in self.each.items()}, **more}
        found = self.rounds.round(self.op, payload, combine=Sum(), settings=self.settings)
        parts = zip(found["loss"], found["gradient"], found["hessian"], strict=True)
        p = len(self.l2)
        return [Point(self.C * float(f), self.C * g, self.C * unpacked(h, p)) for f, g, h in parts]


@recipe(LinearSVC, iterative=True)
def fit_linear_svc(estimator: LinearSVC, rounds: Rounds) -> LinearSVC:
    """One machine per class, all of them asked in the same rounds; one over all classes for ``crammer_singer``."""
    check_labels(rounds.schema)
    (classes,) = rounds.schema.classes
    _check(estimator, rounds, estimator.penalty, estimator.multi_class)
    if len(classes) < 2:
        raise ValueError(one_class(classes))
    seen, weight = rounds.through(codes(rounds.schema.classes)), np.ones(len(classes))
    if estimator.class_weight is not None:
        weight = class_weights(estimator.class_weight, classes, class_sums(seen, len(classes)))
    estimator.classes_ = classes
    fit = _fit_joint if estimator.multi_class == "crammer_singer" else _fit_each
    estimator.coef_, estimator.intercept_, estimator.n_iter_ = fit(estimator, seen, weight)
    return estimator


def _fit_each(estimator: LinearSVC, seen: Rounds, weight: Array) -> tuple[Array, Any, int]:
    """Each class against the rest; liblinear weighs the rest by one, unless there are just two."""
    which = np.array([1]) if len(weight) == 2 else np.arange(len(weight))
    against = weight[:1] if len(weight) == 2 else np.ones(len(weight))
    each = {"class": which, "weight": np.stack([against, weight[which]], axis=1)}
    op = "margins.squared" if estimator.loss == "squared_hinge" else "margins.enveloped"
    penalties = _penalties(estimator, seen, estimator.penalty)
    machines = _Machines(seen, op, {"epsilon": 0.0}, each, estimator.C, *penalties, estimator.max_iter)
    return _split(estimator, *_solve(machines))


def _fit_joint(estimator: LinearSVC, seen: Rounds, weight: Array) -> tuple[Array, Any, int]:
    """The scores of two classes are one score, their difference."""
    C = len(weight)
    l2, l1 = (np.tile(part, C) for part in _penalties(estimator, seen, "l2"))
    weighed = seen.through(class_weighted(weight))
    each = {"class": np.zeros(1, dtype=np.int64)}
    machines = _Machines(weighed, "margins.joint", {"n_classes": C}, each, estimator.C, l2, l1, estimator.max_iter)
    w, n_iter = _solve(machines)
    w = w.reshape(C, -1)
    return _split(estimator, w[1:] - w[:1] if C == 2 else w, n_iter)


@recipe(LinearSVR, iterative=True)
def fit_linear_svr(estimator: LinearSVR, rounds: Rounds) -> LinearSVR:
    """The support vector machine that predicts a number."""
    _check(estimator, rounds, "l2", "ovr")
    op = "margins.squared" if estimator.loss == "squared_epsilon_insensitive" else "margins.enveloped"
    each = {"class": np.array([-1]), "weight": np.ones((1, 2))}
    penalties = _penalties(estimator, rounds, "l2")
    settings = {"epsilon": float(estimator.epsilon)}
    machines = _Machines(rounds, op, settings, each, estimator.C, *penalties, estimator.max_iter)
    coef, estimator.intercept_, estimator.n_iter_ = _split(estimator, *_solve(machines))
    estimator.coef_ = coef.ravel()
    return estimator


def _check(estimator: Any, rounds: Rounds, penalty: str, multi_class: str) -> None:
    """Refuse what liblinear refuses."""
    shape = np.broadcast_to(0.0, (rounds.schema.n_rows, rounds.schema.n_features))
    dual = _validate_dual_parameter(estimator.dual, estimator.loss, penalty, multi_class, shape)
    _get_liblinear_solver_type(multi_class, penalty, estimator.loss, dual)


def _penalties(estimator: Any, rounds: Rounds, penalty: str) -> tuple[Array, Array]:
    """What squares and what absolute values of each parameter cost; the intercept's by its scaling."""
    strength = np.ones(rounds.schema.n_features + int(estimator.fit_intercept))
    if estimator.fit_intercept:
        strength[-1] /= estimator.intercept_scaling
    return (np.square(strength), 0 * strength) if penalty == "l2" else (0 * strength, strength)


def _split(estimator: Any, w: Array, n_iter: int) -> tuple[Array, Any, int]:
    """`coef_`, `intercept_` and `n_iter_`."""
    return (w[:, :-1], w[:, -1], n_iter) if estimator.fit_intercept else (w, 0.0, n_iter)


def _solve(machines: _Machines) -> tuple[Array, int]:
    """Parameters of all machines, and the number of steps of the one that took most."""
    ends = _smooth(machines) if machines.op == "margins.squared" else _with_corners(machines)
    if not all(end.converged for end in ends):
        text = "Liblinear failed to converge, increase the number of iterations."
        warnings.warn(text, ConvergenceWarning, stacklevel=2)
    machines.rounds.run.notes.append(_NOTE)
    return np.stack([end.w for end in ends]), max(end.n_iter for end in ends)


def _smooth(machines: _Machines) -> list[Solution]:
    start = np.zeros(len(machines.l2))
    steps = [newton(start, l2=machines.l2, l1=machines.l1, max_iter=machines.max_iter) for _ in range(len(machines))]
    return lockstep(steps, lambda numbers, points: machines.ask(numbers, points, {}))


def _with_corners(machines: _Machines) -> list[Solution]:
    """Multipliers step from model to model, ever further, until the models stay the same."""
    m, p = len(machines), len(machines.l2)
    w, n_iter, converged = np.zeros((m, p)), np.zeros(m, dtype=int), np.zeros(m, dtype=bool)
    accuracy = np.full(m, _ROUGH)
    history, sigma = np.zeros((0, m, p)), _first_step(machines)[None]
    for _ in range(_OUTER):
        open_ = np.flatnonzero(~converged & (n_iter < machines.max_iter))
        if not len(open_):
            break
        steps = [
            newton(w[i], l2=machines.l2, l1=machines.l1, max_iter=machines.max_iter - n_iter[i], accuracy=accuracy[i])
            for i in open_
        ]
        ask = partial(_ask_enveloped, machines, history, sigma, open_)
        for i, end in zip(open_, lockstep(steps, ask), strict=True):
            moved = np.abs(end.w - w[i]).max() / max(np.abs(end.w).max(), _TINY)
            converged[i] = end.converged and moved <= _FINE and accuracy[i] <= _FINE
            accuracy[i] = np.clip(_ROUGH * moved, _FINE, accuracy[i])
            w[i], n_iter[i] = end.w, n_iter[i] + end.n_iter
        history, sigma = np.concatenate([history, w[None]]), np.concatenate([sigma, sigma[-1:] * _GROWTH])
    return [Solution(w[i], int(n_iter[i]), bool(converged[i])) for i in range(m)]


def _ask_enveloped(
    machines: _Machines, history: Array, sigma: Array, open_: Array, numbers: list[int], points: list[Array]
) -> list[Point]:
    """The smoothed losses of some of the machines that are open."""
    chosen = open_[numbers]
    return machines.ask(chosen, points, {"history": history[:, chosen], "sigma": sigma[:, chosen]})


def _first_step(machines: _Machines) -> Array:
    """How far multipliers step at first, (m,): one over the average loss of the model that is zero."""
    if machines.each["class"][0] >= 0:
        return np.ones(len(machines))
    p = len(machines.l2)
    payload = {"w": np.zeros((1, p)), "history": np.zeros((0, 1, p)), "sigma": np.ones((1, 1)), **machines.each}
    plain = machines.rounds.round(machines.op, payload, combine=Sum(), settings=machines.settings)["plain"]
    total = machines.rounds.round("statistics.weight", combine=Sum())["total"]
    return np.asarray(total / np.where(plain > 0, plain, total))
