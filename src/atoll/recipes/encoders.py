"""OneHotEncoder and OrdinalEncoder, exact: from the union of the values of each column, and counts where asked."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder
from sklearn.utils._missing import is_scalar_nan

from atoll.combine import Sum, Union
from atoll.recipes.base import recipe
from atoll.rounds import Rounds
from atoll.schema import Schema
from atoll.table import Column, Table
from atoll.trees import Array

__all__ = ["Distinct", "distinct_values", "fit_encoder"]


class Distinct(NamedTuple):
    """What occurs in one column of all nodes.

    Attributes
    ----------
    values : ndarray of shape (k,)
        Sorted, without missing ones: text, numbers or truth values.
    missing : list of int
        How missing values were written: codes of `atoll.table`.
    binary : bool
        Whether they are bytes, spelt as text.
    counts : ndarray of shape (k + len(missing),), int64, or None
        How often each value occurs, then each way to write a missing one; None where nobody asked.
    """

    values: Array
    missing: list[int]
    binary: bool
    counts: Array | None

    def as_array(self, dtype: np.dtype[Any]) -> Array:
        """Every value once, missing ones at the end, as scikit-learn would see such a column."""
        codes = np.array([*range(len(self.values)), *self.missing], dtype=np.int32)
        column = Column(codes, self.values, binary=self.binary)
        if dtype.kind == "O":
            return column.objects()
        return column.plain().astype(dtype) if not self.missing else column.numbers().astype(dtype)


def distinct_values(rounds: Rounds, *, counts: bool) -> list[Distinct]:
    """What occurs in each column, over all nodes: one round, or two with counts.

    Parameters
    ----------
    rounds : Rounds
        The way to the rows as they were given.
    counts : bool
        Whether to count how often each value occurs.

    Returns
    -------
    list of Distinct
        One per column.
    """
    d = rounds.schema.n_features
    found = rounds.round("categories.values", combine=Union())
    written = found["missing"].tolist()
    kinds = rounds.schema.columns
    binary = [kinds is not None and kinds[i].holds == "bytes" for i in range(d)]
    missing = [sorted((4 * i - m for m in written if 4 * i < m < 4 * (i + 1)), reverse=True) for i in range(d)]
    values = {str(i): found[str(i)] for i in range(d)}
    if not counts:
        return [Distinct(values[str(i)], missing[i], binary[i], None) for i in range(d)]
    told = rounds.round("categories.counts", values, combine=Sum())
    absent = [told["missing"][i][[-1 - code for code in missing[i]]] for i in range(d)]
    return [Distinct(values[str(i)], missing[i], binary[i], np.append(told[str(i)], absent[i])) for i in range(d)]


@recipe(OneHotEncoder, OrdinalEncoder)
def fit_encoder(estimator: Any, rounds: Rounds) -> Any:
    """Exact: nodes tell which values occur in each column, and how often where infrequent ones are grouped.

    Everything else is scikit-learn's own `fit`, over the values of all nodes in place of their rows.
    """
    raw = rounds.raw
    estimator._check_infrequent_enabled()
    found = distinct_values(raw, counts=estimator._infrequent_enabled)
    kind = type(estimator)
    pooled = type(f"_{kind.__name__}", (_OverNodes, kind), {})(**estimator.get_params(deep=False))
    pooled._pooled = _Pooled(raw.schema, found)
    pooled.fit(np.empty((1, len(found))))
    del pooled._pooled
    estimator.__dict__.update(vars(pooled))
    return estimator


class _Pooled:
    """The columns of all nodes, each value once."""

    def __init__(self, schema: Schema, found: list[Distinct]) -> None:
        self.schema = schema
        self.counts = [f.counts for f in found]
        self.columns = [f.as_array(dtype) for f, dtype in zip(found, _seen_dtypes(schema), strict=True)]


class _OverNodes:
    """Mixed into an encoder: what it learns from rows comes from all nodes."""

    _pooled: _Pooled

    def _check_X(self, X: Any, ensure_all_finite: Any = True) -> tuple[list[Array], int, int]:  # noqa: N802
        schema = self._pooled.schema
        if schema.feature_names is not None:
            self.feature_names_in_ = np.asarray(schema.feature_names, dtype=object)
        return self._pooled.columns, schema.n_rows, schema.n_features

    def _fit_infrequent_category_mapping(self, n_samples: int, category_counts: Any, missing_indices: Any) -> None:
        known: list[Array] = self.categories_  # type: ignore[attr-defined]
        parts = zip(known, self._pooled.columns, self._pooled.counts, strict=True)
        counts = [_counted(values, column, count) for values, column, count in parts if count is not None]
        super()._fit_infrequent_category_mapping(n_samples, counts, missing_indices)  # type: ignore[misc]


def _counted(categories: Array, column: Array, counts: Array) -> Array:
    """How often each category occurs; not at all, for one that was given and is nowhere."""
    table = {_key(value): n for value, n in zip(column.tolist(), counts.tolist(), strict=True)}
    return np.array([table.get(_key(value), 0) for value in categories.tolist()], dtype=np.int64)


def _key(value: Any) -> Any:
    """Equal for equal values; every NaN is one."""
    return ("nan", None) if is_scalar_nan(value) else ("value", value)


def _seen_dtypes(schema: Schema) -> list[np.dtype[Any]]:
    """What scikit-learn's encoders would see each column as."""
    if schema.form is None:
        return [np.dtype(dtype) for dtype in schema.given or (schema.dtype,) * schema.n_features]
    table = Table.empty(schema.form)
    return [table.column(i).dtype for i in range(schema.n_features)]
