"""Metrics of regressors out of summed losses, and of the moments of targets and errors.

Where scikit-learn gives the number of a case that has none (R² of constant targets), so does the value for all rows;
for the rows of one node it is NaN.
"""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics._regression import _assemble_fraction_of_explained_deviance

from atoll.evaluation.classes import Value
from atoll.evaluation.statistics import Statistics
from atoll.trees import Array

__all__ = ["explained_variance", "largest_error", "r2", "root_mean"]


def root_mean(name: str) -> Value:
    """The square root of the mean of what was summed under a name; of several outputs the mean of their roots."""

    def value(known: Statistics) -> float:
        sums = known.sums["metrics.losses"]
        total = float(sums["total"][0])
        return float(np.sqrt(sums[name][0] / total).mean()) if total else float("nan")

    return value


def largest_error(known: Statistics) -> float:
    """The largest absolute error."""
    return float(known.sums["metrics.largest"]["max_error"][0])


def r2(known: Statistics) -> float:
    """The share of the targets' spread that the answers explain."""
    sums = known.sums["metrics.losses"]
    if int(sums["rows"][0]) < 2:
        if not known.node:
            message = "R^2 score is not well-defined with less than two samples."
            warnings.warn(message, UndefinedMetricWarning, stacklevel=2)
        return float("nan")
    return _explained(known, sums["mean_squared_error"][0])


def explained_variance(known: Statistics) -> float:
    """The share of the targets' spread that the answers explain, a constant error forgiven."""
    spread = known.sums["metrics.spread"]["m2"][0]
    return _explained(known, spread[len(spread) // 2 :])


def _explained(known: Statistics, left: Array) -> float:
    spread = known.sums["metrics.spread"]["m2"][0]
    whole = spread[: len(spread) // 2]
    if known.node and not whole.all():
        return float("nan")
    return float(_assemble_fraction_of_explained_deviance(left, whole, len(whole), "uniform_average", True, np, None))
