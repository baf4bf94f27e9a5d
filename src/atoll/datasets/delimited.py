"""Comma-separated files, and those with another separator."""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any

from atoll.datasets.columns import Column, Content, Words, as_number, check_columns, node_column, target_column
from atoll.datasets.wanted import Wanted
from atoll.errors import InvalidData, explain
from atoll.table import Column as Typed

__all__ = ["read_delimited"]

_DELIMITERS = ",;\t|"
_CELLS = 10_000  # values converted at once; few, so that they stay in the cache and a file is never held as text


def read_delimited(file: Path, wanted: Wanted) -> Content:
    """Read a file of delimited text.

    Parameters
    ----------
    file : Path
        The file.
    wanted : Wanted
        Columns asked for.

    Returns
    -------
    Content

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


def _read(stream: IO[str], wanted: Wanted, where: str) -> Content:
    reader, names = _opened(stream, where)
    _check_is_header(names, where)
    features = [Column(name) for name in wanted.features(names, where)]
    texts: dict[str, list[str]] = {name: [] for name in (wanted.target, wanted.node) if name is not None}
    lines = array("q")
    for at, values in _chunks(reader, len(names), where):
        columns = dict(zip(names, values, strict=True))
        for column in features:
            column.take(columns[column.name], at)
        for name, kept in texts.items():
            one_copy: dict[str, str] = {}
            kept.extend(one_copy.setdefault(value, value) for value in columns[name])
        lines.extend(at)
    if not lines:
        raise InvalidData(explain("the file has a header and no rows", got=", ".join(names[:10]), where=where))
    check_columns(features, where, "line", kinds=wanted.kinds)
    target = None
    if wanted.target is not None:
        target = target_column(texts[wanted.target], lines, wanted.target, where, "line")
    node = None if wanted.node is None else node_column(texts[wanted.node], lines, wanted.node, where, "line")
    chosen = tuple(column.name for column in features)
    return Content(_typed(stream, features, where) if wanted.kinds else features, target, node, chosen)


def _typed(stream: IO[str], features: Sequence[Column], where: str) -> list[Typed]:
    """Columns in the types that they are written in; those with text are read once more, for the text."""
    words = {column.name: Words() for column in features if column.text}
    if words:
        reader, names = _opened(stream, where)
        for _, values in _chunks(reader, len(names), where):
            for name, part in zip(names, values, strict=True):
                if name in words:
                    words[name].take(part)
    return [words[c.name].typed(f"column {c.name!r} of {where}") if c.text else c.typed() for c in features]


def _opened(stream: IO[str], where: str) -> tuple[Any, list[str]]:
    """A reader that stands below the header, and the names of the columns."""
    stream.seek(0)
    sample = list(islice(stream, 20))
    stream.seek(0)
    reader = csv.reader(stream, delimiter=_delimiter(sample), strict=True, skipinitialspace=True)
    return reader, _header(reader, where)


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


def _header(reader: Any, where: str) -> list[str]:
    """The first record that is not blank."""
    record: list[str] = []
    try:
        while not any(field.strip() for field in record):
            record = next(reader)
    except StopIteration:
        raise InvalidData(explain("the file is empty", where=where)) from None
    except csv.Error as error:
        raise _unreadable(error, where, 1) from None
    return [name.strip() for name in record]


def _chunks(reader: Any, width: int, where: str) -> Iterator[tuple[Sequence[int], list[tuple[str, ...]]]]:
    """Lines and columns of so many records at a time, all of the width of the header; blank lines are passed over."""
    while True:
        line = reader.line_num + 1
        records: list[list[str]] = []
        try:
            records.extend(islice(reader, max(_CELLS // width, 100)))
        except csv.Error as error:
            raise _unreadable(error, where, line + sum(map(_height, records))) from None
        if not records:
            return
        lines: Sequence[int] = range(line, line + len(records))
        if reader.line_num != lines[-1] or any(len(record) != width for record in records):
            lines, records = _checked(records, line, width, where)
        if records:
            yield lines, list(zip(*records, strict=True))


def _checked(records: list[list[str]], line: int, width: int, where: str) -> tuple[list[int], list[list[str]]]:
    """Records that are not blank and the line each begins in, when some are blank, ragged or of several lines."""
    lines, kept = [], []
    for record in records:
        if len(record) == width:
            lines.append(line)
            kept.append(record)
        elif any(field.strip() for field in record):
            raise InvalidData(
                explain(
                    "a row has another number of columns than the header",
                    got=f"{len(record)}: {_start(record)}",
                    expected=width,
                    where=f"{where}, line {line}",
                    hint="a value that contains the separator needs quotation marks",
                )
            )
        line += _height(record)
    return lines, kept


def _height(record: Sequence[str]) -> int:
    """How many lines a record takes in the file: quoted values may hold line ends."""
    return 1 + sum(field.count("\n") + field.count("\r") - field.count("\r\n") for field in record)


def _unreadable(error: csv.Error, where: str, line: int) -> InvalidData:
    return InvalidData(
        explain(
            "the file cannot be split into columns",
            got=str(error),
            where=f"{where}, line {line}",
            hint="look for a quotation mark that is not closed, or that stands inside a quoted value",
        )
    )


def _start(record: Sequence[str]) -> str:
    text = ", ".join(record)
    return text if len(text) <= 60 else text[:59] + "…"
