"""Finding candidates by score: never missing a row that belongs to the answer, ties included.

The rows are scored in pieces. Per query the k smallest upper bounds (score + error) seen so far give a bound of the k-th exact score; a row whose lower bound
(score - error) lies above its reach is out. Rows are first looked at sixteen at a time, by the smallest score of the sixteen, so almost all are passed over
at the cost of one comparison in sixteen.

A query whose candidates are too many is left to a slower way: the bounds of float32 are too wide for its data, or very many rows are tied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from atoll.nearest.scores import Batch, Space
from atoll.trees import Array

__all__ = ["Candidates", "candidates", "hits"]

_GROUP = 16
_FLUSH = 2**20


class Candidates(NamedTuple):
    """Pairs that hold every query's k nearest rows, ties included.

    Attributes
    ----------
    query, row : ndarray of shape (p,)
        Query query[i] may be near to row row[i].
    heavy : ndarray of shape (h,)
        Queries for which there were too many; they have no pairs.
    """

    query: Array
    row: Array
    heavy: Array


class _Found:
    """Candidates so far, and per query the k smallest upper bounds of their scores."""

    def __init__(self, space: Space, batch: Batch, k: int, most: int) -> None:
        self.space, self.batch, self.k, self.most = space, batch, k, most
        m = len(batch.norm)
        self.best = np.full((m, k), np.inf)
        self.reach = np.full(m, np.inf)
        self.heavy = np.zeros(m, dtype=bool)
        self.kind = np.int32 if space.n_rows < 2**31 else np.int64
        self.query, self.row = np.empty(0, dtype=self.kind), np.empty(0, dtype=self.kind)
        self.lower = np.empty(0)
        self._new: list[tuple[Array, Array, Array, Array]] = []
        self.waiting = 0

    def add(self, query: Array, row: Array, score: Array, error: Array) -> None:
        margin = error[query]
        self._new.append((query.astype(self.kind), row.astype(self.kind), score - margin, score + margin))
        self.waiting += len(query)

    def settle(self) -> None:
        """Take in what was added: tighten the bounds, drop what they exclude, mark the heavy queries."""
        query, row, lower, upper = (np.concatenate(part) for part in zip(*self._new, strict=True))
        self._new, self.waiting = [], 0
        self._tighten(query, upper)
        self.query, self.row = np.concatenate([self.query, query]), np.concatenate([self.row, row])
        self.lower = np.concatenate([self.lower, lower])
        self._keep(~(self.lower > self.reach[self.query]))
        crowded = np.bincount(self.query, minlength=len(self.reach)) > self.most
        if crowded.any():
            self.heavy |= crowded
            self.reach[crowded] = -np.inf
            self._keep(~crowded[self.query])

    def _keep(self, mask: Array) -> None:
        self.query, self.row, self.lower = self.query[mask], self.row[mask], self.lower[mask]

    def _tighten(self, query: Array, upper: Array) -> None:
        order = np.lexsort((upper, query))
        query, upper = query[order], upper[order]
        rank = np.arange(len(query)) - np.searchsorted(query, query)
        first = rank < self.k
        touched = np.unique(query)
        fresh = np.full((len(touched), min(self.k, int(rank.max(initial=0)) + 1)), np.inf)
        fresh[np.searchsorted(touched, query[first]), rank[first]] = upper[first]
        both = np.partition(np.concatenate([self.best[touched], fresh], axis=1), self.k - 1, axis=1)
        self.best[touched] = both[:, : self.k]
        live = touched[~self.heavy[touched]]
        self.reach[live] = self.space.reach(self.batch, self.best[:, -1])[live]


@np.errstate(over="ignore", under="ignore", invalid="ignore")
def candidates(space: Space, batch: Batch, k: int, dtype: Any, most: int) -> Candidates:
    """Find the pairs that hold every query's k nearest rows.

    Parameters
    ----------
    space : Space
        Rows and bounds.
    batch : Batch
        Queries made ready for this precision.
    k : int
        Number of neighbours, not more than there are rows.
    dtype : {np.float32, np.float64}
        Precision of the products.
    most : int
        A query with more candidates than this is heavy.

    Returns
    -------
    Candidates
    """
    found = _Found(space, batch, k, most)
    for pieces, (start, stop, scores, error) in enumerate(space.sweep(batch, dtype), 1):
        query, row, score = _below(scores, found.reach + error, k, partial(_tighter, space, batch, error))
        inside = (row < stop - start) & ~found.heavy[query]
        found.add(query[inside], row[inside] + start, score[inside].astype(np.float64), error)
        if found.waiting > len(error) * (4 + k) or pieces.bit_count() == 1:
            found.settle()
        if found.heavy.all():
            break
    if found.waiting:
        found.settle()
    return Candidates(found.query, found.row, np.flatnonzero(found.heavy))


def hits(space: Space, batch: Batch, distance: float) -> Iterator[tuple[Array, Array]]:
    """Find the pairs that hold every row within a distance of each query, in pieces of bounded size.

    Parameters
    ----------
    space : Space
        Rows and bounds.
    batch : Batch
        Queries made ready for products in float64.
    distance : float
        Squared Euclidean, or cosine.

    Yields
    ------
    query, row : ndarray of shape (p,)
        Query query[i] may be within the distance of row row[i].
    """
    limit = space.within(batch, distance)
    waiting: list[tuple[Array, Array]] = []
    count = 0
    for start, stop, scores, error in space.sweep(batch, np.float64):
        query, row, _ = _below(scores, limit + error)
        inside = row < stop - start
        waiting.append((query[inside], row[inside] + start))
        count += len(query)
        if count > _FLUSH:
            yield tuple(np.concatenate(part) for part in zip(*waiting, strict=True))  # type: ignore[misc]
            waiting, count = [], 0
    if waiting:
        yield tuple(np.concatenate(part) for part in zip(*waiting, strict=True))  # type: ignore[misc]


def _below(
    scores: Array, limit: Array, k: int = 0, tighter: Callable[[Array], Array] | None = None
) -> tuple[Array, Array, Array]:
    """Pairs whose score is not above its query's limit; a score that is not a number counts as below.

    Where very many are below, the limits are first made tighter by what the k-th smallest score of this piece says.
    """
    rows, m = scores.shape
    groups = scores.reshape(rows // _GROUP, _GROUP, m)
    smallest = np.minimum.reduce(groups, axis=1)
    bound = _upward(limit, scores.dtype)
    hot = np.flatnonzero(~(smallest > bound))
    if tighter is not None and hot.size > smallest.size // 4 and rows >= k:
        table = smallest if len(smallest) >= k else scores
        kth = np.partition(table, k - 1, axis=0)[k - 1].astype(np.float64)
        bound = _upward(np.fmin(limit, tighter(kth)), scores.dtype)
        hot = np.flatnonzero(~(smallest > bound))
    group, query = np.divmod(hot, m)
    cells = groups[group, :, query]
    cell, offset = np.divmod(np.flatnonzero(~(cells > bound[query, None])), _GROUP)
    return query[cell], group[cell] * _GROUP + offset, cells[cell, offset]


def _tighter(space: Space, batch: Batch, error: Array, score: Array) -> Array:
    """The limit of scores, given that k rows have scores of at most `score`."""
    limit: Array = space.reach(batch, score + error) + error
    return limit


def _upward(limit: Array, dtype: Any) -> Array:
    """The limits in this precision, rounded up."""
    with np.errstate(over="ignore"):
        rounded: Array = np.nextafter(limit.astype(dtype), dtype.type(np.inf))
    return rounded
