"""PowerTransformer: the likelihood of every column, maximised by scipy's own searches, all columns in one round."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy import optimize, stats
from sklearn.preprocessing import PowerTransformer, StandardScaler
from sklearn.preprocessing._data import _is_constant_feature

from atoll.combine import Moments
from atoll.recipes.base import recipe
from atoll.recipes.scaling import extreme_rows, standardise
from atoll.rounds import Rounds
from atoll.trees import Array, Tree

__all__ = ["Search", "fit_power", "together"]

Search = Callable[[Callable[[float], float]], float]


@recipe(PowerTransformer, iterative=True)
def fit_power(estimator: PowerTransformer, rounds: Rounds) -> PowerTransformer:
    """Exact up to the search for each column's exponent, which ends where rounding hides the slope of the likelihood.

    In a round one exponent is tried for each column; counts, means and spreads of the transformed columns leave a node.
    """
    schema = rounds.schema
    low, high = extreme_rows(rounds).astype(np.float64)
    box_cox = estimator.method == "box-cox"
    if box_cox and (low <= 0).any():
        raise ValueError("The Box-Cox transformation can only be applied to strictly positive data")
    if np.isnan(low).any():
        raise ValueError("Column must not be all nan.")
    if box_cox and (low == high).any():
        raise ValueError("Data must not be constant.")
    family = (_BoxCox if box_cox else _YeoJohnson)(rounds, low, high)
    searched = np.full(len(low), True) if box_cox else ~_constant(rounds)
    lambdas = np.where(searched, family.best(searched), 1.0)
    estimator.lambdas_ = lambdas.astype(schema.dtype)
    if estimator.standardize:
        scaler = StandardScaler(copy=False).set_output(transform="default")
        after = family.moments(estimator.lambdas_.astype(np.float64), np.zeros_like(low))
        estimator._scaler = standardise(scaler, after, schema)
        estimator._scaler.n_features_in_ = schema.n_features
    return estimator


def _constant(rounds: Rounds) -> Array:
    """Columns that scikit-learn leaves as they are; one with missing values is none of them."""
    moments = rounds.round("columns.moments", combine=Moments(), settings={"weighted": False})
    n, rows = moments["n"], rounds.schema.n_rows
    same: Array = _is_constant_feature(moments["m2"] / n, moments["mean"], rows) & (n == rows)
    return same


class _Family(ABC):
    """A family of power transforms over nodes whose columns have these extremes."""

    method: str

    def __init__(self, rounds: Rounds, low: Array, high: Array) -> None:
        self.rounds, self.low, self.high = rounds, low, high
        zero = np.zeros_like(low)
        logs = self._ask(zero, zero, zero)
        self.n, self.logs = logs["n"], logs["n"] * logs["mean"]

    def _ask(self, upper: Array, lower: Array, shift: Array) -> Tree:
        flat = np.finfo(np.float64).eps
        payload = {
            "upper": np.where(np.abs(upper) < flat, 0.0, upper),
            "lower": np.where(np.abs(lower) < flat, 0.0, lower),
        }
        settings = {"method": self.method}
        return self.rounds.round(
            "columns.power_moments", payload | {"shift": shift}, combine=Moments(), settings=settings
        )

    def best(self, searched: Array) -> Array:
        """The exponents of greatest likelihood, NaN for columns that are not searched."""
        columns = np.flatnonzero(searched)
        lambdas = np.full(len(searched), np.nan)

        def ask(points: Array) -> Array:
            tried = np.full(len(searched), np.nan)
            tried[columns] = points
            return self.loss(tried)[columns]

        lambdas[columns] = together([partial(self.search, int(j)) for j in columns], ask)
        return lambdas

    @abstractmethod
    def moments(self, lambdas: Array, shift: Array) -> Tree:
        """Moments of the transformed columns, with a shift of their logarithms."""

    @abstractmethod
    def loss(self, lambdas: Array) -> Array:
        """The negative log-likelihood of one exponent per column, up to a constant."""

    @abstractmethod
    def search(self, column: int, loss: Callable[[float], float]) -> float:
        """The best exponent of a column, by the search that scipy makes."""


class _YeoJohnson(_Family):
    """As in `scipy.stats.yeojohnson`."""

    method = "yeo-johnson"

    def moments(self, lambdas: Array, shift: Array) -> Tree:
        return self._ask(lambdas, 2 - lambdas, shift)

    def loss(self, lambdas: Array) -> Array:
        moments = self.moments(lambdas, np.zeros_like(lambdas))
        var = moments["m2"] / self.n
        some = var >= np.finfo(np.float64).smallest_normal
        log_var = np.log(var, out=np.full_like(var, -np.inf), where=some)
        return np.where(some, self.n / 2 * log_var - (lambdas - 1) * self.logs, np.inf)

    def search(self, column: int, loss: Callable[[float], float]) -> float:
        """Between exponents that keep 20 times the largest value within range; see scipy's `yeojohnson_normmax`."""
        low, high = self.low[column], self.high[column]
        if low == high == 0:
            return 1.0
        limits = np.finfo(self.rounds.schema.dtype)
        reach = np.log1p(20 * max(abs(low), abs(high)))
        least = (np.log(limits.tiny) - np.log(limits.eps)) / 2 / reach
        most = (np.log(limits.max) + np.log(limits.eps)) / 2 / reach
        if high < 0:
            least, most = 2 - most, 2 - least
        elif low < 0:
            least, most = max(2 - most, least), min(2 - least, most)
        with np.errstate(invalid="ignore"):  # where the likelihood is infinite
            return float(optimize.fminbound(loss, least, most, xtol=1.48e-8))


class _BoxCox(_Family):
    """As in `scipy.stats.boxcox`."""

    method = "box-cox"

    def moments(self, lambdas: Array, shift: Array) -> Tree:
        return self._ask(lambdas, lambdas, shift)

    def loss(self, lambdas: Array) -> Array:
        """Up to a constant; values are taken relative to their geometric mean, so that large terms do not appear.

        Where a power of the largest would overflow, they are taken relative to something larger.
        """
        centre, reach = self.logs / self.n, 300 / np.maximum(np.abs(lambdas), 1e-9)
        up, down = np.maximum(centre, np.log(self.high) - reach), np.minimum(centre, np.log(self.low) + reach)
        shift = np.where(lambdas >= 0, up, down)
        moments = self.moments(lambdas, shift)
        with np.errstate(divide="ignore"):
            loss: Array = self.n * (np.log(moments["m2"] / self.n) / 2 + lambdas * (shift - centre))
        return loss

    def search(self, column: int, loss: Callable[[float], float]) -> float:
        """Where the best exponent would overflow, scipy's own rule limits it; that needs the extremes only."""
        found = optimize.brent(loss, brack=(-2.0, 2.0))
        edges = np.array([self.low[column], self.high[column]], dtype=self.rounds.schema.dtype)
        limited: Any = stats.boxcox_normmax  # which is annotated for optimizers that look at their function
        return float(limited(edges, method="mle", optimizer=lambda _: SimpleNamespace(x=found)))


class _Unknown(Exception):
    """A point at which a function is not known yet."""

    def __init__(self, point: float) -> None:
        self.point = point


def _look_up(known: dict[float, float], point: float) -> float:
    if float(point) not in known:
        raise _Unknown(float(point))
    return known[float(point)]


def together(searches: Sequence[Search], ask: Callable[[Array], Array]) -> Array:
    """Run several one-dimensional searches at once, one step of each in one question.

    A search is run from its beginning until it wants a value that is not known; being deterministic, it comes one step
    further once it has that value. So any search of scipy can wait for answers that come from elsewhere.

    Parameters
    ----------
    searches : sequence of callable
        Each takes its function and returns what it found.
    ask : callable
        Points, one per search and NaN where none is wanted, to the values of the functions there.

    Returns
    -------
    ndarray of shape (len(searches),)
    """
    known: list[dict[float, float]] = [{} for _ in searches]
    found = np.full(len(searches), np.nan)
    going = list(range(len(searches)))
    while going:
        points = np.full(len(searches), np.nan)
        for i in going:
            try:
                found[i] = searches[i](partial(_look_up, known[i]))
            except _Unknown as unknown:
                points[i] = unknown.point
        going = [i for i in going if not np.isnan(points[i])]
        values = ask(points) if going else points
        for i in going:
            known[i][float(points[i])] = float(values[i])
    return found
