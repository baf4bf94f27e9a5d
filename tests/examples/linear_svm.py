"""Linear support vector machines, compared at the optimum: liblinear ends near it, and counts other steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.svm import LinearSVC, LinearSVR

from atoll.views import codes
from cases import Asked, data
from examples_base import Example

LEAVE = ("n_iter_",)
STEPS = "liblinear's steps end at a tolerance short of the optimum, and Atoll's go on to it"
TIGHT: dict[str, Any] = {"C": 0.01, "tol": 1e-10, "max_iter": 20_000}

EXAMPLES: dict[type, list[Example]] = {
    LinearSVC: [
        Example(lambda name: LinearSVC(dual=True, **TIGHT), ("iris",), 1e-8, 1e-10, LEAVE, why=STEPS),
        Example(lambda name: LinearSVC(loss="hinge", **TIGHT), ("iris",), 1e-8, 1e-10, LEAVE, why=STEPS),
    ],
    LinearSVR: [
        Example(
            lambda name: LinearSVR(epsilon=5.0, **{**TIGHT, "C": 10.0}),
            ("diabetes",),
            close=1e-6,
            leave=LEAVE,
            why=STEPS,
        ),
    ],
}


def asked(name: str) -> dict[str, Asked]:
    """An example of each operation."""
    X, y = data(name)
    classes, p = np.unique(y), X.shape[1] + 1
    C, rng = len(classes), np.random.default_rng(5)
    w = rng.normal(size=(C, p)) * 1e-3
    message = {"w": w, "class": np.arange(C), "weight": np.tile([1.0, 2.0], (C, 1))}
    joint = {
        "w": w.reshape(1, -1), "class": np.zeros(1, dtype=np.int64), "history": 2 * w.reshape(1, 1, -1),
        "sigma": np.array([[1.0], [3.0]]),
    }  # fmt: skip
    more = {"history": rng.normal(size=(2, C, p)) * 1e-3, "sigma": rng.random((3, C)) + 0.5}
    seen = (codes([classes]),)
    return {
        "margins.squared": Asked({"epsilon": 0.0}, message, "Sum", seen),
        "margins.enveloped": Asked({"epsilon": 0.0}, {**message, **more}, "Sum", seen),
        "margins.joint": Asked({"n_classes": C}, joint, "Sum", seen),
    }
