"""From what a person writes to a scikit-learn estimator: names, parameters, values."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from atoll.catalogue import public_name
from atoll.errors import InvalidData, UnknownName, UnsupportedEstimator, closest, explain
from atoll.recipes import check_parameters, find, generic_ways, supported

__all__ = ["make", "parse_value", "parse_values"]


def make(name: str, params: Mapping[str, Any], method: str | None = None) -> Any:
    """An estimator by name, with parameters.

    Only estimators that Atoll supports can be named, and for a generic way those of scikit-learn; nothing is imported
    by what a person writes.

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
    kind = _look_up(name.removeprefix("sklearn."), method)
    known = kind().get_params(deep=False)
    for parameter in params:
        if parameter not in known:
            raise UnknownName(
                explain(f"{kind.__name__} has no parameter {parameter!r}", hint=closest(parameter, known))
            )
    estimator = kind(**params)
    try:
        check_parameters(estimator)
    except (TypeError, ValueError) as error:
        raise InvalidData(explain(str(error), where="the parameters of the estimator")) from None
    find(estimator, method)
    return estimator


def _look_up(name: str, method: str | None) -> type:
    """A class by name: one that has a recipe, or where a generic way is asked for, any of scikit-learn."""
    known = dict.fromkeys(kind for kind in supported(by_name=True) if not _wraps(kind))
    if method in generic_ways():
        known |= dict.fromkeys(kind for _, kind in _all() if not _wraps(kind))
    full, bare = {public_name(kind): kind for kind in known}, {kind.__name__: kind for kind in known}
    found = full.get(name) or bare.get(name)
    if found is None:
        _refuse_unsupported(name)
        raise UnknownName(explain(f"unknown estimator {name!r}", hint=closest(name, full if "." in name else bare)))
    return found


def _wraps(kind: type) -> bool:
    """Whether an estimator is made of others, which a name cannot say."""
    parameters = inspect.signature(kind).parameters.values()
    return any(p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)


def _all() -> list[tuple[str, type]]:
    """Every estimator of scikit-learn, by name; finding them imports all of its modules."""
    from sklearn.utils.discovery import all_estimators

    return list(all_estimators())


def _refuse_unsupported(name: str) -> None:
    """Say so if scikit-learn itself has an estimator of this name."""
    for bare, kind in _all():
        if name not in (bare, public_name(kind)):
            continue
        if not _wraps(kind):
            find(kind())
        hint = "write it in Python" if kind not in supported() else "write its steps as [[steps]] of an experiment file"
        raise UnsupportedEstimator(explain(f"{bare} is made of other estimators, which its name cannot say", hint=hint))


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
