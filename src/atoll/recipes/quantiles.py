"""Exact quantiles of columns whose rows stay on their nodes: a search on the bits of floats, nodes only count."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from atoll.combine import Sum
from atoll.rounds import Rounds
from atoll.trees import Array

__all__ = [
    "Ranks",
    "crossings",
    "interpolated",
    "missing_where_empty",
    "order_statistics",
    "present",
    "quantiles",
    "ranks_of",
    "weighted_percentiles",
]

_ROUND = 1 << 16


def present(rounds: Rounds, *, stored: bool = False, weighted: bool = False, missing: bool = False) -> Array:
    """How many values of each column are not missing.

    Parameters
    ----------
    rounds : Rounds
        The way to the rows.
    stored : bool, default=False
        Whether only stored values of sparse rows count.
    weighted : bool, default=False
        Whether to add sample weights instead of counting.
    missing : bool, default=False
        Whether to count those too that are missing.

    Returns
    -------
    ndarray of shape (d,)
        int64, or float64 where weighted.
    """
    top = np.full((1, 1, rounds.schema.n_features), np.nan if missing else np.inf, dtype=rounds.schema.dtype)
    settings = {"by_class": False, "stored": stored, "weighted": weighted, "last": False}
    total: Array = _below(rounds, top, settings)[0, 0]
    return total


def _below(rounds: Rounds, threshold: Array, settings: dict[str, bool]) -> Array:
    answer = rounds.round("quantiles.count_below", {"threshold": threshold}, combine=Sum(), settings=settings)
    below: Array = answer["mass" if settings["weighted"] else "count"]
    return below


def crossings(
    rounds: Rounds, level: Array, *, by_class: bool = False, stored: bool = False, weighted: bool = False
) -> Array:
    """For each column the smallest value such that at least `level` rows lie at or below it.

    Doubles in ascending order are the integers that their bits spell, so each round divides the interval that holds the
    value into equal parts and asks how many rows lie below each: 16 parts and 16 rounds (8 for float32), or fewer parts
    and more rounds where so much is searched for that a message would be longer than half a megabyte.

    Parameters
    ----------
    rounds : Rounds
        The way to the rows.
    level : ndarray of shape (q, d) or, by class, (q, C, d)
        Numbers of rows, int64; or their weight, float64.
    by_class : bool, default=False
        Whether to search among the rows of each class, seen through the view `codes`.
    stored : bool, default=False
        Whether only stored values of sparse rows count.
    weighted : bool, default=False
        Whether levels are sums of sample weights.

    Returns
    -------
    ndarray of the shape of `level`
        In the dtype of the rows; infinity where not so many rows have a value.
    """
    wanted = level if by_class else level[:, None, :]
    dtype, bits = np.dtype(rounds.schema.dtype), _bits(wanted.size)
    settings = {"by_class": by_class, "stored": stored, "weighted": weighted}
    low, high = (np.full(wanted.shape, _key(np.array(edge, dtype=dtype))) for edge in (-np.inf, np.inf))
    while (low < high).any():
        at = _thresholds(low, high, bits)
        threshold = _value(at, dtype).reshape(-1, *wanted.shape[1:])
        last = bool((high.view(np.uint64) - low.view(np.uint64)).max() < 1 << bits)
        below = _below(rounds, threshold, settings | {"last": last})
        low, high = _narrowed(low, high, at, below.reshape(at.shape) >= wanted)
    found: Array = (_value(high, dtype) + dtype.type(0)).reshape(level.shape)  # no -0.0
    return found


def _bits(targets: int) -> int:
    """Bits that a round settles: 4, or as many as keep it below `_ROUND` numbers, or 1."""
    return next((b for b in (4, 3, 2) if targets * ((1 << b) - 1) <= _ROUND), 1)


def _thresholds(low: Array, high: Array, bits: int) -> Array:
    """The last key of all parts but one, shape (2**bits - 1, ...); no part is longer than the rest by more than one."""
    start, size = low.view(np.uint64), high.view(np.uint64) - low.view(np.uint64) + np.uint64(1)
    part = np.arange(1, 1 << bits, dtype=np.uint64).reshape(-1, *(1,) * low.ndim)
    mask, shift = np.uint64((1 << bits) - 1), np.uint64(bits)
    up = part * (size >> shift) + ((part * (size & mask) + mask) >> shift)
    at: Array = (start + up - np.uint64(1)).view(np.int64)
    return at


def _narrowed(low: Array, high: Array, at: Array, enough: Array) -> tuple[Array, Array]:
    """The part that holds the value: the first at whose end there are enough rows."""
    part = np.where(enough.any(axis=0), enough.argmax(axis=0), len(at))[None]
    ends = np.concatenate([low[None] - 1, at, high[None]])
    high = np.take_along_axis(ends, part + 1, axis=0)[0]
    return np.minimum(np.take_along_axis(ends, part, axis=0)[0] + 1, high), high


def _key(value: Array) -> Array:
    """Floats to integers in the same order."""
    whole = np.dtype(f"i{value.dtype.itemsize}")
    bits = value.view(whole).astype(np.int64)
    return np.where(bits < 0, bits ^ np.iinfo(whole).max, bits)


def _value(key: Array, dtype: np.dtype[np.generic]) -> Array:
    whole = np.dtype(f"i{dtype.itemsize}")
    return np.where(key < 0, key ^ np.iinfo(whole).max, key).astype(whole).view(dtype)


def order_statistics(rounds: Rounds, ranks: Array, *, by_class: bool = False, stored: bool = False) -> Array:
    """Values of given rank in each column, exactly; missing values have none.

    Parameters
    ----------
    rounds : Rounds
        The way to the rows; by class, seen through the view `codes`.
    ranks : ndarray of shape (q, d), or, by class, (q, C, d), int64
        Counted from 0.
    by_class, stored : bool, default=False
        As for `crossings`.

    Returns
    -------
    ndarray of the shape of `ranks`
        In the dtype of the rows; infinity where a rank does not exist.
    """
    level, back = np.unique(ranks + 1, axis=0, return_inverse=True)
    found: Array = crossings(rounds, level, by_class=by_class, stored=stored)[back.reshape(-1)]
    return found


class Ranks(NamedTuple):
    """Where a quantile lies among sorted values: between two ranks.

    Attributes
    ----------
    below, above : ndarray of shape (q, d), int64
        Ranks, counted from 0.
    share : ndarray of shape (q, d), float64
        0 is at `below`, 1 at `above`.
    """

    below: Array
    above: Array
    share: Array


def _between(alpha: float, beta: float) -> Callable[[Array, Array], Array]:
    return lambda n, q: n * q + (alpha + q * (1 - alpha - beta)) - 1


_PLACES: dict[str, Callable[[Array, Array], Array]] = {
    "inverted_cdf": lambda n, q: np.ceil(n * q - 1),
    "averaged_inverted_cdf": lambda n, q: n * q - 1,
    "closest_observation": lambda n, q: _even(n * q - 1.5),
    "interpolated_inverted_cdf": _between(0, 1),
    "hazen": _between(0.5, 0.5),
    "weibull": _between(0, 0),
    "linear": lambda n, q: (n - 1) * q,
    "median_unbiased": _between(1 / 3.0, 1 / 3.0),
    "normal_unbiased": _between(3 / 8.0, 3 / 8.0),
}


def _even(place: Array) -> Array:
    """The next rank; of two equally near ones, that which is even counted from 1."""
    down = np.floor(place)
    return np.where((place == down) & (down % 2 == 1), down, down + 1)


def ranks_of(n: Array, q: Array, method: str = "linear") -> Ranks:
    """Where quantiles lie among n sorted values, as in numpy.

    Hyndman & Fan, "Sample quantiles in statistical packages", The American Statistician 50 (1996).

    Parameters
    ----------
    n : ndarray of shape (d,), int64
        Values of each column.
    q : ndarray of shape (q,), float64
        From 0 to 1.
    method : str, default="linear"
        One of numpy's nine names for Hyndman & Fan's definitions.

    Returns
    -------
    Ranks
        Ranks of a column without values are 0.
    """
    place = _PLACES[method](n.astype(np.float64)[None, :], q[:, None])
    below = np.floor(place)
    share = place - below
    if method == "averaged_inverted_cdf":
        share = np.where(share == 0, 0.5, 1.0)
    most = np.maximum(n - 1, 0)
    ends = [np.clip(rank, 0, most).astype(np.int64) for rank in (below, below + 1)]
    return Ranks(ends[0], np.where(share == 0, ends[0], ends[1]), share)


def interpolated(below: Array, above: Array, share: Array) -> Array:
    """Between two values, as numpy does it.

    Parameters
    ----------
    below, above, share : ndarray of the same shape
        Values, and how far towards the second one.

    Returns
    -------
    ndarray
    """
    apart = above - below
    found: Array = np.where(share >= 0.5, above - apart * (1 - share), below + apart * share)
    return found


def missing_where_empty(n: Array, values: Array) -> Array:
    """NaN for columns without values, with the warning that numpy gives.

    Parameters
    ----------
    n : ndarray of shape (d,)
        Values of each column.
    values : ndarray of shape (..., d)
        One or more results of each.

    Returns
    -------
    ndarray
    """
    if n.all():
        return values
    warnings.warn("All-NaN slice encountered", RuntimeWarning, stacklevel=3)
    return np.where(n == 0, values.dtype.type(np.nan), values)


def quantiles(rounds: Rounds, q: Array, *, method: str = "linear", stored: bool = False) -> Array:
    """Quantiles of each column, as `numpy.nanquantile` gives them, its warning included.

    Parameters
    ----------
    rounds : Rounds
        The way to the rows.
    q : ndarray of shape (q,), float64
        From 0 to 1.
    method : str, default="linear"
        As in numpy.
    stored : bool, default=False
        Whether only stored values of sparse rows count.

    Returns
    -------
    ndarray of shape (q, d), float64
        NaN for a column whose values are all missing; 0 for one that stores none.
    """
    n = present(rounds, stored=stored)
    at = ranks_of(n, np.asarray(q, dtype=np.float64), method)
    values = order_statistics(rounds, np.concatenate([at.below, at.above]), stored=stored)
    if stored and not n.all():
        bare = present(rounds, stored=True, missing=True) == 0
        n, values = np.where(bare, 1, n), np.where(bare, values.dtype.type(0), values)
    below, above = np.split(missing_where_empty(n, values), 2)
    return interpolated(below, above, at.share).astype(np.float64, copy=False)


def weighted_percentiles(rounds: Rounds, percents: Array, *, average: bool = False) -> Array:
    """Weighted percentiles of each column, as scikit-learn's `_weighted_percentile` gives them.

    Parameters
    ----------
    rounds : Rounds
        The way to rows with sample weights.
    percents : ndarray of shape (q,)
        From 0 to 100.
    average : bool, default=False
        Whether a percentile that falls on a value is the mean of that and the next ("averaged_inverted_cdf").

    Returns
    -------
    ndarray of shape (q, d)
        In the dtype of the rows.
    """
    dtype = np.dtype(rounds.schema.dtype).type
    total = present(rounds, weighted=True)
    level = np.asarray(percents, dtype=dtype)[:, None] / dtype(100) * total.astype(dtype)
    level = np.where(level == 0, np.nextafter(dtype(0), dtype(1)), level)
    least = np.minimum(level.astype(np.float64), total)
    if not average:
        return crossings(rounds, least, weighted=True)
    more = np.nextafter(level + np.finfo(dtype).eps, np.inf).astype(np.float64)
    at, after = np.split(crossings(rounds, np.concatenate([least, more]), weighted=True), 2)
    mean: Array = (at + np.where(np.isinf(after), at, after)) / dtype(2)
    return mean
