"""skorch nets, trained in rounds; loaded when one is to be fitted, so that the core needs neither skorch nor torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import is_classifier

from atoll.algorithms import Local
from atoll.errors import InvalidData, explain
from atoll.nets.flat import as_model
from atoll.nets.skorched import KINDS, fitted_net, local_of, parts_of
from atoll.recipes.base import TRAINED, Wish, recipe
from atoll.recipes.resuming import going_on
from atoll.rounds import Rounds
from atoll.training import Course, check_answers, check_course
from atoll.training.modules import train_module

__all__ = ["fit_net"]


def _course(net: Any, initialized: Any, wish: Wish, n_nodes: int) -> Course:
    local = wish.local or local_of(initialized)
    if local.optimizer == "own":
        hint = "leave local out, or give sgd(…) or optimizer(…)"
        raise InvalidData(explain("a skorch net's own steps are those of its optimizer", got=repr(local), hint=hint))
    course = Course(
        wish.algorithm, local, wish.rounds or net.max_epochs, wish.nodes_per_round, mixing=wish.mixing,
        callbacks=tuple(wish.callbacks or ()),
    )  # fmt: skip
    check_course(course, n_nodes)
    return course


def _check(net: Any, wish: Wish, n_nodes: int) -> None:
    check_answers(wish.algorithm, type(net).__name__, classifies=is_classifier(net))
    bends = wish.algorithm.before is not type(wish.algorithm)._field_defaults["before"]
    course = _course(net, parts_of(net, 0)[0], wish, n_nodes)
    if bends and course.local.optimizer != "sgd":
        what = f"{wish.algorithm.spec.name} bends plain gradient steps"
        raise InvalidData(explain(what, got=_named(course.local), expected="local=sgd(…)"))


def _named(local: Local) -> str:
    return f"steps of {local.optimizer}"


@recipe(*KINDS, method=TRAINED, exact=False, iterative=True, check=_check)
def fit_net(estimator: Any, rounds: Rounds) -> Any:
    """Trained: a round is an epoch of the net's own optimizer on every node, and FedAvg averages what comes of it."""
    wish = rounds.wish if isinstance(rounds.wish, Wish) else Wish()
    net, module, loss = parts_of(estimator, rounds.run.seed)
    course = going_on(rounds, wish, as_model(module), _course(estimator, net, wish, len(rounds.schema.nodes)))
    done = train_module(rounds, module, loss, course, str(estimator.device or "cpu"), wish.balance)
    classes = None
    if is_classifier(estimator):
        classes = rounds.schema.classes[0] if rounds.schema.classes else np.arange(2)
    return fitted_net(net, done.model.w, done.model.buffers, done.losses, classes)
