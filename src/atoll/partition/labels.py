"""Labels as partitions see them: one small number per row, and an order."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from atoll.errors import InvalidData, explain
from atoll.trees import Array

__all__ = ["Labels", "distinct", "encode", "range_names"]

_MOST_FLOAT_CLASSES = 20  # a float target with more distinct values is a quantity, not a class
_BINS = 10


class Labels(NamedTuple):
    """The labels of all rows, as numbers.

    Attributes
    ----------
    n_rows : int
        Number of rows.
    codes : ndarray of shape (n_rows,), int64, or None
        Class of each row, from 0; None where rows have no labels.
    order : ndarray of shape (n_rows,), int64, or None
        Row numbers, sorted by label; rows of equal label stay in their order.
    names : tuple of str
        What each class is called.
    """

    n_rows: int
    codes: Array | None = None
    order: Array | None = None
    names: tuple[str, ...] = ("all",)


def encode(y: Any) -> Labels:
    """Number the labels of rows.

    Parameters
    ----------
    y : array-like of shape (n_rows,) or (n_rows, n_outputs), or int
        Text, whole numbers, booleans or floats; of several outputs the first counts. Floats with more than 20
        distinct values are a regression target: they are put into ten bins of about equal size (deciles), but sorted
        by value. An int is a number of rows without labels.

    Returns
    -------
    Labels

    Raises
    ------
    InvalidData
        For labels that are missing, infinite, or of types that cannot be sorted together.
    """
    if isinstance(y, int | np.integer) and not isinstance(y, bool):
        return Labels(int(y))
    if y is None:
        raise InvalidData(
            explain(
                "there is nothing to split", got=None, expected="labels, one per row, or the number of rows as an int"
            )
        )
    values, codes = distinct(y, "label")
    column = values[codes]
    order = np.argsort(codes, kind="stable").astype(np.int64)
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise InvalidData(explain("a label is infinite", where=f"row {int(np.argmin(np.isfinite(column)))} of y"))
        if len(values) > _MOST_FLOAT_CLASSES:
            codes, names = _deciles(column)
            return Labels(len(column), codes, order, names)
    return Labels(len(column), codes, order, tuple(str(v) for v in values.tolist()))


def distinct(column: Any, what: str) -> tuple[Array, Array]:
    """The sorted distinct values of a column, and which of them each row has.

    Parameters
    ----------
    column : array-like of shape (n_rows,) or (n_rows, n_columns)
        The first column counts.
    what : str
        What an entry is, for messages.

    Returns
    -------
    values : ndarray of shape (n_values,)
    codes : ndarray of shape (n_rows,), int64

    Raises
    ------
    InvalidData
        For entries that are missing or cannot be sorted together, and for what is not a column.
    """
    array = _first_column(column, what)
    missing = _missing(array)
    if missing.any():
        raise InvalidData(
            explain(
                f"a {what} is missing",
                got=f"{int(missing.sum())} of {len(array)} rows have none",
                where=f"row {int(np.argmax(missing))}",
                hint="fill these rows in, or leave them out",
            )
        )
    try:
        values, codes = np.unique(array, return_inverse=True)
    except TypeError:
        kinds = sorted({type(v).__name__ for v in array.tolist()})
        raise InvalidData(
            explain(
                f"the {what}s are of mixed type",
                got=", ".join(kinds),
                expected="one type that can be sorted",
                hint="make them all text, for instance with numpy.asarray(..., dtype=str)",
            )
        ) from None
    return values, codes.reshape(-1).astype(np.int64)


def _first_column(column: Any, what: str) -> Array:
    array = np.asarray(column)
    if isinstance(column, list | tuple) and array.dtype.kind in "SU" and array.ndim == 1:
        array = np.array(column, dtype=object)  # numpy would have made text of numbers among text
    if array.ndim == 0 or (array.ndim > 1 and 0 in array.shape[1:]):
        raise InvalidData(explain(f"expected one {what} per row", got=f"an array of shape {array.shape}"))
    array = array.reshape(len(array), -1)[:, 0] if array.ndim > 1 else array
    if array.dtype == object and len(array) and all(isinstance(v, float | int) for v in array.tolist()):
        return array.astype(np.float64 if any(isinstance(v, float) for v in array.tolist()) else np.int64)
    return array


def _missing(array: Array) -> Array:
    if array.dtype.kind == "f":
        return np.asarray(np.isnan(array))
    if array.dtype.kind in "mM":
        return np.asarray(np.isnat(array))
    if array.dtype.kind != "O":
        return np.zeros(len(array), dtype=bool)
    return np.array([_is_missing(value) for value in array.tolist()], dtype=bool)


def _is_missing(value: Any) -> bool:
    """None, NaN, and whatever refuses to say whether it equals itself, as pandas.NA does."""
    try:
        return value is None or bool(value != value)  # NaN differs from itself
    except TypeError:
        return True


def _deciles(column: Array) -> tuple[Array, tuple[str, ...]]:
    """Bins of about equal size, of which none is empty, and their names."""
    edges = np.unique(np.quantile(column, np.linspace(0, 1, _BINS + 1)[1:-1], method="inverted_cdf"))
    used, codes = np.unique(np.searchsorted(edges, column, side="left"), return_inverse=True)
    names = range_names(edges)
    return codes.astype(np.int64), tuple(names[i] for i in used)


def range_names(edges: Array) -> list[str]:
    """What the ranges between some numbers are called.

    Parameters
    ----------
    edges : ndarray of shape (n,)
        Ascending; each belongs to the range that it ends.

    Returns
    -------
    list of str
        One more than there are edges.
    """
    for digits in (4, 8, 17):
        text = [f"{edge:.{digits}g}" for edge in edges]
        if len(set(text)) == len(text):
            break
    return [f"≤ {text[0]}", *(f"{a} to {b}" for a, b in pairwise(text)), f"> {text[-1]}"]
