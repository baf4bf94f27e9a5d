"""Choosing among distances: the k nearest and all within a radius, ties by (distance, global row id).

A distance that is not a number comes after every other, an infinite one before it; a place that no row fills holds
distance infinity and row -1, and comes last.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from atoll.trees import Array

__all__ = ["Hits", "Nearest", "Neighbors", "Within", "ranks"]


def ranks(query: Array) -> tuple[Array, Array, Array]:
    """Take a sorted array apart: its distinct values; per entry, its place among them and its rank among its equals."""
    first = np.ones(len(query), dtype=bool)
    np.not_equal(query[1:], query[:-1], out=first[1:])
    start = np.flatnonzero(first)
    place = np.cumsum(first) - 1
    return query[start].astype(np.int64), place, np.arange(len(query)) - start[place]


class Neighbors(NamedTuple):
    """The nearest rows of each of m queries, in the order of (distance, id).

    Attributes
    ----------
    dist : ndarray of shape (m, k)
        Float64 distances; infinity where there are fewer than k rows.
    row : ndarray of shape (m, k)
        Int64 positions of the rows in the index; -1 where there are fewer than k rows.
    """

    dist: Array
    row: Array


class Hits(NamedTuple):
    """All rows within a radius of each of m queries, in the order of (distance, id).

    Attributes
    ----------
    indptr : ndarray of shape (m + 1,)
        Int64; the hits of query i stand at `indptr[i]` to `indptr[i + 1]`.
    dist : ndarray of shape (h,)
        Float64 distances.
    row : ndarray of shape (h,)
        Int64 positions of the rows in the index.
    """

    indptr: Array
    dist: Array
    row: Array


class Nearest:
    """The k nearest rows of m queries, found piece by piece in any order; each pair is offered once.

    Parameters
    ----------
    m, k : int
        Number of queries, and of neighbours.
    ids : ndarray of shape (n,)
        Global ids of the rows.
    """

    def __init__(self, m: int, k: int, ids: Array) -> None:
        self.k, self.ids = k, ids
        self.dist = np.full((m, k), np.inf)
        self.row = np.full((m, k), -1, dtype=np.int64)

    def block(self, first: int, start: int, distance: Array) -> None:
        """Offer all distances (q, r) of the queries from `first` on to the rows from `start` on."""
        queries, rows = distance.shape
        last = self.dist[first : first + queries, -1]
        near = np.flatnonzero(~(distance > last[:, None]))
        if near.size > 4 * self.k * queries and rows > self.k:
            bound = np.partition(distance, self.k - 1, axis=1)[:, self.k - 1]
            near = np.flatnonzero(~(distance > np.fmin(bound, last)[:, None]))
        if near.size > 4 * self.k * queries and rows > self.k:
            near = self._thin(start, distance)
        query, row = np.divmod(near, rows)
        self.pairs(query + first, row + start, distance.ravel()[near])

    def _thin(self, start: int, distance: Array) -> Array:
        """Flat positions of the k first of each query: columns in the order of their ids, stably sorted by distance."""
        queries, rows = distance.shape
        by_id = np.argsort(self.ids[start : start + rows])
        chosen = by_id[np.argsort(distance[:, by_id], axis=1, kind="stable")[:, : self.k]]
        flat: Array = (np.arange(queries)[:, None] * rows + chosen).ravel()
        return flat

    def pairs(self, query: Array, row: Array, dist: Array) -> None:
        """Offer the distances of query[i] to row[i]."""
        if not query.size:
            return
        touched = np.zeros(len(self.row), dtype=bool)
        touched[query] = True
        old = np.nonzero(touched[:, None] & (self.row >= 0))
        query = np.concatenate([old[0], query]).astype(np.uint16 if len(touched) <= 2**16 else np.int64)
        row = np.concatenate([self.row[old], row])
        dist = np.concatenate([self.dist[old], dist])
        order = np.lexsort((self.ids[row], dist, query))
        query = query[order]
        found, place, rank = ranks(query)
        kept = rank < self.k
        where, order = (found[place[kept]], rank[kept]), order[kept]
        self.row[where], self.dist[where] = row[order], dist[order]

    def put(self, queries: Array | slice, answer: Neighbors) -> None:
        """Write the whole answer to some queries, found elsewhere."""
        self.dist[queries], self.row[queries] = answer

    def result(self) -> Neighbors:
        """What has been found so far."""
        return Neighbors(self.dist, self.row)


class Within:
    """All rows within a radius of m queries, found piece by piece in any order; each pair is offered once.

    Parameters
    ----------
    m : int
        Number of queries.
    radius : float
        A row at exactly this distance is within.
    ids : ndarray of shape (n,)
        Global ids of the rows.
    """

    k = 0

    def __init__(self, m: int, radius: float, ids: Array) -> None:
        self.m, self.radius, self.ids = m, radius, ids
        self.count = 0
        self._query: list[Array] = []
        self._row: list[Array] = []
        self._dist: list[Array] = []

    def block(self, first: int, start: int, distance: Array) -> None:
        """Offer all distances (q, r) of the queries from `first` on to the rows from `start` on."""
        near = np.flatnonzero(distance <= self.radius)
        query, row = np.divmod(near, max(distance.shape[1], 1))
        self._add(query + first, row + start, distance.ravel()[near])

    def pairs(self, query: Array, row: Array, dist: Array) -> None:
        """Offer the distances of query[i] to row[i]."""
        near = np.flatnonzero(dist <= self.radius)
        self._add(query[near], row[near], dist[near])

    def _add(self, query: Array, row: Array, dist: Array) -> None:
        self._query.append(query.astype(np.uint16 if self.m <= 2**16 else np.int64))
        self._row.append(row.astype(np.int32 if len(self.ids) < 2**31 else np.int64))
        self._dist.append(dist)
        self.count += len(query)

    def result(self) -> Hits:
        """What has been found; not to be asked twice."""
        empty = np.empty(0, dtype=np.uint16)
        query, row = np.concatenate([empty, *self._query]), np.concatenate([empty, *self._row])
        dist = np.concatenate([np.empty(0), *self._dist])
        self._query, self._row, self._dist = [], [], []
        order = np.lexsort((self.ids[row], dist, query))
        indptr = np.concatenate([[0], np.cumsum(np.bincount(query, minlength=self.m))]).astype(np.int64)
        return Hits(indptr, dist[order], row[order].astype(np.int64))
