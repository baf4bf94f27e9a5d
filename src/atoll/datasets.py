"""Rows to begin with: scikit-learn's bundled data sets by name, and tables of the user's own. Nothing here uses the network."""

from __future__ import annotations

import csv
import importlib
import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from atoll.errors import InvalidData, MissingExtra, closest, explain
from atoll.specs import Registry
from atoll.trees import Array

__all__ = ["Dataset", "datasets", "load", "read_table"]


class Dataset(NamedTuple):
    """A table of rows and what is known of it.

    Attributes
    ----------
    name : str
        Name of the data set, or of the file without its ending.
    X : ndarray of shape (n_rows, n_features), float64
        Features.
    y : ndarray of shape (n_rows,)
        Target: text (dtype U) or int64 classes, or a float64 quantity.
    feature_names : tuple of str
        One per column of X.
    target_names : tuple of str
        Names of the classes, in sorted order of their labels; of a regression the name of the target.
    task : {"classification", "regression"}
        What the target asks for: text and whole numbers are classes, numbers with a fraction a quantity.
    source : str
        Where it comes from.
    node : ndarray of shape (n_rows,), or None
        Node id of each row (text or int64), where a table has such a column.
    """

    name: str
    X: Array
    y: Array
    feature_names: tuple[str, ...]
    target_names: tuple[str, ...]
    task: str
    source: str
    node: Array | None = None


datasets: Registry[Callable[[], Dataset]] = Registry("data set")


def load(name: str) -> Dataset:
    """A data set that comes with scikit-learn.

    Parameters
    ----------
    name : {"iris", "digits", "wine", "breast_cancer", "diabetes"}
        Its name.

    Returns
    -------
    Dataset

    Raises
    ------
    UnknownName
        For any other name.

    Examples
    --------
    >>> from atoll.datasets import load
    >>> iris = load("iris")
    >>> iris.X.shape, iris.target_names
    ((150, 4), ('setosa', 'versicolor', 'virginica'))
    """
    return datasets[name]()


def _bundled(name: str, origin: str, target: str = "") -> None:
    """Register one of scikit-learn's loaders; `target` names the quantity of a regression."""

    def loader() -> Dataset:
        bunch = getattr(importlib.import_module("sklearn.datasets"), f"load_{name}")()
        return Dataset(
            name,
            np.ascontiguousarray(bunch.data, dtype=np.float64),
            bunch.target.astype(np.float64 if target else np.int64),
            tuple(map(str, bunch.feature_names)),
            (target,) if target else tuple(map(str, bunch.target_names)),
            "regression" if target else "classification",
            f"{origin}; sklearn.datasets.load_{name}",
        )

    datasets.add(name, loader)


_bundled("iris", "Fisher (1936), UCI Machine Learning Repository")
_bundled("digits", "Alpaydin & Kaynak (1998), test part of the UCI optical recognition of handwritten digits")
_bundled("wine", "Aeberhard & Forina (1991), UCI Machine Learning Repository")
_bundled("breast_cancer", "Wolberg, Mangasarian, Street & Street (1995), UCI, diagnostic")
_bundled("diabetes", "Efron, Hastie, Johnstone & Tibshirani (2004)", target="disease progression")


def read_table(
    path: str | Path,
    target: str,
    *,
    columns: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    node: str | None = None,
) -> Dataset:
    """Read a table of numbers with one target column from a file.

    Parameters
    ----------
    path : str or Path
        A `.csv`, `.tsv` or `.txt` file with a header (UTF-8; separated by comma, semicolon, tab or bar, whichever the header has
        most of), or a `.parquet` file.
    target : str
        The column to predict: text, or numbers. Whole numbers are classes (int64), numbers with a fraction a quantity (float64).
    columns : sequence of str, optional
        The features; all other columns by default. Columns that are not named are not read.
    drop : sequence of str, default=()
        Columns to leave out.
    node : str, optional
        A column of node ids, which is no feature.

    Returns
    -------
    Dataset

    Raises
    ------
    InvalidData
        For a file that is missing, empty or ragged, columns that are missing or named twice, and features or targets that are
        missing, infinite or not numbers; with the column, the first line and what to do about it.
    MissingExtra
        For a Parquet file without pyarrow.
    """
    file = Path(path)
    reader = _READERS.get(file.suffix.lower())
    if not file.is_file():
        raise InvalidData(
            explain("there is no such file", got=str(path), hint="it is a folder" if file.is_dir() else _near_files(file))
        )
    if reader is None:
        raise InvalidData(
            explain("cannot read this kind of file", got=file.name, expected=", ".join(_READERS), hint="save it as CSV")
        )
    columns = None if columns is None else [columns] if isinstance(columns, str) else list(columns)
    drop = [drop] if isinstance(drop, str) else list(drop)
    return reader(file, _Wanted(target, node, columns, drop))


class _Wanted(NamedTuple):
    """The columns that were asked for."""

    target: str
    node: str | None
    columns: list[str] | None
    drop: list[str]

    def features(self, names: Sequence[str], where: str) -> list[str]:
        """The feature columns among all columns of a table; says so when one that was asked for is not there."""
        _check_header(names, where)
        for role, name in (("target", self.target), ("node", self.node)):
            if name is not None and name not in names:
                raise InvalidData(explain(f"there is no {role} column {name!r}", where=where, hint=closest(name, names)))
        for name in [*(self.columns or []), *self.drop]:
            if name not in names:
                raise InvalidData(explain(f"there is no column {name!r}", where=where, hint=closest(name, names)))
        taken = {self.target: "target", **({} if self.node is None else {self.node: "node"})}
        if len(taken) == 1 and self.node is not None:
            raise InvalidData(explain(f"column {self.node!r} cannot be both target and node", where=where))
        for name in self.columns or []:
            if name in taken:
                raise InvalidData(explain(f"the {taken[name]} column {name!r} cannot be a feature too", where=where))
        chosen = names if self.columns is None else list(dict.fromkeys(self.columns))
        features = [name for name in chosen if name not in taken and name not in self.drop]
        if not features:
            raise InvalidData(explain("no feature columns are left", got=", ".join(names), where=where))
        return features


def _check_header(names: Sequence[str], where: str) -> None:
    numbers = [number for number in map(_as_number, names) if number is not None]
    if 2 * len(numbers) >= len(names) and any(n < 0 or n != math.floor(n) for n in numbers if math.isfinite(n)):
        raise InvalidData(
            explain("the file has no header", got=", ".join(names[:6]), where=f"{where}, line 1",
                    expected="the names of the columns in the first line", hint="write a first line with column names")
        )  # fmt: skip
    for position, name in enumerate(names):
        if not name:
            raise InvalidData(
                explain(f"column {position + 1} has no name", where=where,
                        hint="name it; if pandas wrote the file, save it again with index=False")
            )  # fmt: skip
        if name in names[:position]:
            raise InvalidData(
                explain(f"two columns are named {name!r}", where=where,
                        hint="rename one; if the first line holds values, put a line of column names above it")
            )  # fmt: skip


# Columns of text and what is wrong with them

_CHUNK = 65_536  # rows that are converted at once, so that a large file is never held as text
_MISSING_NUMBER = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
_MISSING_TEXT = frozenset({"", "nan", "null"})  # "NA" and "none" may be labels
_TRUTH = {"true": 1.0, "false": 0.0}
_ENCODE = "encode it first, for instance with sklearn.preprocessing.OneHotEncoder, or leave it out (columns= or drop=)"


class _Found(NamedTuple):
    """The first of several values of one kind."""

    count: int
    line: int
    value: str

    def more(self, count: int) -> _Found:
        return self._replace(count=self.count + count)


class _Column:
    """A column as it is read, chunk by chunk: numbers, and the first missing, infinite and other value."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.chunks: list[Array] = []
        self.missing: _Found | None = None
        self.infinite: _Found | None = None
        self.text: _Found | None = None

    def take(self, values: Sequence[str], lines: Sequence[int]) -> None:
        """Convert further values; once a column holds text, the rest of it is not needed."""
        if self.text is None:
            self.chunks.append(self._numbers(values, lines))

    def _numbers(self, values: Sequence[str], lines: Sequence[int]) -> Array:
        try:
            numbers = np.fromiter(map(float, values), np.float64, len(values))
            if np.isfinite(numbers).all() and not any("_" in value for value in values):
                return numbers
        except ValueError:
            pass
        return np.array([self._number(value, line) for value, line in zip(values, lines, strict=True)])

    def _number(self, value: str, line: int) -> float:
        number = _as_number(value)
        if value.strip().lower() in _MISSING_NUMBER:
            self.missing = _first(self.missing, line, value)
        elif number is None:
            self.text = _first(self.text, line, value)
        elif math.isinf(number):
            self.infinite = _first(self.infinite, line, value)
        return float("nan") if number is None else number

    def array(self) -> Array:
        return np.concatenate(self.chunks) if self.chunks else np.empty(0)


def _first(found: _Found | None, line: int, value: str) -> _Found:
    return _Found(1, line, value) if found is None else found.more(1)


def _as_number(text: str) -> float | None:
    """What a text says as a number, true and false as 1 and 0; None where it is none. Python's 1_000 is none here."""
    word = text.strip().lower()
    if word in _TRUTH:
        return _TRUTH[word]
    try:
        return None if "_" in word else float(word)
    except ValueError:
        return None


def _check_columns(columns: Sequence[_Column], where: str, unit: str) -> None:
    """Refuse a table whose features or numeric target cannot be used, naming all columns at fault."""
    problems: tuple[tuple[str, list[tuple[str, _Found]], str], ...] = (
        ("text where numbers are needed", [(c.name, c.text) for c in columns if c.text], _ENCODE),
        ("values are missing", [(c.name, c.missing) for c in columns if c.missing],
         "fill them in or drop these rows, or leave the column out (columns= or drop=)"),
        ("values are infinite", [(c.name, c.infinite) for c in columns if c.infinite],
         "replace them by finite numbers or drop these rows"),
    )  # fmt: skip
    for what, found, hint in problems:
        if found:
            if all(_is_decimal_comma(first.value) for _, first in found):
                hint = "write decimals with a point instead of a comma"
            counted = "" if what.startswith("text") else "{0.count} in "
            named = [counted.format(f) + f"column {name!r} (first {f.value!r}, {unit} {f.line})" for name, f in found]
            shown = ", ".join(named[:10]) + (f" and {len(named) - 10} more columns" if len(named) > 10 else "")
            raise InvalidData(explain(what, got=shown, where=where, hint=hint))


def _is_decimal_comma(text: str) -> bool:
    return text.count(",") == 1 and _as_number(text.replace(",", ".")) is not None


def _classes_or_quantity(numbers: Array, name: str) -> tuple[Array, tuple[str, ...], str]:
    if (numbers == np.floor(numbers)).all() and np.abs(numbers).max(initial=0) < 2**53:
        whole = numbers.astype(np.int64)
        return whole, tuple(map(str, np.unique(whole).tolist())), "classification"
    return numbers, (name,), "regression"


def _target(values: Sequence[str], lines: Sequence[int], name: str, where: str, unit: str) -> tuple[Array, tuple[str, ...], str]:
    """A target column: numbers if all that is there are numbers, text otherwise."""
    column = _Column(name)
    column.take(values, lines)
    if column.text is None:
        _check_columns([column], where, unit)
        return _classes_or_quantity(column.array(), name)
    text = _labels(values, lines, name, where, unit)
    return text, tuple(np.unique(text).tolist()), "classification"


def _node_ids(values: Sequence[str], lines: Sequence[int], name: str, where: str, unit: str) -> Array:
    """Node ids: int64 if all are whole numbers as Python writes them, so that they sort by value; text otherwise."""
    text = _labels(values, lines, name, where, unit)
    if all(value.isascii() and value.isdecimal() and str(int(value[:19])) == value for value in set(text.tolist())):
        return text.astype(np.int64)
    return text


def _labels(values: Sequence[str], lines: Sequence[int], name: str, where: str, unit: str) -> Array:
    column = _Column(name)
    for value, line in zip(values, lines, strict=True):
        if value.strip().lower() in _MISSING_TEXT:
            column.missing = _first(column.missing, line, value)
    _check_columns([column], where, unit)
    return np.array([value.strip() for value in values], dtype=np.str_)


def _near_files(file: Path) -> str:
    if not file.parent.is_dir():
        return f"the folder {str(file.parent)!r} does not exist"
    return closest(file.name, [p.name for p in islice(file.parent.iterdir(), 1000) if p.suffix.lower() in _READERS])


# CSV


def _read_csv(file: Path, wanted: _Wanted) -> Dataset:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            return _parse_csv(file, stream, wanted)
    except UnicodeDecodeError as error:
        raise InvalidData(
            explain("the file is not UTF-8 text", got=f"byte {error.object[error.start]:#x}", where=str(file),
                    hint="save it as UTF-8; a Parquet file needs the ending .parquet")
        ) from None  # fmt: skip


def _parse_csv(file: Path, stream: Any, wanted: _Wanted) -> Dataset:
    where = str(file)
    sample = list(islice(stream, 20))
    stream.seek(0)
    if not any(line.strip() for line in sample):
        raise InvalidData(explain("the file is empty", where=where))
    records = _records(csv.reader(stream, delimiter=_delimiter(sample), strict=True, skipinitialspace=True), where)
    _, header = next(records)
    names = [name.strip() for name in header]
    features = [_Column(name) for name in wanted.features(names, where)]
    places = [names.index(column.name) for column in features]
    kept = {name: list[str]() for name in (wanted.target, wanted.node) if name is not None}
    lines = array("q")
    for chunk in _chunks(records, len(names), where):
        at = [line for line, _ in chunk]
        values = list(zip(*(record for _, record in chunk), strict=True))
        for column, place in zip(features, places, strict=True):
            column.take(values[place], at)
        for name, texts in kept.items():
            seen: dict[str, str] = {}
            texts.extend(seen.setdefault(value, value) for value in values[names.index(name)])
        lines.extend(at)
    if not lines:
        raise InvalidData(explain("the file has a header and no rows", got=", ".join(names[:10]), where=where))
    _check_columns(features, where, "line")
    y, target_names, task = _target(kept[wanted.target], lines, wanted.target, where, "line")
    node = None if wanted.node is None else _node_ids(kept[wanted.node], lines, wanted.node, where, "line")
    return _dataset(file, features, y, target_names, task, node)


def _dataset(
    file: Path, features: Sequence[_Column], y: Array, target_names: tuple[str, ...], task: str, node: Array | None
) -> Dataset:
    X = np.empty((len(y), len(features)))
    for j, column in enumerate(features):
        X[:, j] = column.array()
        column.chunks.clear()
    return Dataset(file.stem, X, y, tuple(c.name for c in features), target_names, task, str(file), node)


def _delimiter(sample: Sequence[str]) -> str:
    """The separator that splits the header into most columns; of several, one that splits the next line into as many."""
    first, second = [*(line for line in sample if line.strip()), ""][:2]

    def fit(delimiter: str) -> tuple[int, bool]:
        header = _width(first, delimiter)
        return header, header == _width(second, delimiter)

    return max(",;\t|", key=fit)


def _width(line: str, delimiter: str) -> int:
    return len(next(csv.reader([line], delimiter=delimiter), []))


def _records(reader: Any, where: str) -> Iterator[tuple[int, list[str]]]:
    """Records with the line each begins in; empty lines are passed over."""
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise InvalidData(
                explain("the file cannot be split into columns", got=str(error), where=f"{where}, line {line}",
                        hint="look for a quotation mark that is not closed, or that stands inside a quoted value")
            ) from None  # fmt: skip
        if record is None:
            return
        if record and (len(record) > 1 or record[0].strip()):
            yield line, record


def _chunks(
    records: Iterable[tuple[int, list[str]]], width: int, where: str
) -> Iterator[list[tuple[int, list[str]]]]:
    """Records in lists of bounded length, all of the width of the header."""
    records = iter(records)
    while chunk := list(islice(records, _CHUNK)):
        for line, record in chunk:
            if len(record) != width:
                raise InvalidData(
                    explain("a row has another number of columns than the header", got=f"{len(record)}: {_start(record)}",
                            expected=width, where=f"{where}, line {line}",
                            hint="a value that contains the separator needs quotation marks")
                )  # fmt: skip
        yield chunk


def _start(record: Sequence[str]) -> str:
    text = ", ".join(record)
    return text if len(text) <= 60 else text[:59] + "…"


# Parquet


def _read_parquet(file: Path, wanted: _Wanted) -> Dataset:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise MissingExtra(
            explain("reading Parquet needs pyarrow, which is not installed", hint="pip install 'atoll[frames]'")
        ) from None
    where = str(file)
    arrow = importlib.import_module("pyarrow")
    try:
        with parquet.ParquetFile(file) as table:
            names = list(table.schema_arrow.names)
            features = [_Column(name) for name in wanted.features(names, where)]
            extra = [name for name in (wanted.target, wanted.node) if name is not None]
            content = table.read(columns=[*(c.name for c in features), *extra])
    except arrow.ArrowException as error:
        raise InvalidData(explain("not a Parquet file that can be read", got=str(error)[:200], where=where)) from None
    if content.num_rows == 0:
        raise InvalidData(explain("the file has columns and no rows", got=", ".join(names[:10]), where=where))
    for column in features:
        _take_arrow(column, content.column(column.name), arrow)
    _check_columns(features, where, "row")
    y, target_names, task = _arrow_target(content.column(wanted.target), wanted.target, where, arrow)
    node = None
    if wanted.node is not None:
        values = _arrow_text(content.column(wanted.node))
        node = _node_ids(values, range(1, len(values) + 1), wanted.node, where, "row")
    return _dataset(file, features, y, target_names, task, node)


def _is_numeric(kind: Any, arrow: Any) -> bool:
    types = arrow.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind))


def _take_arrow(column: _Column, values: Any, arrow: Any) -> None:
    """Take a whole column of a table in columns: numbers as they are, anything else as text."""
    if not _is_numeric(values.type, arrow):
        return column.take(_arrow_text(values), range(1, len(values) + 1))
    kind = arrow.float64()
    plain = values.cast(arrow.int8()) if arrow.types.is_boolean(values.type) else values
    numbers = plain.cast(kind, safe=False).to_numpy()
    for attribute, wrong in (("missing", np.isnan(numbers)), ("infinite", np.isinf(numbers))):
        if wrong.any():
            first = int(np.argmax(wrong))
            setattr(column, attribute, _Found(int(wrong.sum()), first + 1, str(values[first].as_py())))
    column.chunks.append(numbers)
    return None


def _arrow_target(values: Any, name: str, where: str, arrow: Any) -> tuple[Array, tuple[str, ...], str]:
    if not _is_numeric(values.type, arrow):
        return _target(_arrow_text(values), range(1, len(values) + 1), name, where, "row")
    column = _Column(name)
    _take_arrow(column, values, arrow)
    _check_columns([column], where, "row")
    return _classes_or_quantity(column.array(), name)


def _arrow_text(values: Any) -> list[str]:
    return ["" if value is None else str(value) for value in values.to_pylist()]


_READERS: dict[str, Callable[[Path, _Wanted], Dataset]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".txt": _read_csv,
    ".parquet": _read_parquet,
}
