"""What fitting an estimator asks of nodes, known before anybody is asked.

Recipes are ordinary programs, which nobody can read the operations off; so these are measured, by fitting the examples
of all recipes (`docs/asked.py`), and kept in a table. Owners of nodes are told of them when a run begins; what a node
answers is decided by what is really asked.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from atoll.algorithms import Algorithm, Decentralized
from atoll.recipes.base import find, generic_ways
from atoll.recipes.needs import parts

__all__ = ["operations_of"]


def operations_of(estimator: Any, method: str | Algorithm | Decentralized | None = None) -> tuple[str, ...]:
    """The operations that fitting an estimator is known to ask, and predicting with it, where that asks nodes.

    Parameters
    ----------
    estimator : estimator
        Of scikit-learn, or made of such.
    method : str, Algorithm or Decentralized, optional
        The way to fit it; None: the default.

    Returns
    -------
    tuple of str
        Sorted; empty where the table does not have the estimator, or one that it is made of. A fit with unusual
        parameters may ask more.

    Raises
    ------
    UnsupportedEstimator, UnknownName, InvalidData
        As `find` does.

    Examples
    --------
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from atoll.recipes import operations_of
    >>> operations_of(KNeighborsClassifier())
    ('describe.schema', 'neighbors.nearest')
    """
    way = find(estimator, method).method
    name = "" if way in generic_ways() else type(estimator).__name__
    own = _table().get(name, {}).get(way)
    inner = [] if name == "" else [operations_of(part) for part in parts(estimator)]
    if own is None or not all(inner):
        return ()
    return tuple(sorted({*own, *(op for asked in inner for op in asked)}))


@cache
def _table() -> dict[str, dict[str, list[str]]]:
    """Operations by class name and way; the generic ways stand under an empty name."""
    found: dict[str, dict[str, list[str]]] = json.loads(
        files("atoll.recipes").joinpath("asked.json").read_text("utf-8")
    )
    return found
