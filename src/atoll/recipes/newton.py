"""Newton's method for sums over rows, where absolute values may be in the penalty.

It is for the objectives whose own solver walks from row to row (liblinear, SAG, SAGA): it finds the same minimum. A
solver here is a generator that yields a point and is sent what is there, so several can share a round (`lockstep`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

import numpy as np
import scipy.linalg

from atoll.trees import Array

__all__ = ["Point", "Solution", "lockstep", "newton", "signed_minimum", "solved"]


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
    """The best of the goal and the points on the way where a sign changes; and whether none does."""
    turning = np.flatnonzero((l1 > 0) & (sign * goal < 0))
    turns = v[turning] / (v - goal)[turning]
    points = [goal]
    for t in np.unique(turns):
        point = v + t * (goal - v)
        point[turning[turns == t]] = 0
        points.append(point)
    values = [point @ matrix @ point / 2 - right @ point + l1 @ np.abs(point) for point in points]
    best = int(np.argmin(values))
    return points[best], not len(turning)


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
