"""Choosing features."""

from __future__ import annotations

import numpy as np
from sklearn.feature_selection import (
    GenericUnivariateSelect,
    SelectFdr,
    SelectFpr,
    SelectFwe,
    SelectKBest,
    SelectPercentile,
    VarianceThreshold,
    chi2,
    f_regression,
    r_regression,
)

from atoll.views import codes
from cases import Asked, data
from examples_base import Example

CLASSES = ("iris", "wine", "breast_cancer")  # digits has columns that never vary, which scikit-learn warns of

EXAMPLES: dict[type, list[Example]] = {
    VarianceThreshold: [
        Example(lambda name: VarianceThreshold()),
        Example(lambda name: VarianceThreshold(0.1), ("iris", "digits", "wine", "breast_cancer")),
    ],
    SelectKBest: [
        Example(lambda name: SelectKBest(k=2), CLASSES),
        Example(lambda name: SelectKBest(chi2, k=2), CLASSES),
        Example(lambda name: SelectKBest(r_regression, k=2), (*CLASSES, "diabetes")),
    ],
    SelectPercentile: [Example(lambda name: SelectPercentile(percentile=50), CLASSES)],
    SelectFpr: [Example(lambda name: SelectFpr(f_regression, alpha=0.5), (*CLASSES, "diabetes"))],
    SelectFdr: [Example(lambda name: SelectFdr(f_regression, alpha=0.5), (*CLASSES, "diabetes"))],
    SelectFwe: [Example(lambda name: SelectFwe(alpha=0.5), CLASSES)],
    GenericUnivariateSelect: [
        Example(lambda name: GenericUnivariateSelect(mode="percentile", param=50), CLASSES),
    ],
}


def asked(name: str) -> dict[str, Asked]:
    """An example of each operation."""
    X, y = data(name)
    seen = (codes([np.unique(y)]),)
    about = {"x": X.mean(axis=0), "y": np.array([y.mean()])}
    return {
        "selection.moments": Asked({}, {}, "Moments"),
        "selection.extrema": Asked({"target": True}, {}, "Extrema"),
        "selection.means": Asked({}, {}, "Mean"),
        "selection.class_sums": Asked({"n_classes": len(np.unique(y))}, {}, "Sum", seen),
        "selection.products": Asked({"centred": True}, about, "Sum"),
    }
