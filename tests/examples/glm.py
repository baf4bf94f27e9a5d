"""Generalised linear models by the estimator's own solver.

L-BFGS on columns of unequal scale goes other ways on the same rows in another order, pooled or not, and stops where it
happens to be; its examples are well conditioned. Newton's method arrives whatever the scale.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn._loss.loss import HalfBinomialLoss, HalfMultinomialLoss, HalfSquaredError
from sklearn.linear_model import (
    GammaRegressor,
    HuberRegressor,
    LogisticRegression,
    LogisticRegressionCV,
    PoissonRegressor,
    TweedieRegressor,
)

from atoll.operations.losses import loss_settings
from atoll.trees import Tree
from atoll.views import codes
from cases import Asked, data
from examples_base import Example

CLASSES = ("iris", "wine", "breast_cancer")
TIGHT: dict[str, Any] = {"solver": "newton-cholesky", "tol": 1e-10}
NEAR_ZERO = 1e-9  # a score near zero is what remains of coefficients times columns of thousands


LBFGS = "L-BFGS ends where values of the objective no longer differ"


def _search(name: str) -> LogisticRegressionCV:
    return LogisticRegressionCV(
        Cs=[0.01, 1.0], cv=3, l1_ratios=(0,), scoring="neg_log_loss", use_legacy_attributes=False, **TIGHT
    )


EXAMPLES: dict[type, list[Example]] = {
    LogisticRegression: [
        Example(lambda name: LogisticRegression(class_weight="balanced", **TIGHT), CLASSES, atol=NEAR_ZERO),
        Example(lambda name: LogisticRegression(C=0.01), ("iris",)),
        # SAGA itself ends where its steps are small; n_iter_ counts the steps of another solver.
        Example(
            lambda name: LogisticRegression(C=0.1, solver="saga", l1_ratio=0.6, tol=1e-12, max_iter=100_000),
            ("iris",),
            close=1e-7,
            atol=1e-9,
            leave=("n_iter_",),
            why="scikit-learn's SAGA ends where its steps are small, Atoll's proximal Newton steps at the optimum",
        ),
    ],
    LogisticRegressionCV: [Example(_search, ("iris", "wine"), atol=NEAR_ZERO)],
    PoissonRegressor: [Example(lambda name: PoissonRegressor(**TIGHT), ("diabetes",))],
    GammaRegressor: [
        Example(
            lambda name: GammaRegressor(tol=1e-8),
            ("diabetes",),
            close=1e-5,
            why=f"{LBFGS}; with `newton-cholesky` all digits agree",
        ),
        Example(lambda name: GammaRegressor(**TIGHT), ("diabetes",)),
    ],
    TweedieRegressor: [Example(lambda name: TweedieRegressor(power=1.5, **TIGHT), ("diabetes",))],
    HuberRegressor: [Example(lambda name: HuberRegressor(alpha=1.0), ("diabetes",), close=1e-8, why=LBFGS)],
}


def asked(name: str) -> dict[str, Asked]:
    """An example of each operation."""
    X, y = data(name)
    classes = np.unique(y)
    C, p, seen = len(classes), X.shape[1] + 1, (codes([classes]),)
    rng = np.random.default_rng(5)
    w: Tree = {"w": rng.normal(size=(p, C)) * 1e-3}
    one: Tree = {"w": np.concatenate([rng.normal(size=p), [20.0]])}
    settings = loss_settings(HalfMultinomialLoss(n_classes=C) if C > 2 else HalfBinomialLoss())
    if C == 2:
        w = {"w": w["w"][:, 0]}
    ids = np.tile(np.array([3, 40, 160], dtype=np.int64), (C, 1))
    return {
        "folds.extent": Asked({"n_classes": C}, {}, "Extrema", seen),
        "folds.below": Asked({}, {"threshold": ids}, "Sum", seen),
        "losses.classes": Asked({"n_classes": C}, {}, "Sum", seen),
        "losses.targets": Asked(loss_settings(HalfSquaredError()), {}, "Sum"),
        "losses.gradient": Asked(settings, w, "Sum", seen),
        "losses.curvature": Asked(settings, w, "Sum", seen),
        "losses.product": Asked(settings, {**w, "direction": rng.normal(size=w["w"].shape)}, "Sum", seen),
        "losses.huber": Asked({"epsilon": 1.35}, one, "Sum"),
        "losses.scores": Asked({"n_classes": C, "weighted": True}, {"w": np.stack([w["w"], 2 * w["w"]])}, "Sum", seen),
    }
