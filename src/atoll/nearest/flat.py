"""Search with faiss: candidates from its flat index in float32, distances pair by pair."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse

from atoll.errors import InvalidData, MissingExtra, explain
from atoll.nearest import metrics
from atoll.nearest.brute import Screened
from atoll.nearest.collect import Nearest
from atoll.nearest.exact import chunks
from atoll.nearest.metrics import Metric
from atoll.trees import Array

__all__ = ["Flat"]

_EXTRA = 8
_U32 = 2.0**-24
_SAFE = 2.0**50


class Flat(Screened):
    """A flat faiss index over rows shifted and scaled as for scores.

    A query whose neighbours float32 cannot tell from the rows behind them, and a search by radius, go the way of
    `Screened`.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        The rows; faiss keeps a copy in float32.
    metric : Metric
        Of the Euclidean family.

    Raises
    ------
    MissingExtra
        If faiss is not installed.
    InvalidData
        If the rows are sparse or the metric is another one.
    """

    together = 4096

    def __init__(self, X: Any, metric: Metric) -> None:
        if issparse(X) or metric.name not in metrics.EUCLIDEAN:
            raise InvalidData(
                explain("faiss searches dense rows by Euclidean distance", got=metric.name, hint="algorithm='brute'")
            )
        super().__init__(X, metric)
        self.faiss = _faiss()
        self.index = self.faiss.IndexFlatL2(self.features)
        self.longest = self._add()

    def _add(self) -> float:
        """Hand the rows over; returns the length of the longest."""
        space = self.space
        longest = 0.0
        for part in chunks(self.n_rows, 2**14):
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                rows = ((space.X[part] - space.centre) * space.scale).astype(np.float32)  # type: ignore[attr-defined]
                longest = np.fmax(longest, np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64).max()))
            self.index.add(np.ascontiguousarray(rows))
        return float(longest) * (1 + 1e-6)

    def _quickly(self, queries: Any, k: int, ids: Array, quick: bool) -> tuple[Nearest, Array]:
        wanted = k + _EXTRA
        if not quick or wanted > self.n_rows or not self.longest < _SAFE:
            return super()._quickly(queries, k, ids, quick)
        near = Nearest(queries.shape[0], k, ids)
        batch = self.space.batch(queries, np.float32)
        found, row = self._search(np.ascontiguousarray(batch.right[:-2].T), wanted)
        error, square = self._error(batch.norm), batch.norm**2
        last = self.space.reach(batch, found[:, k - 1] + error - square) + square
        sure = np.isfinite(error) & (found[:, -1] - error > last)
        place = np.flatnonzero(sure[:, None] & (found - error[:, None] <= last[:, None]))
        query, row = place // wanted, row.ravel()[place]
        near.pairs(query, row, self._finish(self.space.distance(batch, query, row)))
        rest = np.flatnonzero(~sure)
        if not rest.size:
            return near, rest
        again, undecided = super()._quickly(queries[rest], k, ids, quick)
        near.put(rest, again.result())
        return near, rest[undecided]

    def _error(self, norm: Array) -> Array:
        """Bound on |faiss' squared distance - exact|: norms and product of float32, in any order."""
        reach = norm + self.longest
        error: Array = 1.02 * _U32 * (2 * self.features + 10) * reach**2 + 1e-36 * (1 + self.features) * (1 + reach)
        error[~(norm < _SAFE)] = np.inf
        return error

    def _search(self, queries: Array, wanted: int) -> tuple[Array, Array]:
        """Search in one thread, by matrix products unless the queries are few."""
        cvar = self.faiss.cvar
        threads, products = self.faiss.omp_get_max_threads(), cvar.distance_compute_blas_threshold
        self.faiss.omp_set_num_threads(1)
        cvar.distance_compute_blas_threshold = 20 if len(queries) < 20 else 1
        try:
            found, row = self.index.search(queries, wanted)
        finally:
            self.faiss.omp_set_num_threads(threads)
            cvar.distance_compute_blas_threshold = products
        return found.astype(np.float64), row


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise MissingExtra(
            explain("faiss is not installed", hint="pip install 'atoll[faiss]', or another algorithm")
        ) from None
    return faiss
