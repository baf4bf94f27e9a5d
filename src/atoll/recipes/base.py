"""The seam: how one scikit-learn estimator is fitted by rounds."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline

from atoll.algorithms import Algorithm, Decentralized, Local, algorithms, decentralized
from atoll.errors import InvalidData, UnknownName, UnsupportedEstimator, closest, explain
from atoll.recipes.checks import check_rows
from atoll.recipes.needs import of_labels, parts, takes_tables
from atoll.rounds import Rounds
from atoll.shards import Shard
from atoll.specs import read
from atoll.table import Table

__all__ = [
    "TRAINED",
    "Check",
    "Fit",
    "PerRow",
    "Recipe",
    "Wish",
    "check_parameters",
    "check_wish",
    "find",
    "fit_over",
    "generic_ways",
    "recipe",
    "supported",
]

Fit = Callable[[Any, Rounds], Any]
PerRow = Callable[[Any, Shard], Any]


class Wish(NamedTuple):
    """How models that are trained in rounds are to be trained, as the user asks; None leaves it to the estimator.

    Attributes
    ----------
    method : str, Algorithm, Decentralized or None
        The way to fit, or how parameters are trained in rounds.
    local : Local or None
        What nodes do between exchanges.
    rounds : int or None
        How many.
    nodes_per_round : int or None
        Nodes asked in a round; None: all.
    balance : str or None
        How unequal classes are answered.
    callbacks : sequence of callable or None
        Called after every round.
    resume : path-like or None
        A checkpoint to go on from, or a folder of them.
    """

    method: str | Algorithm | Decentralized | None = None
    local: Local | None = None
    rounds: int | None = None
    nodes_per_round: int | None = None
    balance: str | None = None
    callbacks: Sequence[Callable[[Any], Any]] | None = None
    resume: str | os.PathLike[str] | None = None

    @property
    def algorithm(self) -> Algorithm:
        """How parameters are trained in rounds: FedAvg, unless another method is asked for."""
        if isinstance(self.method, str) and self.method != TRAINED and self.mixing is None:
            spec = read(algorithms, self.method)
            return algorithms[spec.name](**spec.settings)
        return self.method if isinstance(self.method, Algorithm) else algorithms["fedavg"]()

    @property
    def mixing(self) -> Decentralized | None:
        """How parameters are trained without a server, where that is asked for."""
        if isinstance(self.method, str) and _name(self.method) in decentralized:
            spec = read(decentralized, self.method)
            return decentralized[spec.name](**spec.settings)
        return self.method if isinstance(self.method, Decentralized) else None


def _name(text: str) -> str:
    """The name in a spec as people write it."""
    return text.partition("(")[0].partition("=")[0].strip()


Check = Callable[[Any, Wish, int], None]
TRAINED = "trained"
"""The name of the way of estimators that are trained in rounds."""


class Recipe(NamedTuple):
    """How one estimator is fitted by rounds.

    Attributes
    ----------
    fit : callable
        ``(estimator, rounds) -> fitted``: ordinary sequential Python, deterministic given the rounds, randomness only
        from `rounds.rng`. What it returns predicts like scikit-learn's own fitted estimator.
    method : str
        Its name among the ways to fit this estimator.
    default : bool
        Whether it is meant where no way is named.
    exact : bool
        Whether the result equals the fit on the pooled rows.
    asks : bool
        Whether predicting asks the nodes, so that no ordinary fitted estimator exists without the rows.
    iterative : bool
        Whether it takes rounds until it converges.
    per_row : mapping of str to callable
        Fitted attributes with one entry per training row, or made of rows, and how each follows from the fitted
        estimator and the pooled rows, where those are the user's own.
    check : callable or None
        ``(estimator, wish, n_nodes)``: refuses what contradicts itself, before anybody is asked.
    """

    fit: Fit
    method: str
    default: bool = True
    exact: bool = True
    asks: bool = False
    iterative: bool = False
    per_row: Mapping[str, PerRow] = {}
    check: Check | None = None

    @property
    def trained(self) -> bool:
        """Whether parameters are trained in rounds, so that one may say how."""
        return self.method == TRAINED


_recipes: dict[type, dict[str, Recipe]] = {}
_generic: dict[str, Recipe] = {}


def recipe(
    *types: type[BaseEstimator],
    method: str = "exact",
    exact: bool = True,
    asks: bool = False,
    iterative: bool = False,
    per_row: Mapping[str, PerRow] | None = None,
    check: Check | None = None,
) -> Callable[[Fit], Fit]:
    """Register a way to fit some estimators.

    Parameters
    ----------
    *types : type
        scikit-learn estimator classes; subclasses are not meant, they may compute something else. None: a generic way,
        which any estimator may ask for by name.
    method : str, default="exact"
        Name of the way; ``"exact"`` and ``"trained"`` are the default, all others are asked for by name.
    exact, asks, iterative, per_row, check
        See `Recipe`.

    Returns
    -------
    callable
        The decorator; it returns the function unchanged.
    """

    def add(fit: Fit) -> Fit:
        default = method in ("exact", TRAINED)
        made = Recipe(fit, method, default, exact, asks, iterative, dict(per_row or {}), check)
        if not types:
            _generic[method] = made
        for kind in types:
            ways = _recipes.setdefault(kind, {})
            if method in ways:
                raise ValueError(f"{kind.__name__} has a method {method!r} already")
            ways[method] = made
        return fit

    return add


def find(estimator: object, method: str | Algorithm | Decentralized | None = None) -> Recipe:
    """The way to fit an estimator.

    Parameters
    ----------
    estimator : object
        A scikit-learn estimator.
    method : str or Algorithm, optional
        Name of the way, or how parameters are trained in rounds; None: the default.

    Returns
    -------
    Recipe

    Raises
    ------
    UnsupportedEstimator
        Naming the estimator and the nearest supported ones; in a pipeline, the step.
    UnknownName
        If there is no such method for it.
    InvalidData
        If it is to be trained in rounds, and nothing about it is.
    """
    _bring(type(estimator))
    ways = {**_recipes.get(type(estimator), {}), **_generic}
    if type(estimator) not in _recipes and (not isinstance(method, str) or method not in _generic):
        raise UnsupportedEstimator(_unsupported(estimator))
    if isinstance(method, str) and method in ways:
        return ways[method]
    default = next((way for way in ways.values() if way.default), None)
    if default is None:
        raise UnsupportedEstimator(_by_name_only(estimator, ways))
    if method is not None and not isinstance(method, str | Algorithm | Decentralized):
        expected = "a name, or a method of atoll.algorithms such as fedavg()"
        hint = f"call it: {method.__name__}()" if inspect.isfunction(method) else None
        raise InvalidData(explain("method picks a way to fit", got=repr(method), expected=expected, hint=hint))
    if method is not None and not _trained(estimator):
        raise _not_trained(estimator, method, ways)
    if isinstance(method, str) and _name(method) not in {*algorithms, *decentralized}:
        name, known = type(estimator).__name__, [*ways, *algorithms, *decentralized]
        raise UnknownName(explain(f"{name} has no method {method!r}", hint=closest(method, known)))
    return _with_parts(default, estimator)


_HOMES = {"skorch": "atoll.recipes.nets"}


def _bring(kind: type) -> None:
    """Import the recipes for estimators of a library that is not loaded with the others, and for their subclasses."""
    for known in kind.__mro__:
        home = _HOMES.get(known.__module__.partition(".")[0])
        if home is not None:
            importlib.import_module(home)


def _with_parts(way: Recipe, estimator: object) -> Recipe:
    """A way to fit what is made of others asks the nodes where one of them does, and takes rounds like them."""
    inner = [find(part) for part in parts(estimator)]
    asks, iterative = (any(getattr(i, what) for i in inner) for what in ("asks", "iterative"))
    exact = way.exact and all(i.exact for i in inner)
    return way._replace(asks=way.asks or asks, iterative=way.iterative or iterative, exact=exact)


def _trained(estimator: object) -> list[tuple[Any, Recipe]]:
    """What is trained in rounds in an estimator: itself, or parts of it; and how."""
    _bring(type(estimator))
    ways = _recipes.get(type(estimator), {})
    own = [(estimator, ways[TRAINED])] if TRAINED in ways else []
    return own + [found for part in parts(estimator) for found in _trained(part)]


def check_wish(estimator: Any, wish: Wish, n_nodes: int) -> None:
    """Refuse what contradicts itself in a training that is asked for, before anybody is asked.

    Parameters
    ----------
    estimator : estimator
        With parameters that scikit-learn accepts.
    wish : Wish
        How it is to be trained.
    n_nodes : int
        Nodes that there are.

    Raises
    ------
    InvalidData
        With the reason.
    """
    way = find(estimator, wish.method)
    trained = [] if way.method in _generic else _trained(estimator)
    said = {name: value for name, value in wish._asdict().items() if name != "method" and value is not None}
    if said and not trained:
        name, (first, value) = type(estimator).__name__, next(iter(said.items()))
        what = f"{name} is not trained in rounds with method={way.method!r}, so there is nothing to say about how"
        raise InvalidData(explain(what, got=f"{first}={value!r}", hint=f"leave {first} out"))
    if wish.local is not None and not isinstance(wish.local, Local):
        raise InvalidData(explain("local says what nodes do", got=repr(wish.local), expected="sgd(…) or own(…)"))
    if callable(wish.callbacks):
        raise InvalidData(explain("callbacks are several", got=repr(wish.callbacks), expected="a list of functions"))
    last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    if wish.resume is not None and (len(trained) > 1 or trained[0][0] is not last):
        what = "a checkpoint is of one training over all rows, and here there are several, or one of a part"
        raise InvalidData(explain(what, got=f"resume={wish.resume!r}", where=type(estimator).__name__))
    for part, recipe_of_it in trained:
        if recipe_of_it.check is not None:
            recipe_of_it.check(part, wish, n_nodes)


def check_parameters(estimator: Any) -> None:
    """Have scikit-learn check the parameters of an estimator, in its words; unless it was told not to."""
    if not get_config()["skip_parameter_validation"] and hasattr(estimator, "_parameter_constraints"):
        estimator._validate_params()
    for part in parts(estimator):
        check_parameters(part)


def fit_over(
    estimator: Any, rounds: Rounds, method: str | Algorithm | Decentralized | None = None, *, last: Any = None
) -> Any:
    """Fit a clone of an estimator over nodes that have met.

    Parameters
    ----------
    estimator : estimator
        As it was given; it is not touched.
    rounds : Rounds
        The way to the rows, through the views that it is to see.
    method : str or Algorithm, optional
        Picks a way to fit where there is a choice.
    last : estimator, optional
        What the fit before made; where `estimator.warm_start` is set, this one goes on from there.

    Returns
    -------
    estimator
        Fitted, with `n_features_in_` and, where columns have names, `feature_names_in_`.

    Raises
    ------
    InvalidData
        If a column holds text and the estimator takes numbers; names the column.
    TypeError, ValueError
        Where scikit-learn refuses such rows, before anything is asked of nodes.
    """
    check_parameters(estimator)
    schema = rounds.raw.schema
    check_rows(estimator, schema)
    rows = rounds.seen.X
    if isinstance(rows, Table) and not takes_tables(estimator):
        rows.matrix()  # which names the first column of text
    fresh = _fresh(estimator)
    if getattr(fresh, "warm_start", False) and last is not None:
        known = {*vars(fresh), "n_features_in_", "feature_names_in_"}
        vars(fresh).update({name: value for name, value in vars(last).items() if name not in known})
    fitted = find(estimator, method).fit(fresh, rounds)
    if of_labels(estimator):
        return fitted
    if not hasattr(type(fitted), "n_features_in_") and not hasattr(fitted, "n_features_in_"):
        fitted.n_features_in_ = schema.n_features
    if schema.feature_names is not None and not hasattr(fitted, "feature_names_in_"):
        fitted.feature_names_in_ = np.asarray(schema.feature_names, dtype=object)
    return fitted


def _fresh(estimator: Any) -> Any:
    """A clone; where a parameter cannot be copied, such as a generator of splits, one that shares it."""
    try:
        return clone(estimator)
    except TypeError:
        return type(estimator)(**estimator.get_params(deep=False))


def generic_ways() -> dict[str, Recipe]:
    """The ways that any estimator may ask for by name."""
    return dict(_generic)


def supported(*, by_name: bool = False) -> dict[type, dict[str, Recipe]]:
    """Every estimator that can be fitted, with its ways, the default first.

    Parameters
    ----------
    by_name : bool, default=False
        Also those for which there is no default, so that a way has to be asked for by name.

    Returns
    -------
    dict of type to dict of str to Recipe
    """
    kinds = sorted(_recipes.items(), key=lambda item: item[0].__name__)
    return {kind: dict(ways) for kind, ways in kinds if by_name or any(way.default for way in ways.values())}


def _not_trained(estimator: object, method: object, ways: Mapping[str, Recipe]) -> Exception:
    name = type(estimator).__name__
    if isinstance(method, str):
        return UnknownName(explain(f"{name} has no method {method!r}", hint=closest(method, ways)))
    hint = "leave method out; methods that train in rounds are for models that have no other way"
    return InvalidData(explain(f"{name} is not trained in rounds", got=f"method={method!r}", hint=hint))


def _by_name_only(estimator: object, ways: Mapping[str, Recipe]) -> str:
    name, named = type(estimator).__name__, " or ".join(f"method={m!r}" for m in ways)
    hint = f"ask for a way that is not exact: {named}"
    return explain(f"over nodes, {name} is not what it is on the pooled rows", got=repr(estimator), hint=hint)


def _unsupported(estimator: object) -> str:
    if isinstance(estimator, type):
        hint = f"give an instance, such as {estimator.__name__}()"
        return explain("an estimator class was given", got=estimator.__name__, expected="an instance", hint=hint)
    name, known = type(estimator).__name__, sorted(kind.__name__ for kind in _recipes)
    generic = ", ".join(f"method={m!r}" for m in _generic) or "none installed"
    return explain(
        f"Atoll cannot fit {name} over nodes",
        got=repr(estimator),
        expected=f"one of the {len(known)} that `atoll models` lists",
        hint=f"{_advice(estimator, known)}generic ways that fit any classifier or regressor: {generic}",
    )


def _advice(estimator: object, known: list[str]) -> str:
    name = type(estimator).__name__
    parent = next((k.__name__ for k in type(estimator).__mro__[1:] if k in _recipes), None)
    if parent is not None:
        return f"pass a plain {parent}: {name} is a subclass and may compute something else; "
    near = get_close_matches(name, known, n=3, cutoff=0.4)
    return f"nearest: {', '.join(near)}; " if near else ""
