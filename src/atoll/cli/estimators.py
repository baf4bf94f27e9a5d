"""From what a person writes to a scikit-learn estimator: names, parameters, values."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from atoll.catalogue import public_name
from atoll.errors import InvalidData, UnknownName, UnsupportedEstimator, closest, explain
from atoll.recipes import find, supported

__all__ = ["make", "parse_value", "parse_values"]


def make(name: str, params: Mapping[str, Any], method: str | None = None) -> Any:
    """An estimator by name, with parameters.

    Only estimators that Atoll supports can be named; nothing is imported by what a person writes.

    Parameters
    ----------
    name : str
        ``KNeighborsClassifier``, ``neighbors.KNeighborsClassifier`` or ``sklearn.neighbors.KNeighborsClassifier``.
    params : mapping
        Parameters of its constructor.
    method : str, optional
        Way to fit it.

    Returns
    -------
    estimator
        Not fitted.

    Raises
    ------
    UnknownName
        If there is no such estimator, parameter or method; with the nearest ones.
    UnsupportedEstimator
        If scikit-learn has it and Atoll cannot train it.
    InvalidData
        If scikit-learn refuses a value.
    """
    kind = _look_up(name.removeprefix("sklearn."))
    known = kind().get_params(deep=False)
    for parameter in params:
        if parameter not in known:
            raise UnknownName(
                explain(f"{kind.__name__} has no parameter {parameter!r}", hint=closest(parameter, known))
            )
    estimator = kind(**params)
    try:
        estimator._validate_params()
    except (TypeError, ValueError) as error:
        raise InvalidData(explain(str(error), where="the parameters of the estimator")) from None
    find(estimator, method)
    return estimator


def _look_up(name: str) -> type:
    full = {public_name(kind): kind for kind in supported()}
    bare = {kind.__name__: kind for kind in supported()}
    found = full.get(name) or bare.get(name)
    if found is None:
        _refuse_unsupported(name)
        raise UnknownName(explain(f"unknown estimator {name!r}", hint=closest(name, full if "." in name else bare)))
    return found


def _refuse_unsupported(name: str) -> None:
    """Say so if scikit-learn itself has an estimator of this name."""
    from sklearn.utils.discovery import all_estimators

    for bare, kind in all_estimators():
        if name in (bare, public_name(kind)):
            try:
                estimator = kind()
            except TypeError:
                hint = "it wraps another estimator: wrap Distributed or Federated with it, in Python"
                raise UnsupportedEstimator(explain(f"Atoll cannot train {bare} over nodes", hint=hint)) from None
            find(estimator)


def parse_values(items: Sequence[str]) -> dict[str, Any]:
    """Parameters written as ``name=value``.

    Raises
    ------
    InvalidData
        If one is written otherwise, or given twice.

    Examples
    --------
    >>> from atoll.cli.estimators import parse_values
    >>> parse_values(["n_neighbors=3", "weights=distance", "metric_params=none"])
    {'n_neighbors': 3, 'weights': 'distance', 'metric_params': None}
    """
    values: dict[str, Any] = {}
    for item in items:
        name, sign, text = item.partition("=")
        name = name.strip()
        if not sign or not name.isidentifier():
            raise InvalidData(explain("a parameter is written NAME=VALUE", got=repr(item), where="--set"))
        if name in values:
            raise InvalidData(explain(f"the parameter {name!r} is given twice", where="--set"))
        values[name] = parse_value(text.strip())
    return values


def parse_value(text: str) -> Any:
    """A value as TOML writes it; the word none is None, and text that is no TOML value is itself."""
    if text.lower() in ("none", "null"):
        return None
    if text in ("True", "False"):
        return text == "True"
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return found["value"] if len(found) == 1 else text
