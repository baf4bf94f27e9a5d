"""scikit-learn's folds of the pooled rows, described by a few row ids per class, so that nobody lists rows.

Without shuffling, `StratifiedKFold` gives each fold a run of every class in the order of the rows, and `KFold` a run of
all rows. A run is two thresholds on the row id; the view `fold` cuts it out.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold

from atoll.combine import Extrema, Sum
from atoll.errors import UnsupportedEstimator, explain
from atoll.rounds import Rounds
from atoll.specs import Spec
from atoll.trees import Array
from atoll.views import chosen, fold

__all__ = ["number_of_folds", "plain", "splits", "stratified"]

_ARY = 32


def number_of_folds(cv: Any) -> int:
    """How many folds a classifier's `cv` means.

    Parameters
    ----------
    cv : int, None or StratifiedKFold
        None means five.

    Returns
    -------
    int

    Raises
    ------
    UnsupportedEstimator
        For a splitter that would need the pooled rows, or their order shuffled.
    """
    if cv is None:
        return 5
    if isinstance(cv, int | np.integer):
        return int(StratifiedKFold(int(cv)).n_splits)
    if type(cv) is StratifiedKFold and not cv.shuffle:
        return int(cv.n_splits)
    raise UnsupportedEstimator(
        explain(
            "these folds cannot be found without the pooled rows",
            got=repr(cv),
            expected="a number, StratifiedKFold without shuffling, KFold, or a list of (train, test) row numbers",
            hint="GridSearchCV over a Distributed estimator takes any splitter",
        )
    )


def splits(cv: Any, rounds: Rounds) -> list[tuple[Spec, Spec]]:
    """The folds of a classifier's `cv` on the pooled rows, as views.

    Parameters
    ----------
    cv : int, None, StratifiedKFold, KFold, or iterable of (train, test)
        None means five stratified folds. Row numbers are those of the pooled rows.
    rounds : Rounds
        Through the view `codes`.

    Returns
    -------
    list of (Spec, Spec)
        For each fold the view of the rows it trains on, and of those it tests.

    Raises
    ------
    UnsupportedEstimator
        For a splitter that would need the pooled rows.
    """
    if type(cv) is KFold and (not cv.shuffle or isinstance(cv.random_state, int)):
        pairs = list(cv.split(np.broadcast_to(0, (rounds.schema.n_rows, 1))))
    elif hasattr(cv, "split") or not np.iterable(cv):
        n_folds = number_of_folds(cv)
        threshold = stratified(rounds, n_folds)
        return [(fold(threshold, k, keep="train"), fold(threshold, k, keep="test")) for k in range(n_folds)]
    else:
        pairs = list(cv)
    return [(chosen(_numbers(train)), chosen(_numbers(test))) for train, test in pairs]


def _numbers(rows: Any) -> Array:
    """Row numbers, also of a mask."""
    given = np.asarray(rows)
    return np.flatnonzero(given) if given.dtype == bool else given


def stratified(rounds: Rounds, n_splits: int) -> Array:
    """The folds of `StratifiedKFold(n_splits)` on the pooled rows.

    Parameters
    ----------
    rounds : Rounds
        Through the view `codes`.
    n_splits : int
        Number of folds.

    Returns
    -------
    ndarray of shape (C, n_splits + 1), int64
        Fold k tests the rows of class c with an id from ``[c, k]`` to below ``[c, k + 1]``.

    Raises
    ------
    ValueError
        In scikit-learn's words, if there are more folds than rows, or than members of any class.
    """
    settings = {"n_classes": len(rounds.schema.classes[0])}
    extent = rounds.round("folds.extent", combine=Extrema(), settings=settings)
    everything = (extent["max"] + 1)[:, None]
    counts = rounds.round("folds.below", {"threshold": everything}, combine=Sum())["count"][:, 0]
    _check(n_splits, counts)
    ranks = np.cumsum(_allocation(np.argsort(np.argsort(extent["min"])), counts, n_splits), axis=1)[:, :-1]
    inner = _ids_of_rank(rounds, ranks, extent["min"], everything[:, 0])
    return np.concatenate([extent["min"][:, None], inner, everything], axis=1)


def _check(n_splits: int, counts: Array) -> None:
    if n_splits > counts.sum():
        raise ValueError(
            f"Cannot have number of splits n_splits={n_splits} greater than the number of samples: "
            f"n_samples={counts.sum()}."
        )
    if (n_splits > counts).all():
        raise ValueError(f"n_splits={n_splits} cannot be greater than the number of members in each class.")
    if n_splits > counts.min():
        warnings.warn(
            f"The least populated class in y has only {counts.min()} members, which is less than n_splits={n_splits}.",
            UserWarning,
            stacklevel=3,
        )


def _allocation(position: Array, counts: Array, n_splits: int) -> Array:
    """Rows of each class in each fold, (C, n_splits): rows sorted by class are dealt to the folds in turn.

    Classes are sorted by their first appearance, `position`.
    """
    ends = np.cumsum(counts[np.argsort(position)])[position]
    dealt = [(edge[:, None] + n_splits - 1 - np.arange(n_splits)) // n_splits for edge in (ends - counts, ends)]
    return np.asarray(dealt[1] - dealt[0])


def _ids_of_rank(rounds: Rounds, ranks: Array, low: Array, high: Array) -> Array:
    """For each class and rank the threshold below which that many ids lie, (C, q), by counting."""
    low, high = (np.broadcast_to(edge[:, None], ranks.shape).copy() for edge in (low, high))
    while (low < high).any():
        width = (high - low).astype(np.uint64)
        steps = [(width // _ARY * i + width % _ARY * i // _ARY).astype(np.int64) for i in range(_ARY)]
        tried = low[..., None] + np.stack(steps, axis=-1)
        asked = tried.reshape(len(ranks), -1)
        below = rounds.round("folds.below", {"threshold": asked}, combine=Sum())["count"].reshape(tried.shape)
        enough = below >= ranks[..., None]
        first = np.where(enough.any(axis=-1), enough.argmax(axis=-1), _ARY)
        ends = np.concatenate([tried, high[..., None]], axis=-1)
        high = np.take_along_axis(ends, first[..., None], axis=-1)[..., 0]
        before = np.take_along_axis(tried, np.maximum(first - 1, 0)[..., None], axis=-1)[..., 0]
        low = np.where(first > 0, np.minimum(before + 1, high), high)
    return low


def plain(n: int, n_splits: int) -> Array:
    """The folds of `KFold(n_splits)` on n rows with ids from 0 to n - 1.

    Parameters
    ----------
    n : int
        Number of rows.
    n_splits : int
        Number of folds.

    Returns
    -------
    ndarray of shape (1, n_splits + 1), int64
        Fold k tests the rows with an id from ``[0, k]`` to below ``[0, k + 1]``.

    Raises
    ------
    ValueError
        In scikit-learn's words, if there are more folds than rows.
    """
    if n_splits > n:
        raise ValueError(
            f"Cannot have number of splits n_splits={n_splits} greater than the number of samples: n_samples={n}."
        )
    sizes = np.full(n_splits, n // n_splits, dtype=np.int64)
    sizes[: n % n_splits] += 1
    return np.concatenate([[0], np.cumsum(sizes)])[None, :]
