"""Parquet files."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from atoll.datasets.columns import Column, Table, Target, check_columns, node_column, target_column, target_of
from atoll.datasets.wanted import Wanted
from atoll.errors import InvalidData, MissingExtra, explain

__all__ = ["read_parquet"]

_PANDAS_INDEX = "__index_level_"  # what pandas calls a column that is the index of its frame


def read_parquet(file: Path, wanted: Wanted) -> Table:
    """Read a Parquet file; only the columns asked for are read.

    Parameters
    ----------
    file : Path
        The file.
    wanted : Wanted
        Columns asked for. The index of a pandas frame is none of them.

    Returns
    -------
    Table

    Raises
    ------
    InvalidData
        For what cannot be read or used.
    MissingExtra
        Where pyarrow is not installed.
    """
    try:
        arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise MissingExtra(
            explain("reading Parquet needs pyarrow, which is not installed", hint="pip install 'atoll[frames]'")
        ) from None
    where = str(file)
    try:
        with parquet.ParquetFile(file) as table:
            names = [name for name in table.schema_arrow.names if not name.startswith(_PANDAS_INDEX)]
            features = [Column(name) for name in wanted.features(names, where)]
            extra = [name for name in (wanted.target, wanted.node) if name is not None]
            content = table.read(columns=[*(c.name for c in features), *extra])
    except arrow.ArrowException as error:
        raise InvalidData(explain("not a Parquet file that can be read", got=str(error)[:200], where=where)) from None
    if content.num_rows == 0:
        raise InvalidData(explain("the file has columns and no rows", got=", ".join(names[:10]), where=where))
    for column in features:
        _take(column, content.column(column.name), arrow)
    check_columns(features, where, "row")
    node = None
    if wanted.node is not None:
        ids = _as_text(content.column(wanted.node))
        node = node_column(ids, range(1, len(ids) + 1), wanted.node, where, "row")
    target = None if wanted.target is None else _target(content.column(wanted.target), wanted.target, where, arrow)
    return Table(features, target, node)


def _take(column: Column, values: Any, arrow: Any) -> None:
    """Take a whole column: numbers as they are, anything else as text."""
    types = arrow.types
    if types.is_boolean(values.type):
        values = values.cast(arrow.int8())
    if types.is_integer(values.type) or types.is_floating(values.type) or types.is_decimal(values.type):
        column.take_numbers(values.cast(arrow.float64(), safe=False).to_numpy())
    else:
        column.take(_as_text(values), range(1, len(values) + 1))


def _target(values: Any, name: str, where: str, arrow: Any) -> Target:
    types = arrow.types
    if types.is_string(values.type) or types.is_large_string(values.type) or types.is_dictionary(values.type):
        return target_column(_as_text(values), range(1, len(values) + 1), name, where, "row")
    column = Column(name)
    _take(column, values, arrow)
    if column.text is not None:
        return target_column(_as_text(values), range(1, len(values) + 1), name, where, "row")
    check_columns([column], where, "row", features=False)
    return target_of(column.give(), name)


def _as_text(values: Any) -> list[str]:
    return ["" if value is None else str(value) for value in values.to_pylist()]
