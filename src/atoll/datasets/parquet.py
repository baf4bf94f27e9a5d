"""Parquet files."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from atoll.datasets.columns import Column, Content, Target, check_columns, node_column, target_column, target_of
from atoll.datasets.wanted import Wanted
from atoll.errors import InvalidData, MissingExtra, explain
from atoll.table import NAN
from atoll.table import Column as Typed
from atoll.table.column import refuse

__all__ = ["read_parquet"]

_PANDAS_INDEX = "__index_level_"  # what pandas calls a column that is the index of its frame


def read_parquet(file: Path, wanted: Wanted) -> Content:
    """Read a Parquet file; only the columns asked for are read.

    Parameters
    ----------
    file : Path
        The file.
    wanted : Wanted
        Columns asked for. The index of a pandas frame is none of them.

    Returns
    -------
    Content

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
    chosen = tuple(column.name for column in features)
    typed: list[Typed] = []
    if wanted.kinds:
        typed = [_typed(content.column(n), f"column {n!r} of {where}", arrow) for n in chosen]
    else:
        for column in features:
            _take(column, content.column(column.name), arrow)
        check_columns(features, where, "row")
    node = None
    if wanted.node is not None:
        ids = _as_text(content.column(wanted.node))
        node = node_column(ids, range(1, len(ids) + 1), wanted.node, where, "row")
    target = None if wanted.target is None else _target(content.column(wanted.target), wanted.target, where, arrow)
    return Content(typed if wanted.kinds else features, target, node, chosen)


def _typed(values: Any, where: str, arrow: Any) -> Typed:
    """A column in its own type, as pandas would hold it: text with NaN where a value is missing."""
    types, kind = arrow.types, values.type
    text = (types.is_string, types.is_large_string, types.is_string_view)
    if types.is_dictionary(kind) or any(is_text(kind) for is_text in text):
        encoded = (values if types.is_dictionary(kind) else values.dictionary_encode()).combine_chunks()
        if any(is_text(encoded.type.value_type) for is_text in text):
            return _words(encoded, "category" if types.is_dictionary(kind) else "str", where)
        values, kind = values.cast(encoded.type.value_type), encoded.type.value_type
    if types.is_temporal(kind):
        raise refuse("durations" if types.is_duration(kind) else "times" if types.is_time(kind) else "dates", where)
    if types.is_decimal(kind):
        values = values.cast(arrow.float64(), safe=False)
    elif types.is_nested(kind) or not (types.is_primitive(kind) or types.is_null(kind)):
        raise refuse("nested values" if types.is_nested(kind) else str(kind), where)
    plain = values.to_numpy()
    return Typed.of(plain, str(plain.dtype), where)


def _words(encoded: Any, declared: str, where: str) -> Typed:
    """A column of text out of Arrow's codes and dictionary."""
    known = Typed.of(np.array(encoded.dictionary.to_pylist(), dtype=object), declared, where)
    places = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return known._replace(values=np.append(known.values, np.int32(NAN))[places])


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
