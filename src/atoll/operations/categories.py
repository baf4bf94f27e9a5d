"""The distinct values of columns, how often each occurs, and how many values are missing."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils._mask import _get_mask

from atoll.context import Ctx
from atoll.messages import Reply
from atoll.operations.base import operation
from atoll.shards import Shard, is_sparse
from atoll.table import NAN, Column, Table, missing_value
from atoll.trees import Array, Tree

__all__ = ["count_missing", "count_values", "distinct"]

_BLOCK = 1 << 17  # numbers looked at together


@operation("categories.values", discloses="which values occur in each column, and how missing ones were written")
def distinct(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """Sorted distinct values of each column, to be joined by `Union`.

    Answers one array per column, named by its position: text, numbers, or truth values; floats as float64, without NaN.
    And ``missing``, int64: ``4 * column - code`` for each code of a missing value (`atoll.table`) that occurs there.
    """
    tree: Tree = {}
    missing: list[int] = []
    columns = (_column(shard, i) for i in range(shard.n_features))
    if isinstance(shard.X, np.ndarray):
        columns = (Column(values) for values in _shortened(shard.X))
    for i, column in enumerate(columns):
        values, codes = _distinct(column)
        tree[str(i)] = values.astype(np.float64) if values.dtype.kind == "f" else values
        missing += [4 * i - code for code in codes]
    return Reply({**tree, "missing": np.array(sorted(missing), dtype=np.int64)})


def _shortened(X: Array) -> list[Array]:
    """The columns of a matrix without most repetitions; rows that lie in a file are read once, block by block."""
    size = max(256, _BLOCK // max(X.shape[1], 1))
    blocks = [X[start : start + size].T for start in range(0, max(len(X), 1), size)]
    parts = [[np.unique(values) for values in block] for block in blocks]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _column(shard: Shard, i: int) -> Column:
    """A column of a table or matrix; of sparse rows its stored values, and a zero where there is another."""
    if isinstance(shard.X, Table):
        return shard.X.columns[i]
    if not is_sparse(shard.X):
        return Column(shard.X[:, i])
    stored = _by_column(shard)[i]
    return Column(stored if len(stored) == shard.n_rows else np.append(stored, 0.0))


def _by_column(shard: Shard) -> list[Array]:
    """The stored values of sparse rows, column by column."""

    def split() -> list[Array]:
        columns = shard.X.tocsc()
        return np.split(columns.data, columns.indptr[1:-1])

    return shard.memo("categories.stored", split)


def _distinct(column: Column) -> tuple[Array, list[int]]:
    """Values that occur, sorted, and the codes of missing ones."""
    if column.levels is None:
        values = np.unique(column.values)
        if values.dtype.kind == "f" and len(values) and np.isnan(values[-1]):
            return values[:-1], [NAN]
        return values, []
    used = np.zeros(len(column.levels) + 3, dtype=bool)
    used[column.values] = True
    return column.levels[used[:-3]], [code - 3 for code in np.flatnonzero(used[-3:]).tolist()]


@operation("categories.counts", discloses="how often each of the agreed values occurs in each column", pieces=True)
def count_values(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """Rows per value, int64, one array per column, named by its position; and ``missing`` of shape (d, 3).

    Payload: sorted values of each column, likewise; every value of a node is among them. ``missing[i]`` counts what was
    written as NaN, None and pandas.NA.
    """
    d = shard.n_features
    tree: Tree = {"missing": np.zeros((d, 3), dtype=np.int64)}
    for i in range(d):
        column, agreed = _column(shard, i), payload[str(i)]
        if column.levels is None:
            absent = column.missing
            at = np.searchsorted(agreed, column.values[~absent])
            tree["missing"][i, 0] = absent.sum()
        else:
            at = np.searchsorted(agreed, column.levels)[column.values[column.values >= 0]]
            tree["missing"][i] = np.bincount(-1 - column.values[column.values < 0], minlength=3)
        count = np.bincount(at, minlength=len(agreed)).astype(np.int64)
        tree[str(i)] = count if not is_sparse(shard.X) else _with_zeros(count, agreed, shard, i)
    return Reply(tree)


def _with_zeros(count: Array, agreed: Array, shard: Shard, i: int) -> Array:
    """Counts of all rows where one zero stood for those that are not stored."""
    more = shard.n_rows - len(_by_column(shard)[i])
    if more:
        count[np.searchsorted(agreed, 0.0)] += more - 1
    return count


@operation("categories.missing", discloses="how many values of each column are missing", pieces=True)
def count_missing(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``missing`` of shape (d,), int64: how many values of each column are what stands for a missing one.

    Settings: `missing`, that value, or a code of `atoll.table` in a list of one: ``[-1]`` for NaN.
    """
    written = ctx.settings["missing"]
    value = missing_value(written[0]) if isinstance(written, list) else written
    count = np.zeros(shard.n_features, dtype=np.int64)
    if is_sparse(shard.X):
        hit = _get_mask(shard.X.data, value)
        count += np.bincount(shard.X.indices[hit], minlength=shard.n_features)
        return Reply({"missing": count})
    if not isinstance(shard.X, Table):
        return Reply({"missing": count + _hits(Column(shard.X), value).sum(axis=0)})
    for i, column in enumerate(shard.X.columns):
        count[i] = _hits(column, value).sum()
    return Reply({"missing": count})


def _hits(column: Column, value: Any) -> Array:
    """Where a column holds a value, as scikit-learn tells: NaN is not itself, and None is nothing but itself."""
    if column.levels is None:
        if value is None or isinstance(value, str):
            return np.zeros(column.values.shape, dtype=bool)
        return np.asarray(_get_mask(column.values, value), dtype=bool)
    used = np.unique(column.values)
    held = np.zeros(len(column.levels) + 3, dtype=bool)
    held[used] = [bool(hit) for hit in _get_mask(Column(used, column.levels).objects(), value)]
    return held[column.values]
