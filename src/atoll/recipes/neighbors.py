"""The neighbours family, exact: the same candidates as on the pooled rows, the same arithmetic over them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import is_classifier, is_regressor
from sklearn.metrics import DistanceMetric
from sklearn.metrics._dist_metrics import METRIC_MAPPING32, METRIC_MAPPING64
from sklearn.neighbors import (
    KernelDensity,
    KNeighborsClassifier,
    KNeighborsRegressor,
    NearestNeighbors,
    RadiusNeighborsClassifier,
    RadiusNeighborsRegressor,
)
from sklearn.utils.validation import validate_data

from atoll.combine import LogSum, Sum
from atoll.errors import InvalidData, NotAvailable, explain
from atoll.nearest import Metric, choose_method
from atoll.operations.neighbors import metric_payload, query_payload
from atoll.recipes.asking import (
    Answered,
    AskingByCount,
    AskingByRadius,
    Classifying,
    Found,
    Predicting,
    Search,
    batches,
)
from atoll.recipes.base import recipe
from atoll.recipes.checks import stand_ins
from atoll.rounds import Rounds
from atoll.schema import Schema
from atoll.trees import Array
from atoll.views import codes

__all__ = [
    "AskingKNeighborsClassifier",
    "AskingKNeighborsRegressor",
    "AskingKernelDensity",
    "AskingNearestNeighbors",
    "AskingRadiusNeighborsClassifier",
    "AskingRadiusNeighborsRegressor",
    "fit_density",
    "fit_neighbors",
    "fit_neighbors_faiss",
]


class _AnsweredKNeighborsClassifier(Answered, KNeighborsClassifier):
    pass


class _AnsweredKNeighborsRegressor(Answered, KNeighborsRegressor):
    pass


class _AnsweredRadiusNeighborsClassifier(Answered, RadiusNeighborsClassifier):
    pass


class _AnsweredRadiusNeighborsRegressor(Answered, RadiusNeighborsRegressor):
    pass


class AskingKNeighborsClassifier(Classifying, AskingByCount, KNeighborsClassifier):
    """A k-nearest-neighbours classifier that asks the nodes for candidates."""

    _stand_in = _AnsweredKNeighborsClassifier


class AskingKNeighborsRegressor(Predicting, AskingByCount, KNeighborsRegressor):
    """A k-nearest-neighbours regressor that asks the nodes for candidates."""

    _stand_in = _AnsweredKNeighborsRegressor


class AskingRadiusNeighborsClassifier(Classifying, AskingByRadius, RadiusNeighborsClassifier):
    """A fixed-radius classifier that asks the nodes for candidates."""

    _stand_in = _AnsweredRadiusNeighborsClassifier

    def _candidates(self, X: Any) -> Iterator[Found]:
        """Where a query without neighbours is an error, the error names all of them."""
        start, lonely = 0, list[int]()
        for found in super()._candidates(X):
            if self.outlier_label_ is None:
                lonely += [start + i for i, hits in enumerate(found.id) if not len(hits)]
            if not lonely:
                yield found
            start += len(found.id)
        if lonely:
            raise ValueError(
                f"No neighbors found for test samples {np.asarray(lonely)!r}, you can try using larger radius, giving "
                "a label for outliers, or considering removing them from your dataset."
            )


class AskingRadiusNeighborsRegressor(Predicting, AskingByRadius, RadiusNeighborsRegressor):
    """A fixed-radius regressor that asks the nodes for candidates."""

    _stand_in = _AnsweredRadiusNeighborsRegressor


class AskingNearestNeighbors(AskingByCount, AskingByRadius, NearestNeighbors):
    """A neighbour search that asks the nodes for candidates."""


_ASKING: dict[type, type] = {
    KNeighborsClassifier: AskingKNeighborsClassifier,
    KNeighborsRegressor: AskingKNeighborsRegressor,
    RadiusNeighborsClassifier: AskingRadiusNeighborsClassifier,
    RadiusNeighborsRegressor: AskingRadiusNeighborsRegressor,
    NearestNeighbors: AskingNearestNeighbors,
}
for _ordinary, _asking in _ASKING.items():
    _asking.__name__ = _ordinary.__name__  # in scikit-learn's messages, the name the user knows


@recipe(*_ASKING, asks=True)
def fit_neighbors(estimator: Any, rounds: Rounds) -> Any:
    """Exact: nothing is computed before a query comes; then nodes send candidates, never rows.

    scikit-learn's own `fit` is run on made-up rows of every class: it checks the parameters and settles metric and
    classes, which depend on nothing else.
    """
    schema = rounds.schema
    asking = _ASKING[type(estimator)](**estimator.get_params(deep=False))
    asking.fit(*_made_up(schema, asking))
    for leftover in ("_fit_X", "_tree", "_y"):
        asking.__dict__.pop(leftover, None)
    metric = _as_metric(asking.effective_metric_, asking.effective_metric_params_)
    _check_square(metric, schema)
    asking.n_samples_fit_, asking.n_features_in_ = schema.n_rows, schema.n_features
    sparse = schema.sparse and metric.name != "precomputed"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the fit above has given them
        method = choose_method(schema.n_rows, schema.n_features, asking.n_neighbors, asking.algorithm, metric, sparse)
    asking._fit_method = method
    labels = "code" if is_classifier(asking) else "target" if is_regressor(asking) else "none"
    asking._target = _target_dtype(labels, schema)
    seen = rounds.through(codes(schema.classes)) if labels == "code" else rounds
    asking._search = Search(seen, method, metric, asking.leaf_size, labels, _own(rounds))
    if getattr(asking, "outlier_label", None) == "most_frequent":
        asking.outlier_label_ = _most_frequent(seen, schema)
    return asking


@recipe(*_ASKING, method="faiss", asks=True)
def fit_neighbors_faiss(estimator: Any, rounds: Rounds) -> Any:
    """Exact too: a faiss index finds candidates fast, their distances are computed again in float64."""
    asking = fit_neighbors(estimator, rounds)
    asking._search = asking._search._replace(method="faiss")
    return asking


def _target_dtype(labels: str, schema: Schema) -> np.dtype[Any]:
    """In what scikit-learn computes with targets: class codes, float32 as it came, float64 for other numbers."""
    if labels == "code":
        return np.dtype(np.intp)
    single = labels == "target" and np.dtype(schema.target_dtype) == np.float32
    return np.dtype(np.float32 if single else np.float64)


def _check_square(metric: Metric, schema: Schema) -> None:
    if metric.name == "precomputed" and schema.n_rows != schema.n_features:
        raise ValueError(f"Precomputed matrix must be square. Input is a {schema.n_rows}x{schema.n_features} matrix.")


def _own(rounds: Rounds) -> Any:
    """The pooled rows, where they are the user's own."""
    return getattr(rounds.link, "pooled", None) if rounds.run.trust == "distributed" else None


def _made_up(schema: Schema, estimator: Any) -> tuple[Any, ...]:
    """Rows of zeros, as the schema describes them, and labels of every class."""
    y = stand_ins(schema) if is_classifier(estimator) else None
    n = 1 if y is None else len(y)
    X: Any = np.zeros((n, schema.n_features), dtype=schema.dtype)
    if estimator.metric == "precomputed":
        X = np.zeros((n, n))
    elif schema.sparse:
        X = sp.csr_matrix(X)
    if y is not None:
        return X, y
    if is_regressor(estimator):
        return X, np.zeros((n, schema.n_outputs) if schema.n_outputs else n)
    return (X,)


def _as_metric(name: Any, params: dict[str, Any]) -> Metric:
    """A metric as scikit-learn settled on it, with arrays apart from plain settings."""
    arrays = {k: np.asarray(v, dtype=np.float64) for k, v in params.items() if np.ndim(v) > 0}
    settings = {k: _plain(v) for k, v in params.items() if k not in arrays and v is not None}
    if callable(name):
        return Metric("callable", settings, arrays, name)
    return Metric(_named(name) if isinstance(name, DistanceMetric) else str(name), settings, arrays, None)


_WITH_SETTINGS = ("mahalanobis", "minkowski", "p", "pyfunc", "seuclidean")


def _named(metric: DistanceMetric) -> str:
    """The name of a metric that came as an object; its settings, if it had any, cannot be read from it."""
    names = [n for known in (METRIC_MAPPING64, METRIC_MAPPING32) for n, kind in known.items() if type(metric) is kind]
    if not names or names[0] in _WITH_SETTINGS:
        hint = "give the metric by name, and its settings in metric_params"
        raise InvalidData(explain("a metric object does not tell its settings", got=type(metric).__name__, hint=hint))
    return str(names[0])


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _most_frequent(rounds: Rounds, schema: Schema) -> list[Any]:
    """The class with most rows, per output; the first of several."""
    n = schema.n_classes
    counts = rounds.round("describe.labels", combine=Sum(), settings={"n_classes": n})
    return [c[counts[f"count.{i}"].argmax()] for i, c in enumerate(schema.classes)]


class AskingKernelDensity(KernelDensity):
    """A kernel density that asks the nodes for sums of kernels."""

    _search: Search
    _total: float

    def score_samples(self, X: Any) -> Array:
        """The log-density of each row of X, float64 of shape (m,); see scikit-learn's method of this name."""
        X = validate_data(self, X, order="C", dtype=np.float64, reset=False)
        parts = [self._density(X[s]) for s in batches(X)]
        density: Array = np.concatenate(parts) - np.log(self._total)
        return density

    def sample(self, n_samples: int = 1, random_state: Any = None) -> Array:
        """Draw rows near training rows; only where those are yours.

        Raises
        ------
        NotAvailable
            Where the rows stay on their nodes: a draw would be one of them, blurred.
        """
        if self._search.own is None:
            hint = "use Distributed where the rows are yours"
            raise NotAvailable(
                explain("sample() draws from the training rows, and those stay on their nodes", hint=hint)
            )
        whole = self._search.own()
        ordinary = KernelDensity(**self.get_params(deep=False))
        ordinary.fit(whole.X, sample_weight=whole.columns.get("sample_weight"))
        drawn: Array = ordinary.sample(n_samples, random_state)
        return drawn

    def _density(self, X: Array) -> Array:
        search = self._search
        settings, arrays = metric_payload(search.metric)
        settings |= {
            "bandwidth": float(self.bandwidth_), "kernel": self.kernel, "algorithm": search.method,
            "leaf_size": self.leaf_size, "atol": float(self.atol), "rtol": float(self.rtol),
            "breadth_first": bool(self.breadth_first),
        }  # fmt: skip
        payload = {**query_payload(X), **arrays}
        return search.rounds.round("neighbors.density", payload, combine=LogSum(), settings=settings)["density"]


AskingKernelDensity.__name__ = KernelDensity.__name__


@recipe(KernelDensity, asks=True, per_row={"tree_": lambda ordinary, rows: ordinary.tree_})
def fit_density(estimator: Any, rounds: Rounds) -> AskingKernelDensity:
    """Exact up to the estimator's own `rtol` and `atol`: nodes send the logarithm of their sum of kernels."""
    schema = rounds.schema
    asking = AskingKernelDensity(**estimator.get_params(deep=False))
    asking.fit(np.zeros((1, schema.n_features)))
    del asking.tree_
    asking.bandwidth_ = _bandwidth(asking.bandwidth, schema.n_rows, schema.n_features)
    asking._total = float(rounds.round("statistics.weight", combine=Sum())["total"][0])
    metric = _as_metric(asking.metric, asking.metric_params or {})
    method = asking._choose_algorithm(asking.algorithm, asking.metric)
    asking._search = Search(rounds, method, metric, asking.leaf_size, "none", _own(rounds))
    return asking


def _bandwidth(bandwidth: float | str, n: int, d: int) -> float:
    """Scott's and Silverman's rules need no more than the number of rows and columns."""
    if bandwidth == "scott":
        return float(n ** (-1 / (d + 4)))
    if bandwidth == "silverman":
        return float((n * (d + 2) / 4) ** (-1 / (d + 4)))
    return float(bandwidth)
