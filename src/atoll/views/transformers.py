"""Rows as fitted transformers make them."""

from __future__ import annotations

import copy
import warnings
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn import config_context
from sklearn.base import BaseEstimator

from atoll import models
from atoll.shards import Shard, as_rows, is_sparse
from atoll.specs import Spec
from atoll.table import Table
from atoll.trees import Tree
from atoll.views.base import views

__all__ = ["read_models", "transformed"]


def transformed(transformer: Any) -> Spec:
    """The view of rows as a fitted transformer makes them.

    Parameters
    ----------
    transformer : transformer
        A fitted transformer of scikit-learn; it travels as data.

    Returns
    -------
    Spec
    """
    plain = copy.copy(transformer)
    plain.__dict__.pop("_sklearn_output_config", None)  # a view gives arrays, whatever the user is given
    return Spec("transformed", {}, {"model": np.frombuffer(models.to_bytes(plain), dtype=np.uint8)})


@views.register("transformed")
def _transformed(shard: Shard, settings: dict[str, Any], arrays: Tree) -> Shard:
    framed = isinstance(shard.X, Table) and shard.X.source != "array"
    (model,) = read_models((arrays["model"].tobytes(),), named=framed)
    with config_context(transform_output="default"):
        if shard.n_rows:
            return shard.with_rows(model.transform(shard.X.rows() if isinstance(shard.X, Table) else shard.X))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a row without names
            return shard.with_rows(as_rows(model.transform(_specimen(model, shard)), raw=True)[:0])


@lru_cache(maxsize=4)
def read_models(data: tuple[bytes, ...], *, named: bool) -> tuple[Any, ...]:
    """Fitted estimators out of bytes, read once for all nodes of this process; they are not to be changed.

    Parameters
    ----------
    data : tuple of bytes
        From `models.to_bytes`, one each.
    named : bool
        Whether the rows that it will see have column names. Where they have none, scikit-learn would warn of each
        estimator that was fitted with some, so the names are forgotten.

    Returns
    -------
    tuple of estimator
    """
    found = tuple(map(models.from_bytes, data))
    if not named:
        _forget_names(found)
    return found


def _forget_names(thing: Any) -> None:
    if isinstance(thing, BaseEstimator):
        vars(thing).pop("feature_names_in_", None)
    inside = vars(thing) if isinstance(thing, BaseEstimator) else thing
    for part in inside.values() if isinstance(inside, dict) else inside:
        if isinstance(part, BaseEstimator | list | tuple | dict):
            _forget_names(part)


def _specimen(model: Any, shard: Shard) -> Any:
    """One row that the model accepts, since scikit-learn transforms no fewer."""
    if is_sparse(shard.X):
        return sp.csr_matrix(np.ones((1, shard.n_features), dtype=shard.X.dtype))
    if isinstance(shard.X, Table):
        row = [["" if kind.holds == "text" else 1.0 for kind in shard.X.form.columns]]
        row = [[c[0] for c in model.categories_]] if hasattr(model, "categories_") else row
        numeric = all(isinstance(v, int | float | np.number) for v in row[0])
        return np.array(row, dtype=shard.X.dtype if numeric else object)
    values = [c[0] for c in model.categories_] if hasattr(model, "categories_") else np.ones(shard.n_features)
    return np.array([values], dtype=shard.X.dtype)
