"""Tables of the user's own, from a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from atoll.datasets.bundled import Dataset
from atoll.datasets.columns import Column, Content
from atoll.datasets.delimited import read_delimited
from atoll.datasets.nearby import nearby
from atoll.datasets.parquet import read_parquet
from atoll.datasets.wanted import Wanted
from atoll.errors import InvalidData, explain
from atoll.table import Column as Typed
from atoll.table import Table
from atoll.trees import Array

__all__ = ["read_table"]

_READERS: dict[str, Callable[[Path, Wanted], Content]] = {
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".txt": read_delimited,
    ".parquet": read_parquet,
}


def read_table(
    path: str | Path,
    target: str | None = None,
    *,
    columns: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    node: str | None = None,
    kinds: bool = False,
) -> Dataset:
    """Read a table, of numbers unless `kinds` is set, most often with one target column, from a file.

    Parameters
    ----------
    path : str or Path
        A `.csv`, `.tsv` or `.txt` file with a header (UTF-8; separated by comma, semicolon, tab or bar, whichever the
        header has most of), or a `.parquet` file.
    target : str, optional
        The column to predict: text, or numbers. Whole numbers are classes (int64), numbers with a fraction a quantity
        (float64).
    columns : sequence of str, optional
        The features; all other columns by default. Columns that are not named are not read.
    drop : sequence of str, default=()
        Columns to leave out.
    node : str, optional
        A column of node ids, which is no feature.
    kinds : bool, default=False
        Keep text, whole numbers, truth values and missing values as what they are: X is then a `Table`, which pipelines
        and encoders take. Otherwise all features are numbers, and none is missing.

    Returns
    -------
    Dataset

    Raises
    ------
    InvalidData
        For a file that is missing, empty or ragged, columns that are missing or named twice, and features or targets
        that are missing, infinite or not numbers; with the column, the first line and what to do about it. Where kinds
        are kept: for dates and infinite features.
    MissingExtra
        For a Parquet file without pyarrow.
    """
    file = Path(path)
    if not file.is_file():
        hint = "this is a folder" if file.is_dir() else nearby(file, _READERS)
        raise InvalidData(explain("there is no such file", got=str(path), hint=hint))
    if file.suffix.lower() not in _READERS:
        raise InvalidData(
            explain("cannot read this kind of file", got=file.name, expected=", ".join(_READERS), hint="save it as CSV")
        )
    wanted = Wanted(target, node, None if columns is None else _names(columns), _names(drop), kinds)
    content = _READERS[file.suffix.lower()](file, wanted)
    y, target_names, task = content.target or (None, (), "none")
    return Dataset(file.stem, _rows(content), y, content.names, target_names, task, str(file), content.node)


def _rows(content: Content) -> Array | Table:
    """A matrix of numbers, or a table that looks like a data frame of pandas."""
    features = [column for column in content.features if isinstance(column, Column)]
    if not features:
        typed = tuple(column for column in content.features if isinstance(column, Typed))
        return Table(typed, len(typed[0].values), content.names, "pandas")
    first = features[0].give()
    X = np.empty((len(first), len(features)))
    X[:, 0] = first
    for j, column in enumerate(features[1:], 1):
        X[:, j] = column.give()
    return X


def _names(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)
