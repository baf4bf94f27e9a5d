"""The seam: how one scikit-learn estimator is fitted by rounds."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, NamedTuple

from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from atoll.errors import UnknownName, UnsupportedEstimator, closest, explain
from atoll.rounds import Rounds

__all__ = ["Fit", "Recipe", "find", "recipe", "supported"]

Fit = Callable[[Any, Rounds], Any]


class Recipe(NamedTuple):
    """How one estimator is fitted by rounds.

    Attributes
    ----------
    fit : callable
        ``(estimator, rounds) -> fitted``: ordinary sequential Python, deterministic given the rounds, randomness only
        from `rounds.rng`. What it returns predicts like scikit-learn's own fitted estimator.
    method : str
        Its name among the ways to fit this estimator.
    exact : bool
        Whether the result equals the fit on the pooled rows.
    asks : bool
        Whether predicting asks the nodes, so that no ordinary fitted estimator exists without the rows.
    per_row : tuple of str
        Fitted attributes with one entry per training row, or made of rows.
    """

    fit: Fit
    method: str
    exact: bool = True
    asks: bool = False
    per_row: tuple[str, ...] = ()


_recipes: dict[type, dict[str, Recipe]] = {}
_generic: dict[str, Recipe] = {}


def recipe(
    *types: type[BaseEstimator],
    method: str = "exact",
    exact: bool = True,
    asks: bool = False,
    per_row: tuple[str, ...] = (),
) -> Callable[[Fit], Fit]:
    """Register a way to fit some estimators.

    Parameters
    ----------
    *types : type
        scikit-learn estimator classes; subclasses are not meant, they may compute something else. None: a generic way,
        which any estimator may ask for by name.
    method : str, default="exact"
        Name of the way; the first one registered for a type is its default.
    exact, asks, per_row
        See `Recipe`.

    Returns
    -------
    callable
        The decorator; it returns the function unchanged.
    """

    def add(fit: Fit) -> Fit:
        if not types:
            _generic[method] = Recipe(fit, method, exact, asks, per_row)
        for kind in types:
            ways = _recipes.setdefault(kind, {})
            if method in ways:
                raise ValueError(f"{kind.__name__} has a method {method!r} already")
            ways[method] = Recipe(fit, method, exact, asks, per_row)
        return fit

    return add


def find(estimator: object, method: str | None = None) -> Recipe:
    """The way to fit an estimator.

    Parameters
    ----------
    estimator : object
        A scikit-learn estimator.
    method : str, optional
        Name of the way; None: the default.

    Returns
    -------
    Recipe

    Raises
    ------
    UnsupportedEstimator
        Naming the estimator and the nearest supported ones.
    UnknownName
        If there is no such method for it.
    """
    ways = {**_recipes.get(type(estimator), {}), **_generic}
    if type(estimator) not in _recipes and method not in _generic:
        raise UnsupportedEstimator(_unsupported(estimator))
    if method is None:
        return next(iter(ways.values()))
    if method not in ways:
        name = type(estimator).__name__
        raise UnknownName(explain(f"{name} has no method {method!r}", hint=closest(method, ways)))
    return ways[method]


def supported() -> dict[type, dict[str, Recipe]]:
    """Every estimator that can be fitted, with its ways, the default first."""
    return {kind: dict(ways) for kind, ways in sorted(_recipes.items(), key=lambda item: item[0].__name__)}


def _unsupported(estimator: object) -> str:
    if isinstance(estimator, type):
        hint = f"give an instance, such as {estimator.__name__}()"
        return explain("an estimator class was given", got=estimator.__name__, expected="an instance", hint=hint)
    name, known = type(estimator).__name__, sorted(kind.__name__ for kind in _recipes)
    generic = ", ".join(f"method={m!r}" for m in _generic) or "none installed"
    return explain(
        f"Atoll cannot fit {name} over nodes",
        got=repr(estimator),
        expected="one of " + ", ".join(known),
        hint=f"{_advice(estimator, known)}generic ways that fit any estimator: {generic}",
    )


def _advice(estimator: object, known: list[str]) -> str:
    name = type(estimator).__name__
    if isinstance(estimator, Pipeline):
        return "put it inside the pipeline, round the last step: make_pipeline(…, Distributed(…)); "
    parent = next((k.__name__ for k in type(estimator).__mro__[1:] if k in _recipes), None)
    if parent is not None:
        return f"pass a plain {parent}: {name} is a subclass and may compute something else; "
    near = get_close_matches(name, known, n=3, cutoff=0.4)
    return f"nearest: {', '.join(near)}; " if near else ""
