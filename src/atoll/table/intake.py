"""Columns out of data frames and arrays, as scikit-learn sees them."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_array

from atoll.errors import InvalidData, explain
from atoll.table.column import Column, refuse
from atoll.trees import Array

__all__ = ["given_as", "is_frame", "read_columns"]

_WHOLE = {"bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}


def is_frame(X: object) -> bool:
    """Whether rows are a data frame of pandas or polars."""
    return _is_pandas(X) or _is_polars(X)


def given_as(X: Any, d: int) -> tuple[str, ...] | None:
    """What columns of numbers are to scikit-learn, by NumPy's names; None where all are floats, or objects.

    Parameters
    ----------
    X : pandas or polars DataFrame, or array-like of shape (n, d)
        Rows.
    d : int
        Columns.
    """
    if not is_frame(X):
        dtype = getattr(X, "dtype", None)
        dtype = dtype if isinstance(dtype, np.dtype) else np.asarray(X).dtype
        return (dtype.str,) * d if d and dtype.kind in "biu" else None
    dtypes = [np.dtype(kind if kind in _WHOLE else "float64") for kind in _kinds(X)]
    if _is_polars(X) and d:  # which scikit-learn sees as one array
        dtypes = [np.result_type(*dtypes)] * d
    return tuple(dtype.str for dtype in dtypes) if any(dtype.kind in "biu" for dtype in dtypes) else None


def _kinds(frame: Any) -> list[str]:
    """The types of columns in NumPy's spelling; of polars a column with gaps has none."""
    if _is_pandas(frame):
        return [str(dtype) for dtype in frame.dtypes]
    return [
        "" if column.null_count() else str(column.dtype).lower().removesuffix("ean") for column in frame.get_columns()
    ]


def read_columns(X: Any, where: str) -> tuple[list[Column], tuple[str, ...] | None, str, bool]:
    """Columns, their names, what they came as, and whether coded ones are Python objects to scikit-learn.

    Parameters
    ----------
    X : pandas or polars DataFrame, or ndarray of shape (n, d)
        Rows.
    where : str
        Named in errors.

    Raises
    ------
    InvalidData
        For columns of dates, durations, nested values and the like; names the column.
    """
    if _is_pandas(X) or _is_polars(X):
        source, read = ("pandas", _from_pandas) if _is_pandas(X) else ("polars", _from_polars)
        names = tuple(X.columns)
        series = [X.iloc[:, i] for i in range(len(names))] if source == "pandas" else [X[n] for n in names]
        columns = [read(s, f"column {n!r} of {where}") for s, n in zip(series, names, strict=True)]
        return columns, names if all(isinstance(n, str) for n in names) else None, source, True
    array = np.asarray(X)
    if array.ndim != 2:
        raise InvalidData(explain("X must be two-dimensional", got=f"{array.ndim} dimensions", where=where))
    parts = [Column.of(array[:, i], "", f"column {i} of {where}") for i in range(array.shape[1])]
    return parts, None, "array", array.dtype.kind == "O"


def _is_pandas(X: object) -> bool:
    """Also what looks like pandas: scikit-learn goes by the same sign."""
    return hasattr(X, "iloc") and hasattr(X, "dtypes") and getattr(X, "ndim", 0) == 2


def _is_polars(X: object) -> bool:
    return type(X).__module__.startswith("polars.dataframe")


def _from_pandas(series: Any, where: str) -> Column:
    """A column as scikit-learn's `check_array` makes it; categories by their codes, without a detour over objects."""
    declared = str(series.dtype)
    _refuse_type(declared, where)
    if hasattr(series, "cat") and series.cat.categories.dtype.kind not in "biuf":
        column = _from_categories(series, declared, where)
        if column is not None:
            return column
    values = check_array(series, ensure_2d=False, dtype=None, ensure_all_finite=False, ensure_min_samples=0)
    return Column.of(values, declared, where)


def _from_categories(series: Any, declared: str, where: str) -> Column | None:
    """Codes into the categories that occur, sorted; None where those are no text."""
    known = np.asarray(series.cat.categories.to_numpy(), dtype=object)
    if not len(known) or not all(isinstance(v, str) for v in known):
        return None
    named = Column.of(known, declared, where)
    codes = np.append(named.values, np.int32(-1))[series.cat.codes.to_numpy().astype(np.intp)]
    return named._replace(values=np.ascontiguousarray(codes, dtype=np.int32))


def _from_polars(series: Any, where: str) -> Column:
    declared = str(series.dtype)
    _refuse_type(declared, where)
    if declared.startswith(("List", "Struct", "Array")):
        raise refuse("nested values", where)
    values: Array = series.to_numpy()
    return Column.of(values, declared, where)


_REFUSED = (
    ("complex", "complex numbers"),
    ("duration", "durations"),
    ("timedelta", "durations"),
    ("period", "dates"),
    ("interval", "intervals"),
    ("date", "dates"),
    ("timestamp", "dates"),
    ("time", "times"),
)


def _refuse_type(declared: str, where: str) -> None:
    """Refuse dates and durations, also those that pandas or Arrow would give as objects; and complex numbers."""
    name = declared.lower()
    for start, what in _REFUSED:
        if name.startswith(start):
            raise refuse(what, where)
