"""Metrics of classifiers in closed form, for the rows of one node, where there may be a thousand nodes.

What is undefined is NaN: a class of which the node has no rows, or a mean over no rows at all. Means over classes are
over those that the node has rows of. Otherwise the definitions are scikit-learn's.
"""

from __future__ import annotations

import numpy as np

from atoll.evaluation.statistics import Curve
from atoll.trees import Array

__all__ = [
    "accuracy",
    "area",
    "balanced_accuracy",
    "correlation",
    "likelihood_ratios",
    "over_classes",
    "precision_area",
    "shares",
]

_NAN = float("nan")


def shares(mass: Array) -> dict[str, Array]:
    """Precision, recall, F and Jaccard of each class; NaN where the class has no rows, precision where no answers.

    Parameters
    ----------
    mass : ndarray of shape (k, k)
        Weight of the rows by class (down) and answer (across).

    Returns
    -------
    dict of str to ndarray of shape (k,)
    """
    hits, truth, answers = np.diagonal(mass), mass.sum(axis=1), mass.sum(axis=0)
    with np.errstate(invalid="ignore"):
        both = {"f1": 2 * hits / (truth + answers), "jaccard": hits / (truth + answers - hits)}
        return {
            "precision": hits / answers,
            "recall": hits / truth,
            **{name: np.where(truth > 0, value, np.nan) for name, value in both.items()},
        }


def accuracy(mass: Array) -> float:
    """The share of rows that are given their class."""
    total = mass.sum()
    return float(np.trace(mass) / total) if total else _NAN


def balanced_accuracy(mass: Array) -> float:
    """The mean recall of the classes."""
    return over_classes(mass, "recall", "macro")


def over_classes(mass: Array, which: str, average: str, positive: int | None = None) -> float:
    """Precision, recall, F or Jaccard, averaged over the classes that there are rows of.

    Parameters
    ----------
    mass : ndarray of shape (k, k)
        As for `shares`.
    which : {"precision", "recall", "f1", "jaccard"}
        What is averaged; the precision of a class that is never answered counts as 0.
    average : {"binary", "macro", "micro", "weighted"}
        As in scikit-learn.
    positive : int, optional
        Code of the class that ``binary`` is about.

    Returns
    -------
    float
    """
    truth = mass.sum(axis=1)
    some = truth > 0
    if not some.any() or (average == "binary" and (positive is None or not some[positive])):
        return _NAN
    if average == "micro":
        hits, total = np.trace(mass), truth.sum()
        return float(hits / (2 * total - hits) if which == "jaccard" else hits / total)
    values = np.nan_to_num(shares(mass)[which])
    if average == "binary":
        return float(values[positive])
    return float(np.average(values[some], weights=truth[some] if average == "weighted" else None))


def correlation(mass: Array) -> float:
    """Matthews' correlation of classes and answers; undefined for one class."""
    hits, truth, answers, total = np.trace(mass), mass.sum(axis=1), mass.sum(axis=0), mass.sum()
    if (truth > 0).sum() < 2:
        return _NAN
    spread = (total**2 - truth @ truth) * (total**2 - answers @ answers)
    return float((hits * total - truth @ answers) / np.sqrt(spread)) if spread > 0 else 0.0


def likelihood_ratios(mass: Array) -> tuple[float, float]:
    """By what a positive and a negative answer multiply the odds of the second of two classes."""
    truth = mass.sum(axis=1)
    if len(mass) != 2 or not truth.all():
        return _NAN, _NAN
    false_alarm, missed = mass[0, 1] / truth[0], mass[1, 0] / truth[1]
    positive = (1 - missed) / false_alarm if false_alarm else _NAN
    negative = missed / (1 - false_alarm) if false_alarm < 1 else _NAN
    return float(positive), float(negative)


def area(curve: Curve, positive: Array) -> float:
    """The area under the ROC curve: the share of pairs that are ranked right, ties counting half."""
    _, hits, others = _steps(curve, positive)
    pairs = hits.sum() * others.sum()
    below = np.cumsum(others) - others / 2
    return float((hits * below).sum() / pairs) if pairs else _NAN


def precision_area(curve: Curve, positive: Array) -> float:
    """The average precision: precision at every step of recall, weighted by the step."""
    _, hits, others = _steps(curve, positive)
    hits, others = hits[::-1], others[::-1]
    true, false = np.cumsum(hits), np.cumsum(others)
    some = hits > 0
    return float((hits * true / np.where(some, true + false, 1.0)).sum() / true[-1]) if some.any() else _NAN


def _steps(curve: Curve, positive: Array) -> tuple[Array, Array, Array]:
    """Distinct levels, ascending, and the mass of positive and of other rows at each."""
    level, at = np.unique(curve.level, return_inverse=True)
    hits = np.bincount(at, curve.mass * positive, minlength=len(level))
    return level, hits, np.bincount(at, curve.mass * ~positive, minlength=len(level))
