"""Rows that need not fit memory: mapped from a file, and asked about piece by piece."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from atoll.datasets.columns import Column, Target, target_column, target_of
from atoll.datasets.nearby import nearby
from atoll.datasets.wanted import Wanted
from atoll.errors import InvalidData, MissingExtra, explain
from atoll.trees import Array

__all__ = ["StoredRows", "open_rows"]

_PARQUET = (".parquet", ".pq")
_BATCH = 1 << 22  # numbers of a Parquet file in memory at a time


class StoredRows(NamedTuple):
    """Rows on disk.

    Attributes
    ----------
    X : memmap of shape (n, d)
        float32 or float64.
    y : ndarray of shape (n,), or None
        Targets, in memory.
    names : tuple of str, or None
        Names of the columns.
    dtypes : tuple of str, or None
        NumPy's names for what the columns of a Parquet file are written as.
    """

    X: Array
    y: Array | None
    names: tuple[str, ...] | None
    dtypes: tuple[str, ...] | None = None


def open_rows(
    path: str | os.PathLike[str],
    target: str | None = None,
    *,
    columns: Sequence[str] | None = None,
    drop: Sequence[str] = (),
) -> StoredRows:
    """Map the rows of a file, so that they are read piece by piece, whenever a node is asked about them.

    Parameters
    ----------
    path : path-like
        An ``.npy`` file, which is mapped as it lies; or a Parquet file, whose numbers are written once, some rows at a
        time, into a file in the folder for temporary files. That file has no name and goes when the rows do.
    target : str, optional
        A Parquet file's column to predict.
    columns : sequence of str, optional
        A Parquet file's features; all other columns by default.
    drop : sequence of str, default=()
        Columns of a Parquet file to leave out.

    Returns
    -------
    StoredRows

    Raises
    ------
    InvalidData
        If the file cannot be read, is of another kind, or has columns that are not complete numbers; names the column.
    MissingExtra
        Where pyarrow is not installed.
    """
    file = Path(path)
    if not file.is_file():
        raise InvalidData(explain("there is no such file", got=str(file), hint=nearby(file, [".npy", *_PARQUET])))
    if file.suffix == ".npy":
        return _open_npy(file, target)
    if file.suffix in _PARQUET:
        return _open_parquet(file, Wanted(target, None, None if columns is None else list(columns), list(drop)))
    raise InvalidData(explain("rows on disk are mapped from .npy or Parquet files", got=str(file)))


def _open_npy(file: Path, target: str | None) -> StoredRows:
    if target is not None:
        raise InvalidData(explain("an .npy file has no named columns", got=f"target {target!r}", where=str(file)))
    try:
        X = np.load(file, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise InvalidData(explain("not an array that can be mapped", got=str(error), where=str(file))) from None
    usable = X.ndim == 2 and X.flags.c_contiguous and X.dtype in (np.float32, np.float64) and X.dtype.isnative
    if not usable:
        got, expected = f"{X.dtype} of shape {X.shape}", "float32 or float64 of shape (n, d), rows after each other"
        raise InvalidData(explain("rows cannot be mapped as they lie", got=got, expected=expected, where=str(file)))
    return StoredRows(X, None, None)


def _open_parquet(file: Path, wanted: Wanted) -> StoredRows:
    try:
        arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        hint = "pip install 'atoll[frames]'"
        raise MissingExtra(explain("reading Parquet needs pyarrow, which is not installed", hint=hint)) from None
    where, target = str(file), wanted.target
    try:
        with parquet.ParquetFile(file) as table:
            names = wanted.features(table.schema_arrow.names, where)
            _check_types(table.schema_arrow, names, where, arrow)
            dtypes = tuple(np.dtype(table.schema_arrow.field(n).type.to_pandas_dtype()).str for n in names)
            n = int(table.metadata.num_rows)
            if not n:
                raise InvalidData(explain("the file has columns and no rows", where=where))
            read = [*names, *([] if target is None else [target])]
            batches = table.iter_batches(max(1, _BATCH // len(read)), columns=read)
            X, labels = _spool(batches, names, target, where)
    except arrow.ArrowException as error:
        raise InvalidData(explain("not a Parquet file that can be read", got=str(error)[:200], where=where)) from None
    y = None if target is None else _target(labels, target, where).y
    return StoredRows(X, y, tuple(names), dtypes)


def _check_types(schema: Any, names: list[str], where: str, arrow: Any) -> None:
    types = arrow.types
    for name in names:
        kind = schema.field(name).type
        if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
            hint = "read it with atoll.datasets.read_table, or encode the column first"
            got = f"column {name!r} holds {kind}"
            raise InvalidData(explain("rows on disk are numbers", got=got, where=where, hint=hint))


class _Spool:
    """A file without a name, open as long as somebody holds it."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115

    def __del__(self) -> None:
        self.file.close()


def _spool(batches: Any, names: list[str], target: str | None, where: str) -> tuple[Array, list[Any]]:
    """Write rows after each other into a file, and map it."""
    spool, labels, n = _Spool(), [], 0
    for batch in batches:
        rows = np.empty((batch.num_rows, len(names)))
        for j, name in enumerate(names):
            rows[:, j] = batch.column(name).cast("float64", safe=False).to_numpy(zero_copy_only=False)
        if np.isnan(rows).any():
            column = names[int(np.isnan(rows).any(axis=0).argmax())]
            raise InvalidData(explain(f"column {column!r} has missing values", where=where, hint="fill them first"))
        rows.tofile(spool.file)
        n += len(rows)
        if target is not None:
            labels += batch.column(target).to_pylist()
    spool.file.flush()
    X: Any = np.memmap(spool.file, dtype=np.float64, mode="r", shape=(n, len(names)))
    X.filename, X.spool = f"/dev/fd/{spool.file.fileno()}", spool  # by which a local worker opens it too
    return X, labels


def _target(values: list[Any], name: str, where: str) -> Target:
    if all(isinstance(v, int | float) for v in values):
        column = Column(name)
        column.take_numbers(np.asarray(values, dtype=np.float64))
        return target_of(column.give(), name)
    text = ["" if v is None else str(v) for v in values]
    return target_column(text, range(1, len(text) + 1), name, where, "row")
