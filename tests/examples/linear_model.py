"""Linear models by least squares."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import (
    ARDRegression,
    BayesianRidge,
    ElasticNet,
    ElasticNetCV,
    Lars,
    LarsCV,
    Lasso,
    LassoCV,
    LassoLars,
    LassoLarsCV,
    LassoLarsIC,
    LinearRegression,
    MultiTaskElasticNet,
    MultiTaskElasticNetCV,
    MultiTaskLasso,
    MultiTaskLassoCV,
    OrthogonalMatchingPursuit,
    OrthogonalMatchingPursuitCV,
    Ridge,
    RidgeClassifier,
    RidgeClassifierCV,
    RidgeCV,
)

from atoll.operations.linear import jittered
from atoll.views import codes
from cases import Asked, data
from examples_base import Example

CLASSES = ("iris", "digits", "wine", "breast_cancer")
SCALED = ("iris", "digits", "wine", "diabetes")  # on others, coordinate descent does not converge
INVERTED = ("iris", "wine", "breast_cancer", "diabetes")  # of digits, pooled inverses have six digits
SEVERAL = ("two_targets",)
DENSE = ("weights",)  # pooled folds of sparse rows are fitted by conjugate gradients that stop at 1e-4
GRID = [1e-2, 1e-1, 1.0, 10.0]

EXAMPLES: dict[type, list[Example]] = {
    LinearRegression: [
        Example(lambda name: LinearRegression()),
        Example(lambda name: LinearRegression(positive=True, fit_intercept=False)),
    ],
    Ridge: [
        Example(lambda name: Ridge()),
        Example(lambda name: Ridge(alpha=0.3, solver="svd", fit_intercept=False), atol=1e-10),
    ],
    RidgeClassifier: [Example(lambda name: RidgeClassifier(class_weight="balanced"), CLASSES)],
    RidgeCV: [
        Example(lambda name: RidgeCV(GRID, gcv_mode="svd"), atol=1e-10),  # constant columns of digits: rounding
        Example(lambda name: RidgeCV(GRID, cv=4, scoring="neg_mean_squared_error"), forms=DENSE),
    ],
    RidgeClassifierCV: [
        Example(
            lambda name: RidgeClassifierCV(GRID),
            CLASSES,
            close=1e-7,
            why="scikit-learn takes eigenvectors of XᵀX, which squares the condition of X; Atoll takes singular "
            "vectors, and agrees to 1e-12 once scikit-learn is told to",
        ),
        Example(lambda name: RidgeClassifierCV(GRID, cv=3), CLASSES, forms=DENSE),
    ],
    Lasso: [Example(lambda name: Lasso(alpha=0.05, tol=1e-9))],
    ElasticNet: [Example(lambda name: ElasticNet(alpha=0.1, l1_ratio=0.3, selection="random", random_state=0), SCALED)],
    MultiTaskLasso: [Example(lambda name: MultiTaskLasso(alpha=0.05), SEVERAL)],
    MultiTaskElasticNet: [Example(lambda name: MultiTaskElasticNet(alpha=0.1), SEVERAL)],
    LassoCV: [Example(lambda name: LassoCV(alphas=5))],
    ElasticNetCV: [Example(lambda name: ElasticNetCV(alphas=4, l1_ratio=[0.3, 0.8], cv=3))],
    MultiTaskLassoCV: [Example(lambda name: MultiTaskLassoCV(alphas=[1.0, 3.0], cv=3), SEVERAL)],
    MultiTaskElasticNetCV: [Example(lambda name: MultiTaskElasticNetCV(alphas=4, cv=3), SEVERAL)],
    Lars: [Example(lambda name: Lars(n_nonzero_coefs=3)), Example(lambda name: Lars(jitter=1e-3, random_state=0))],
    LassoLars: [Example(lambda name: LassoLars(alpha=0.05))],
    LassoLarsIC: [
        Example(
            lambda name: LassoLarsIC(criterion="bic"),
            close=1e-8,
            why="the path goes by XᵀX, here and there, and columns of breast_cancer all but depend on each other",
        )
    ],
    LarsCV: [Example(lambda name: LarsCV(max_iter=3))],
    LassoLarsCV: [Example(lambda name: LassoLarsCV(max_iter=4))],
    OrthogonalMatchingPursuit: [Example(lambda name: OrthogonalMatchingPursuit(n_nonzero_coefs=2))],
    OrthogonalMatchingPursuitCV: [Example(lambda name: OrthogonalMatchingPursuitCV(cv=3))],
    BayesianRidge: [Example(lambda name: BayesianRidge(compute_score=True))],
    ARDRegression: [
        Example(
            lambda name: ARDRegression(compute_score=True),
            INVERTED,
            close=1e-7,
            atol=1e-9,
            why="only `lambda_` of columns about to be dropped: squares of coefficients near zero, inverted",
        )
    ],
}


def asked(name: str) -> dict[str, Asked]:
    """An example of each operation."""
    X, y = data(name)
    n, d, labels = len(y), X.shape[1], np.unique(y)
    seen = (codes([labels]),)
    classes = {"targets": "classes", "n_classes": len(labels)}
    T = len(labels) if len(labels) > 2 else 1
    halves = {"start": np.array([[0, n // 2]]), "part": np.array([[1, 0]])}
    rng = np.random.default_rng(0)
    without = {
        "mean": np.zeros(d + T), "basis": rng.normal(size=(d, 2)) / d, "leverage": -1e-9 * rng.random(size=(2, 3)),
        "fit": rng.normal(size=(2, T, 3)), "own": np.ones(1), "total": np.array([float(n)]),
    }  # fmt: skip
    models = {
        "coef": rng.normal(size=(3, T, d)),
        "intercept": rng.normal(size=(3, T)),
        "tests": rng.random((3, 2)) < 0.7,
    }
    noisy = (jittered(np.random.RandomState(0).get_state(), 1e-3, n),)
    return {
        "linear.triangle": Asked({"targets": "numbers", "n_classes": 0}, {}, "Triangle", noisy),
        "linear.folds": Asked({**classes, "n_parts": 2, "n_rows": n}, halves, "Triangle", seen),
        "linear.sums": Asked(classes, {}, "Sum", seen),
        "linear.gram": Asked(classes, {"mean": np.ones(d + T)}, "Sum", seen),
        "linear.left_out": Asked({**classes, "score": "squares"}, without, "Sum", seen),
        "linear.right": Asked(classes, {**halves, **models}, "Sum", seen),
    }
