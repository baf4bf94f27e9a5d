"""Finding candidates by score: never missing a row that belongs to the answer, ties included.

Scores are lower bounds. Per query the k smallest upper bounds seen so far bound the k-th; a row whose score lies
beyond its reach is out. Rows are first looked at sixteen at a time, by the smallest score of the sixteen, so almost
all are passed over at the cost of one comparison in sixteen.

A query whose candidates are too many is heavy and left to a slower way: the bounds of float32 are too wide for its
data, or very many rows are tied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from atoll.nearest.collect import ranks
from atoll.nearest.exact import chunks
from atoll.nearest.scores import Batch, Piece, Space
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


class _Pairs(NamedTuple):
    query: Array
    row: Array
    score: Array

    def where(self, mask: Array) -> _Pairs:
        return _Pairs(self.query[mask], self.row[mask], self.score[mask])


class _Found:
    """Candidates so far, and per query the k smallest upper bounds."""

    def __init__(self, space: Space, batch: Batch, k: int, most: int) -> None:
        self.space, self.batch, self.k, self.most = space, batch, k, most
        m = len(batch.norm)
        self.best = np.full((m, k), np.inf)
        self.spare = batch.bounds.spare(batch.norm)
        self.limit = np.full(m, np.inf)
        self.heavy = np.zeros(m, dtype=bool)
        self.kept: list[_Pairs] = []
        self.held = self.pruned = 0
        self._new: list[tuple[_Pairs, Array]] = []
        self.waiting = 0

    def add(self, piece: Piece, pairs: _Pairs) -> None:
        """Take in pairs that were below the limits."""
        pairs = pairs.where((pairs.row < piece.stop - piece.start) & ~self.heavy[pairs.query])
        upper = np.empty(len(pairs.query))
        for some in chunks(len(upper), 2**16):
            error = self.batch.bounds.error(self.batch.norm[pairs.query[some]], piece.length[pairs.row[some]])
            upper[some] = pairs.score[some] + 2 * error
        kind = np.int32 if self.space.n_rows < 2**31 else np.int64
        stored = _Pairs(pairs.query.astype(np.uint16), (pairs.row + piece.start).astype(kind), pairs.score)
        self._new.append((stored, upper))
        self.waiting += len(upper)

    def settle(self) -> None:
        """Tighten the limits by what was added; drop what they exclude, once that may be half of all."""
        self._tighten(
            np.concatenate([pairs.query for pairs, _ in self._new]), np.concatenate([upper for _, upper in self._new])
        )
        fresh = [pairs.where(self._inside(pairs)) for pairs, _ in self._new]
        self.kept += fresh
        self.held += sum(len(pairs.query) for pairs in fresh)
        self._new, self.waiting = [], 0
        if self.held > 2 * self.pruned + 4 * self.k * len(self.limit):
            self.prune()

    def prune(self) -> None:
        """Drop all that the limits exclude, and the heavy queries with all they have."""
        self.kept = [pairs.where(self._inside(pairs)) for pairs in self.kept]
        counts = sum((np.bincount(pairs.query, minlength=len(self.limit)) for pairs in self.kept), np.zeros(1))
        crowded = np.broadcast_to(counts > self.most, self.limit.shape)
        if crowded.any():
            self.heavy |= crowded
            self.kept = [pairs.where(~self.heavy[pairs.query]) for pairs in self.kept]
        self.limit[self.heavy] = -np.inf
        self.held = self.pruned = sum(len(pairs.query) for pairs in self.kept)

    def _inside(self, pairs: _Pairs) -> Array:
        inside: Array = ~(pairs.score > self.limit[pairs.query])
        return inside

    def _tighten(self, query: Array, upper: Array) -> None:
        order = np.argsort(query, kind="stable")
        query, upper = query[order], upper[order]
        touched, place, rank = ranks(query)
        fresh = np.full((len(touched), int(rank.max(initial=0)) + 1), np.inf)
        fresh[place, rank] = upper
        both = np.concatenate([self.best[touched], fresh], axis=1)
        both.partition(self.k - 1, axis=1)
        self.best[touched] = both[:, : self.k]
        limit = self.space.reach(self.batch, self.best[:, -1]) + self.spare
        self.limit = np.where(self.heavy, -np.inf, limit)

    def result(self) -> Candidates:
        """What is left."""
        self.prune()
        empty = np.empty(0, dtype=np.int64)
        query = np.concatenate([empty, *(pairs.query for pairs in self.kept)])
        row = np.concatenate([empty, *(pairs.row for pairs in self.kept)])
        return Candidates(query, row, np.flatnonzero(self.heavy))


@np.errstate(over="ignore", under="ignore", invalid="ignore")
def candidates(space: Space, batch: Batch, k: int, most: int) -> Candidates:
    """Find the pairs that hold every query's k nearest rows.

    Parameters
    ----------
    space : Space
        Rows and bounds.
    batch : Batch
        At most 65,536 queries.
    k : int
        Number of neighbours, not more than there are rows.
    most : int
        A query with more candidates than this is heavy.

    Returns
    -------
    Candidates
    """
    found = _Found(space, batch, k, most)
    for number, piece in enumerate(space.sweep(batch), 1):
        found.add(piece, _below(piece.scores, found.limit, k, partial(_tighter, space, batch, piece)))
        if found.waiting > len(batch.norm) * (4 + k) or number.bit_count() == 1:
            found.settle()
        if found.heavy.all():
            break
    if found.waiting:
        found.settle()
    return found.result()


def hits(space: Space, batch: Batch, distance: float) -> Iterator[tuple[Array, Array]]:
    """Find the pairs that hold every row within a distance of each query, in parts of bounded size.

    Parameters
    ----------
    space : Space
        Rows and bounds.
    batch : Batch
        Queries made ready.
    distance : float
        Squared Euclidean, or cosine.

    Yields
    ------
    query, row : ndarray of shape (p,)
        Query query[i] may be within the distance of row row[i].
    """
    limit = space.within(batch, distance) + batch.bounds.spare(batch.norm)
    waiting: list[_Pairs] = []
    for piece in space.sweep(batch):
        pairs = _below(piece.scores, limit)
        pairs = pairs.where(pairs.row < piece.stop - piece.start)
        waiting.append(pairs._replace(row=pairs.row + piece.start))
        if sum(len(pairs.query) for pairs in waiting) > _FLUSH:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(parts: list[_Pairs]) -> tuple[Array, Array]:
    return np.concatenate([pairs.query for pairs in parts]), np.concatenate([pairs.row for pairs in parts])


def _below(scores: Array, limit: Array, k: int = 0, tighter: Callable[[Array], Array] | None = None) -> _Pairs:
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
    group, query = np.divmod(hot.astype(np.int32), m)
    cells = groups[group, :, query]
    cell, offset = np.divmod(np.flatnonzero(~(cells > bound[query, None])).astype(np.int32), _GROUP)
    return _Pairs(query[cell], group[cell] * _GROUP + offset, cells[cell, offset])


def _tighter(space: Space, batch: Batch, piece: Piece, score: Array) -> Array:
    """The limits, given that k rows of this piece have scores no larger than `score`."""
    upper = score + 2 * batch.bounds.error(batch.norm, float(piece.length.max()))
    limit: Array = space.reach(batch, upper) + batch.bounds.spare(batch.norm)
    return limit


def _upward(limit: Array, dtype: Any) -> Array:
    """The limits in this precision, rounded up."""
    with np.errstate(over="ignore"):
        rounded: Array = np.nextafter(limit.astype(dtype), dtype.type(np.inf))
    return rounded
