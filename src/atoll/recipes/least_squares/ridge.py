"""Ridge regression and the classifier made of it: scikit-learn's own solvers on the rows that stand for all."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.linear_model._ridge import _BaseRidge
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import compute_sample_weight

from atoll.combine import Sum
from atoll.errors import InvalidData, explain
from atoll.recipes.least_squares.summary import NUMBERS, Ask, Summary, changed, least_squares
from atoll.rounds import Rounds
from atoll.schema import Schema
from atoll.trees import Array
from atoll.views import class_weighted, codes

__all__ = ["as_classes", "check_solver", "fit_ridge", "fit_ridge_classifier", "prepare_classes", "solve"]


@least_squares(Ridge)
def fit_ridge(estimator: Ridge, rounds: Rounds, ask: Ask) -> Ridge:
    """Exact: every solver but `sag` and `saga` runs as it is; those two pass over single rows, see `solve`."""
    check_solver(estimator, rounds.schema)
    return solve(estimator, rounds, ask(rounds, NUMBERS))


@least_squares(RidgeClassifier)
def fit_ridge_classifier(estimator: RidgeClassifier, rounds: Rounds, ask: Ask) -> RidgeClassifier:
    """Exact: ridge regression of 1 for a row's class and -1 for the others."""
    check_solver(estimator, rounds.schema)
    seen, settings = prepare_classes(estimator, rounds)
    return solve(estimator, rounds, ask(seen, settings))


def check_solver(estimator: Any, schema: Schema) -> None:
    """Refuse, in scikit-learn's words, what its ridge regression refuses to do with sparse rows."""
    if estimator.positive or not (schema.sparse and estimator.fit_intercept):
        return
    if estimator.solver not in ("auto", "lbfgs", "lsqr", "sag", "sparse_cg"):
        raise ValueError(
            f"solver='{estimator.solver}' does not support fitting the intercept on sparse data. Please set the solver "
            "to 'auto' or 'lsqr', 'sparse_cg', 'sag', 'lbfgs' or set `fit_intercept=False`"
        )
    if estimator.solver == "sag" and estimator.max_iter is None and estimator.tol > 1e-4:
        warnings.warn(
            '"sag" solver requires many iterations to fit an intercept with sparse inputs. Either set the solver to '
            '"auto" or "sparse_cg", or set a low "tol" and a high "max_iter" (especially if inputs are not '
            "standardized).",
            stacklevel=2,
        )


def solve(estimator: Any, rounds: Rounds, summary: Summary) -> Any:
    """Run scikit-learn's solver on the rows that stand for all.

    Parameters
    ----------
    estimator : Ridge or RidgeClassifier
        Is given `coef_`, `intercept_`, `n_iter_` and `solver_`.
    rounds : Rounds
        Whose record is told where another solver was taken.
    summary : Summary
        Of the rows.

    Returns
    -------
    Ridge or RidgeClassifier
    """
    rows, solver = summary.stand_in(estimator.fit_intercept), estimator.solver
    if solver in ("sag", "saga") and not estimator.positive:
        rounds.run.notes.append(
            f"solver {solver!r} passes over rows one by one; over nodes its objective was minimised exactly, by "
            "'cholesky'"
        )
        solver = "cholesky"
    X: Any = sp.csr_matrix(rows.X) if rounds.schema.sparse else rows.X
    with changed(estimator, fit_intercept=False, solver=solver):
        _BaseRidge.fit(estimator, X, rows.y)
    estimator._set_intercept(rows.X_offset, rows.y_offset)
    return estimator


def prepare_classes(estimator: Any, rounds: Rounds) -> tuple[Rounds, Mapping[str, Any]]:
    """Make a ridge classifier's labels into targets.

    Parameters
    ----------
    estimator : RidgeClassifier or RidgeClassifierCV
        Is given `classes_` and the label binarizer that predictions need.
    rounds : Rounds
        The way to the rows.

    Returns
    -------
    rounds : Rounds
        Through the views `codes` and, with class weights, `class_weighted`.
    settings : mapping
        `targets` and `n_classes`, as for the operation `linear.triangle`.
    """
    schema = rounds.schema
    binarizer = LabelBinarizer(pos_label=1, neg_label=-1)
    if schema.n_outputs:
        binarizer.fit(np.eye(2, schema.n_outputs, dtype=np.int64))
        seen, settings = rounds, {"targets": "labels", "n_classes": 0}
    else:
        binarizer.fit(schema.classes[0])
        seen, settings = as_classes(rounds)
    estimator._label_binarizer, estimator.classes_ = binarizer, binarizer.classes_
    if estimator.class_weight:
        _refuse_weighted_labels(schema)
        seen = seen.through(class_weighted(_class_weight(estimator.class_weight, seen)))
    return seen, settings


def _refuse_weighted_labels(schema: Schema) -> None:
    if schema.n_outputs:
        hint = "give each row its weight in sample_weight"
        raise InvalidData(explain("class weights need one label per row", got=f"{schema.n_outputs} labels", hint=hint))


def as_classes(rounds: Rounds) -> tuple[Rounds, dict[str, Any]]:
    """Rounds through the view `codes`, and the settings that make targets of classes."""
    classes = rounds.schema.classes
    return rounds.through(codes(classes)), {"targets": "classes", "n_classes": len(classes[0])}


def _class_weight(class_weight: Any, seen: Rounds) -> Array:
    classes = seen.schema.classes[0]
    if class_weight != "balanced":
        weight: Array = compute_sample_weight(class_weight, classes)
        return weight
    counts = seen.round("describe.labels", combine=Sum(), settings={"n_classes": [len(classes)]})["count.0"]
    return np.asarray(counts.sum() / (len(classes) * counts))
