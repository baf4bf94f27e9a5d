"""Two values held against each other: shapes, types, and how far their numbers lie apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator

from atoll.trees import Array

__all__ = ["MISSING", "Difference", "compare", "fitted_attributes", "parts"]

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "nothing"})()
"""Stands for a value that one of the two lacks."""


class Difference(NamedTuple):
    """How far one value over nodes is from the pooled one.

    Attributes
    ----------
    name : str
        Of the attribute, such as ``coef_`` or ``steps[0].mean_``, or of the method that answered.
    kind : str
        Type of the pooled value: the dtype of numbers, or the class of anything else.
    shape : tuple of int
        Its shape.
    differ : int
        Entries that differ at all.
    absolute : float
        The largest absolute difference; NaN where there are no numbers to compare.
    relative : float
        The largest difference in units of the pooled value, for values below `atol` / `rtol` in units of that.
    ok : bool
        Whether it is the same: of whole numbers and text exactly, of others within the tolerances.
    why : str
        What else is different: a type, a shape, an error.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    differ: int
    absolute: float
    relative: float
    ok: bool
    why: str = ""


def fitted_attributes(estimator: Any) -> list[str]:
    """Names of the public fitted attributes of an estimator, and of the parameters that hold fitted estimators."""
    names = [n for n in vars(estimator) if n.endswith("_") and not n.startswith("_")]
    return sorted(names) + [n for n in ("steps", "transformer_list") if n in vars(estimator)]


def parts(name: str, pooled: Any, over: Any) -> Iterator[tuple[str, Any, Any]]:
    """The values that two attributes are made of, side by side: of lists, mappings and estimators those inside.

    Parameters
    ----------
    name : str
        Of the attribute; empty for the estimator itself.
    pooled, over : object
        The two; `MISSING` where one is not there.

    Yields
    ------
    name, pooled, over
    """
    if isinstance(pooled, BaseEstimator) and isinstance(over, BaseEstimator):
        for own in dict.fromkeys([*fitted_attributes(pooled), *fitted_attributes(over)]):
            full = f"{name}.{own}" if name else own
            yield from parts(full, getattr(pooled, own, MISSING), getattr(over, own, MISSING))
    elif isinstance(pooled, dict) and isinstance(over, dict):
        for key in dict.fromkeys([*pooled, *over]):
            yield from parts(f"{name}[{key!r}]", pooled.get(key, MISSING), over.get(key, MISSING))
    elif _named(pooled) and _named(over) and len(pooled) == len(over):
        start = name.rpartition(".")[0]  # of steps[0] the name says more
        for a, b in zip(pooled, over, strict=True):
            yield from parts(f"{start}.{a[0]}" if start else a[0], a[1], b[1])
    elif _holds_objects(pooled) and _holds_objects(over) and len(pooled) == len(over):
        for i, (a, b) in enumerate(zip(pooled, over, strict=True)):
            yield from parts(f"{name}[{i}]", a, b)
    else:
        yield name, pooled, over


def _named(value: Any) -> bool:
    """Whether these are the parts of a pipeline or the like, each with its name."""
    return isinstance(value, list) and all(isinstance(v, tuple) and v and isinstance(v[0], str) for v in value)


def _holds_objects(value: Any) -> bool:
    """Whether the things inside are to be looked at one by one: not where they are one array of text."""
    if isinstance(value, np.ndarray):
        return value.dtype == object and not all(isinstance(v, str | float | None) for v in value.ravel())
    return isinstance(value, list | tuple) and not all(isinstance(v, bool | int | float | str) for v in value)


def compare(name: str, pooled: Any, over: Any, rtol: float, atol: float) -> Difference:
    """Hold two values against each other.

    Parameters
    ----------
    name : str
        Of the attribute.
    pooled, over : object
        The two.
    rtol, atol : float
        Numbers a and b, the pooled one, are the same where ``|a - b| <= rtol * |b| + atol``.

    Returns
    -------
    Difference
    """
    if pooled is MISSING or over is MISSING:
        there = over if pooled is MISSING else pooled
        why = "only over nodes" if pooled is MISSING else "missing over nodes"
        return Difference(
            name, _kind(there), np.shape(there) if _is_array(there) else (), 0, np.nan, np.nan, False, why
        )
    if not (_is_array(pooled) and _is_array(over)):
        same = type(pooled) is type(over) and (not _is_plain(pooled) or pooled == over)
        why = "" if same else f"{over!r:.60} instead of {pooled!r:.60}"
        return Difference(name, _kind(pooled), (), int(not same), np.nan, np.nan, same, why)
    return _arrays(name, _array(pooled), _array(over), rtol, atol)


def _arrays(name: str, pooled: Array, over: Array, rtol: float, atol: float) -> Difference:
    kind, shape = str(pooled.dtype), pooled.shape
    if over.shape != shape:
        return Difference(name, kind, shape, 0, np.nan, np.nan, False, f"shape {over.shape} instead of {shape}")
    text = pooled.dtype.kind in "OUS"
    same_type = over.dtype.kind == pooled.dtype.kind if text else over.dtype == pooled.dtype
    why = "" if same_type else f"{over.dtype} instead of {pooled.dtype}"
    unequal = np.asarray((over != pooled) & ~(_nan(over) & _nan(pooled)))
    differ = int(unequal.sum())
    if "f" not in (pooled.dtype.kind, over.dtype.kind) or text:
        absolute = np.nan if text or not pooled.size else float(_gap(pooled, over, unequal).max(initial=0.0))
        return Difference(name, kind, shape, differ, absolute, np.nan, same_type and not differ, why)
    gap = _gap(pooled, over, unequal)
    size = np.abs(np.nan_to_num(pooled.astype(np.float64), posinf=0.0, neginf=0.0))
    least = max(rtol, 10 * float(np.finfo(pooled.dtype).eps)) if pooled.dtype.kind == "f" and rtol else rtol
    ok = same_type and bool((gap <= least * size + atol).all())
    unit = size + (atol / rtol if rtol else 0.0)
    relative = np.divide(gap, unit, out=gap.copy(), where=unequal & (unit > 0))
    return Difference(name, kind, shape, differ, float(gap.max(initial=0.0)), float(relative.max(initial=0.0)), ok, why)


def _gap(pooled: Array, over: Array, unequal: Array) -> Array:
    """Absolute differences; infinite where one of the two is not finite."""
    a, b = (x.astype(np.float64) for x in (pooled, over))
    with np.errstate(invalid="ignore"):
        gap = np.abs(a - b)
    return np.where(unequal, np.where(np.isnan(gap), np.inf, gap), 0.0)


def _nan(values: Array) -> Array:
    if values.dtype.kind == "O":
        return np.asarray([isinstance(v, float) and v != v for v in values.ravel()], dtype=bool).reshape(values.shape)
    return np.isnan(values) if values.dtype.kind in "fc" else np.zeros(values.shape, dtype=bool)


def _is_array(value: Any) -> bool:
    if isinstance(value, np.ndarray | np.generic | bool | int | float) or sp.issparse(value):
        return True
    return isinstance(value, list | tuple) and all(isinstance(v, bool | int | float | str) for v in value)


def _array(value: Any) -> Array:
    dense: Any = value.toarray() if sp.issparse(value) else value  # type: ignore[attr-defined]
    return np.asarray(dense)


def _is_plain(value: Any) -> bool:
    """Whether `==` says that two such values are the same; of other objects the class is compared."""
    return value is None or isinstance(value, str | slice | type)


def _kind(value: Any) -> str:
    return str(_array(value).dtype) if _is_array(value) else type(value).__name__
