"""Calibration of models: frozen ones that were fitted on some of the rows, and models of folds."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.frozen import FrozenEstimator
from sklearn.naive_bayes import GaussianNB

from atoll.models import to_bytes
from atoll.operations.metrics import answered
from atoll.specs import Spec
from atoll.views import codes
from cases import Asked, data
from examples_base import Example

CLASSES = ("iris", "wine", "breast_cancer")
FLAT = "scikit-learn's search ends where values of the loss no longer differ, which is at half of the digits"


@cache
def frozen(model: Any, name: str) -> FrozenEstimator:
    """A model that has seen every third row."""
    X, y = data(name)
    return FrozenEstimator(model().fit(X[::3], y[::3]))


EXAMPLES: dict[type, list[Example]] = {
    CalibratedClassifierCV: [
        Example(
            lambda name: CalibratedClassifierCV(frozen(LinearDiscriminantAnalysis, name)), CLASSES, close=1e-6, why=FLAT
        ),
        Example(lambda name: CalibratedClassifierCV(frozen(GaussianNB, name), method="isotonic"), CLASSES),
        Example(
            lambda name: CalibratedClassifierCV(frozen(LinearDiscriminantAnalysis, name), method="temperature"),
            CLASSES,
            close=1e-6,
            why=FLAT,
        ),
    ]
}


@cache
def _scored(name: str) -> tuple[Spec, ...]:
    classes = np.unique(data(name)[1])
    return codes([classes]), answered([to_bytes(frozen(GaussianNB, name).estimator)], None, ["predict_proba"])


def asked(name: str) -> dict[str, Asked]:
    """An example of each operation."""
    C, seen = len(np.unique(data(name)[1])), _scored(name)
    scores: dict[str, Any] = {"scores": "predict_proba", "n_scores": 1 if C == 2 else C, "pair": C == 2}
    ab = {"ab": np.array([-1.5, 0.2]), "scale": np.ones(1), "target": np.linspace(0.1, 0.9, C)}
    return {
        "calibration.extent": Asked(scores, {}, "Extrema", seen),
        "calibration.sigmoid": Asked({"scores": "predict_proba", "place": 0}, ab, "Sum", seen),
        "calibration.temperature": Asked({**scores, "probabilities": True}, {"beta": np.array([0.8])}, "Sum", seen),
    }
