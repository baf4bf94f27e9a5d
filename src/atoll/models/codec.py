"""Estimators to messages and back."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from functools import partial
from typing import Any, NamedTuple, NoReturn

import numpy as np
import sklearn
from numpy.random import Generator, RandomState
from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning

from atoll import wire
from atoll.errors import WireError, closest, explain
from atoll.models.classes import INNER, check_attribute, check_parameters, class_name, find_class, parameter_names
from atoll.models.hooks import find_hook
from atoll.models.values import KINDS, PLAIN, is_array

__all__ = ["Model", "decode", "encode", "from_bytes", "to_bytes"]


_OF_FITTING = ("_metadata_request",)  # says what `fit` is to be given, and a model that travels is fitted


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


def encode(estimator: Any) -> Model:
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
    try:
        name, params, fitted = _take_apart(estimator, type(estimator).__name__)
    except RecursionError:
        raise WireError(explain(f"a {type(estimator).__name__} holds itself, or too much within itself")) from None
    return Model(name, sklearn.__version__, params, fitted)


def decode(model: Model, *, allow: Collection[type] | None = None) -> Any:
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
        hint = None if model.version == sklearn.__version__ else f"scikit-learn {model.version} wrote it"
        got = f"{type(error).__name__}: {error}"
        raise WireError(explain(f"this is not a {model.name}", got=got, hint=hint)) from error


def to_bytes(estimator: Any) -> bytes:
    """Write an estimator as bytes: `encode`, then the wire format.

    Parameters
    ----------
    estimator : estimator
        Of a public class of scikit-learn.

    Returns
    -------
    bytes

    Raises
    ------
    WireError
        As for `encode`.
    """
    return wire.encode(encode(estimator))


def from_bytes(
    data: wire.Buffer, *, allow: Collection[type] | None = None, limits: wire.Limits = wire.DEFAULT_LIMITS
) -> Any:
    """Read an estimator from bytes: the wire format, then `decode`.

    Parameters
    ----------
    data : bytes-like
        From `to_bytes`.
    allow : collection of type, optional
        As for `decode`.
    limits : Limits
        As for `atoll.wire.decode`.

    Returns
    -------
    estimator

    Raises
    ------
    WireError
        If the bytes are not a message, or the message is no estimator.
    """
    return decode(wire.decode(data, Model, limits), allow=allow)


def _take_apart(estimator: Any, where: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    kind: type = type(estimator)
    name = class_name(kind)
    if name is None:
        _refuse(estimator, where, "only public estimators of scikit-learn travel")
    if "best_estimator_" in vars(estimator):
        _refuse(estimator, where, "write its best_estimator_ instead")
    params = {key: getattr(estimator, key) for key in parameter_names(kind)}
    state = {key: value for key, value in vars(estimator).items() if key not in params and key not in _OF_FITTING}
    fitted = find_hook(kind).dump(estimator, state)
    for key, value in params.items():
        if isinstance(value, RandomState | Generator):
            _refuse(value, f"{where}.{key}", "give a seed or None instead")
    written = [{key: _write(value, f"{where}.{key}") for key, value in part.items()} for part in (params, fitted)]
    return name, written[0], written[1]


def _write(value: Any, where: str) -> Any:
    if type(value) in PLAIN:
        return value
    if type(value) is list:
        return [_write(item, f"{where}[{i}]") for i, item in enumerate(value)]
    for name, kind in KINDS.items():
        if kind.holds(value):
            return {name: kind.write(value, partial(_write, where=where))}
    if is_array(value):
        return np.asarray(value, order="C")
    if isinstance(value, BaseEstimator) or class_name(type(value)):
        return {"model": list(_take_apart(value, where))}
    _refuse(value, where)


def _refuse(value: Any, where: str, hint: str | None = None) -> NoReturn:
    kind = type(value)
    code = getattr(value, "__qualname__", getattr(value, "__name__", None))
    if code is not None:
        got, hint = f"the code of {code}", hint or "code does not travel; only data do"
    elif isinstance(value, np.ndarray):
        got = f"an array of dtype {value.dtype}"
    else:
        got = f"an object of class {kind.__module__}.{kind.__qualname__}"
    raise WireError(explain(f"{where} cannot be written as data", got=got, hint=hint))


class _Builder:
    """Builds estimators of the classes that are expected."""

    def __init__(self, allow: Collection[type] | None) -> None:
        self.allow = allow

    def build(self, name: str, params: dict[str, Any], fitted: dict[str, Any]) -> Any:
        kind = find_class(name)
        if self.allow is not None and kind not in self.allow and name not in INNER:
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
        if type(data) is not dict or len(data) != 1:
            raise WireError(explain("a model holds a value of no kind", got=type(data).__name__))
        [(name, inside)] = data.items()
        if name == "model":
            return self.build(*inside)
        if name not in KINDS:
            raise WireError(
                explain("a model holds a value of an unknown kind", got=name, hint=closest(str(name), KINDS))
            )
        return KINDS[name].read(inside, self.read)
