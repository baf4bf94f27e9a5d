"""Ridge regression that chooses its penalty: by leaving out each row, or by folds.

Leaving out is algebra: with the singular vectors of the rows that stand for all, each node computes how far its own
targets lie from a fit without them, for all penalties at once, and sends sums. Folds are read off the triangles of
their parts.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn.base import clone, is_classifier
from sklearn.linear_model import Ridge, RidgeClassifier, RidgeClassifierCV, RidgeCV
from sklearn.linear_model._ridge import _check_gcv_mode
from sklearn.metrics import get_scorer
from sklearn.model_selection import StratifiedKFold, check_cv
from sklearn.utils import check_scalar

from atoll.combine import Sum
from atoll.recipes.folds import number_of_folds, stratified
from atoll.recipes.least_squares.parts import Parts, joined, refused, split, summaries
from atoll.recipes.least_squares.ridge import prepare_classes, solve
from atoll.recipes.least_squares.scores import Score, score_of
from atoll.recipes.least_squares.summary import NUMBERS, Ask, StandIn, Summary, least_squares
from atoll.rounds import Rounds
from atoll.shards import Shard
from atoll.trees import Array, Tree

__all__ = ["Without", "fit_ridge_classifier_cv", "fit_ridge_cv", "without_own_row"]


def _results(model: Any, rows: Shard) -> Array:
    """`cv_results_`, which has an entry per row: what scikit-learn finds over the rows."""
    if not model.store_cv_results:
        raise AttributeError(f"{type(model).__name__!r} object has no attribute 'cv_results_'")
    results: Array = clone(model).fit(rows.X, rows.labels(), **rows.columns).cv_results_
    return results


@least_squares(RidgeCV, per_row={"cv_results_": _results})
def fit_ridge_cv(estimator: RidgeCV, rounds: Rounds, ask: Ask) -> RidgeCV:
    """Exact: leaving out each row takes one round more, folds one round in all."""
    alphas = _penalties(estimator)
    if estimator.cv is not None:
        return _by_folds(estimator, rounds, alphas)
    return _by_leaving_out(estimator, rounds, ask, NUMBERS, alphas)


@least_squares(RidgeClassifierCV, per_row={"cv_results_": _results})
def fit_ridge_classifier_cv(estimator: RidgeClassifierCV, rounds: Rounds, ask: Ask) -> RidgeClassifierCV:
    """Exact: as `fit_ridge_cv`, for 1 for a row's class and -1 for the others; nodes count what folds get right."""
    alphas = _penalties(estimator)
    seen, settings = prepare_classes(estimator, rounds)
    if estimator.cv is not None:
        return _by_folds(estimator, seen, alphas, settings)
    return _by_leaving_out(estimator, seen, ask, settings, alphas)


def _penalties(estimator: Any) -> Array:
    """The penalties to try, checked as scikit-learn checks them: positive where each row is left out."""
    boundary = "neither" if estimator.cv is None else "left"
    check = partial(check_scalar, target_type=Real, min_val=0.0, include_boundaries=boundary)
    if isinstance(estimator.alphas, np.ndarray | list | tuple) and np.ndim(estimator.alphas):
        several = len(estimator.alphas) > 1
        for index, alpha in enumerate(estimator.alphas):
            check(alpha, f"alphas[{index}]" if several else "alphas")
    return np.asarray(estimator.alphas)


class Without(NamedTuple):
    """Ridge regressions for some penalties, and what a node needs to leave out its own rows.

    Attributes
    ----------
    coefs : ndarray of shape (T, d, A), float64
        Of the fits to all rows.
    payload : Tree
        Of the operation `linear.left_out`.
    """

    coefs: Array
    payload: Tree


def without_own_row(summary: Summary, rows: StandIn, fit_intercept: bool, alphas: Array) -> Without:
    """Prepare the errors of fits that leave out one row each.

    With rows ``X = U S Vᵀ`` and ``H = XᵀX + αI`` an error is ``c / d``, where ``c = y - X H⁻¹ Xᵀy`` and
    ``d = 1 - xᵀ H⁻¹ x`` (Rifkin & Lippert, 2007). Where rows can be fitted without error, so that both are differences
    of almost equal numbers, their equals ``U α (S² + αI)⁻¹ Uᵀy`` and the diagonal of ``U α (S² + αI)⁻¹ Uᵀ`` are taken.

    Parameters
    ----------
    summary : Summary
        Of the rows.
    rows : StandIn
        Those that stand for them, float64.
    fit_intercept : bool
        Whether these are about the mean.
    alphas : ndarray of shape (A,)
        Penalties.

    Returns
    -------
    Without
    """
    Y = rows.y if rows.y.ndim == 2 else rows.y[:, None]
    U, s, Vt = np.linalg.svd(rows.X, full_matrices=False)
    keep = s > np.finfo(np.float64).eps * max(rows.X.shape) * s.max(initial=0)
    s, V, told = s[keep, None], Vt[keep].T, (U.T @ Y)[keep, :, None]
    share = 1 / (s**2 + alphas)
    fully = keep.sum() == summary.n - fit_intercept
    by_row = alphas * share / s**2 if fully else -share
    by_fit = (alphas * share / s)[:, None] * told if fully else -(s * share)[:, None] * told
    coefs = np.einsum("dr,rta->tda", V, (s * share)[:, None] * told)
    mean = np.concatenate([rows.X_offset, np.atleast_1d(rows.y_offset)])
    payload = {
        "mean": mean, "basis": V, "leverage": by_row, "fit": by_fit, "own": np.array([0.0 if fully else 1.0]),
        "total": np.array([summary.weight if fit_intercept else np.inf]),
    }  # fmt: skip
    return Without(coefs, payload)


def _by_leaving_out(estimator: Any, rounds: Rounds, ask: Ask, settings: Mapping[str, Any], alphas: Array) -> Any:
    schema, fit_intercept = rounds.schema, estimator.fit_intercept
    score = None
    if estimator.scoring is not None:
        possible = ("right",) if is_classifier(estimator) else ("squares", "signed", "magnitudes")
        score = score_of(estimator._get_scorer(), possible)
    summary = ask(rounds, settings)
    rows = summary.stand_in(fit_intercept, np.float64)
    _check_gcv_mode(_like(rows.X, schema.sparse), getattr(estimator, "gcv_mode", None))
    tried = np.atleast_1d(alphas).astype(np.float64)
    coefs, payload = without_own_row(summary, rows, fit_intercept, tried)
    sums = {
        kind: rounds.round("linear.left_out", payload, combine=Sum(), settings={**settings, "score": kind})["score"]
        for kind in (("squares",) if score is None else score.needs)
    }
    values = -sums["squares"] / summary.n if score is None else score.value(sums, summary.weight, summary.spread)
    return _chosen(estimator, rows, np.dtype(schema.dtype), tried, coefs, values)


def _like(X: Array, sparse: bool) -> Any:
    return sp.csr_matrix(X) if sparse else X


def _chosen(estimator: Any, rows: StandIn, dtype: np.dtype[Any], alphas: Array, coefs: Array, values: Array) -> Any:
    """The best penalty, for all targets or for each, and its fit."""
    T = len(values)
    apart = getattr(estimator, "alpha_per_target", False)
    if apart and T > 1:
        best = values.argmax(axis=1)
        estimator.alpha_, estimator.best_score_ = alphas[best], values[np.arange(T), best]
    else:
        mean = values.mean(axis=0)
        at = int(mean.argmax())
        best = np.full(T, at)
        estimator.alpha_ = float(alphas[at])
        of_all = mean[at] if estimator.scoring is None else float(mean[at])
        estimator.best_score_ = values[:, at] if apart and rows.y.ndim == 2 else of_all
    coef = coefs[np.arange(T), :, best]
    estimator.coef_ = coef[0] if T == 1 else coef
    estimator._set_intercept(rows.X_offset, rows.y_offset)
    if type(estimator.intercept_) is not float:
        estimator.intercept_ = estimator.intercept_.astype(dtype)
    estimator.coef_ = estimator.coef_.astype(dtype)
    return estimator


def _by_folds(estimator: Any, rounds: Rounds, alphas: Array, settings: Mapping[str, Any] = NUMBERS) -> Any:
    """What a grid search over the folds finds."""
    for name in ("store_cv_results", "alpha_per_target"):
        if getattr(estimator, name, False):
            raise ValueError(f"cv!=None and {name}=True are incompatible")
    tried = _Folds(estimator, rounds, settings)
    values = tried.scores(alphas)
    mean = values.mean(axis=0)
    if not np.isfinite(mean).all():
        warnings.warn(f"One or more of the test scores are non-finite: {mean}", category=UserWarning, stacklevel=2)
    best = int(np.where(np.isnan(mean), -np.inf, mean).argmax())
    model = tried.fit(alphas[best], joined(tried.of_part))
    estimator.alpha_, estimator.best_score_ = alphas[best], mean[best]
    estimator.coef_, estimator.intercept_ = model.coef_, model.intercept_
    return estimator


class _Folds:
    """The folds of a ridge regression or classifier, asked for once."""

    def __init__(self, estimator: Any, rounds: Rounds, settings: Mapping[str, Any]) -> None:
        self.estimator, self.rounds, self.settings = estimator, rounds, settings
        self.classifies = is_classifier(estimator)
        default = "accuracy" if self.classifies else "r2"
        scorer = get_scorer(default) if estimator.scoring is None else estimator._get_scorer()
        self.score: Score = score_of(scorer, ("right",) if self.classifies else ("squares", "signed"))
        self.parts = self._split()
        self.of_part = summaries(rounds, self.parts, settings)

    def _split(self) -> Parts:
        cv, name, schema = self.estimator.cv, type(self.estimator).__name__, self.rounds.schema
        if not self.classifies:
            return split(cv, schema.n_rows, name)
        if schema.n_outputs:
            raise refused(name, cv)
        splitter = check_cv(cv, schema.classes[0], classifier=True)
        if not isinstance(splitter, StratifiedKFold):
            return split(cv, schema.n_rows, name)
        K = number_of_folds(splitter)
        edges = stratified(self.rounds, K)
        below = self.rounds.round("folds.below", {"threshold": edges}, combine=Sum())["count"]
        own = np.eye(K, dtype=bool)
        parts = np.broadcast_to(np.arange(K), (len(edges), K)).copy()
        return Parts(np.ascontiguousarray(edges[:, :-1]), parts, ~own, own, np.diff(below, axis=1).sum(axis=0))

    def fit(self, alpha: Any, summary: Summary) -> Any:
        """Ridge regression with one penalty."""
        kind = RidgeClassifier if self.classifies else Ridge
        solver = "sparse_cg" if self.rounds.schema.sparse else "auto"
        model = kind(alpha, fit_intercept=self.estimator.fit_intercept, solver=solver)
        return solve(model, self.rounds, summary)

    def scores(self, alphas: Array) -> Array:
        """The score of each penalty on each fold, (S, A)."""
        models = [
            [self.fit(alpha, train) for alpha in alphas]
            for train in (joined(self.of_part[k] for k in np.flatnonzero(mask)) for mask in self.parts.train)
        ]
        return self._counted(models) if self.classifies else self._summed(models)

    def _summed(self, models: list[list[Any]]) -> Array:
        """From the triangles of the test rows."""
        values = []
        for mask, fitted in zip(self.parts.test, models, strict=True):
            test = joined(self.of_part[k] for k in np.flatnonzero(mask))
            coefs = np.stack([np.atleast_2d(model.coef_) for model in fitted], axis=-1)
            intercepts = np.stack([np.broadcast_to(model.intercept_, len(coefs)) for model in fitted], axis=-1)
            squares, signed = test.errors(coefs, intercepts)
            sums = {"squares": squares, "signed": signed}
            values.append(self.score.value(sums, test.weight, test.spread).mean(axis=0))
        return np.stack(values)

    def _counted(self, models: list[list[Any]]) -> Array:
        """From the weight of test rows that nodes see classified right."""
        every, A = [model for fitted in models for model in fitted], len(models[0])
        coef = np.stack([np.atleast_2d(model.coef_) for model in every])
        intercept = np.stack([np.broadcast_to(model.intercept_, coef.shape[1]) for model in every])
        tests = np.repeat(self.parts.test, A, axis=0)
        payload = {**self.parts.payload(), "coef": coef, "intercept": intercept, "tests": tests}
        right = self.rounds.round("linear.right", payload, combine=Sum(), settings=self.settings)["right"]
        weight = self.parts.test @ np.array([summary.weight for summary in self.of_part])
        return np.asarray(right.reshape(-1, A) / weight[:, None])
