"""What a node tells for choosing features: moments that pass over missing values, sums per class, products with y."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from atoll.context import Ctx
from atoll.errors import InvalidData, explain
from atoll.messages import Reply
from atoll.operations.base import operation
from atoll.operations.classes import membership
from atoll.shards import Shard, is_sparse
from atoll.trees import Array, Tree

__all__ = ["class_sums", "column_means", "present_extrema", "present_moments", "target_products"]


@operation(
    "selection.moments",
    discloses="for each column: how many values are there, their mean and their spread",
    pieces=True,
)
def present_moments(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``n``, ``mean`` and summed squared deviations ``m2``, each (d,), float64; missing values (NaN) do not count."""
    d = shard.n_features
    if not shard.n_rows:
        return Reply({"n": np.zeros(d), "mean": np.zeros(d), "m2": np.zeros(d)})
    X = shard.X.astype(np.float64, copy=False)
    return Reply(_sparse_moments(X) if is_sparse(X) else _dense_moments(X))


def _dense_moments(X: Array) -> Tree:
    """Deviations are taken from a value of the column, so one that is constant has a spread of exactly 0."""
    ones = np.ones(len(X))
    n, base, missing = np.full(X.shape[1], float(len(X))), X[0], None
    if np.isnan(ones @ X).any():
        missing = np.isnan(X)
        n, base = n - ones @ missing, np.nan_to_num(np.fmin.reduce(X, axis=0))
    off = X - base
    if missing is not None:
        off[missing] = 0
    step = ones @ off / np.maximum(n, 1)
    off -= step
    if missing is not None:
        off[missing] = 0
    return {"n": n, "mean": np.where(n > 0, base + step, 0.0), "m2": ones @ np.square(off, out=off)}


def _sparse_moments(X: Any) -> Tree:
    """Zeros that are not stored count as values."""
    stored: Array = X.indices
    missing = np.isnan(X.data)
    value = np.where(missing, 0.0, X.data)
    d = X.shape[1]
    there = np.bincount(stored, minlength=d)
    n = np.full(d, float(X.shape[0])) - np.bincount(stored[missing], minlength=d)
    mean = np.bincount(stored, value, minlength=d) / np.maximum(n, 1)
    off = np.where(missing, 0.0, value - mean[stored])
    m2 = np.bincount(stored, off * off, minlength=d) + (X.shape[0] - there) * mean**2
    return {"n": n, "mean": mean, "m2": m2}


@operation(
    "selection.extrema",
    discloses="the smallest and the largest value of each column, of those that are not missing",
    pieces=True,
)
def present_extrema(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``min`` and ``max`` of shape (d,), float64; infinities for a column without values.

    With the setting `target`, also ``min_y`` and ``max_y`` of shape (1,).
    """
    X, d = shard.X, shard.n_features
    if not shard.n_rows:
        low, high = np.full(d, np.nan), np.full(d, np.nan)
    elif is_sparse(X):
        low, high = (np.asarray(row.toarray()).reshape(-1) for row in (X.nanmin(axis=0), X.nanmax(axis=0)))
    else:
        low, high = np.fmin.reduce(X, axis=0), np.fmax.reduce(X, axis=0)
    answer = {"min": np.fmin(np.full(d, np.inf), low), "max": np.fmax(np.full(d, -np.inf), high)}
    if ctx.settings.get("target", False):
        y = _target(shard)
        answer |= {"min_y": np.array([y.min(initial=np.inf)]), "max_y": np.array([y.max(initial=-np.inf)])}
    return Reply(answer)


@operation(
    "selection.class_sums",
    discloses="for each class: how many rows it has, and the sum of each column; and how many values are negative",
    pieces=True,
)
def class_sums(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``n`` (C,) and ``x`` (C, d), per class, and ``total`` (d,), float64; ``negative`` (1,), int64.

    Settings: `n_classes`, with which it wants the view `codes`; None where each output of the targets is a class of its
    own, to which the rows with a 1 belong.
    """
    C, X = ctx.settings["n_classes"], shard.X.astype(np.float64, copy=False)
    member = _indicated(shard) if C is None else membership(shard.columns["code"], C)
    x = member @ X
    return Reply({
        "n": np.asarray(member.sum(axis=1), dtype=np.float64).reshape(-1),
        "x": np.asarray(x.toarray() if is_sparse(x) else x),
        "total": np.asarray(X.sum(axis=0)).reshape(-1),
        "negative": np.array([np.count_nonzero((X.data if is_sparse(X) else X) < 0)]),
    })  # fmt: skip


def _indicated(shard: Shard) -> Any:
    """The matrix (n_outputs, n) of zeros and ones."""
    y = _target(shard)
    if not np.isin(y, (0, 1)).all():
        raise ValueError("Multioutput target data is not supported with label binarization")
    return y.T if not is_sparse(shard.X) else csr_matrix(y.T)


@operation(
    "selection.means", discloses="the sum of each column and of the target, and how many rows it has", pieces=True
)
def column_means(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``x`` (d,) and ``y`` (1,), sums in float64, and ``weight`` (1,), the number of rows; for the combine `Mean`."""
    x = np.ones(shard.n_rows) @ shard.X.astype(np.float64, copy=False)
    return Reply({"x": x, "y": np.array([_target(shard).sum()]), "weight": np.array([float(shard.n_rows)])})


@operation(
    "selection.products",
    discloses="for each column its spread about the agreed mean and its summed product with the target, and the "
    "target's spread",
    pieces=True,
)
def target_products(shard: Shard, payload: Tree, ctx: Ctx) -> Reply:
    """``xx`` and ``xy`` (d,), ``yy`` (1,), float64: summed squares and products about what was agreed.

    Payload: `x` (d,) and `y` (1,), where the setting `centred` is True; otherwise products are about zero.
    """
    y = _target(shard)
    X = shard.X.astype(np.float64, copy=False)
    if ctx.settings["centred"]:
        y = y - payload["y"]
        if is_sparse(X):
            return Reply(_sparse_products(X, y, payload["x"]))
        X = X - payload["x"]
    square = X.multiply(X).sum(axis=0) if is_sparse(X) else np.ones(len(X)) @ np.square(X)
    return Reply({"xx": np.asarray(square).reshape(-1), "xy": np.asarray(X.T @ y), "yy": np.array([y @ y])})


def _target(shard: Shard) -> Array:
    if shard.y is None:
        raise InvalidData(explain("these rows have no targets", where=f"node {shard.name!r}"))
    return shard.y.astype(np.float64)


def _sparse_products(X: Any, y: Array, mean: Array) -> Tree:
    """About the mean without filling the zeros in."""
    d, stored = X.shape[1], X.indices
    off = X.data - mean[stored]
    there = np.bincount(stored, minlength=d)
    xx = np.bincount(stored, off * off, minlength=d) + (X.shape[0] - there) * mean**2
    return {"xx": xx, "xy": np.asarray(X.T @ y) - mean * y.sum(), "yy": np.array([y @ y])}
