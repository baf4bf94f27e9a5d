"""How unequal classes are answered in a training: by the counts of all nodes, which they are asked for."""

from __future__ import annotations

from atoll.combine import Sum
from atoll.learners import Balance, balance_of
from atoll.rounds import Rounds
from atoll.trees import Array

__all__ = ["balance_over", "class_counts"]


def class_counts(seen: Rounds, n_classes: int) -> Array:
    """How many rows each class has on all nodes together.

    Parameters
    ----------
    seen : Rounds
        Through the view `codes`.
    n_classes : int
        Classes of the one target.

    Returns
    -------
    ndarray of shape (n_classes,), int64
    """
    told = seen.round("describe.labels", combine=Sum(), settings={"n_classes": [n_classes]})
    return told["count.0"]


def balance_over(seen: Rounds, kind: str, n_classes: int) -> Balance:
    """An answer to unequal classes, of class codes, by the counts of all nodes together.

    Parameters
    ----------
    seen : Rounds
        Through the view `codes`.
    kind : {"reweight", "logits", "sampler"}
        The answer.
    n_classes : int
        Classes of the one target.

    Returns
    -------
    Balance

    Raises
    ------
    UnknownName
        For another answer.
    InvalidData
        If there is one class only.
    """
    return balance_of(kind, class_counts(seen, n_classes))
