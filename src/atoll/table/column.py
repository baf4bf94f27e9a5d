"""One column of a table: numbers as they are, anything else as codes into its distinct values."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from atoll.errors import InvalidData, MissingExtra, explain
from atoll.trees import Array

__all__ = ["NA", "NAN", "NONE", "Column", "Kind", "common", "missing_value", "plain_dtype", "refuse"]

NAN, NONE, NA = -1, -2, -3


class Kind(NamedTuple):
    """What a column is, apart from its rows.

    Attributes
    ----------
    holds : {"numbers", "text", "bytes", "nothing"}
        Nothing: every value is missing, so that it may become a column of any other.
    dtype : str
        NumPy's name for the numbers, or for the distinct values that codes count: ``<i8``, ``|b1``, ``<U3``.
    coded : bool
        Whether scikit-learn sees text or Python objects, and not an array of numbers.
    declared : str
        The column's own type in a data frame (``category``, ``str``, ``Int64``, …); empty for a column of an array.
    """

    holds: str
    dtype: str
    coded: bool
    declared: str


class Column(NamedTuple):
    """One column of a table.

    Attributes
    ----------
    values : ndarray of shape (n,)
        Numbers or truth values as scikit-learn sees them, NaN where one is missing; or int32 codes: a position in
        `levels`, `NAN` (-1), `NONE` (-2) or `NA` (-3) by the way a missing value was written.
    levels : ndarray of shape (n_levels,), or None
        Sorted distinct values: text (dtype U), numbers or truth values. Some may not occur. None: `values` are numbers.
    declared : str
        The column's own type in a data frame.
    binary : bool
        Whether the values are bytes, of which `levels` spells each as the character of the same number.
    """

    values: Array
    levels: Array | None = None
    declared: str = ""
    binary: bool = False

    @classmethod
    def of(cls, values: Array, declared: str = "", where: str = "a column") -> Column:
        """A column out of a one-dimensional array of numbers, text or Python objects.

        Parameters
        ----------
        values : ndarray of shape (n,)
            As scikit-learn sees them.
        declared : str
            The column's own type in a data frame.
        where : str
            The column and its node, for messages.

        Raises
        ------
        InvalidData
            For dates, times, complex numbers, objects of other kinds, and text mixed with numbers.
        """
        kind = values.dtype.kind
        if kind in "biuf":
            narrow = values.dtype.itemsize == 2 and kind == "f"
            wide = kind == "f" and values.dtype.itemsize > 8
            return cls(np.ascontiguousarray(values, dtype=np.float64 if narrow or wide else None), None, declared)
        if kind in "US":
            levels, codes = np.unique(values, return_inverse=True)
            spelt = levels if kind == "U" else np.char.decode(levels, _BYTES).astype(f"U{levels.dtype.itemsize}")
            return cls(codes.astype(np.int32), spelt, declared, kind == "S")
        if kind == "O":
            return cls._of_objects(values, declared, where)
        raise refuse(_FAMILIES.get(kind, str(values.dtype)), where)

    @classmethod
    def _of_objects(cls, values: Array, declared: str, where: str) -> Column:
        """Codes of Python objects, by a table of what was seen; so 1 and True are one value, as in a set."""
        seen: dict[Any, int] = {}
        try:
            first = np.fromiter((seen.setdefault(v, len(seen)) for v in values.tolist()), np.int64, len(values))
        except TypeError:
            raise refuse("nested values", where) from None
        missing = [_missing_code(value) for value in seen]
        known = [value for value, code in zip(seen, missing, strict=True) if code is None]
        binary = any(isinstance(value, bytes) for value in known)
        levels, order = np.unique(_levels(known, where), return_inverse=True)
        places = iter(order.tolist())
        codes = np.array([next(places) if code is None else code for code in missing], dtype=np.int32)
        return cls(codes[first], levels, declared, binary)

    @classmethod
    def empty(cls, kind: Kind) -> Column:
        """A column without rows."""
        none = np.zeros(0, dtype=kind.dtype)
        if not kind.coded:
            return cls(none, None, kind.declared)
        return cls(np.zeros(0, dtype=np.int32), none, kind.declared, kind.holds == "bytes")

    def specimen(self) -> Column:
        """A column of one row of the same kind: a zero, or the text ``x``."""
        if self.levels is None:
            return self._replace(values=np.zeros(1, dtype=self.values.dtype))
        levels = np.array(["x"] if self.levels.dtype.kind == "U" else [0]).astype(self.levels.dtype)
        return self._replace(values=np.zeros(1, dtype=np.int32), levels=levels)

    @property
    def kind(self) -> Kind:
        """What this column is, apart from its rows."""
        if self.levels is None:
            dtype, nothing = self.values.dtype, bool(len(self.values)) and np.isnan(self.values[0])
            nothing = nothing and bool(np.isnan(self.values).all())
        else:
            dtype, nothing = self.levels.dtype, not (self.values >= 0).any() and len(self.values) > 0
        held = "numbers" if dtype.kind != "U" else "bytes" if self.binary else "text"
        holds = "nothing" if nothing else held
        return Kind(holds, dtype.str, self.levels is not None, self.declared)

    @property
    def missing(self) -> Array:
        """Which values are missing, a mask of shape (n,)."""
        if self.levels is not None:
            return self.values < 0
        return np.isnan(self.values) if self.values.dtype.kind == "f" else np.zeros(len(self.values), dtype=bool)

    def take(self, rows: Array | slice) -> Column:
        """Some of the rows."""
        return self._replace(values=self.values[rows])

    def objects(self) -> Array:
        """The values as Python objects: text, numbers, and missing values as they were written."""
        if self.levels is None:
            return self.values.astype(object)
        levels = self.levels.tolist()
        return self._looked_up([text.encode(_BYTES) for text in levels] if self.binary else levels)

    def plain(self) -> Array:
        """The values of a column without missing ones as an array of numbers, text or bytes."""
        if self.levels is None:
            return self.values
        dtype = plain_dtype(self)
        levels = np.char.encode(self.levels, _BYTES) if self.binary else self.levels
        return levels.astype(dtype)[self.values] if len(levels) else np.zeros(len(self.values), dtype=dtype)

    def numbers(self) -> Array:
        """The values as numbers, NaN where one is missing."""
        if self.levels is None:
            return self.values
        if not len(self.levels):
            return np.full(len(self.values), np.nan)
        found = self.levels.astype(np.float64)[np.maximum(self.values, 0)]
        found[self.values < 0] = np.nan
        return found

    def _looked_up(self, levels: list[Any]) -> Array:
        """Codes to objects; a negative code counts from the end of the table, where missing values stand."""
        used = {int(code) for code in np.unique(self.values[self.values < 0])}
        table = np.empty(len(levels) + 3, dtype=object)
        table[: len(levels)] = levels
        for code in used:
            table[code] = missing_value(code)
        return table[self.values]

    def become(self, kind: Kind) -> Column:
        """The same values as a column of the kind that nodes agreed on."""
        if not kind.coded:
            return Column(self.numbers().astype(kind.dtype, copy=False), None, kind.declared)
        if self.levels is None:
            absent = self.missing
            levels, codes = np.unique(self.values[~absent], return_inverse=True)
            values = np.full(len(absent), NAN, dtype=np.int32)
            values[~absent] = codes
        else:
            values, levels = self.values, self.levels
        text = np.dtype(kind.dtype).kind == "U"
        if (levels.dtype.kind == "U") != text or not len(levels):
            levels = np.zeros(0, dtype=np.str_ if text else kind.dtype)
        return Column(values, levels if text else levels.astype(kind.dtype), kind.declared, kind.holds == "bytes")


def plain_dtype(column: Column) -> np.dtype[Any]:
    """The type of a column as an array: its numbers', or as wide a text or string of bytes as its longest value."""
    if column.levels is None:
        return column.values.dtype
    width = max(column.levels.dtype.itemsize // 4, 1)
    return (
        np.dtype(f"{'S' if column.binary else 'U'}{width}") if column.levels.dtype.kind == "U" else column.levels.dtype
    )


def missing_value(code: int) -> Any:
    """What stands for a code below zero."""
    if code == NA:
        return _pandas().NA
    return None if code == NONE else np.nan


def _pandas() -> Any:
    try:
        return importlib.import_module("pandas")
    except ImportError:
        hint = "pip install 'atoll[frames]'"
        raise MissingExtra(explain("these rows came from pandas, which is not installed here", hint=hint)) from None


def common(kinds: Sequence[Kind]) -> Kind | None:
    """The kind that takes the values of a column on every node.

    Parameters
    ----------
    kinds : sequence of Kind
        One per node.

    Returns
    -------
    Kind or None
        None where some hold text and others numbers.
    """
    full = [k for k in kinds if k.holds != "nothing"] or list(kinds)
    coded = any(k.coded for k in kinds)
    told = full if coded else kinds
    if len({k.holds for k in full}) > 1:
        return None
    if any(np.dtype(k.dtype).kind == "U" for k in told):
        told = [k for k in told if np.dtype(k.dtype).kind == "U"]
    dtype = np.result_type(*[np.dtype(k.dtype) for k in told])
    names = {_named(k) for k in (full if coded else kinds)} if any(k.declared for k in kinds) else {""}
    plain = "" if names == {""} else "object" if coded else dtype.name
    return Kind(full[0].holds, dtype.str, coded, names.pop() if len(names) == 1 else plain)


def _named(kind: Kind) -> str:
    return kind.declared or np.dtype(kind.dtype).name


_BYTES = "latin-1"  # which spells every byte as one character, in the same order
_FAMILIES = {"M": "dates", "m": "durations", "c": "complex numbers", "V": "records"}
_HINTS = {
    "dates": "turn them into numbers first, such as days since a start, the month, or the day of the week",
    "times": "turn them into numbers first, such as seconds since midnight",
    "durations": "turn them into numbers first, such as seconds",
    "text and bytes": "decode the bytes into text",
    "complex numbers": "give real and imaginary part a column each",
    "nested values": "give each part a column of its own",
    "text and numbers": "make the column all text or all numbers",
}
_NUMBERS = (bool, np.bool_, int, np.integer, float, np.floating)


def refuse(what: str, where: str) -> InvalidData:
    """The error for a column that no estimator here can use."""
    hint = _HINTS.get(what, "turn the column into numbers or text, or leave it out")
    return InvalidData(explain(f"{where} holds {what}", expected="numbers, text or truth values", hint=hint))


def _missing_code(value: Any) -> int | None:
    if value is None:
        return NONE
    if type(value).__name__ == "NAType":
        return NA
    return NAN if isinstance(value, float | np.floating) and value != value else None


def _levels(known: list[Any], where: str) -> Array:
    """Distinct values as an array of one type."""
    if not known:
        return np.zeros(0)
    text = [isinstance(v, str | bytes) for v in known]
    if len({type(v) is bytes for v in known}) == 1 and all(text):
        spelt = [v.decode(_BYTES) if isinstance(v, bytes) else v for v in known]
        if any(v.endswith("\0") for v in spelt):
            raise InvalidData(explain(f"{where} holds text that ends with a null character", hint="strip it"))
        return np.array(spelt, dtype=np.str_)
    numeric = [isinstance(v, _NUMBERS) for v in known]
    strange = [v for v, t, n in zip(known, text, numeric, strict=True) if not (t or n)]
    if strange:
        raise refuse(_family(strange[0]), where)
    if any(text):
        raise refuse("text and bytes" if all(text) else "text and numbers", where)
    try:
        levels = np.array(known)
        if levels.dtype.kind in "biuf" and (levels.dtype.kind != "f" or _exact(known)):
            return levels
    except OverflowError:
        pass
    raise InvalidData(explain(f"{where} holds whole numbers of more than 64 bits", hint="make them text or floats"))


def _exact(known: list[Any]) -> bool:
    return all(not isinstance(v, int | np.integer) or int(float(v)) == v for v in known)


def _family(value: Any) -> str:
    """What an object is, in the words of a refusal."""
    name = type(value).__name__
    if isinstance(value, complex | np.complexfloating):
        return "complex numbers"
    if isinstance(value, list | tuple | dict | set | frozenset | np.ndarray):
        return "nested values"
    if "delta" in name.lower() or name == "Period":
        return "durations"
    if any(word in name.lower() for word in ("date", "stamp", "nat")):
        return "dates"
    return "times" if name == "time" else f"objects of class {name}"
