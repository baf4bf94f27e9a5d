"""What the contract suites run over: data, partitions, and one example of everything that registers itself.

A new combine, transform, operation or plan is found by its suite through its registry; the suite fails until an example
stands here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine

from atoll.combine import combines
from atoll.partition import split
from atoll.shards import Shard
from atoll.specs import Spec
from atoll.trees import Tree
from atoll.views import codes
from examples_base import families


def _two_targets(return_X_y: bool) -> tuple[np.ndarray, np.ndarray]:
    X, y = load_diabetes(return_X_y=return_X_y)
    return X, np.stack([y, y * (1 + 5 * X[:, 2])], axis=1)


LOADERS = {
    "iris": load_iris,
    "digits": load_digits,
    "wine": load_wine,
    "breast_cancer": load_breast_cancer,
    "diabetes": load_diabetes,
    "two_targets": _two_targets,
}
TASK = {"diabetes": "regression"}


@cache
def data(name: str) -> tuple[np.ndarray, np.ndarray]:
    """X and y of one of scikit-learn's bundled data sets."""
    return LOADERS[name](return_X_y=True)


def queries(name: str) -> np.ndarray:
    """Rows that are near training rows, and some that are training rows."""
    X = data(name)[0]
    rng = np.random.default_rng(11)
    rows = X[rng.choice(len(X), size=40, replace=False)]
    spread = X.std(axis=0) * 0.05
    return np.concatenate([rows[:10], rows[10:] + rng.normal(size=rows[10:].shape) * spread])


PARTITIONS = ["iid", "label", "dirichlet", "one-row"]


def parts(name: str, n_nodes: int, partition: str, seed: int = 0) -> list[np.ndarray]:
    """Row numbers per node; `one-row` leaves a single row on the last node."""
    y = data(name)[1]
    y = y if y.ndim == 1 else y[:, 0]
    if n_nodes == 1:
        return [np.arange(len(y))]
    if partition == "one-row":
        rest = np.random.default_rng(seed).permutation(len(y))
        return [*np.array_split(rest[1:], n_nodes - 1), rest[:1]]
    return split(y, n_nodes, partition, random_state=seed)


def shards(name: str, n_nodes: int, partition: str) -> list[Shard]:
    """A data set as the shards of nodes."""
    X, y = data(name)
    return [Shard.of(f"node-{i:02d}", X[p], y[p], ids=p) for i, p in enumerate(parts(name, n_nodes, partition))]


def numbers(rng: np.random.Generator) -> Tree:
    """Any floats and whole numbers, for sums."""
    return {"x": rng.normal(size=(3, 2)), "n": rng.integers(0, 9, size=2)}


def _moments(rng: np.random.Generator) -> Tree:
    rows = rng.normal(size=(int(rng.integers(0, 6)), 3))
    if not len(rows):
        return {"n": np.zeros(1), "mean": np.zeros((1, 3)), "m2": np.zeros((1, 3))}
    mean = rows.mean(axis=0)
    return {"n": np.array([float(len(rows))]), "mean": mean[None], "m2": np.square(rows - mean).sum(axis=0)[None]}


def _moments_to_twice_the_digits(rng: np.random.Generator) -> Tree:
    rows = rng.normal(1e8, 1.0, size=(int(rng.integers(0, 6)), 3))
    if not len(rows):
        return {"n": np.zeros(1), **{name: np.zeros((1, 3)) for name in ("mean", "rest", "m2")}}
    mean = rows.mean(axis=0)
    apart = rows - mean
    rest = apart.mean(axis=0)
    m2 = np.square(apart - rest).sum(axis=0)
    return {"n": np.array([float(len(rows))]), "mean": mean[None], "rest": rest[None], "m2": m2[None]}


def _triangle(rng: np.random.Generator) -> Tree:
    return {"R": _triangle_of(rng.normal(size=(6, 3)))}


def _triangle_about_a_centre(rng: np.random.Generator) -> Tree:
    rows, centre = rng.normal(1e8, 1.0, size=(6, 2)), 1e8 + rng.normal(size=2)
    return {"R": _triangle_of(np.hstack([np.ones((6, 1)), rows - centre])), "centre": centre}


def _triangle_of(rows: np.ndarray) -> np.ndarray:
    r = np.linalg.qr(rows, mode="r")
    return r * np.where(np.diagonal(r) < 0, -1.0, 1.0)[:, None]


def _candidates(rng: np.random.Generator) -> Tree:
    """Sorted, with ties and padding; ids are drawn from so many that they do not repeat."""
    distance = np.sort(rng.integers(0, 4, size=(5, 3)).astype(float), axis=1)
    ids = rng.choice(10**12, size=(5, 3), replace=False)
    order = np.lexsort((ids, distance), axis=1)
    ids = np.take_along_axis(ids, order, axis=1)
    distance[0, 2], ids[0, 2] = np.inf, -1
    return {"distance": distance, "id": ids, "label": ids % 7}


def _some_of_each(rng: np.random.Generator) -> Tree:
    return {"rows": rng.integers(0, 9, size=1), "names": rng.normal(size=int(rng.integers(0, 4)))}


COMBINES: dict[str, tuple[dict[str, Any], list[Callable[[np.random.Generator], Tree]]]] = {
    "Sum": ({}, [numbers]),
    "Mean": ({}, [lambda rng: {"x": rng.normal(size=3), "weight": rng.integers(1, 9, size=1).astype(float)}]),
    "Moments": ({}, [_moments, _moments_to_twice_the_digits]),
    "Triangle": ({}, [_triangle, _triangle_about_a_centre]),
    "TopK": ({"k": 3}, [_candidates]),
    "Union": ({}, [lambda rng: {"values": np.unique(rng.integers(0, 20, size=6))}]),
    "Extrema": ({}, [lambda rng: {"min": rng.normal(size=3), "max_of": rng.normal(size=3)}]),
    "Each": ({}, [_some_of_each]),
    "LogSum": ({}, [lambda rng: {"density": -1e3 * rng.random(4)}]),
}
"""Settings of each combine, and contributions of every form that it takes."""


class Asked(NamedTuple):
    """One way to ask an operation."""

    settings: dict[str, Any]
    payload: Tree
    combine: str
    view: tuple[Spec, ...] = ()
    combine_settings: dict[str, Any] = {}


@cache
def asked(name: str) -> dict[str, Asked]:
    """An example of every operation, over a data set."""
    y = data(name)[1]
    seen = (codes([np.unique(y)]),)
    C = len(np.unique(y))
    return {
        "null.ping": Asked({}, {}, "Sum"),
        "null.count": Asked({}, {}, "Sum"),
        "null.relay": Asked({"size": 5}, {}, "Sum"),
        "null.sleep": Asked({"seconds": 0.001}, {}, "Sum"),
        "describe.schema": Asked({"classes": True}, {}, "Each"),
        "describe.finite": Asked({}, {}, "Sum"),
        "describe.rows": Asked({}, {}, "Each"),
        "describe.labels": Asked({"n_classes": [C]}, {}, "Sum", seen),
        "statistics.sums": Asked({}, {}, "Mean"),
        "statistics.weight": Asked({}, {}, "Sum"),
        "statistics.stored": Asked({}, {}, "Sum"),
        "statistics.extrema": Asked({}, {}, "Extrema"),
        "statistics.class_moments": Asked({"n_classes": C}, {}, "Moments", seen),
        **{op: one for family in families() for op, one in getattr(family, "asked", _none)(name).items()},
    }


def _none(name: str) -> dict[str, Asked]:
    return {}


def label_of(value: Any) -> str:
    """What names a test of this parameter; the same in every process, so without addresses."""
    return re.sub(r" at 0x[0-9A-Fa-f]+", "", str(value))


def combine(name: str, **settings: Any) -> Any:
    """A combine by name."""
    return combines[name](**settings)


def same_bits(a: Tree, b: Tree) -> bool:
    """Whether two trees hold the same names, dtypes, shapes and bits."""
    return a.keys() == b.keys() and all(
        a[n].dtype == b[n].dtype and a[n].shape == b[n].shape and a[n].tobytes() == b[n].tobytes() for n in a
    )
