"""Ending a training that no longer gets better."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from atoll.algorithms.settings import at_least, whole
from atoll.errors import InvalidData, explain
from atoll.training.loop import Trained

__all__ = ["early_stopping"]

_WAYS = ("training_loss", "loss", "accuracy", "validation_loss", "validation_accuracy")


def early_stopping(
    *,
    patience: int = 10,
    min_delta: float = 0.0,
    on: Literal["training_loss", "loss", "accuracy", "validation_loss", "validation_accuracy"] = "training_loss",
    own: bool = False,
) -> Callable[[Trained], bool]:
    """A callback that ends a training after so many rounds without a better one.

    Parameters
    ----------
    patience : int, default=10
        Rounds in a row that may pass without one that is better than the best before it.
    min_delta : float, default=0
        By how much a round must be better to count.
    on : {"training_loss", "loss", "accuracy", "validation_loss", "validation_accuracy"}, default="training_loss"
        The mean loss of the local steps, which costs nothing; or what the nodes are asked after every round: the mean
        loss over their rows, or the share of rows that is answered right; or what `validation=` measures, where rounds
        that are not validated are not counted. Judged rounds are counted from where the program was started, so a run
        that is resumed is patient anew.
    own : bool, default=False
        Whether nodes judge their own models, where the method gives them one.

    Returns
    -------
    callable
        For `callbacks`; it belongs to one training.

    Raises
    ------
    InvalidData
        If a setting is out of range.

    Examples
    --------
    >>> from atoll.training import early_stopping
    >>> stop = early_stopping(patience=3, min_delta=1e-3)
    """
    whole(patience=patience)
    at_least(0, min_delta=min_delta)
    if on not in _WAYS:
        raise InvalidData(explain("unknown reason to stop", got=repr(on), expected=", ".join(map(repr, _WAYS))))
    judged: list[float] = []

    def stop(trained: Trained) -> bool:
        if on == "training_loss":
            return _waited(trained.losses, min_delta) >= patience
        if on.startswith("validation"):
            value = trained.metrics.get(on)
            if value is None:
                return False
            judged.append(value if on == "validation_loss" else -value)
            return _waited(judged, min_delta) >= patience
        seen = trained.judge(own)
        judged.append(seen.loss if on == "loss" else -seen.accuracy)
        return _waited(judged, min_delta) >= patience

    return stop


def _waited(values: tuple[float, ...] | list[float], min_delta: float) -> int:
    """Rounds since the last that was better, by more than this, than the best before it."""
    best, since = math.inf, 0
    for value in values:
        better = value < best - min_delta
        best, since = (value, 0) if better else (best, since + 1)
    return since
