"""Rows out of a database, read only."""

from __future__ import annotations

import importlib
import os
import re
from decimal import Decimal
from typing import Any

import numpy as np

from atoll.errors import InvalidData, MissingExtra, explain
from atoll.silo.errors import Malformed
from atoll.table import Column, Table
from atoll.trees import Array

__all__ = ["select"]

_BATCH = 10_000
_BEGIN = {
    "mysql": ("SET SESSION TRANSACTION READ ONLY",),
    "mariadb": ("SET SESSION TRANSACTION READ ONLY",),
    "oracle": ("SET TRANSACTION READ ONLY",),
    "postgresql": ("SET TRANSACTION READ ONLY",),
    "sqlite": ("PRAGMA query_only = ON",),
}
"""What makes a transaction read-only, where a database can; everywhere it is rolled back at its end."""


def select(url: str, query: str, where: str) -> Table:
    """Read what a query selects.

    Columns have the types that pandas gives them: whole numbers int64, or float64 where one is missing; decimals
    float64; text; truth values.

    Parameters
    ----------
    url : str
        Of the database, as SQLAlchemy has it; ``${NAME}`` stands for a variable of the environment.
    query : str
        What to select.
    where : str
        Named in errors.

    Returns
    -------
    Table

    Raises
    ------
    InvalidData
        If the database cannot be read, or selects no rows, or a column cannot be used. Passwords are never named.
    MissingExtra
        If SQLAlchemy, or the driver for this database, is not installed.
    """
    try:
        alchemy = importlib.import_module("sqlalchemy")
    except ImportError:
        raise MissingExtra(explain("reading a database needs SQLAlchemy", hint="pip install 'atoll[sql]'")) from None
    try:
        engine = alchemy.create_engine(_filled(url, where), hide_parameters=True)
    except alchemy.exc.ArgumentError:
        raise Malformed(explain("this is no URL of a database", expected="dialect://host/name", where=where)) from None
    except ImportError as error:
        raise MissingExtra(explain("the driver for this database is not installed", got=error, where=where)) from None
    try:
        with engine.connect().execution_options(stream_results=True) as connection, connection.begin() as transaction:
            for statement in _BEGIN.get(engine.dialect.name, ()):
                connection.execute(alchemy.text(statement))
            result = connection.execute(alchemy.text(query))
            if not result.returns_rows:
                raise InvalidData(explain("the query selects no rows", got=query[:200], where=where))
            names = list(map(str, result.keys()))
            columns = _columns(result, names)
            transaction.rollback()
    except alchemy.exc.SQLAlchemyError as error:
        got = str(getattr(error, "orig", None) or error).splitlines()[0][:200]
        raise InvalidData(explain("the database cannot be read", got=got, where=where)) from None
    finally:
        engine.dispose()
    return _typed(names, columns, where)


def _filled(url: str, where: str) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise Malformed(explain(f"the environment has no variable {match[1]}", where=where))
        return os.environ[match[1]]

    return re.sub(r"\$\{(\w+)\}", value, url)


def _columns(result: Any, names: list[str]) -> list[list[Any]]:
    columns: list[list[Any]] = [[] for _ in names]
    while batch := result.fetchmany(_BATCH):
        for column, values in zip(columns, zip(*batch, strict=True), strict=True):
            column.extend(values)
    return columns


def _typed(names: list[str], columns: list[list[Any]], where: str) -> Table:
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise InvalidData(explain(f"two columns are named {twice[0]!r}", where=where, hint="name them with AS"))
    if not columns or not columns[0]:
        raise InvalidData(explain("the query selects no rows", where=where))
    typed = []
    for name, values in zip(names, columns, strict=True):
        array = _array(values)
        declared = "str" if array.dtype == object else array.dtype.name
        typed.append(Column.of(array, declared, f"column {name!r} of {where}"))
    return Table(tuple(typed), len(columns[0]), tuple(names), "pandas")


def _array(values: list[Any]) -> Array:
    """The values as pandas would hold them."""
    kinds = {type(v) for v in values if v is not None}
    missing = any(v is None for v in values)
    if kinds <= {int} and kinds and not missing:
        try:
            return np.array(values, dtype=np.int64)
        except OverflowError:
            return np.array(values, dtype=np.float64)
    if kinds <= {bool} and kinds and not missing:
        return np.array(values, dtype=np.bool_)
    if kinds <= {int, float, Decimal}:
        return np.array([np.nan if v is None else float(v) for v in values], dtype=np.float64)
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
