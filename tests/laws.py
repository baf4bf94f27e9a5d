"""What the law suites compare: the answers of a fitted model, and which of them pooled scikit-learn leaves open."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, Ridge, RidgeClassifier
from sklearn.utils import get_tags
from sklearn.utils.validation import has_fit_parameter

from atoll.recipes import find
from atoll.shards import Shard
from cases import data, parts, queries
from examples_base import Example, families

METHODS = (
    "predict",
    "predict_proba",
    "decision_function",
    "transform",
    "score_samples",
    "kneighbors",
    "radius_neighbors",
)
CLOSE = 1e-9


# Settings of every estimator that a recipe is registered for; the suites fail until an example stands in `examples/`.
EXAMPLES: dict[type, list[Example]] = {
    kind: made for family in families() for kind, made in getattr(family, "EXAMPLES", {}).items()
}

# Likewise of estimators that are trained in rounds: other models than those of the pooled rows.
TRAINED: dict[type, list[Example]] = {
    kind: made for family in families() for kind, made in getattr(family, "TRAINED", {}).items()
}


class Rows(NamedTuple):
    """Rows in one form, and the estimator that is fitted to them."""

    estimator: Any
    X: Any
    y: np.ndarray
    columns: dict[str, np.ndarray]

    def pooled(self, order: Any = slice(None)) -> Any:
        """What scikit-learn fits to the pooled rows, in this order."""
        weights = {name: w[order] for name, w in self.columns.items()}
        return clone(self.estimator).fit(self.X[order], self.y[order], **weights)

    def shards(self, name: str, n_nodes: int, partition: str) -> list[Shard]:
        """The rows as the shards of nodes."""
        return [
            Shard.of(f"node-{i:02d}", self.X[p], self.y[p], ids=p, columns={n: w[p] for n, w in self.columns.items()})
            for i, p in enumerate(parts(name, n_nodes, partition))
        ]


def forms(example: Example, name: str) -> dict[str, Rows]:
    """The forms of a data set that an estimator takes: plain, with weights, sparse, with gaps."""
    X, y = data(name)
    estimator, rng = example(name), np.random.default_rng(3)
    tags, found = get_tags(estimator).input_tags, {"plain": Rows(estimator, X, y, {})}
    if has_fit_parameter(estimator, "sample_weight"):
        found["weights"] = Rows(estimator, X, y, {"sample_weight": rng.integers(0, 4, len(X)) / 2})
    if tags.sparse and "radius" not in estimator.get_params():  # one that is chosen for dense rows
        thin = np.where(rng.random(X.shape) < 0.5, 0, np.abs(X))
        thin /= np.maximum(thin.max(axis=0), 1e-3)  # as far apart as they are, conjugate gradients do not converge
        found["sparse"] = Rows(direct(example(name)), sp.csr_matrix(thin), y, {})
    if tags.allow_nan:
        found["missing"] = Rows(estimator, np.where(rng.random(X.shape) < 0.1, np.nan, X), y, {})
    return {form: rows for form, rows in found.items() if form in ("plain", *example.forms)}


def direct(estimator: Any) -> Any:
    """An estimator whose pooled fit to sparse rows is not one that gradients end early."""
    if isinstance(estimator, LinearRegression):
        return estimator.set_params(tol=1e-15)
    if type(estimator) in (Ridge, RidgeClassifier) and estimator.solver == "auto":
        return estimator.set_params(solver="cholesky", fit_intercept=False)
    return estimator


@cache
def pooled_fit(example: Example, name: str, form: str = "plain") -> Any:
    """What scikit-learn fits to the pooled rows, the same for every partition; None where it refuses them."""
    try:
        return forms(example, name)[form].pooled()
    except (ValueError, TypeError):
        if form == "plain":
            raise
        return None


def apart(got: dict[str, np.ndarray], expected: dict[str, np.ndarray], atol: float = 1e-12) -> float:
    """The largest difference of numbers, relative to the largest number of each array; 0 where all are within atol."""
    worst = 0.0
    for what, numbers in expected.items():
        if numbers.size:
            size = float(np.abs(numbers[np.isfinite(numbers)]).max(initial=0))
            off = np.abs(np.nan_to_num(got[what].astype(float)) - np.nan_to_num(numbers.astype(float))).max()
            if off > atol:
                worst = max(worst, float(off) / size if size else float(off))
    return worst


def fitted_numbers(example: Example, name: str, model: Any) -> dict[str, np.ndarray]:
    """Fitted numbers that scikit-learn settles; a duality gap beside the objective, of two of which it is made."""
    left = {*example.leave, *find(example(name)).per_row}
    found = {what: array for what, array in attributes(model).items() if what.split("[")[0] not in left}
    if "dual_gap_" in found:
        y = data(name)[1].reshape(len(data(name)[1]), -1)
        found["dual_gap_"] = found["dual_gap_"] + y.var(axis=0).sum() / 2
    return found


def settled_answers(example: Example, name: str, model: Any, form: str = "plain") -> dict[str, np.ndarray]:
    """Answers to those queries to which the pooled one is no tie; distances, which pooled searches round, left out."""
    clear, told = settled(example(name), pooled_fit(example, name, form), name), answers(model, queries(name))
    kept = (what for what in told if what not in ("distances", "ids") and len(told[what]) == len(clear))
    return {what: told[what][clear] for what in kept}


def answers(model: Any, Q: np.ndarray) -> dict[str, np.ndarray]:
    """Everything a fitted model says about some queries, by name."""
    found: dict[str, np.ndarray] = {}
    for method in METHODS:
        if not hasattr(model, method):
            continue
        got = getattr(model, method)(Q)
        if method == "radius_neighbors":
            distance, index = got
            order = [np.lexsort((i, d)) for d, i in zip(distance, index, strict=True)]
            found["hits"] = np.array([len(i) for i in index])
            found["hit distances"] = np.concatenate([d[o] for d, o in zip(distance, order, strict=True)])
        elif method == "kneighbors":
            found["distances"], found["ids"] = got
        else:
            found[method] = got.toarray() if sp.issparse(got) else np.asarray(got)
    return found


def attributes(model: Any) -> dict[str, np.ndarray]:
    """Public fitted arrays and numbers, by name; those of lists and mappings one by one."""
    public = {n: v for n, v in vars(model).items() if n.endswith("_") and not n.startswith("_")}
    return {name: array for n, v in public.items() for name, array in arrays(n, v) if array.dtype.kind in "biuf"}


def arrays(name: str, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays that a fitted attribute is made of."""
    if sp.issparse(value):
        yield name, value.toarray()
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from arrays(f"{name}[{key!r}]", inner)
    elif isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.dtype == object):
        for i, inner in enumerate(value):
            yield from arrays(f"{name}[{i}]", inner)
    elif isinstance(value, np.ndarray | np.generic | int | float):
        yield name, np.asarray(value)


def rounding(pooled: Any, name: str) -> float:
    """scikit-learn's brute search forms |q|² − 2qx + |x|², so its distances err by up to √ε times a row's norm."""
    if getattr(pooled, "_fit_method", None) != "brute":
        return 1e-12
    return float(1e-7 * np.linalg.norm(data(name)[0], axis=1).max())


def settled(estimator: Any, pooled: Any, name: str) -> np.ndarray:
    """Queries whose pooled answer is no tie: the last neighbour is nearer than the next, no row lies on the radius.

    A query that is a training row counts as open where distances are weights and scikit-learn's brute search rounds
    them: there its answer is the rounding's.
    """
    Q, clear = queries(name), np.ones(len(queries(name)), dtype=bool)
    if getattr(pooled, "weights", None) == "distance":
        nearest = np.array([d.min() for d in _distances(pooled, Q)])
        clear &= nearest > rounding(pooled, name)
    if getattr(pooled, "n_neighbors", None) and hasattr(pooled, "kneighbors"):
        k = pooled.n_neighbors
        distance = pooled.kneighbors(Q, n_neighbors=k + 1)[0]
        clear &= distance[:, k] - distance[:, k - 1] > CLOSE * distance[:, k]
    elif hasattr(pooled, "radius_neighbors"):
        clear &= [not (np.abs(d - pooled.radius) <= CLOSE * d).any() for d in _distances(pooled, Q)]
    return clear


def _distances(pooled: Any, Q: np.ndarray) -> Any:
    if hasattr(pooled, "kneighbors"):
        return pooled.kneighbors(Q)[0]
    return pooled.radius_neighbors(Q, radius=pooled.radius * (1 + CLOSE))[0]
