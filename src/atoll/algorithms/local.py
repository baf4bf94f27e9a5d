"""What a node does between two exchanges: which steps, how many, and of how many rows."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from atoll.algorithms.base import Rate
from atoll.algorithms.settings import at_least, positive
from atoll.errors import InvalidData, explain

__all__ = ["Local", "n_steps", "optimizer", "own", "sgd"]


class Local(NamedTuple):
    """How a node trains for itself.

    Attributes
    ----------
    optimizer : str
        ``"sgd"``, the name of a class of torch.optim, or ``"own"``: what the estimator that is trained says itself.
    lr : float or callable
        The rate η; a callable gives that of a round, counted from 0.
    epochs : float
        Passes over the rows; a fraction is a share of the batches of a pass.
    steps : int or None
        Steps in place of epochs.
    batch_size : int or None
        Rows of a step; None: all.
    momentum, weight_decay : float
        Of the steps.
    nesterov : bool
        Whether momentum looks ahead.
    clip : float or None
        Gradients longer than this are shortened to it.
    shuffle : bool
        Whether rows are put in a new order every epoch.
    amp : bool
        Whether a device that has it computes in mixed precision.
    settings : dict
        Further settings of the optimizer.
    rescue : float or None
        A node whose loss becomes no finite number trains again, with gradients clipped to this.
    """

    optimizer: str = "sgd"
    lr: float | Rate = 0.1
    epochs: float = 1.0
    steps: int | None = None
    batch_size: int | None = 32
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    clip: float | None = None
    shuffle: bool = True
    amp: bool = False
    settings: dict[str, Any] = {}
    rescue: float | None = None

    def at(self, step: int) -> Local:
        """These settings in one round, the rate a number: data that can travel."""
        lr = self.lr(step) if callable(self.lr) else self.lr
        positive(lr=lr)
        return self._replace(lr=float(lr))

    @property
    def plain(self) -> bool:
        """Whether a step is ``w ← w − η g`` and nothing else."""
        return self.optimizer == "sgd" and not (self.momentum or self.weight_decay or self.clip or self.amp)


def n_steps(local: Local, n_rows: int) -> int:
    """Steps that a node with so many rows takes in a round; at least one, where it has rows."""
    if local.steps is not None:
        return local.steps
    if not n_rows:
        return 0
    per_epoch = math.ceil(n_rows / (local.batch_size or n_rows))
    return max(1, round(local.epochs * per_epoch))


def sgd(
    lr: float | Rate = 0.1,
    *,
    epochs: float = 1.0,
    steps: int | None = None,
    batch_size: int | None = 32,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    clip: float | None = None,
    shuffle: bool = True,
    amp: bool = False,
    rescue: float | None = None,
) -> Local:
    """Stochastic gradient descent on a node.

    Parameters
    ----------
    lr : float or callable, default=0.1
        The rate η; a callable gives that of a round, counted from 0 (`atoll.algorithms.schedules`).
    epochs : float, default=1
        Passes over the node's rows in a round; 0.5 is half of the batches of one.
    steps : int, optional
        Steps in a round, in place of epochs.
    batch_size : int or None, default=32
        Rows of a step; None: all.
    momentum : float, default=0
        ``v ← ρ v + g; w ← w − η v``, from zero in every round.
    weight_decay : float, default=0
        ``g + λ w`` in place of the gradient.
    nesterov : bool, default=False
        Whether momentum looks ahead.
    clip : float, optional
        Gradients longer than this are shortened to it.
    shuffle : bool, default=True
        Whether rows are put in a new order every epoch.
    amp : bool, default=False
        Whether a device that has it computes in mixed precision.
    rescue : float, optional
        A node whose loss becomes no finite number trains again, with gradients clipped to this. Without it such a node
        is refused and named: the rule of the federation then says whether the round goes on without it.

    Returns
    -------
    Local

    Raises
    ------
    InvalidData
        If a setting is out of range; names it.

    Examples
    --------
    >>> from atoll.algorithms import sgd
    >>> sgd(lr=0.1, epochs=2, batch_size=10).lr
    0.1
    """
    made = Local(
        "sgd", lr, epochs, steps, batch_size, momentum, weight_decay, nesterov, clip, shuffle, amp, rescue=rescue
    )
    return _checked(made)


def optimizer(
    name: str,
    lr: float | Rate = 1e-3,
    *,
    epochs: float = 1.0,
    steps: int | None = None,
    batch_size: int | None = 32,
    clip: float | None = None,
    shuffle: bool = True,
    amp: bool = False,
    rescue: float | None = None,
    **settings: Any,
) -> Local:
    """Any optimizer of `torch.optim` on a node, by the name of its class; its state begins anew in every round.

    Parameters
    ----------
    name : str
        Such as ``"Adam"`` or ``"AdamW"``.
    lr : float or callable, default=0.001
        The rate.
    epochs, steps, batch_size, clip, shuffle, amp, rescue
        As for `sgd`.
    **settings
        Further settings of the optimizer: plain values.

    Returns
    -------
    Local
    """
    made = Local(
        name, lr, epochs, steps, batch_size, clip=clip, shuffle=shuffle, amp=amp, settings=dict(settings), rescue=rescue
    )  # fmt: skip
    return _checked(made)


def own(*, epochs: float = 1.0) -> Local:
    """The estimator's own steps: solver, rate, batch size and shuffling are taken from its parameters.

    Parameters
    ----------
    epochs : float, default=1
        Passes over the node's rows in a round.

    Returns
    -------
    Local
    """
    return _checked(Local("own", epochs=epochs))


def _checked(local: Local) -> Local:
    if not callable(local.lr):
        positive(lr=local.lr)
    positive(epochs=local.epochs)
    at_least(0, momentum=local.momentum, weight_decay=local.weight_decay)
    at_least(0, 1, momentum=local.momentum)
    for name, length in (("clip", local.clip), ("rescue", local.rescue)):
        if length is not None:
            positive(**{name: length})
    for name, value in (("steps", local.steps), ("batch_size", local.batch_size)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise InvalidData(explain(f"{name} must be a whole number of at least 1, or None", got=repr(value)))
    if local.nesterov and not local.momentum:
        raise InvalidData(explain("nesterov looks ahead along a momentum", got="momentum=0", hint="set momentum=0.9"))
    return local
