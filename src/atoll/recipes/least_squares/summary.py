"""What least squares needs to know about all rows, and the few rows that stand for them.

The triangle R of all rows ``(1, x, y)`` is itself a data set: it has as many rows as it has columns, and every sum of
products over it is the sum over all rows. So scikit-learn's own solver runs on the triangle, and what depends on the
number of rows is put right before or afterwards.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator

from atoll.combine import Sum, Triangle
from atoll.recipes.base import recipe
from atoll.rounds import Rounds
from atoll.schema import Schema
from atoll.trees import Array

__all__ = [
    "NUMBERS",
    "Ask",
    "StandIn",
    "Summary",
    "by_sums",
    "by_triangle",
    "changed",
    "least_squares",
    "no_weight",
    "summary",
]

NUMBERS: dict[str, Any] = {"targets": "numbers", "n_classes": 0}


class StandIn(NamedTuple):
    """Few rows that stand for all.

    Attributes
    ----------
    X : ndarray of shape (m, d)
        ``m = min(n, columns and targets)`` rows, in the dtype of the data; about the mean where there is an intercept.
    y : ndarray of shape (m,) or (m, T)
        Their targets.
    X_offset : ndarray of shape (d,)
        What was subtracted from the columns.
    y_offset : scalar or ndarray of shape (T,)
        What was subtracted from the targets.
    """

    X: Array
    y: Array
    X_offset: Array
    y_offset: Any

    def scaled(self, factor: float) -> StandIn:
        """The same rows, each times a number."""
        return self._replace(X=self.X * self.X.dtype.type(factor), y=self.y * self.y.dtype.type(factor))


class Summary(NamedTuple):
    """What least squares needs to know about some rows.

    Attributes
    ----------
    n : int
        How many rows there are.
    d : int
        Columns.
    dtype : dtype
        Of the data.
    flat : bool
        Whether targets have one dimension.
    mean : ndarray of shape (d + T,), float64
        The weighted mean of columns and targets.
    R : ndarray of shape (1 + d + T, 1 + d + T), float64
        Triangular: ``RᵀR`` holds the products, summed over all rows, of ``√w (1, x - mean, y - mean)``.
    """

    n: int
    d: int
    dtype: np.dtype[Any]
    flat: bool
    mean: Array
    R: Array

    @property
    def weight(self) -> float:
        """The sum of the sample weights; without its rounding error where that is the number of rows."""
        square = float(self.R[0, 0] ** 2)
        return float(self.n) if abs(square - self.n) <= 1e-12 * self.n else square

    @property
    def spread(self) -> Array:
        """Weighted squared deviations of each target from its mean, summed, of shape (T,)."""
        return np.asarray(np.square(self.R[1:, self.d + 1 :]).sum(axis=0))

    def stand_in(self, fit_intercept: bool, dtype: Any = None) -> StandIn:
        """Few rows that stand for all.

        Parameters
        ----------
        fit_intercept : bool
            Whether they are about the mean.
        dtype : dtype, optional
            The data's own by default.

        Raises
        ------
        ZeroDivisionError
            In the words in which scikit-learn's mean fails, where all weights are zero.
        """
        if fit_intercept and not self.weight > 0:
            raise no_weight()
        R = _with_twins(_without_rounding(self.R), self.d)
        rows = R[1:, 1:] if fit_intercept else R[:, 1:] + R[:, :1] * self.mean
        offset = self.mean if fit_intercept else np.zeros_like(self.mean)
        rows, offset = (a.astype(self.dtype if dtype is None else dtype) for a in (rows[: self.n], offset))
        X, Y = np.ascontiguousarray(rows[:, : self.d]), np.ascontiguousarray(rows[:, self.d :])
        flat = self.flat
        return StandIn(X, Y[:, 0] if flat else Y, offset[: self.d], offset[self.d] if flat else offset[self.d :])

    def errors(self, coef: Array, intercept: Array) -> tuple[Array, Array]:
        """How far linear models are from the targets.

        Parameters
        ----------
        coef : ndarray of shape (T, d, A)
            Of A models.
        intercept : ndarray of shape (T, A)
            Theirs.

        Returns
        -------
        squares : ndarray of shape (T, A)
            Weighted squared errors, summed.
        sums : ndarray of shape (T, A)
            Weighted errors, summed.
        """
        d, root = self.d, self.R[0, 0]
        T, _, A = coef.shape
        squares, sums = np.empty((T, A)), np.empty((T, A))
        for t in range(T):
            at_mean = self.mean[d + t] - self.mean[:d] @ coef[t] - intercept[t]
            off = self.R[1:, d + 1 + t, None] - self.R[1:, 1 : d + 1] @ coef[t]
            squares[t] = np.square(off).sum(axis=0) + np.square(root * at_mean)
            sums[t] = root * root * at_mean
        return squares, sums


def _without_rounding(R: Array) -> Array:
    """A triangle whose rows that are no more than rounding errors of their columns are zero."""
    rounding = len(R) * np.finfo(np.float64).eps * np.abs(R).max(axis=0)
    return np.where((np.abs(R) <= rounding).all(axis=1)[:, None], 0.0, R)


def _with_twins(R: Array, d: int) -> Array:
    """A triangle in which columns that differ by no more than rounding errors are the same.

    Columns that are equal in the rows are then equal here, and a solver that takes the first of several takes that one.
    They are found side by side in the order of their products with a vector that no two other columns agree on.
    """
    X = R[:, 1 : d + 1]
    order = np.argsort(np.sin(np.arange(1.0, len(R) + 1)) @ X, kind="stable")
    near = np.abs(np.diff(X[:, order], axis=1)).max(axis=0, initial=0.0)
    same = near <= 4 * len(R) * np.finfo(np.float64).eps * np.abs(X[:, order[1:]]).max(axis=0, initial=0.0)
    if not same.any():
        return R
    first = order.copy()
    for i in np.flatnonzero(same):
        first[i + 1] = first[i]
    return np.hstack([R[:, :1], X[:, _smallest(first, order)], R[:, d + 1 :]])


def _smallest(first: Array, order: Array) -> Array:
    """For each column the smallest of those that it is equal to, given one that stands for them."""
    least = np.full(len(order), len(order))
    np.minimum.at(least, first, order)
    chosen = np.empty_like(order)
    chosen[order] = least[first]
    return chosen


Ask = Callable[[Rounds, Mapping[str, Any]], Summary]


def no_weight() -> ZeroDivisionError:
    """What numpy, and so scikit-learn, says to a mean over weights that sum to zero."""
    return ZeroDivisionError("Weights sum to zero, can't be normalized")


def by_triangle(rounds: Rounds, settings: Mapping[str, Any] = NUMBERS) -> Summary:
    """One round: triangles are merged, so no digit is lost to squares.

    Parameters
    ----------
    rounds : Rounds
        The way to the rows.
    settings : mapping
        `targets` and `n_classes`, as for the operation `linear.triangle`.

    Returns
    -------
    Summary
    """
    tree = rounds.round("linear.triangle", combine=Triangle(), settings=settings)
    return summary(rounds.schema, tree["R"], tree["centre"], settings)


def by_sums(rounds: Rounds, settings: Mapping[str, Any] = NUMBERS) -> Summary:
    """Two rounds of plain sums: the mean, then products about it; for sums that nobody can look into.

    Parameters
    ----------
    rounds : Rounds
        The way to the rows.
    settings : mapping
        `targets` and `n_classes`, as for the operation `linear.sums`.

    Returns
    -------
    Summary
        The root of the products is taken through their eigenvectors, so directions in which columns vary by less than
        some 1e-8 of their length are lost.
    """
    first = rounds.round("linear.sums", combine=Sum(), settings=settings)
    mean = _over(first["sum"], first["total"][0])
    gram = rounds.round("linear.gram", {"mean": mean}, combine=Sum(), settings=settings)["gram"]
    total, shift = gram[0, 0], _over(gram[0, 1:], gram[0, 0])
    R = np.zeros_like(gram)
    R[0, 0] = np.sqrt(total)
    R[1:, 1:] = _root(gram[1:, 1:] - total * np.outer(shift, shift))
    return summary(rounds.schema, R, mean + shift, settings)


def _over(sums: Array, total: float) -> Array:
    return sums / total if total > 0 else np.zeros_like(sums)


def _root(gram: Array) -> Array:
    """The triangle of rows with these products."""
    length = np.sqrt(np.maximum(np.diagonal(gram), 0))
    by = np.where(length > 0, length, 1.0)
    values, vectors = np.linalg.eigh(gram / by / by[:, None])
    return np.asarray(np.linalg.qr(np.sqrt(np.maximum(values, 0))[:, None] * vectors.T * by, mode="r"))


def summary(schema: Schema, R: Array, mean: Array, settings: Mapping[str, Any], n: int | None = None) -> Summary:
    """A summary from what nodes answered; of n rows, by default all."""
    flat = settings["targets"] == "numbers" and not schema.n_outputs
    return Summary(schema.n_rows if n is None else n, schema.n_features, np.dtype(schema.dtype), flat, mean, R)


@contextmanager
def changed(estimator: Any, **params: Any) -> Iterator[None]:
    """Other parameters for the time of the body.

    Parameters
    ----------
    estimator : estimator
        Gets its own parameters back in the end.
    **params
        Parameters.
    """
    before = {name: getattr(estimator, name) for name in params}
    estimator.set_params(**params)
    try:
        yield
    finally:
        estimator.set_params(**before)


def least_squares(
    *types: type[BaseEstimator], **how: Any
) -> Callable[[Callable[[Any, Rounds, Ask], Any]], Callable[[Any, Rounds, Ask], Any]]:
    """Register a fit that needs a summary of the rows, in both ways of asking for it: by triangles, and by sums.

    Parameters
    ----------
    *types : type
        scikit-learn estimator classes.
    **how
        As for `atoll.recipes.recipe`.

    Returns
    -------
    callable
        The decorator; it takes ``(estimator, rounds, ask) -> fitted`` and returns it unchanged.
    """

    def add(fit: Callable[[Any, Rounds, Ask], Any]) -> Callable[[Any, Rounds, Ask], Any]:
        def bound(ask: Ask) -> Callable[[Any, Rounds], Any]:
            @functools.wraps(fit)
            def fit_by(estimator: Any, rounds: Rounds) -> Any:
                return fit(estimator, rounds, ask)

            return fit_by

        recipe(*types, **how)(bound(by_triangle))
        recipe(*types, method="sums", **how)(bound(by_sums))
        return fit

    return add
