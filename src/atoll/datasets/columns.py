"""Columns of a table as they are read: text into numbers, and what stands in the way."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from atoll.errors import InvalidData, explain
from atoll.table import NAN
from atoll.table import Column as Typed
from atoll.table.column import refuse
from atoll.trees import Array

__all__ = [
    "Column",
    "Content",
    "Found",
    "Target",
    "Words",
    "as_number",
    "check_columns",
    "node_column",
    "target_column",
    "target_of",
]

_MISSING_NUMBER = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
_MISSING_TEXT = frozenset({"", "nan", "null"})  # "NA" and "none" may be labels
_TRUTH = {"true": 1.0, "false": 0.0}
_WHOLE = re.compile(r"[\d\s+-]*", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}([T ]\d{1,2}:\d{2}.*)?|\d{1,2}([./])\d{1,2}\2\d{2,4}", re.ASCII)
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
    whole, truth : bool
        Whether all values that are there are written as whole numbers, or as true and false.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.whole = self.truth = True
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
            written = "".join(values)
            plain = bool(np.isfinite(numbers).all()) and "_" not in written
            self.whole = self.whole and _WHOLE.fullmatch(written) is not None
            self.truth = False
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

    def typed(self) -> Typed:
        """All values in the type that they are written in, as pandas would read them; the column then forgets them."""
        numbers = self.give()
        if self.truth and not np.isnan(numbers).any():
            return Typed(numbers.astype(np.bool_), None, "bool")
        if self.whole and not np.isnan(numbers).any() and np.abs(numbers).max(initial=0) < 2**53:
            return Typed(numbers.astype(np.int64), None, "int64")
        return Typed(numbers, None, "float64")

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
                word = value.strip().lower()
                self.truth = self.truth and word in _TRUTH
                self.whole = self.whole and _WHOLE.fullmatch(word) is not None
        return numbers


class Words:
    """A column of text, taken chunk by chunk: each distinct value is held once."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}
        self._places = array("q")

    def take(self, values: Sequence[str]) -> None:
        """Take further values."""
        seen = self._seen
        self._places.extend([seen.setdefault(value.strip(), len(seen)) for value in values])

    def typed(self, where: str) -> Typed:
        """All values as a column of a table.

        Raises
        ------
        InvalidData
            If all of them are dates; `where` names the column.
        """
        known = [word for word in self._seen if word.lower() not in _MISSING_TEXT]
        if known and all(_DATE.fullmatch(word) for word in known):
            raise refuse("dates", where)
        levels = np.unique(np.array(known, dtype=np.str_)) if known else np.zeros(0)
        codes = {word: code for code, word in enumerate(levels.tolist())}
        of_place = np.array([codes.get(word, NAN) for word in self._seen], dtype=np.int32)
        return Typed(of_place[np.asarray(self._places)], levels, "str" if known else "object")


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


def check_columns(
    columns: Sequence[Column], where: str, unit: str, *, features: bool = True, kinds: bool = False
) -> None:
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
    kinds : bool, default=False
        Whether text and missing values may stay what they are, so that only infinite numbers are refused.

    Raises
    ------
    InvalidData
        With each column's first such value and its line, and what to do.
    """
    instead = f", or {_LEAVE_OUT}" if features else ""
    text = [(c.name, c.text) for c in columns if c.text]
    if text and not kinds:
        comma = all(_is_decimal_comma(first.value) for _, first in text)
        hint = "encode it first, for instance with sklearn.preprocessing.OneHotEncoder" + instead
        hint = "write decimals with a point instead of a comma" if comma else hint
        got = _listed([f"column {n!r}, such as {f.value!r} in {unit} {f.line}" for n, f in text])
        raise InvalidData(explain("features must be numbers, and there is text", got=got, where=where, hint=hint))
    missing = [(c.name, c.missing) for c in columns if c.missing]
    if missing and not kinds:
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


class Content(NamedTuple):
    """What a reader gives: features that can be used, and target and node ids if they were asked for.

    Attributes
    ----------
    features : list of Column
        Columns of numbers; or, where kinds are kept, of a table.
    target : Target or None
    node : ndarray of shape (n_rows,), or None
    names : tuple of str
        Of the features.
    """

    features: list[Column] | list[Typed]
    target: Target | None
    node: Array | None
    names: tuple[str, ...]


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
