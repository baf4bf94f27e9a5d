"""Search in distances that were computed beforehand."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse

from atoll.nearest.collect import Hits, Nearest, Neighbors, Within
from atoll.nearest.exact import chunks
from atoll.trees import Array

__all__ = ["Precomputed"]

_CELLS = 2**18


class Precomputed:
    """Distances from each query to every pooled row, of which a node reads the columns of its own rows.

    In a sparse matrix only stored entries are neighbours, explicit zeros included, as scikit-learn reads a graph.

    Parameters
    ----------
    n_rows : int
        How many of the pooled rows are here.
    """

    def __init__(self, n_rows: int) -> None:
        self.n_rows = n_rows

    def query(self, Q: Any, k: int, ids: Array) -> Neighbors:
        """The k nearest rows of each query, in the order of (distance, id).

        Parameters
        ----------
        Q : ndarray or CSR matrix of shape (m, N)
            Distances to all N pooled rows.
        k : int
            Number of neighbours.
        ids : ndarray of shape (n,)
            Columns of `Q` that belong to the rows here.

        Returns
        -------
        Neighbors
        """
        near = Nearest(Q.shape[0], k, ids)
        self._search(Q, near, ids)
        return near.result()

    def radius(self, Q: Any, r: float, ids: Array) -> Hits:
        """All rows within the radius of each query, in the order of (distance, id); parameters as in `query`."""
        found = Within(Q.shape[0], r, ids)
        self._search(Q, found, ids)
        return found.result()

    def _search(self, Q: Any, into: Nearest | Within, ids: Array) -> None:
        if not self.n_rows:
            return
        for some in chunks(Q.shape[0], 256):
            few: Any = Q[some]
            if issparse(few):
                self._stored(few, some.start, into, ids)
                continue
            for part in chunks(self.n_rows, _CELLS // 256):
                into.block(some.start, part.start, np.asarray(few[:, ids[part]], dtype=np.float64))

    def _stored(self, Q: Any, first: int, into: Nearest | Within, ids: Array) -> None:
        entries = Q.tocsr()[:, ids].tocoo()
        into.pairs(entries.row.astype(np.int64) + first, entries.col.astype(np.int64), entries.data.astype(np.float64))
