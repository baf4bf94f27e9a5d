"""Comma-separated files, and those with another separator."""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any

from atoll.datasets.columns import Column, Table, as_number, check_columns, node_column, target_column
from atoll.datasets.wanted import Wanted
from atoll.errors import InvalidData, explain

__all__ = ["read_delimited"]

_DELIMITERS = ",;\t|"
_CHUNK = 65_536  # rows that are converted at once, so that a large file is never held as text


def read_delimited(file: Path, wanted: Wanted) -> Table:
    """Read a file of delimited text.

    Parameters
    ----------
    file : Path
        The file.
    wanted : Wanted
        Columns asked for.

    Returns
    -------
    Table

    Raises
    ------
    InvalidData
        For what cannot be read or used.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            return _read(stream, wanted, str(file))
    except UnicodeDecodeError as error:
        raise InvalidData(
            explain(
                "the file is not UTF-8 text",
                got=f"byte {error.object[error.start]:#x}",
                where=str(file),
                hint="save it as UTF-8; a Parquet file needs the ending .parquet",
            )
        ) from None


def _read(stream: IO[str], wanted: Wanted, where: str) -> Table:
    sample = list(islice(stream, 20))
    stream.seek(0)
    records = _records(csv.reader(stream, delimiter=_delimiter(sample), strict=True, skipinitialspace=True), where)
    _, header = next(records, (0, []))
    if not header:
        raise InvalidData(explain("the file is empty", where=where))
    names = [name.strip() for name in header]
    _check_is_header(names, where)
    features = [Column(name) for name in wanted.features(names, where)]
    texts: dict[str, list[str]] = {name: [] for name in (wanted.target, wanted.node) if name is not None}
    lines = array("q")
    for at, values in _chunks(records, len(names), where):
        columns = dict(zip(names, values, strict=True))
        for column in features:
            column.take(columns[column.name], at)
        for name, kept in texts.items():
            one_copy: dict[str, str] = {}
            kept.extend(one_copy.setdefault(value, value) for value in columns[name])
        lines.extend(at)
    if not lines:
        raise InvalidData(explain("the file has a header and no rows", got=", ".join(names[:10]), where=where))
    check_columns(features, where, "line")
    target = None
    if wanted.target is not None:
        target = target_column(texts[wanted.target], lines, wanted.target, where, "line")
    node = None if wanted.node is None else node_column(texts[wanted.node], lines, wanted.node, where, "line")
    return Table(features, target, node)


def _check_is_header(names: Sequence[str], where: str) -> None:
    """Refuse a first line of which half or more is numbers, unless they count columns as pandas does: 0, 1, 2, ..."""
    numbers = [number for number in map(as_number, names) if number is not None]
    counted = all(math.isfinite(n) and n >= 0 and n == math.floor(n) for n in numbers)
    if 2 * len(numbers) >= len(names) and not counted:
        raise InvalidData(
            explain(
                "the file has no header",
                got=_start(names),
                expected="the names of the columns",
                where=f"{where}, line 1",
                hint="put a line of column names above the values",
            )
        )


def _delimiter(sample: Sequence[str]) -> str:
    """The separator that splits the header into most columns; if several do, one that splits the next line likewise."""
    first, second = [*(line for line in sample if line.strip()), "", ""][:2]

    def fit(delimiter: str) -> tuple[int, bool]:
        header = _width(first, delimiter)
        return header, header == _width(second, delimiter)

    return max(_DELIMITERS, key=fit)


def _width(line: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=delimiter), []))
    except csv.Error:
        return 0


def _records(reader: Any, where: str) -> Iterator[tuple[int, list[str]]]:
    """Records with the line that each begins in; empty lines are passed over."""
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise InvalidData(
                explain(
                    "the file cannot be split into columns",
                    got=str(error),
                    where=f"{where}, line {line}",
                    hint="look for a quotation mark that is not closed, or that stands inside a quoted value",
                )
            ) from None
        if record is None:
            return
        if len(record) > 1 or (record and record[0].strip()):
            yield line, record


def _chunks(
    records: Iterator[tuple[int, list[str]]], width: int, where: str
) -> Iterator[tuple[list[int], list[tuple[str, ...]]]]:
    """Lines and columns of so many records at a time, all of the width of the header."""
    while chunk := list(islice(records, _CHUNK)):
        for line, record in chunk:
            if len(record) != width:
                raise InvalidData(
                    explain(
                        "a row has another number of columns than the header",
                        got=f"{len(record)}: {_start(record)}",
                        expected=width,
                        where=f"{where}, line {line}",
                        hint="a value that contains the separator needs quotation marks",
                    )
                )
        yield [line for line, _ in chunk], list(zip(*(record for _, record in chunk), strict=True))


def _start(record: Sequence[str]) -> str:
    text = ", ".join(record)
    return text if len(text) <= 60 else text[:59] + "…"
