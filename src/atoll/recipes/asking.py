"""Neighbours estimators that ask the nodes instead of holding rows.

A nearest-neighbours model *is* its training rows, so what `fit` returns here holds none: it asks the nodes for
candidates at every call. What is then made of the candidates (votes, weights, probabilities, graphs) is scikit-learn's
own code, run over them by a stand-in (`_Answered`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from sklearn import neighbors
from sklearn.neighbors._base import _check_precomputed, _to_object_array
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted, validate_data

from atoll.combine import Each, TopK
from atoll.errors import NotAvailable, explain
from atoll.nearest import Metric
from atoll.operations.neighbors import metric_payload, query_payload
from atoll.rounds import Rounds
from atoll.shards import Shard
from atoll.trees import Array

__all__ = ["STAND_INS", "AskingNeighbors", "Search"]

_BATCH = 4096
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


class _Found(NamedTuple):
    """Candidates of a batch of queries: arrays of shape (m, k), or lists of m arrays."""

    distance: Any
    id: Any
    label: Any


class _Answered:
    """Stands in for a fitted estimator whose neighbours are known already."""

    _found: _Found
    _y: Any

    def kneighbors(self, X: Any = None, n_neighbors: Any = None, return_distance: bool = True) -> Any:
        index = np.arange(self._found.id.size).reshape(self._found.id.shape)
        return (self._found.distance, index) if return_distance else index

    def radius_neighbors(
        self, X: Any = None, radius: Any = None, return_distance: bool = True, sort_results: bool = False
    ) -> Any:
        ends = np.cumsum([len(i) for i in self._found.id])
        index = _to_object_array(np.split(np.arange(ends[-1]), ends[:-1]))
        return (_to_object_array(self._found.distance), index) if return_distance else index


def _stand_in(base: type) -> type:
    return type(f"Answered{base.__name__}", (_Answered, base), {"__doc__": _Answered.__doc__})


_BASES = (
    neighbors.KNeighborsClassifier,
    neighbors.KNeighborsRegressor,
    neighbors.RadiusNeighborsClassifier,
    neighbors.RadiusNeighborsRegressor,
    neighbors.NearestNeighbors,
)
STAND_INS: dict[type, type] = {base: _stand_in(base) for base in _BASES}


class AskingNeighbors:
    """Mixed in before a scikit-learn neighbours class: its searches ask the nodes, its arithmetic stays.

    Ids are global row ids; neighbours are ordered by (distance, id). Queries are sent in batches, so memory stays
    bounded however many there are.
    """

    _search: Search
    n_samples_fit_: int

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
        k = self._checked_k(n_neighbors, X is None)
        Q, ids = self._queries(X)
        parts = [self._nearest(Q[s], k, None if ids is None else ids[s]) for s in _slices(Q.shape[0], _BATCH)]
        index = np.concatenate([p.id for p in parts])
        return (np.concatenate([p.distance for p in parts]), index) if return_distance else index

    def radius_neighbors(
        self, X: Any = None, radius: float | None = None, return_distance: bool = True, sort_results: bool = False
    ) -> Any:
        """Distances and global row ids of the rows within a radius; see scikit-learn's method of this name.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (m, d), optional
            Queries; None: the training rows themselves, each without itself, where they are yours.
        radius : float, optional
            Rows at this distance count.
        return_distance : bool, default=True
            Whether to return distances too.
        sort_results : bool, default=False
            Hits are always ordered by (distance, id), so this changes nothing.

        Returns
        -------
        distance : ndarray of shape (m,) of arrays
            Only if `return_distance`.
        id : ndarray of shape (m,) of arrays
        """
        check_is_fitted(self)
        if sort_results and not return_distance:
            raise ValueError("return_distance must be True if sort_results is True.")
        Q, ids = self._queries(X)
        r = self.radius if radius is None else radius  # type: ignore[attr-defined]
        found = [self._within(Q[s], r, None if ids is None else ids[s]) for s in self._radius_batches(Q.shape[0])]
        index = _to_object_array([i for part in found for i in part.id])
        return (_to_object_array([d for part in found for d in part.distance]), index) if return_distance else index

    def predict(self, X: Any) -> Array:
        """Predict the target of each query, with scikit-learn's own arithmetic over the candidates."""
        parts = list(self._each_batch(X, "predict"))
        return np.concatenate(parts)

    def predict_proba(self, X: Any) -> Any:
        """Class probabilities, with scikit-learn's own arithmetic over the candidates."""
        parts = list(self._each_batch(X, "predict_proba"))
        if isinstance(parts[0], list):
            return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]
        return np.concatenate(parts)

    def _each_batch(self, X: Any, method: str) -> Iterator[Any]:
        Q, ids = self._queries(X)
        by_radius = isinstance(self, neighbors.RadiusNeighborsClassifier | neighbors.RadiusNeighborsRegressor)
        strict = by_radius and getattr(self, "outlier_label_", 0) is None
        lonely: list[int] = []
        k = 0 if by_radius else self._checked_k(None, X is None)
        for s in self._radius_batches(Q.shape[0]) if by_radius else _slices(Q.shape[0], _BATCH):
            own = None if ids is None else ids[s]
            found = self._within(Q[s], self.radius, own) if by_radius else self._nearest(Q[s], k, own)  # type: ignore[attr-defined]
            if strict:
                lonely += [s.start + i for i, hits in enumerate(found.id) if not len(hits)]
            if not lonely:
                yield getattr(self._standing_in(found), method)(np.zeros((len(found.id), 1)))
        if lonely:
            raise ValueError(
                f"No neighbors found for test samples {np.asarray(lonely)!r}, you can try using larger radius, giving "
                "a label for outliers, or considering removing them from your dataset."
            )

    def _standing_in(self, found: _Found) -> Any:
        stand_in: Any = object.__new__(STAND_INS[type(self).__mro__[2]])
        stand_in.__dict__.update(self.__dict__)
        labels = found.label if isinstance(found.label, np.ndarray) else np.concatenate(found.label)
        if isinstance(found.id, np.ndarray):
            labels = labels.reshape((found.id.size, *labels.shape[2:]))
        stand_in._y, stand_in._found, stand_in._fit_method = labels, found, "kd_tree"
        return stand_in

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

    def _checked_k(self, n_neighbors: int | None, is_train: bool) -> int:
        check_is_fitted(self)
        k = self.n_neighbors if n_neighbors is None else n_neighbors  # type: ignore[attr-defined]
        if not isinstance(k, int | np.integer):
            raise TypeError(f"n_neighbors does not take {type(k)} value, enter integer value")
        if k <= 0:
            raise ValueError(f"Expected n_neighbors > 0. Got {k}")
        n = self.n_samples_fit_
        if k > n - is_train:
            sign = "<" if is_train else "<="
            raise ValueError(
                f"Expected n_neighbors {sign} n_samples_fit, but n_neighbors = {k}, n_samples_fit = {n}, "
                f"n_samples = {n}"
            )
        return int(k)

    def _settings(self, Q: Any) -> tuple[dict[str, Any], dict[str, Array]]:
        search = self._search
        settings, arrays = metric_payload(search.metric)
        settings |= {"method": search.method, "leaf_size": search.leaf_size, "labels": search.labels}
        return settings, {**query_payload(Q), **arrays}

    def _nearest(self, Q: Any, k: int, own: Array | None) -> _Found:
        """The k nearest rows of each query; without the query itself where `own` names it."""
        settings, payload = self._settings(Q)
        wanted = k if own is None else k + 1
        got = self._search.rounds.round(
            "neighbors.nearest", payload, combine=TopK(wanted), settings={**settings, "k": wanted}
        )
        found = _Found(got["distance"], got["id"], got.get("label"))
        if (found.id < 0).any():
            raise ValueError(
                f"{wanted} neighbors per samples are required, but some samples have only {_fewest(found)} neighbors "
                "in the rows, or the precomputed graph, of the nodes that answered."
            )
        return found if own is None else _without_self(found, own)

    def _within(self, Q: Any, radius: float, own: Array | None) -> _Found:
        settings, payload = self._settings(Q)
        got = self._search.rounds.round(
            "neighbors.within", payload, combine=Each(), settings={**settings, "radius": float(radius)}
        )
        keep = np.ones(len(got["id"]), dtype=bool) if own is None else got["id"] != own[got["query"]]
        order = np.lexsort((got["id"], got["distance"], got["query"]))
        order = order[keep[order]]
        ends = np.cumsum(np.bincount(got["query"][order], minlength=Q.shape[0]))[:-1]
        distance, index = (np.split(got[name][order], ends) for name in ("distance", "id"))
        return _Found(distance, index, np.split(got["label"][order], ends) if "label" in got else None)

    def _radius_batches(self, m: int) -> list[slice]:
        """Slices so small that even if every row were a hit, memory would stay bounded."""
        return _slices(m, max(1, min(_BATCH, _HITS // max(self.n_samples_fit_, 1))))


def _slices(m: int, size: int) -> list[slice]:
    return [slice(i, min(i + size, m)) for i in range(0, m, size)]


def _fewest(found: _Found) -> int:
    return int((found.id >= 0).sum(axis=1).min())


def _without_self(found: _Found, own: Array) -> _Found:
    """Drop each query from its own neighbours; the last one where it is hidden behind its duplicates."""
    keep = found.id != own[:, None]
    keep[keep.all(axis=1), -1] = False
    m, k = found.id.shape
    label = None if found.label is None else found.label[keep].reshape((m, k - 1, *found.label.shape[2:]))
    return _Found(found.distance[keep].reshape(m, k - 1), found.id[keep].reshape(m, k - 1), label)
