"""Neighbours estimators that ask the nodes instead of holding rows.

A nearest-neighbours model *is* its training rows, so what `fit` returns here holds none: it asks the nodes for
candidates at every call. What is then made of the candidates (votes, weights, probabilities, graphs) is scikit-learn's
own code, run over them by a stand-in (`Answered`). The mixins mirror scikit-learn's own, so each estimator has the
methods that scikit-learn gives it and no others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import numpy as np
from sklearn.neighbors._base import _check_precomputed, _to_object_array
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted, validate_data

from atoll.combine import Each, TopK
from atoll.errors import NotAvailable, explain
from atoll.nearest import Metric
from atoll.operations.neighbors import metric_payload, query_payload
from atoll.rounds import Rounds
from atoll.shards import Shard, is_sparse
from atoll.trees import Array

__all__ = [
    "Answered",
    "Asking",
    "AskingByCount",
    "AskingByRadius",
    "Classifying",
    "Found",
    "Predicting",
    "Search",
    "batches",
]

_BATCH = 4096
_NUMBERS = 1 << 20
_HITS = 1 << 22


class Search(NamedTuple):
    """How nodes search: the same on all of them, chosen once for the pooled rows.

    Attributes
    ----------
    rounds : Rounds
        The way to the nodes, through the views that the candidates' labels need.
    method : str
        brute, kd_tree, ball_tree or faiss.
    metric : Metric
        What distance means.
    leaf_size : int
        Of the trees.
    labels : {"none", "code", "target"}
        What travels with a candidate.
    own : callable or None
        Gives the pooled rows where they are the user's own.
    """

    rounds: Rounds
    method: str
    metric: Metric
    leaf_size: int
    labels: str
    own: Any = None


class Found(NamedTuple):
    """Candidates of a batch of queries.

    Attributes
    ----------
    distance, id : ndarray of shape (m, k), or object array of m arrays
        Ordered by (distance, id).
    label : ndarray of shape (candidates,) or (candidates, n_outputs), or None
        One after the other, in the same order.
    """

    distance: Array
    id: Array
    label: Array | None

    @property
    def position(self) -> Array:
        """The position of each candidate's label, laid out as `id`."""
        if self.id.dtype != object:
            return np.arange(self.id.size).reshape(self.id.shape)
        ends = np.cumsum([len(i) for i in self.id])
        positions: Array = _to_object_array(np.split(np.arange(ends[-1]), ends[:-1]))
        return positions


class Answered:
    """Stands in for a fitted estimator whose neighbours are known already; mixed in before its class."""

    _found: Found
    _y: Any

    def kneighbors(self, X: Any = None, n_neighbors: Any = None, return_distance: bool = True) -> Any:
        """What was found, whatever is asked."""
        return (self._found.distance, self._found.position) if return_distance else self._found.position

    def radius_neighbors(
        self, X: Any = None, radius: Any = None, return_distance: bool = True, sort_results: bool = False
    ) -> Any:
        """What was found, whatever is asked."""
        return (self._found.distance, self._found.position) if return_distance else self._found.position


class Asking:
    """Mixed in before a scikit-learn neighbours class: its searches ask the nodes, its arithmetic stays.

    Ids are global row ids; neighbours are ordered by (distance, id). Queries are sent in batches, so memory stays
    bounded however many there are.
    """

    _search: Search
    n_samples_fit_: int

    def _queries(self, X: Any) -> tuple[Any, Array | None]:
        """Checked queries, and their own ids where they are the training rows."""
        if X is None:
            whole = self._own_rows()
            return whole.X, whole.ids
        if self._search.metric.name == "precomputed":
            return _check_precomputed(self._right_width(X)), None
        finite: Any = "allow-nan" if get_tags(self).input_tags.allow_nan else True
        return validate_data(self, X, ensure_all_finite=finite, accept_sparse="csr", reset=False, order="C"), None

    def _right_width(self, X: Any) -> Any:
        X = X if hasattr(X, "shape") else np.asarray(X)
        if X.ndim == 2 and X.shape[1] != self.n_samples_fit_:
            raise ValueError(
                "Precomputed metric requires shape (n_queries, n_indexed). "
                f"Got {X.shape} for {self.n_samples_fit_} indexed."
            )
        return X

    def _own_rows(self) -> Shard:
        if self._search.own is None:
            raise NotAvailable(
                explain("X=None asks about the training rows, and those stay on their nodes", hint="give queries")
            )
        whole: Shard = self._search.own()
        return whole

    def _settings(self, Q: Any) -> tuple[dict[str, Any], dict[str, Array]]:
        search = self._search
        settings, arrays = metric_payload(search.metric)
        settings |= {"method": search.method, "leaf_size": search.leaf_size, "labels": search.labels}
        return settings, {**query_payload(Q), **arrays}


class AskingByCount(Asking):
    """Asks for the nearest rows: scikit-learn's `KNeighborsMixin`."""

    n_neighbors: int

    def kneighbors(self, X: Any = None, n_neighbors: int | None = None, return_distance: bool = True) -> Any:
        """Distances and global row ids of the nearest rows; see scikit-learn's method of this name.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (m, d), optional
            Queries; None: the training rows themselves, each without itself, where they are yours.
        n_neighbors : int, optional
            Neighbours per query.
        return_distance : bool, default=True
            Whether to return distances too.

        Returns
        -------
        distance : ndarray of shape (m, n_neighbors), float64
            Only if `return_distance`.
        id : ndarray of shape (m, n_neighbors), int64
        """
        parts = list(self._by_count(X, n_neighbors))
        index = np.concatenate([p.id for p in parts])
        return (np.concatenate([p.distance for p in parts]), index) if return_distance else index

    def _by_count(self, X: Any, n_neighbors: int | None = None) -> Iterator[Found]:
        check_is_fitted(self)
        k = self.n_neighbors if n_neighbors is None else _checked(n_neighbors)
        Q, own = self._queries(X)
        self._enough(k, Q.shape[0], own is not None)
        for s in batches(Q, k):
            yield self._nearest(Q[s], k, None if own is None else own[s])

    def _enough(self, k: int, m: int, is_train: bool) -> None:
        n = self.n_samples_fit_
        if k > n - is_train:
            raise ValueError(
                f"Expected n_neighbors {'<' if is_train else '<='} n_samples_fit, but n_neighbors = {k}, "
                f"n_samples_fit = {n}, n_samples = {m}"
            )

    def _nearest(self, Q: Any, k: int, own: Array | None) -> Found:
        """The k nearest rows of each query; without the query itself where `own` names it."""
        settings, payload = self._settings(Q)
        wanted = k if own is None else k + 1
        got = self._search.rounds.round(
            "neighbors.nearest", payload, combine=TopK(wanted), settings={**settings, "k": wanted}
        )
        distance, index, label = got["distance"], got["id"], got.get("label")
        if (index < 0).any():
            raise ValueError(
                f"{wanted} neighbors per samples are required, but some samples have only "
                f"{(index >= 0).sum(axis=1).min()} neighbors in precomputed graph matrix, or in the rows of the nodes "
                "that answered."
            )
        keep = np.ones(index.shape, dtype=bool) if own is None else _others(index, own)
        m = len(index)
        return Found(distance[keep].reshape(m, k), index[keep].reshape(m, k), None if label is None else label[keep])


class AskingByRadius(Asking):
    """Asks for the rows within a radius: scikit-learn's `RadiusNeighborsMixin`."""

    radius: float

    def radius_neighbors(
        self, X: Any = None, radius: float | None = None, return_distance: bool = True, sort_results: bool = False
    ) -> Any:
        """Distances and global row ids of the rows within a radius; see scikit-learn's method of this name.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (m, d), optional
            Queries; None: the training rows themselves, each without itself, where they are yours.
        radius : float or array of shape (m,), optional
            Rows at this distance count.
        return_distance : bool, default=True
            Whether to return distances too.
        sort_results : bool, default=False
            Whether hits are ordered by (distance, id) instead of by id.

        Returns
        -------
        distance : ndarray of shape (m,) of arrays
            Only if `return_distance`.
        id : ndarray of shape (m,) of arrays
        """
        if sort_results and not return_distance:
            raise ValueError("return_distance must be True if sort_results is True.")
        parts = list(self._by_radius(X, radius, sort_results))
        index = np.concatenate([p.id for p in parts])
        return (np.concatenate([p.distance for p in parts]), index) if return_distance else index

    def _by_radius(self, X: Any, radius: Any = None, by_distance: bool = False) -> Iterator[Found]:
        """Batches so small that even if every row were a hit, memory would stay bounded."""
        check_is_fitted(self)
        Q, own = self._queries(X)
        reach = np.broadcast_to(self.radius if radius is None else radius, Q.shape[0])
        size = max(1, min(_BATCH, _HITS // max(self.n_samples_fit_, 1)))
        for s in _slices(Q.shape[0], size):
            yield self._within(Q[s], reach[s], None if own is None else own[s], by_distance)

    def _within(self, Q: Any, reach: Array, own: Array | None, by_distance: bool) -> Found:
        """The rows within reach of each query; without the query itself where `own` names it."""
        settings, payload = self._settings(Q)
        got = self._search.rounds.round(
            "neighbors.within", payload, combine=Each(), settings={**settings, "radius": float(reach.max())}
        )
        query, distance, index = got["query"], got["distance"], got["id"]
        order = np.lexsort((index, distance, query) if by_distance else (index, query))
        keep = np.ones(len(index), dtype=bool) if own is None else index != own[query]
        if (reach != reach[0]).any():
            keep &= distance <= reach[query]
        order = order[keep[order]]
        ends = np.cumsum(np.bincount(query[order], minlength=len(reach)))[:-1]
        return Found(
            distance=_to_object_array(np.split(distance[order], ends)),
            id=_to_object_array(np.split(index[order], ends)),
            label=got["label"][order] if "label" in got else None,
        )


class Predicting:
    """Predicts with scikit-learn's own arithmetic over the candidates."""

    _stand_in: ClassVar[type[Answered]]
    _target: np.dtype[Any]

    def predict(self, X: Any) -> Array:
        """Predict the target of each query; X=None asks about the training rows, where they are yours."""
        return np.concatenate(list(self._answers("predict", X)))

    def _answers(self, method: str, X: Any) -> Iterator[Any]:
        for found in self._candidates(X):
            stand_in = object.__new__(self._stand_in)
            stand_in.__dict__.update(self.__dict__, _found=found, _y=self._targets(found), _fit_method="kd_tree")
            yield getattr(stand_in, method)(np.zeros((len(found.id), 1)))

    def _candidates(self, X: Any) -> Iterator[Found]:
        asking: Any = self
        return asking._by_radius(X) if isinstance(self, AskingByRadius) else asking._by_count(X)  # type: ignore[no-any-return]

    def _targets(self, found: Found) -> Array:
        """The candidates' targets in the type that `fit` was given; one row at least, for its shape and type."""
        label: Any = found.label
        return np.asarray(label if len(label) else np.zeros((1, *label.shape[1:])), dtype=self._target)


class Classifying(Predicting):
    """Gives probabilities too."""

    def predict_proba(self, X: Any) -> Any:
        """Class probabilities, shape (m, n_classes); a list of such arrays where y has several columns."""
        parts = list(self._answers("predict_proba", X))
        if isinstance(parts[0], list):
            return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]
        return np.concatenate(parts)


def batches(Q: Any, k: int = 1) -> list[slice]:
    """Cut queries into batches of which a message and its answer stay within some ten megabytes.

    Parameters
    ----------
    Q : ndarray or CSR matrix of shape (m, d)
        Queries.
    k : int, default=1
        Candidates that come back for each.

    Returns
    -------
    list of slice
        Of rows of Q; the sizes depend on the queries and k alone.
    """
    width = Q.nnz // max(Q.shape[0], 1) if is_sparse(Q) else Q.shape[1]
    return _slices(Q.shape[0], max(1, min(_BATCH, _NUMBERS // max(width, 3 * k))))


def _slices(m: int, size: int) -> list[slice]:
    return [slice(i, min(i + size, m)) for i in range(0, m, size)]


def _checked(n_neighbors: Any) -> int:
    if n_neighbors <= 0:
        raise ValueError(f"Expected n_neighbors > 0. Got {n_neighbors}")
    if not isinstance(n_neighbors, int | np.integer):
        raise TypeError(f"n_neighbors does not take {type(n_neighbors)} value, enter integer value")
    return int(n_neighbors)


def _others(index: Array, own: Array) -> Array:
    """All but each query itself; all but the first where it is hidden behind its duplicates, as in scikit-learn."""
    keep: Array = index != own[:, None]
    keep[keep.all(axis=1), 0] = False
    return keep
