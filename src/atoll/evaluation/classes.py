"""Metrics of classifiers out of counted confusions, summed losses and sorted scores.

Counts stand for rows: scikit-learn's own functions are given one row per kind, weighted by how many there are of it. So
definitions, warnings and errors are scikit-learn's. For the rows of one node closed forms are used, without warnings,
and what is undefined is NaN.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from sklearn import metrics
from sklearn.exceptions import UndefinedMetricWarning

from atoll.evaluation import closed
from atoll.evaluation.statistics import Curve, Statistics
from atoll.trees import Array

__all__ = [
    "Cells",
    "Value",
    "area_under_curve",
    "average_precision",
    "by_cells",
    "cells_of",
    "fraction_of_loss",
    "likelihood_ratio",
    "mean_loss",
    "one_against_one",
    "one_against_rest",
    "over_classes",
    "per_class",
]

Value = Callable[[Statistics], float]


class Cells(NamedTuple):
    """Rows by class and answer: one entry per pair that occurs.

    Attributes
    ----------
    truth, answer : ndarray of shape (m,)
        Labels.
    mass : ndarray of shape (m,), float64
        Weight of the rows.
    """

    truth: Array
    answer: Array
    mass: Array


def cells_of(known: Statistics) -> Cells:
    """The confusions that occur among some rows."""
    classes = np.asarray(known.classes)
    truth, answer = np.nonzero(known.sums["metrics.confusion"]["count"][0])
    return Cells(classes[truth], classes[answer], _mass(known)[truth, answer])


def by_cells(function: Callable[..., Any], of_node: Callable[[Array], float]) -> Value:
    """A metric of classes and answers.

    Parameters
    ----------
    function : callable
        Of scikit-learn: classes, answers and `sample_weight` to the value.
    of_node : callable
        The same in closed form: confusions of shape (k, k) to the value.

    Returns
    -------
    callable
    """

    def value(known: Statistics) -> float:
        if known.node:
            return of_node(_mass(known))
        cells = cells_of(known)
        return float(function(cells.truth, cells.answer, sample_weight=cells.mass))

    return value


def over_classes(which: str, average: str) -> Value:
    """Precision, recall, F or Jaccard, averaged over classes; on a node over those that it has rows of.

    Parameters
    ----------
    which : {"precision", "recall", "f1", "jaccard"}
        What is averaged.
    average : {"binary", "macro", "micro", "weighted"}
        As in scikit-learn.

    Returns
    -------
    callable
    """
    function = getattr(metrics, f"{which}_score")
    pos_label = 1 if average == "binary" else None

    def value(known: Statistics) -> float:
        if known.node:
            labels = np.asarray(known.classes).tolist()
            positive = labels.index(1) if pos_label and 1 in labels else None
            return closed.over_classes(_mass(known), which, average, positive)
        cells = cells_of(known)
        settings = {"average": average, "pos_label": pos_label, "sample_weight": cells.mass}
        return float(function(cells.truth, cells.answer, **settings))

    return value


def likelihood_ratio(which: int) -> Value:
    """By what a positive (0) or a negative (1) answer multiplies the odds."""

    def function(*args: Any, **settings: Any) -> float:
        return float(metrics.class_likelihood_ratios(*args, **settings, replace_undefined_by=1.0)[which])

    return by_cells(function, lambda mass: closed.likelihood_ratios(mass)[which])


def per_class(known: Statistics) -> dict[str, Array]:
    """Precision, recall, F and rows of each class; NaN where there is nothing to divide by.

    Parameters
    ----------
    known : Statistics
        With confusions.

    Returns
    -------
    dict
        `precision`, `recall` and `f1` of shape (k,), float64; `rows` of shape (k,), int64.
    """
    found = closed.shares(_mass(known))
    rows = known.sums["metrics.confusion"]["count"][0].sum(axis=1)
    return {"precision": found["precision"], "recall": found["recall"], "f1": found["f1"], "rows": rows}


def _mass(known: Statistics) -> Array:
    tree = known.sums["metrics.confusion"]
    return np.asarray((tree["mass"] if known.weighted else tree["count"])[0], dtype=np.float64)


def mean_loss(name: str) -> Value:
    """The mean of what was summed under a name."""

    def value(known: Statistics) -> float:
        sums = known.sums["metrics.losses"]
        total = float(sums["total"][0])
        return float(sums[name][0].mean() / total) if total else float("nan")

    return value


def fraction_of_loss(name: str) -> Value:
    """How much of the loss of always answering with the shares of the classes a model takes away (D²)."""

    def value(known: Statistics) -> float:
        sums = known.sums["metrics.losses"]
        mass, rows = sums["classes"][0], int(sums["rows"][0])
        if rows < 2:
            if not known.node:
                message = "D^2 score is not well-defined with less than two samples."
                warnings.warn(message, UndefinedMetricWarning, stacklevel=2)
            return float("nan")
        null = _null_loss(name, mass)
        return float(1 - sums[name][0, 0] / null) if null else float("nan")

    return value


def _null_loss(name: str, mass: Array) -> float:
    share = mass / mass.sum()
    if name == "log_loss":
        eps = np.finfo(np.float64).eps
        return float(-(mass * np.log(np.clip(share, eps, 1 - eps))).sum())
    about = float((mass * (np.square(share).sum() - 2 * share + 1)).sum())
    return about / 2 if len(mass) == 2 else about  # as the loss itself is halved for two classes


def area_under_curve(scores: str) -> Value:
    """The area under the ROC curve of two classes."""

    def value(known: Statistics) -> float:
        curves = known.curves[scores]
        if len(curves) > 1:
            raise ValueError("multi_class must be in ('ovo', 'ovr')")
        return _area(known, curves[0], curves[0].code)

    return value


def one_against_rest(scores: str, average: str) -> Value:
    """The area under the ROC curve of each class against all others, averaged."""

    def value(known: Statistics) -> float:
        curves = known.curves[scores]
        if len(curves) == 1:
            return _area(known, curves[0], curves[0].code)
        if not _all_present(known, curves[0]):
            return float("nan")
        areas = np.array([_area(known, c, c.code == k) for k, c in enumerate(curves)])
        if average == "macro":
            return float(areas.mean())
        mass = np.bincount(curves[0].code, curves[0].mass, minlength=len(curves))
        return float(np.average(np.where(mass == 0, 0.0, areas), weights=mass)) if mass.any() else 0.0

    return value


def one_against_one(scores: str, average: str) -> Value:
    """The area under the ROC curve of each pair of classes, averaged (Hand & Till, 2001)."""

    def value(known: Statistics) -> float:
        curves = known.curves[scores]
        if len(curves) == 1:
            return _area(known, curves[0], curves[0].code)
        if known.weighted:
            raise ValueError(
                "sample_weight is not supported for multiclass one-vs-one ROC AUC, 'sample_weight' must be None in "
                "this case."
            )
        if not _all_present(known, curves[0]):
            return float("nan")
        pairs = list(combinations(range(len(curves)), 2))
        areas = [(_pair(known, curves[a], a, b) + _pair(known, curves[b], b, a)) / 2 for a, b in pairs]
        mass = np.bincount(curves[0].code, curves[0].mass, minlength=len(curves))
        prevalence = [mass[a] + mass[b] for a, b in pairs] if average == "weighted" else None
        return float(np.average(areas, weights=prevalence))

    return value


def _pair(known: Statistics, curve: Curve, positive: int, negative: int) -> float:
    among = (curve.code == positive) | (curve.code == negative)
    part = Curve(*(array[among] for array in curve))
    return _area(known, part, part.code == positive)


def _area(known: Statistics, curve: Curve, positive: Array) -> float:
    """The area under the ROC curve; rows of the same score and class are one row of their weight."""
    if known.node:
        return closed.area(curve, positive == 1)
    level = _ordered(curve.level, positive == 1, known.order)
    return float(metrics.roc_auc_score(positive, level, sample_weight=curve.mass))


def _ordered(level: Array, positive: Array, order: int) -> Array:
    """Levels with ties broken for (1) or against (-1) the model."""
    return level if order == 0 else 2 * level + (positive == (order > 0))


def average_precision(scores: str) -> Value:
    """The area under the steps of precision over recall; of several classes the mean."""

    def value(known: Statistics) -> float:
        curves = known.curves[scores]
        if len(curves) == 1:
            return _precision(known, curves[0], np.asarray(known.classes)[curves[0].code])
        if not _all_present(known, curves[0]):
            return float("nan")
        return float(np.mean([_precision(known, c, c.code == k) for k, c in enumerate(curves)]))

    return value


def _precision(known: Statistics, curve: Curve, truth: Array) -> float:
    if known.node:
        return closed.precision_area(curve, truth == 1)
    if known.order < 0:
        return _least_precision(curve, truth == 1)
    level = _ordered(curve.level, truth == 1, known.order)
    return float(metrics.average_precision_score(truth, level, sample_weight=curve.mass))


def _least_precision(curve: Curve, positive: Array) -> float:
    """The average precision where, within each range, the others come first and then the positive rows one by one.

    With true and false ones so far t and f, and h positive ones to come, the steps of precision are not less than the
    integral of (t + x) / (t + x + f) over x from 0 to h.
    """
    size = int(curve.level.max()) + 1
    hits = np.bincount(curve.level[positive], curve.mass[positive], minlength=size)[::-1]
    false = np.cumsum(np.bincount(curve.level[~positive], curve.mass[~positive], minlength=size)[::-1])
    true = np.cumsum(hits)
    some = (hits > 0) & (false > 0)
    ratio = (true[some] + false[some]) / (true[some] - hits[some] + false[some])
    lost = (false[some] * np.log(ratio)).sum()
    return float((true[-1] - lost) / true[-1])


def _all_present(known: Statistics, curve: Curve) -> bool:
    """Whether there are rows of every class; where there must be, scikit-learn's error says so."""
    if len(np.unique(curve.code)) == len(np.asarray(known.classes)):
        return True
    if known.node:
        return False
    raise ValueError("Number of classes in y_true not equal to the number of columns in 'y_score'")
