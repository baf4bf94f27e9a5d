"""Columns of a table as they are read: text into numbers, and what stands in the way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from atoll.errors import InvalidData, explain
from atoll.trees import Array

__all__ = [
    "Column",
    "Found",
    "Table",
    "Target",
    "as_number",
    "check_columns",
    "node_column",
    "target_column",
    "target_of",
]

_MISSING_NUMBER = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
_MISSING_TEXT = frozenset({"", "nan", "null"})  # "NA" and "none" may be labels
_TRUTH = {"true": 1.0, "false": 0.0}
_LEAVE_OUT = "leave the column out (columns=, drop=, or --drop on the command line)"


class Found(NamedTuple):
    """Values of one kind: how many there are, and the first of them."""

    number: int
    line: int
    value: str


class Target(NamedTuple):
    """A target column.

    Attributes
    ----------
    y : ndarray of shape (n_rows,)
        int64 or text for classes, float64 for a quantity.
    names : tuple of str
        Names of the classes, in sorted order of their labels, or of the quantity.
    task : {"classification", "regression"}
    """

    y: Array
    names: tuple[str, ...]
    task: str


class Column:
    """A column of numbers, taken chunk by chunk; remembers what could not be used.

    Parameters
    ----------
    name : str
        Its name.

    Attributes
    ----------
    missing, infinite, text : Found or None
        Values that are missing, infinite, or neither numbers nor missing (true and false are 1 and 0); of text only the
        first value.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.missing: Found | None = None
        self.infinite: Found | None = None
        self.text: Found | None = None
        self._chunks: list[Array] = []

    def take(self, values: Sequence[str], lines: Sequence[int]) -> None:
        """Take further values, as text, and the lines they stand in. Once there is text, the rest is not looked at."""
        if self.text is not None:
            return
        try:
            numbers = np.fromiter(map(float, values), np.float64, len(values))
            plain = bool(np.isfinite(numbers).all()) and "_" not in "".join(values)
        except ValueError:
            plain = False
        self._chunks.append(numbers if plain else self._one_by_one(values, lines))

    def take_numbers(self, numbers: Array) -> None:
        """Take a whole column that is numbers already, with NaN where one is missing; rows count from 1."""
        for attribute, wrong in (("missing", np.isnan(numbers)), ("infinite", np.isinf(numbers))):
            if wrong.any():
                first = int(np.argmax(wrong))
                setattr(self, attribute, Found(int(wrong.sum()), first + 1, str(numbers[first])))
        self._chunks.append(numbers)

    def give(self) -> Array:
        """All values as an array, which the column then forgets."""
        numbers = np.concatenate(self._chunks)
        self._chunks.clear()
        return numbers

    def _one_by_one(self, values: Sequence[str], lines: Sequence[int]) -> Array:
        """Numbers out of values some of which are none, up to the first text."""
        numbers = np.full(len(values), np.nan)
        for i, (value, line) in enumerate(zip(values, lines, strict=True)):
            number = as_number(value)
            if value.strip().lower() in _MISSING_NUMBER:
                self.missing = _further(self.missing, line, value)
            elif number is None:
                self.text = Found(1, line, value)
                break
            elif math.isinf(number):
                self.infinite = _further(self.infinite, line, value)
            else:
                numbers[i] = number
        return numbers


def _further(found: Found | None, line: int, value: str) -> Found:
    return Found(1, line, value) if found is None else found._replace(number=found.number + 1)


def as_number(text: str) -> float | None:
    """What a text says as a number, true and false as 1 and 0; None where it is none. Python's 1_000 is none here."""
    word = text.strip().lower()
    if word in _TRUTH:
        return _TRUTH[word]
    try:
        return None if "_" in word else float(word)
    except ValueError:
        return None


def check_columns(columns: Sequence[Column], where: str, unit: str, *, features: bool = True) -> None:
    """Refuse columns that cannot be used, naming all that share the first kind of fault.

    Parameters
    ----------
    columns : sequence of Column
        Columns that have been read to the end.
    where : str
        The file, for messages.
    unit : {"line", "row"}
        What their lines count.
    features : bool, default=True
        Whether they could be left out.

    Raises
    ------
    InvalidData
        With each column's first such value and its line, and what to do.
    """
    instead = f", or {_LEAVE_OUT}" if features else ""
    text = [(c.name, c.text) for c in columns if c.text]
    if text:
        comma = all(_is_decimal_comma(first.value) for _, first in text)
        hint = "encode it first, for instance with sklearn.preprocessing.OneHotEncoder" + instead
        hint = "write decimals with a point instead of a comma" if comma else hint
        got = _listed([f"column {n!r}, such as {f.value!r} in {unit} {f.line}" for n, f in text])
        raise InvalidData(explain("features must be numbers, and there is text", got=got, where=where, hint=hint))
    missing = [(c.name, c.missing) for c in columns if c.missing]
    if missing:
        got = _listed([f"column {n!r}: {f.number}, the first in {unit} {f.line}" for n, f in missing])
        hint = "fill them in or drop these rows" + instead
        raise InvalidData(explain("values are missing", got=got, where=where, hint=hint))
    infinite = [(c.name, c.infinite) for c in columns if c.infinite]
    if infinite:
        got = _listed([f"column {n!r}: {f.number}, the first ({f.value}) in {unit} {f.line}" for n, f in infinite])
        hint = "write finite numbers or drop these rows" + instead
        raise InvalidData(explain("values are infinite", got=got, where=where, hint=hint))


def _listed(found: Sequence[str]) -> str:
    return "; ".join(found[:10]) + (f"; and {len(found) - 10} more columns" if len(found) > 10 else "")


def _is_decimal_comma(text: str) -> bool:
    return text.count(",") == 1 and as_number(text.replace(",", ".")) is not None


class Table(NamedTuple):
    """What a reader gives: features that can be used, and target and node ids if they were asked for."""

    features: list[Column]
    target: Target | None
    node: Array | None


def target_column(values: Sequence[str], lines: Sequence[int], name: str, where: str, unit: str) -> Target:
    """A target out of text: numbers if all that is there are numbers, labels otherwise.

    Parameters
    ----------
    values : sequence of str
        The column.
    lines : sequence of int
        Where its values stand.
    name, where, unit : str
        Column, file, and "line" or "row", for messages.

    Returns
    -------
    Target

    Raises
    ------
    InvalidData
        For values that are missing or infinite.
    """
    column = Column(name)
    column.take(values, lines)
    if column.text is None:
        check_columns([column], where, unit, features=False)
        return target_of(column.give(), name)
    labels = _labels(values, lines, name, where, unit)
    return Target(labels, tuple(np.unique(labels).tolist()), "classification")


def target_of(numbers: Array, name: str) -> Target:
    """A target out of finite numbers: int64 classes where all are whole, a float64 quantity otherwise."""
    if (numbers == np.floor(numbers)).all() and np.abs(numbers).max() < 2**53:
        whole = numbers.astype(np.int64)
        return Target(whole, tuple(map(str, np.unique(whole).tolist())), "classification")
    return Target(numbers, (name,), "regression")


def node_column(values: Sequence[str], lines: Sequence[int], name: str, where: str, unit: str) -> Array:
    """Node ids out of text: int64 where all are whole numbers without leading zeros, to sort by value; else text."""
    text = _labels(values, lines, name, where, unit)
    whole = all(v.isdecimal() and v.isascii() and len(v) <= 18 and v == str(int(v)) for v in set(text.tolist()))
    return text.astype(np.int64) if whole else text


def _labels(values: Sequence[str], lines: Sequence[int], name: str, where: str, unit: str) -> Array:
    column = Column(name)
    for value, line in zip(values, lines, strict=True):
        if value.strip().lower() in _MISSING_TEXT:
            column.missing = _further(column.missing, line, value)
    check_columns([column], where, unit, features=False)
    return np.array([value.strip() for value in values], dtype=np.str_)
