"""What can be fitted over which topology."""

from __future__ import annotations

from typing import Any

import numpy as np

from atoll.algorithms import own
from atoll.errors import InvalidData, explain
from atoll.learners import balance_of
from atoll.recipes.base import Wish, find, generic_ways
from atoll.specs import Spec
from atoll.topology import is_mix
from atoll.training import Course, check_gossip

__all__ = ["check_wiring"]


def check_wiring(estimator: Any, wish: Wish, wiring: Spec, n_nodes: int) -> None:
    """Refuse a topology over which an estimator cannot be fitted, before anybody is asked.

    Parameters
    ----------
    estimator : estimator
        A scikit-learn estimator.
    wish : Wish
        How it is to be fitted.
    wiring : Spec
        Who sends what to whom.
    n_nodes : int
        Nodes that there are.

    Raises
    ------
    InvalidData
        With the reason.
    """
    way = find(estimator, wish.method)
    if is_mix(wiring) and (way.exact or way.method in generic_ways()):
        name = type(estimator).__name__
        what = (
            f"{wiring.name} leaves every node with a result of its own, and {name} is fitted from sums over all nodes"
        )
        hint = "use the topology 'star', 'tree' or 'ring'; over a graph train models such as MLPClassifier"
        raise InvalidData(explain(what, got=f"topology {wiring.name}", hint=hint))
    if is_mix(wiring) or wish.mixing is not None:
        local, rounds = wish.local or own(), 1 if wish.rounds is None else wish.rounds
        answer = None if wish.balance is None else balance_of(wish.balance, np.ones(2))  # by whatever counts
        course = Course(
            wish.algorithm, local, rounds, wish.nodes_per_round, balance=answer, mixing=wish.mixing
        )  # fmt: skip
        check_gossip(course, wiring, n_nodes)
