"""SimpleImputer and MissingIndicator, exact: means, order statistics or counts of what is not missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.impute._base import _safe_min
from sklearn.utils._mask import _get_mask
from sklearn.utils._missing import is_pandas_na, is_scalar_nan

from atoll.combine import Sum
from atoll.errors import UnsupportedEstimator, explain
from atoll.operations.columns import SCALE
from atoll.recipes.base import recipe
from atoll.recipes.encoders import Distinct, distinct_values
from atoll.recipes.quantiles import order_statistics, present
from atoll.rounds import Rounds
from atoll.schema import Schema
from atoll.table import NA, NAN, NONE, Kind, Table
from atoll.trees import Array
from atoll.views import blanked

__all__ = ["fit_imputer", "fit_indicator"]


@recipe(SimpleImputer)
def fit_imputer(estimator: SimpleImputer, rounds: Rounds) -> SimpleImputer:
    """Exact: nodes tell how many values are missing in each column, and what the strategy needs.

    What the rows are, and whether the strategy fits them, is judged by scikit-learn's own code over a row made up.
    """
    if callable(estimator.strategy):
        hint = "take mean, median, most_frequent or constant, or impute before rows are given to nodes"
        raise UnsupportedEstimator(explain("a strategy of one's own sees a whole column, which no node has", hint=hint))
    row = estimator._validate_input(_specimen(rounds.raw.schema), in_fit=True)
    estimator._fill_dtype = row.dtype
    estimator.statistics_, missing = _STRATEGIES[estimator.strategy](estimator, rounds, row.dtype)
    mask = (missing > 0)[None, :]
    estimator._fit_indicator(sp.csc_array(mask) if sp.issparse(row) else mask)
    return estimator


@recipe(MissingIndicator)
def fit_indicator(estimator: MissingIndicator, rounds: Rounds) -> MissingIndicator:
    """Exact: nodes tell how many values are missing in each column."""
    row = estimator._validate_input(_specimen(rounds.raw.schema), in_fit=True)
    missing = _missing(estimator, rounds.raw)
    estimator._precomputed = False
    estimator._n_features = row.shape[1]
    every = estimator.features == "all"
    estimator.features_ = np.arange(row.shape[1]) if every else np.flatnonzero(missing)
    return estimator


def _specimen(schema: Schema) -> Any:
    """A row of the type that the rows are of."""
    if schema.form is None:
        zeros = np.zeros((1, schema.n_features), dtype=schema.dtype)
        return sp.csr_matrix(zeros) if schema.sparse else zeros
    return Table.specimen(schema.form).rows()


def _missing(estimator: Any, rounds: Rounds) -> Array:
    """How many values of each column are what the estimator takes for missing, shape (d,)."""
    value = estimator.missing_values
    written: Any = value.item() if isinstance(value, np.generic) else value
    if is_scalar_nan(value):
        written = [NAN]
    elif value is None or is_pandas_na(value):
        written = [NONE if value is None else NA]
    found: Array = rounds.round("categories.missing", combine=Sum(), settings={"missing": written})["missing"]
    return found


def _seen(estimator: SimpleImputer, rounds: Rounds) -> Rounds:
    """Rows as numbers in which NaN is what is missing."""
    value = estimator.missing_values
    return rounds if is_scalar_nan(value) or is_pandas_na(value) else rounds.through(blanked(float(value)))


def _nothing(estimator: SimpleImputer) -> float:
    """The statistic of a column without values."""
    return 0.0 if estimator.keep_empty_features else np.nan


def _mean(estimator: SimpleImputer, rounds: Rounds, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    found = _seen(estimator, rounds).round("columns.means", combine=Sum())
    n: Array = found["n"]
    mean = found["sum"] / np.maximum(n, 1) / SCALE
    return np.where(n > 0, mean, _nothing(estimator)), rounds.schema.n_rows - n


def _median(estimator: SimpleImputer, rounds: Rounds, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    seen = _seen(estimator, rounds)
    n = present(seen)
    last = np.maximum(n - 1, 0)
    low, high = np.where(n > 0, order_statistics(seen, np.stack([last // 2, np.minimum(n // 2, last)])), 0)
    median: Array = np.where(n > 0, (low + high) / 2, _nothing(estimator))
    return median.astype(np.float64 if rounds.schema.sparse else dtype), rounds.schema.n_rows - n


def _most_frequent(estimator: SimpleImputer, rounds: Rounds, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    found = distinct_values(rounds.raw, counts=True)
    kinds = rounds.raw.schema.columns
    statistics = np.empty(len(found), dtype=object if dtype.kind == "O" else np.float64)
    missing = np.zeros(len(found), dtype=np.int64)
    for i, column in enumerate(found):
        plain = column if kinds is None or dtype.kind != "O" else column._replace(values=_in_objects(column, kinds[i]))
        statistics[i], missing[i] = _mode(estimator, plain, dtype)
    return statistics, missing


def _in_objects(column: Distinct, kind: Kind) -> Array:
    """Values as they stand in an array of objects: nullable numbers of pandas as they are, and not as floats."""
    declared = kind.declared.lower()
    if column.values.dtype.kind != "f" or not declared.startswith(("int", "uint", "bool")):
        return column.values
    return column.values.astype(np.bool_ if declared.startswith("bool") else np.int64)


def _mode(estimator: SimpleImputer, column: Distinct, dtype: np.dtype[Any]) -> tuple[Any, int]:
    """The value that occurs most often, of several the smallest; and how many are missing."""
    values = column.as_array(dtype)
    counts = np.zeros(len(values), dtype=np.int64) if column.counts is None else column.counts
    absent = np.asarray(_get_mask(values, estimator.missing_values), dtype=bool)
    kept = counts[~absent]
    if not len(kept):
        return 0 if estimator.keep_empty_features else np.nan, int(counts.sum())
    return _safe_min(values[~absent][kept == kept.max()]), int(counts[absent].sum())


def _constant(estimator: SimpleImputer, rounds: Rounds, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """The fill value; NaN for a column without values, which sparse rows have where they store none."""
    fill, schema = estimator.fill_value, rounds.raw.schema
    if fill is None:
        fill = 0 if dtype.kind in "iuf" else "missing_value"
    statistics: Array = np.full(schema.n_features, fill, dtype=np.float64 if schema.sparse else object)
    missing = _missing(estimator, rounds.raw)
    if not estimator.keep_empty_features:
        empty = present(_seen(estimator, rounds), stored=True) == 0 if schema.sparse else missing == schema.n_rows
        statistics[empty] = np.nan
    return statistics, missing


_STRATEGIES: dict[str, Callable[[SimpleImputer, Rounds, np.dtype[Any]], tuple[Array, Array]]] = {
    "mean": _mean,
    "median": _median,
    "most_frequent": _most_frequent,
    "constant": _constant,
}
