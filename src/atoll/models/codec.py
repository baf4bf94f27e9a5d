"""Estimators to messages and back."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import sklearn
from numpy.random import Generator, RandomState
from sklearn.exceptions import InconsistentVersionWarning

from atoll import wire
from atoll.errors import WireError, explain
from atoll.models.classes import check_attribute, check_parameters, find_class, public_name
from atoll.models.hooks import find_hook
from atoll.models.values import KINDS, PLAIN, is_array

__all__ = ["Model", "decode", "encode", "from_bytes", "to_bytes"]

Estimator = Any


class Model(NamedTuple):
    """A scikit-learn estimator as data.

    Attributes
    ----------
    name : str
        Its class, by the public name: ``sklearn.linear_model.Ridge``.
    version : str
        Version of scikit-learn that wrote it.
    params : dict
        Parameters, as `get_params(deep=False)` gives them, values written as in `values`.
    fitted : dict
        Fitted attributes, likewise; empty if the estimator is not fitted.
    """

    name: str
    version: str
    params: dict[str, Any]
    fitted: dict[str, Any]


def encode(estimator: Estimator) -> Model:
    """Write an estimator, fitted or not, as data.

    Parameters
    ----------
    estimator : estimator
        Of a public class of scikit-learn.

    Returns
    -------
    Model
        Shares the estimator's arrays.

    Raises
    ------
    WireError
        Naming what in the estimator is not data: a function, a tree, an object of another library.

    Examples
    --------
    >>> from sklearn.linear_model import LinearRegression
    >>> from atoll import models
    >>> model = models.encode(LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0]))
    >>> model.name
    'sklearn.linear_model.LinearRegression'
    >>> models.decode(model).predict([[2.0]])
    array([5.])
    """
    name, params, fitted = _take_apart(estimator, type(estimator).__name__)
    return Model(name, sklearn.__version__, params, fitted)


def decode(model: Model, *, allow: Collection[type] | None = None) -> Estimator:
    """Build the estimator that a message describes.

    Parameters
    ----------
    model : Model
        From `encode`, by way of the wire.
    allow : collection of type, optional
        Classes expected, those inside a pipeline included; None: every public estimator of scikit-learn.

    Returns
    -------
    estimator
        With its own copies of all arrays.

    Raises
    ------
    WireError
        If the message describes no such estimator.

    Warns
    -----
    InconsistentVersionWarning
        If another version of scikit-learn wrote the message.
    """
    if model.version != sklearn.__version__:
        versions = {"current_sklearn_version": sklearn.__version__, "original_sklearn_version": model.version}
        warnings.warn(InconsistentVersionWarning(estimator_name=model.name, **versions), stacklevel=2)
    try:
        return _Builder(allow).build(model.name, model.params, model.fitted)
    except WireError:
        raise
    except Exception as error:  # attributes of the wrong kind reach the constructors and checks of other libraries
        raise WireError(explain(f"this is not a {model.name}", got=f"{type(error).__name__}: {error}")) from error


def to_bytes(estimator: Estimator) -> bytes:
    """Write an estimator as bytes; see `encode`."""
    return wire.encode(encode(estimator))


def from_bytes(
    data: wire.Buffer, *, allow: Collection[type] | None = None, limits: wire.Limits = wire.DEFAULT_LIMITS
) -> Estimator:
    """Read an estimator from bytes; see `decode` and `atoll.wire.decode`."""
    return decode(wire.decode(data, Model, limits), allow=allow)


def _take_apart(estimator: Estimator, where: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    kind = type(estimator)
    name = public_name(kind)
    if name is None:
        hint = "only public estimators of scikit-learn travel"
        raise WireError(explain(f"{where} cannot be written as data", got=f"{kind.__module__}.{kind.__name__}", hint=hint))
    params = estimator.get_params(deep=False)
    state = {key: value for key, value in vars(estimator).items() if key not in params}
    fitted = find_hook(kind).dump(estimator, state)
    for key, value in params.items():
        if isinstance(value, RandomState | Generator):
            _refuse(value, f"{where}.{key}", "give a seed or None instead")
    return (
        name,
        {key: _write(value, f"{where}.{key}") for key, value in params.items()},
        {key: _write(value, f"{where}.{key}") for key, value in fitted.items()},
    )


def _write(value: Any, where: str) -> Any:
    if type(value) in PLAIN:
        return value
    if type(value) is list:
        return [_write(item, f"{where}[{i}]") for i, item in enumerate(value)]
    deeper = partial(_write, where=where)
    for name, kind in KINDS.items():
        if kind.holds(value):
            return {name: kind.write(value, deeper)}
    if is_array(value):
        return np.ascontiguousarray(value) if value.ndim else np.array(value)
    if hasattr(value, "get_params") and not isinstance(value, type):
        return {"model": list(_take_apart(value, where))}
    _refuse(value, where)


def _refuse(value: Any, where: str, hint: str | None = None) -> None:
    if hint is None:
        hint = "functions are code, which does not travel" if callable(value) else None
    kind = getattr(value, "__qualname__", None) if callable(value) else None
    got = f"the function {kind}" if kind else f"an object of type {type(value).__module__}.{type(value).__qualname__}"
    raise WireError(explain(f"{where} cannot be written as data", got=got, hint=hint))


class _Builder:
    """Builds estimators of the classes that are expected."""

    def __init__(self, allow: Collection[type] | None) -> None:
        self.allow = allow

    def build(self, name: str, params: dict[str, Any], fitted: dict[str, Any]) -> Estimator:
        kind = find_class(name)
        if self.allow is not None and kind not in self.allow:
            expected = ", ".join(sorted(one.__name__ for one in self.allow))
            raise WireError(explain("a model is of a class that was not expected", got=name, expected=expected))
        check_parameters(kind, params)
        for key in fitted:
            check_attribute(kind, key)
        estimator = kind(**{key: self.read(value) for key, value in params.items()})
        find_hook(kind).load(estimator, {key: self.read(value) for key, value in fitted.items()})
        return estimator

    def read(self, data: Any) -> Any:
        if type(data) in PLAIN:
            return data
        if type(data) is list:
            return [self.read(item) for item in data]
        if type(data) is np.ndarray:
            return np.array(data)
        (name, inside), *more = data.items()
        if more or name not in (*KINDS, "model"):
            raise WireError(explain("a model holds a value of no known kind", got=sorted(map(str, data))))
        return self.build(*inside) if name == "model" else KINDS[name].read(inside, self.read)
