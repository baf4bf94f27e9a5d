"""How good a model is on rows that stay on their nodes."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from sklearn.linear_model import LinearRegression
from sklearn.naive_bayes import GaussianNB

from atoll.operations.metrics import answered
from atoll.specs import Spec
from atoll.views import codes
from cases import Asked, data


@cache
def _classified(name: str) -> tuple[Spec, ...]:
    """The answers of a classifier that saw every other row."""
    X, y = data(name)
    classes = np.unique(y)
    return codes([classes]), answered(GaussianNB().fit(X[::2], y[::2]), classes, ["predict", "predict_proba"])


@cache
def _estimated(name: str) -> tuple[Spec, ...]:
    X, y = data(name)
    return (answered(LinearRegression().fit(X[::2], y[::2]), None, ["predict"]),)


def asked(name: str) -> dict[str, Asked]:
    """An example of each operation."""
    k = len(np.unique(data(name)[1]))
    both: dict[str, Any] = {"weighted": False, "n_outputs": 1, "n_classes": k, "n_scores": 1 if k == 2 else k}
    scores, number = {**both, "scores": "predict_proba"}, {**both, "n_classes": 0}
    columns = both["n_scores"]
    ends = {"low": np.zeros(columns), "high": np.ones(columns)}
    seen, estimated = _classified(name), _estimated(name)
    return {
        "metrics.confusion": Asked(both, {}, "Sum", seen),
        "metrics.losses": Asked({**both, "losses": ["log_loss", "brier"]}, {}, "Sum", seen),
        "metrics.spread": Asked(number, {}, "Moments", estimated),
        "metrics.largest": Asked(number, {}, "Extrema", estimated),
        "metrics.range": Asked(scores, {}, "Extrema", seen),
        "metrics.histogram": Asked({**scores, "bins": 5}, ends, "Sum", seen),
        "metrics.scores": Asked(scores, {}, "Each", seen),
        "summary.numbers": Asked({}, {}, "Each"),
        "summary.target": Asked({}, {}, "Extrema"),
        "summary.values": Asked({}, {str(j): np.unique(column) for j, column in enumerate(data(name)[0].T)}, "Each"),
    }
