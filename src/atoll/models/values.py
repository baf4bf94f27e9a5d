"""Values of parameters and fitted attributes that are not plain, each kind with how it is written and read.

Plain values, lists and C-ordered arrays stand in a message as they are. Any other value stands there as a dictionary of
one entry, `{kind: data}`; so dictionaries themselves are a kind too.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.random import RandomState
from sklearn.utils import Bunch

from atoll.errors import WireError, explain
from atoll.table import NA, missing_value
from atoll.trees import Array

__all__ = ["KINDS", "PLAIN", "Deeper", "Kind", "is_array"]

Deeper = Callable[[Any], Any]
PLAIN = (type(None), bool, int, float, str)


class Kind(NamedTuple):
    """One kind of value.

    Attributes
    ----------
    holds : callable
        Whether a value is of this kind.
    write : callable
        The value's data; calls its second argument for every value inside.
    read : callable
        The value that the data describe, likewise; may raise anything if they describe none.
    """

    holds: Callable[[Any], bool]
    write: Callable[[Any, Deeper], Any]
    read: Callable[[Any, Deeper], Any]


def is_array(value: object) -> bool:
    """Whether a value is an array of numbers or text, in any order.

    Parameters
    ----------
    value : object
        Anything.

    Returns
    -------
    bool
    """
    return type(value) in (np.ndarray, np.memmap) and _travels(value.dtype)  # type: ignore[attr-defined]


def _travels(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biufcU" and dtype.char not in "gG"


def _is_objects(value: object) -> bool:
    return type(value) is np.ndarray and value.dtype.kind == "O"


def _write_objects(value: Array, deeper: Deeper) -> list[Any]:
    return [list(value.shape), [deeper(item) for item in value.ravel()]]


def _read_objects(data: Any, deeper: Deeper) -> Array:
    shape, items = data
    if math.prod(shape) != len(items):
        raise WireError(explain("an array of objects has another size than its shape", got=len(items), expected=shape))
    flat = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        flat[i] = deeper(item)
    return flat.reshape(shape)


_SPARSE = {kind.__name__: kind for kind in (sp.csr_matrix, sp.csc_matrix, sp.csr_array, sp.csc_array)}


def _write_sparse(value: Any, deeper: Deeper) -> list[Any]:
    parts = [deeper(np.ascontiguousarray(part)) for part in (value.data, value.indices, value.indptr)]
    return [type(value).__name__, list(value.shape), *parts]


def _read_sparse(data: Any, deeper: Deeper) -> Any:
    """Check the indices, which compiled code trusts."""
    name, shape, *parts = data
    values, indices, indptr = map(deeper, parts)
    if indices.dtype != indptr.dtype or indices.dtype not in (np.int32, np.int64):
        raise WireError(explain("a sparse matrix has indices of another type", got=(indices.dtype, indptr.dtype)))
    matrix = _SPARSE[name]((values, indices, indptr), shape=tuple(shape))
    matrix.check_format(full_check=True)
    matrix.indices, matrix.indptr = indices, indptr  # which SciPy may have narrowed
    return matrix


_FUNCTIONS = {
    "mean": "numpy",
    "chi2": "sklearn.feature_selection",
    "f_classif": "sklearn.feature_selection",
    "f_regression": "sklearn.feature_selection",
    "mutual_info_classif": "sklearn.feature_selection",
    "mutual_info_regression": "sklearn.feature_selection",
    "r_regression": "sklearn.feature_selection",
}


def _function(name: str) -> Any:
    """One of the few functions that scikit-learn's own defaults and examples pass as parameters."""
    return getattr(importlib.import_module(_FUNCTIONS[name]), name)


def _is_function(value: object) -> bool:
    name = getattr(value, "__name__", None)
    return isinstance(name, str) and name in _FUNCTIONS and _function(name) is value


_TYPES = {kind.__name__: kind for kind in (bool, int, float, str, object)} | {
    f"numpy.{kind.__name__}": kind
    for kind in (
        np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64, np.float16,
        np.float32, np.float64, np.complex64, np.complex128, np.str_, np.object_,
    )
}  # fmt: skip


def _type_name(value: Any) -> str | None:
    return next((name for name, kind in _TYPES.items() if kind is value), None)


def _write_dtype(value: Any, _: Deeper) -> Any:
    return value.str


def _read_dtype(data: Any, _: Deeper) -> Any:
    if not re.fullmatch(r"[<>|][biufcUO]\d{0,8}", data):
        raise WireError(explain("this is not the name of a dtype", got=data))
    return np.dtype(data)


def _write_random_state(value: RandomState, _: Deeper) -> list[Any]:
    _name, key, *rest = value.get_state(legacy=True)
    return [key, *rest]


def _read_random_state(data: Any, deeper: Deeper) -> RandomState:
    """Check the position, which compiled code trusts."""
    key, position, has_gauss, cached = data
    if not 0 <= position <= 624:
        raise WireError(explain("a random state has an impossible position", got=position, expected="from 0 to 624"))
    random_state = RandomState(0)
    random_state.set_state(("MT19937", deeper(key), position, has_gauss, cached))
    return random_state


def _items(value: dict[Any, Any], deeper: Deeper) -> list[list[Any]]:
    return [[deeper(key), deeper(item)] for key, item in value.items()]


def _mapping(data: Any, deeper: Deeper) -> dict[Any, Any]:
    return {deeper(key): deeper(item) for key, item in data}


KINDS: dict[str, Kind] = {
    "tuple": Kind(
        lambda value: type(value) is tuple,
        lambda value, deeper: [deeper(item) for item in value],
        lambda data, deeper: tuple(deeper(item) for item in data),
    ),
    "dict": Kind(lambda value: type(value) is dict, _items, _mapping),
    "bunch": Kind(lambda value: type(value) is Bunch, _items, lambda data, deeper: Bunch(**_mapping(data, deeper))),
    "slice": Kind(
        lambda value: type(value) is slice,
        lambda value, deeper: [deeper(part) for part in (value.start, value.stop, value.step)],
        lambda data, deeper: slice(*[deeper(part) for part in data]),
    ),
    "fortran": Kind(
        lambda value: is_array(value) and value.flags.f_contiguous and not value.flags.c_contiguous,
        lambda value, _: np.ascontiguousarray(value.T),
        lambda data, deeper: deeper(data).T,
    ),
    "na": Kind(
        lambda value: type(value).__name__ == "NAType", lambda value, _: None, lambda data, _: missing_value(NA)
    ),
    "objects": Kind(_is_objects, _write_objects, _read_objects),
    "scalar": Kind(
        lambda value: isinstance(value, np.generic) and _travels(value.dtype),
        lambda value, _: np.asarray(value),
        lambda data, _: data.reshape(())[()],
    ),
    "sparse": Kind(lambda value: _SPARSE.get(type(value).__name__) is type(value), _write_sparse, _read_sparse),
    "dtype": Kind(
        lambda value: isinstance(value, np.dtype) and (_travels(value) or value.kind == "O"),
        _write_dtype,
        _read_dtype,
    ),
    "type": Kind(
        lambda value: isinstance(value, type) and _type_name(value) is not None,
        lambda value, _: _type_name(value),
        lambda data, _: _TYPES[data],
    ),
    "function": Kind(_is_function, lambda value, _: value.__name__, lambda data, _: _function(data)),
    "random_state": Kind(
        lambda value: type(value) is RandomState and value.get_state(legacy=False)["bit_generator"] == "MT19937",
        _write_random_state,
        _read_random_state,
    ),
}
