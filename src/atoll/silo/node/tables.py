"""Rows of a data set as a script would have them that reads it with pandas and hands ``(X, y)`` over.

Columns keep the types they are written in: whole numbers as a target are int64, text labels are Python objects,
features that are all numbers are a matrix of float64 with named columns, and with text among them a table. So the same
file gives the same `Shard` as ``Federation.from_shards([(frame.drop(columns=target), frame[target])])``.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from atoll.datasets import open_rows, read_table
from atoll.datasets.nearby import nearby
from atoll.errors import InvalidData, closest, explain
from atoll.shards import Shard
from atoll.silo.errors import ColumnMissing, Malformed
from atoll.silo.node.sources import Source
from atoll.table import Table
from atoll.trees import Array

__all__ = ["MAPPED", "Loaded", "load", "shard_of"]

MAPPED = 1 << 26
"""Bytes of a Parquet file from which its rows are mapped rather than held, where they are numbers and complete."""


_FLOAT = np.dtype(np.float64)


class Loaded(NamedTuple):
    """Rows, and what their columns are for.

    Attributes
    ----------
    shard : Shard
        Row ids count from 0.
    targets : tuple of str
        Names of the columns that `y` is made of; empty where they have none.
    """

    shard: Shard
    targets: tuple[str, ...]


def load(name: str, node: str, source: Source) -> Loaded:
    """Read the rows of a data set.

    Parameters
    ----------
    name : str
        Of the data set.
    node : str
        Of the node.
    source : Source
        Where rows come from.

    Returns
    -------
    Loaded

    Raises
    ------
    ColumnMissing
        If a column that the owner names is not there.
    InvalidData, MissingExtra, Malformed
        If rows cannot be read or used.
    """
    if source.sql:
        from atoll.silo.node.sql import select

        return shard_of(node, select(source.sql, source.query, f"data set {name!r}"), source)
    if source.python:
        return _made(node, source)
    file = Path(source.file)
    if file.suffix.lower() == ".npy":
        return _arrays(node, source, file)
    try:
        mapped = _mapped(node, source, file)
        return mapped or shard_of(node, _table(source, file), source)
    except InvalidData as error:
        first, _, rest = str(error).partition("\n")
        if first.startswith("there is no") and " column " in f"{first} ":
            raise ColumnMissing(
                f"data set {name!r} of node {node!r}: {first}" + (f"\n{rest}" if rest else "")
            ) from None
        raise


def _table(source: Source, file: Path) -> Table:
    extra = [*source.targets, *([source.weight] if source.weight else [])]
    wanted = [*source.columns, *extra] if source.columns else None
    found = read_table(file, None, columns=wanted, drop=source.drop, kinds=True).X
    _named(found, [*source.columns, *extra], str(file))
    return found  # type: ignore[no-any-return]


def _named(table: Table, wanted: list[str], where: str) -> None:
    names = table.names or ()
    missing = [name for name in wanted if name not in names]
    if missing:
        raise ColumnMissing(explain(f"there is no column {missing[0]!r}", where=where, hint=closest(missing[0], names)))


def shard_of(node: str, table: Table, source: Source) -> Loaded:
    """A node's rows out of a table of all columns.

    Parameters
    ----------
    node : str
        Its name.
    table : Table
        Features, targets and weights.
    source : Source
        Says which is which.

    Returns
    -------
    Loaded
    """
    _named(table, [*source.columns, *source.targets, *([source.weight] if source.weight else [])], f"node {node!r}")
    names = table.names or ()
    place = {name: i for i, name in enumerate(names)}
    rest = source.columns or [
        n for n in names if n not in source.targets and n != source.weight and n not in source.drop
    ]
    if not rest:
        raise InvalidData(
            explain("no feature columns are left", got="columns " + ", ".join(names), where=f"node {node!r}")
        )
    features = table.select([place[n] for n in rest])
    plain = features.form.first_text() is None
    X: Any = features.matrix() if plain else features
    y, weight = _target(table, place, source), _weight(table, place, source)
    given = _given([c.values.dtype if c.levels is None else _FLOAT for c in features.columns]) if plain else None
    return Loaded(_shard(node, X, y, weight, tuple(rest), given), tuple(source.targets))


def _given(dtypes: Sequence[np.dtype[Any]]) -> tuple[str, ...] | None:
    """What the columns of a matrix were written as, where some were whole numbers or truth values."""
    return tuple(dtype.str for dtype in dtypes) if any(dtype.kind in "biu" for dtype in dtypes) else None


def _shard(
    node: str,
    X: Any,
    y: Any,
    weight: Any,
    names: tuple[str, ...] | None,
    given: tuple[str, ...] | None = None,
) -> Shard:
    columns = {} if weight is None else {"sample_weight": np.asarray(weight, dtype=np.float64)}
    shard = Shard.of(node, X, y, feature_names=names, columns=columns)
    if weight is not None and columns["sample_weight"].shape != (shard.n_rows,):
        got = f"shape {columns['sample_weight'].shape}"
        raise InvalidData(explain("one weight per row", got=got, where=f"node {node!r}"))
    if not shard.n_rows:
        raise InvalidData(explain("a node has no rows", where=f"node {node!r}"))
    return shard if given is None else replace(shard, given=given)


def _target(table: Table, place: dict[str, int], source: Source) -> Array | None:
    """The targets as an array of pandas: numbers or truth values as they are, text as Python objects."""
    columns = [table.columns[place[name]] for name in source.targets]
    arrays = [c.values if c.levels is None else c.objects() for c in columns]
    if not arrays:
        return None
    if isinstance(source.target, str):
        return arrays[0]
    kinds = {a.dtype.kind for a in arrays}
    mixed = "O" in kinds or ("b" in kinds and len(kinds) > 1)
    return np.stack([a.astype(object) if mixed else a for a in arrays], axis=1)


def _weight(table: Table, place: dict[str, int], source: Source) -> Array | None:
    return table.columns[place[source.weight]].numbers() if source.weight else None


def _mapped(node: str, source: Source, file: Path) -> Loaded | None:
    """Rows of a large Parquet file, mapped; None where it is small, or its features are not complete numbers."""
    if file.suffix.lower() not in (".parquet", ".pq") or not file.is_file() or file.stat().st_size < MAPPED:
        return None
    extra = [*source.targets, *([source.weight] if source.weight else [])]
    try:
        drop = [*source.drop, *extra] if not source.columns else []
        rows = open_rows(file, columns=source.columns or None, drop=drop)
    except InvalidData:
        return None
    dtypes = [np.dtype(dtype) for dtype in rows.dtypes or ()]
    if all(dtype == np.float32 for dtype in dtypes):  # which a script would have in single precision
        return None
    y = weight = None
    if extra:
        table = read_table(file, None, columns=extra, kinds=True).X
        place = {name: i for i, name in enumerate(table.names)}
        y, weight = _target(table, place, source), _weight(table, place, source)
    return Loaded(_shard(node, rows.X, y, weight, rows.names, _given(dtypes)), tuple(source.targets))


def _arrays(node: str, source: Source, file: Path) -> Loaded:
    if source.columns or source.drop or source.weight:
        raise InvalidData(
            explain("an .npy file has no named columns", where=str(file), hint="leave columns and weight out")
        )
    y = _array(Path(source.targets[0])) if source.targets else None
    try:
        X = open_rows(file).X
    except InvalidData:
        X = _array(file)
    return Loaded(_shard(node, X, y, None, None), ())


def _array(file: Path) -> Array:
    if not file.is_file():
        raise InvalidData(explain("there is no such file", got=str(file), hint=nearby(file, [".npy"])))
    try:
        found: Array = np.load(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InvalidData(explain("not an array that can be read", got=str(error)[:200], where=str(file))) from None
    return found


def _made(node: str, source: Source) -> Loaded:
    """What the owner's own function returns."""
    rows = _function(source.python)()
    if isinstance(rows, tuple):
        if not 1 <= len(rows) <= 3:
            got = f"{len(rows)} things"
            raise InvalidData(explain("a loader returns (X, y)", got=got, where=source.python))
        X, y, weight = (*rows, None, None)[:3]
        return Loaded(_shard(node, X, y, weight, None), tuple(source.targets))
    if source.targets and hasattr(rows, "columns"):
        wanted = source.targets if isinstance(source.target, list) else source.target
        missing = [t for t in source.targets if t not in list(rows.columns)]
        if missing:
            raise ColumnMissing(explain(f"there is no column {missing[0]!r}", where=source.python))
        return Loaded(_shard(node, rows.drop(columns=source.targets), rows[wanted], None, None), tuple(source.targets))
    return Loaded(_shard(node, rows, None, None, None), ())


def _function(place: str) -> Any:
    home, _, name = place.rpartition(":")
    try:
        module = _of_file(Path(home)) if home.endswith(".py") else importlib.import_module(home)
        return getattr(module, name)
    except (ImportError, AttributeError, FileNotFoundError) as error:
        raise Malformed(explain("the loader is not there", got=error, where=place)) from None


def _of_file(file: Path) -> Any:
    if not file.is_file():
        raise FileNotFoundError(str(file))
    spec = importlib.util.spec_from_file_location(f"atoll_loader_{abs(hash(str(file)))}", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
