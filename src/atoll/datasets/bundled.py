"""What a data set is, and those that come with scikit-learn."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from atoll.specs import Registry
from atoll.trees import Array

__all__ = ["Dataset", "datasets", "load"]


class Dataset(NamedTuple):
    """A table of rows and what is known of it.

    Attributes
    ----------
    name : str
        Name of the data set, or of the file without its ending.
    X : ndarray of shape (n_rows, n_features), float64, or Table
        Features; a table where text and the like were kept.
    y : ndarray of shape (n_rows,), or None
        Target: text (dtype U) or int64 classes, or a float64 quantity; None where a table was read without one.
    feature_names : tuple of str
        One per column of X.
    target_names : tuple of str
        Names of the classes, in sorted order of their labels; of a regression the name of the target.
    task : {"classification", "regression", "none"}
        What the target asks for: text and whole numbers are classes, numbers with a fraction a quantity.
    source : str
        Where it comes from.
    node : ndarray of shape (n_rows,), or None
        Node id of each row (text or int64), where a table has such a column.
    """

    name: str
    X: Any
    y: Array | None
    feature_names: tuple[str, ...]
    target_names: tuple[str, ...]
    task: str
    source: str
    node: Array | None = None


datasets: Registry[Callable[[], Dataset]] = Registry("data set")


def load(name: str) -> Dataset:
    """A data set that comes with scikit-learn.

    Parameters
    ----------
    name : {"iris", "digits", "wine", "breast_cancer", "diabetes"}
        Its name.

    Returns
    -------
    Dataset

    Raises
    ------
    UnknownName
        For any other name.

    Examples
    --------
    >>> from atoll.datasets import load
    >>> iris = load("iris")
    >>> iris.X.shape, iris.target_names
    ((150, 4), ('setosa', 'versicolor', 'virginica'))
    """
    return datasets[name]()


def _bundled(name: str, origin: str, target: str = "") -> None:
    """Register one of scikit-learn's loaders; `target` names the quantity of a regression."""

    def loader() -> Dataset:
        bunch = getattr(importlib.import_module("sklearn.datasets"), f"load_{name}")()
        return Dataset(
            name,
            np.ascontiguousarray(bunch.data, dtype=np.float64),
            bunch.target.astype(np.float64 if target else np.int64),
            tuple(map(str, bunch.feature_names)),
            (target,) if target else tuple(map(str, bunch.target_names)),
            "regression" if target else "classification",
            f"{origin}; sklearn.datasets.load_{name}",
        )

    datasets.add(name, loader)


_bundled("iris", "Fisher (1936), UCI Machine Learning Repository")
_bundled("digits", "Alpaydin & Kaynak (1998), test part of the UCI optical recognition of handwritten digits")
_bundled("wine", "Aeberhard & Forina (1991), UCI Machine Learning Repository")
_bundled("breast_cancer", "Wolberg, Mangasarian, Street & Street (1995), UCI, diagnostic")
_bundled("diabetes", "Efron, Hastie, Johnstone & Tibshirani (2004)", target="disease progression")
