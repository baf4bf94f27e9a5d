"""Naive Bayes."""

from __future__ import annotations

import numpy as np
from sklearn.naive_bayes import BernoulliNB, CategoricalNB, ComplementNB, GaussianNB, MultinomialNB

from atoll.views import codes
from cases import Asked, data
from examples_base import Example

CLASSES = ("iris", "digits", "wine", "breast_cancer")

EXAMPLES: dict[type, list[Example]] = {
    GaussianNB: [Example(lambda name: GaussianNB(), CLASSES)],
    MultinomialNB: [Example(lambda name: MultinomialNB(alpha=0.5), CLASSES)],
    ComplementNB: [Example(lambda name: ComplementNB(norm=True), CLASSES)],
    BernoulliNB: [Example(lambda name: BernoulliNB(binarize=2.0), CLASSES)],
    CategoricalNB: [Example(lambda name: CategoricalNB(min_categories=20), ("iris", "digits"))],
}


def asked(name: str) -> dict[str, Asked]:
    """An example of each operation."""
    X, y = data(name)
    seen = (codes([np.unique(y)]),)
    C = len(np.unique(y))
    return {
        "classes.sums": Asked({"n_classes": C, "above": None, "whom": "MultinomialNB (input X)"}, {}, "Sum", seen),
        "classes.categories": Asked({"n_classes": C}, {"n_categories": X.max(axis=0).astype(int) + 1}, "Sum", seen),
    }
