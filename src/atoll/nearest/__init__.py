"""Exact nearest neighbours among the rows of one node.

`build` makes rows searchable, `Index.query` and `Index.radius` answer, `choose_method` says which search scikit-learn
would use on the pooled rows, and `Kernels` sums kernels. Whatever way a search takes, a distance depends on its
query and its row alone, and ties are ordered by global id: so the answers of several nodes, merged by (distance, id),
are those of one.
"""

from __future__ import annotations

from atoll.nearest.collect import Hits, Neighbors
from atoll.nearest.density import Kernels
from atoll.nearest.index import Index, build
from atoll.nearest.metrics import Metric, choose_method

__all__ = ["Hits", "Index", "Kernels", "Metric", "Neighbors", "build", "choose_method"]
