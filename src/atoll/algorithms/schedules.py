"""Rates that change from round to round: of a node's steps, and of the server's.

A schedule is a name with numbers, and a function of the round. It stands wherever a setting of a method or of its local
steps may change in time: ``sgd(lr=cosine(0.1, rounds=100))``, ``fedavg(server_lr=step_decay(1.0, every=20))``. What a
node is sent is the number of the round.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from atoll.algorithms.settings import at_least, positive, whole
from atoll.specs import Registry

__all__ = ["Schedule", "constant", "cosine", "inverse_sqrt", "schedules", "step_decay", "warmup"]

schedules: Registry[Callable[..., float]] = Registry("schedule")
"""The functions of the round behind the names: ``(step, **settings) -> rate``."""


class Schedule(NamedTuple):
    """A rate as a function of the round, counted from 0. Data: it can be compared, copied and pickled.

    Attributes
    ----------
    name : str
        Looked up in `schedules`.
    settings : dict
        Plain values, or schedules.

    Examples
    --------
    >>> from atoll.algorithms import step_decay
    >>> rate = step_decay(0.1, every=10)
    >>> rate(0), rate(10), rate
    (0.1, 0.05, step_decay(lr=0.1, every=10, factor=0.5))
    """

    name: str
    settings: dict[str, Any]

    def __call__(self, step: int, /) -> float:
        """The rate of a round."""
        return float(schedules[self.name](step, **self.settings))

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in self.settings.items())})"


def constant(lr: float) -> Schedule:
    """The same rate in every round.

    Parameters
    ----------
    lr : float
        The rate.

    Returns
    -------
    Schedule
    """
    positive(lr=lr)
    return Schedule("constant", {"lr": lr})


def step_decay(lr: float, *, every: int, factor: float = 0.5) -> Schedule:
    """``lr · factor^⌊t / every⌋``.

    Parameters
    ----------
    lr : float
        The rate at first.
    every : int
        Rounds from one fall to the next.
    factor : float, default=0.5
        What the rate is multiplied by then.

    Returns
    -------
    Schedule
    """
    positive(lr=lr, factor=factor)
    whole(every=every)
    return Schedule("step_decay", {"lr": lr, "every": every, "factor": factor})


def cosine(lr: float, *, rounds: int, end: float = 0.0) -> Schedule:
    """``end + (lr − end) (1 + cos(π t / rounds)) / 2``; after so many rounds the rate stays that of the last.

    Parameters
    ----------
    lr : float
        The rate at first.
    rounds : int
        Over how many rounds it falls.
    end : float, default=0
        What it falls towards, and would reach in the round after.

    Returns
    -------
    Schedule

    References
    ----------
    Loshchilov & Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017, equation 5.
    """
    positive(lr=lr)
    at_least(0, end=end)
    whole(rounds=rounds)
    return Schedule("cosine", {"lr": lr, "rounds": rounds, "end": end})


def inverse_sqrt(lr: float, *, over: float = 1.0) -> Schedule:
    """``lr / √(1 + t / over)``.

    Parameters
    ----------
    lr : float
        The rate at first.
    over : float, default=1
        Rounds after which it has fallen to lr/√2.

    Returns
    -------
    Schedule
    """
    positive(lr=lr, over=over)
    return Schedule("inverse_sqrt", {"lr": lr, "over": over})


def warmup(then: float | Schedule, *, rounds: int) -> Schedule:
    """``then(0) · (t + 1) / rounds`` for so many rounds, and ``then(t − rounds)`` after them.

    Parameters
    ----------
    then : float or Schedule
        What comes after the warm-up.
    rounds : int
        How many rounds it takes.

    Returns
    -------
    Schedule

    References
    ----------
    Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour", 2017, Section 2.2.
    """
    positive(then=then)
    whole(rounds=rounds)
    return Schedule("warmup", {"then": then, "rounds": rounds})


@schedules.register("constant")
def _constant(step: int, *, lr: float) -> float:
    return lr


@schedules.register("step_decay")
def _step_decay(step: int, *, lr: float, every: int, factor: float) -> float:
    return float(lr * factor ** (step // every))


@schedules.register("cosine")
def _cosine(step: int, *, lr: float, rounds: int, end: float) -> float:
    return end + (lr - end) * (1 + math.cos(math.pi * min(step, rounds - 1) / rounds)) / 2


@schedules.register("inverse_sqrt")
def _inverse_sqrt(step: int, *, lr: float, over: float) -> float:
    return lr / math.sqrt(1 + step / over)


@schedules.register("warmup")
def _warmup(step: int, *, then: float | Schedule, rounds: int) -> float:
    after = then if callable(then) else constant(then)
    return after(0) * (step + 1) / rounds if step < rounds else after(step - rounds)
