"""LogisticRegressionCV: folds cut on the nodes, one regularisation path per fold, scores from sums."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any, NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    cohen_kappa_score,
    f1_score,
    fbeta_score,
    get_scorer,
    jaccard_score,
    log_loss,
    matthews_corrcoef,
    precision_score,
    recall_score,
)
from sklearn.metrics._scorer import _Scorer
from sklearn.utils.metadata_routing import _routing_enabled, process_routing

from atoll.combine import Sum
from atoll.errors import UnsupportedEstimator, explain
from atoll.recipes.base import recipe
from atoll.recipes.checks import check_labels, refuse_weightless
from atoll.recipes.folds import splits
from atoll.recipes.logistic import (
    Problem,
    check_two_classes,
    class_sums,
    class_weights,
    heed_parameters,
    layout,
    one_class,
    regularisation_path,
)
from atoll.rounds import Rounds
from atoll.specs import Spec
from atoll.trees import Array, Tree
from atoll.views import class_weighted, codes

__all__ = ["fit_logistic_cv"]

_FROM_TABLE = (
    accuracy_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    f1_score,
    fbeta_score,
    jaccard_score,
    matthews_corrcoef,
    precision_score,
    recall_score,
)
_FROM_PROBABILITIES = (log_loss, brier_score_loss)


class _Paths(NamedTuple):
    """What the folds gave: parameters (K, F, Q, L, p), scores and iterations (F, Q, L).

    K parameter vectors (one for two classes), F folds, Q strengths, L shares of absolute values, p parameters.
    """

    coefs: Array
    scores: Array
    n_iter: Array


class _Judge(NamedTuple):
    """Scores parameters; `weighs`: with the sample weights of the rows."""

    scorer: _Scorer
    classes: Array
    weighs: bool

    def scores(self, rounds: Rounds, tried: Array) -> Array:
        """The score of each of some parameters, shape (q,)."""
        w = np.ascontiguousarray(tried if tried.ndim == 2 else tried.swapaxes(1, 2))
        settings = {"n_classes": len(self.classes), "weighted": self.weighs}
        sums = rounds.round("losses.scores", {"w": w}, combine=Sum(), settings=settings)
        return np.asarray([self._score({name: part[q] for name, part in sums.items()}) for q in range(len(w))])

    def _score(self, sums: Tree) -> float:
        function, sign, table = self.scorer._score_func, self.scorer._sign, sums["confusion"]
        refuse_weightless(float(table.sum()), where="the rows of a fold")
        two = len(self.classes) == 2
        if function is log_loss:
            return float(sign * sums["log_loss"] / table.sum())
        if function is brier_score_loss:
            return float(sign * sums["brier"] / table.sum() / (2 if two else 1))
        label, guess = np.nonzero(table)
        takes, kwargs = signature(function).parameters, dict(self.scorer._kwargs)
        if "labels" in takes:
            kwargs.setdefault("labels", self.classes)
        if "pos_label" in takes and two:
            kwargs.setdefault("pos_label", self.classes[-1])
        given, guessed = self.classes[label], self.classes[guess]
        return float(sign * function(given, guessed, sample_weight=table[label, guess], **kwargs))


@recipe(LogisticRegressionCV, iterative=True)
def fit_logistic_cv(estimator: LogisticRegressionCV, rounds: Rounds) -> LogisticRegressionCV:
    """Stratified folds of the pooled rows; for each, a path over all strengths, and the sums that scores are made of.

    Scores that follow from a confusion matrix, the logarithmic loss and the Brier score can be had.
    """
    heed_parameters(estimator)
    check_labels(rounds.schema)
    (classes,) = rounds.schema.classes
    if len(classes) < 2:
        raise ValueError(one_class(classes) + ".")
    if estimator.solver == "liblinear":
        check_two_classes(classes)
    scorer = _scorer(estimator.scoring)
    Cs = np.logspace(-4, 4, estimator.Cs) if isinstance(estimator.Cs, int | np.integer) else np.asarray(estimator.Cs)
    penalty, ratios = _penalty(estimator)
    seen = rounds.through(codes(rounds.schema.classes))
    weight = _class_weights(estimator.class_weight, classes, seen)
    problem = Problem(
        seen, classes, 0.0, estimator.solver, penalty, estimator.fit_intercept, estimator.intercept_scaling,
        estimator.tol, estimator.max_iter, estimator.verbose,
    )  # fmt: skip
    judge = _Judge(scorer, classes, _weighs(estimator, rounds))
    paths = _all_paths(problem, weight, Cs, ratios, splits(estimator.cv, seen), judge)
    estimator.classes_, estimator.Cs_, estimator.l1_ratios_ = classes, Cs, np.asarray(ratios)
    if estimator.refit:
        w = _refit(estimator, problem._replace(intercept_scaling=1.0), weight, paths)
    else:
        w = _average(estimator, penalty, paths)
    estimator.coef_, estimator.intercept_ = layout(w, estimator.fit_intercept, np.float64)
    _lay_out(estimator, paths)
    return estimator


def _penalty(estimator: LogisticRegressionCV) -> tuple[str, Sequence[float | None]]:
    """The kind of penalty, and the shares of absolute values in it that are tried."""
    ratios = None if isinstance(estimator.l1_ratios, str) else estimator.l1_ratios
    penalty = estimator.penalty
    if penalty == "deprecated":
        shares = {"l2": 0, "l1": 1}
        uniform = [name for name, share in shares.items() if ratios is None or np.all(np.asarray(ratios) == share)]
        penalty = uniform[0] if uniform else "elasticnet"
    return penalty, [None] if ratios is None else list(ratios)


def _class_weights(class_weight: Any, classes: Array, seen: Rounds) -> Array | None:
    """The weight of each class: balanced over all rows, whatever the fold."""
    if class_weight is None:
        return None
    if isinstance(class_weight, dict) and not set(class_weight) <= set(classes):
        raise ValueError(
            f"The given class_weight dict must have the class labels as keys; classes={classes} but "
            f"key={class_weight.keys()}"
        )
    return class_weights(class_weight, classes, class_sums(seen, len(classes)))


def _all_paths(
    problem: Problem, weight: Array | None, Cs: Array, ratios: Sequence[float | None],
    folds: list[tuple[Spec, Spec]], judge: _Judge,
) -> _Paths:  # fmt: skip
    found = []
    for fold in folds:
        train, test = (problem.rounds.through(view) for view in fold)
        weighed = _weighed(problem._replace(rounds=train), weight)
        paths = [regularisation_path(weighed, list(Cs), ratio) for ratio in ratios]
        tried = np.stack([np.stack(coefs) for coefs, _ in paths])
        scores = judge.scores(test, tried.reshape(-1, *problem.shape))
        found.append((tried, scores.reshape(len(ratios), -1), np.asarray([n for _, n in paths], dtype=np.int32)))
    coefs, scores, n_iter = (np.stack(part) for part in zip(*found, strict=True))
    coefs = coefs.reshape(*scores.shape, -1, coefs.shape[-1])
    return _Paths(coefs.transpose(3, 0, 2, 1, 4), scores.swapaxes(1, 2), n_iter.swapaxes(1, 2))


def _weighed(problem: Problem, weight: Array | None) -> Problem:
    """The problem with weighted classes and the sum of all weights."""
    sums = class_sums(problem.rounds, len(problem.classes))
    refuse_weightless(float(sums.sum()), where="the rows of a fold")
    if weight is None:
        return problem._replace(total=float(sums.sum()))
    return problem._replace(rounds=problem.rounds.through(class_weighted(weight)), total=float(sums @ weight))


def _scorer(scoring: Any) -> _Scorer:
    """The scorer, if it follows from sums over rows."""
    scorer = get_scorer("accuracy" if scoring in (None, "warn") else scoring)
    function, kwargs = getattr(scorer, "_score_func", None), getattr(scorer, "_kwargs", None)
    if function in _FROM_TABLE or (function in _FROM_PROBABILITIES and not kwargs):
        return scorer
    raise UnsupportedEstimator(
        explain(
            "this score is not made of sums over rows",
            got=repr(scoring),
            expected="one that follows from a confusion matrix, or 'neg_log_loss' or 'neg_brier_score'",
            hint="GridSearchCV over a Distributed LogisticRegression takes any scorer",
        )
    )


def _weighs(estimator: LogisticRegressionCV, rounds: Rounds) -> bool:
    """Whether scores are weighted: always, unless metadata are routed and the scorer did not ask for weights."""
    if not (rounds.schema.weighted and _routing_enabled()) or estimator.scoring in (None, "warn"):
        return True
    return "sample_weight" in process_routing(estimator, "fit", sample_weight=np.ones(1)).scorer.score


def _refit(estimator: LogisticRegressionCV, problem: Problem, weight: Array | None, paths: _Paths) -> Array:
    """Parameters for all rows, at the strength and share with the best sum of scores."""
    total = paths.scores.sum(axis=0)
    strength, share = np.unravel_index(np.argmax(total), total.shape)
    C, ratio = estimator.Cs_[strength], estimator.l1_ratios_[share]
    estimator.C_, estimator.l1_ratio_ = np.asarray([C]), np.asarray([ratio])
    start = paths.coefs[:, :, strength, share].mean(axis=1)
    return regularisation_path(_weighed(problem, weight), [C], ratio, start)[0][0]


def _average(estimator: LogisticRegressionCV, penalty: str, paths: _Paths) -> Array:
    """The mean over folds of each fold's best parameters."""
    n_folds, *grid = paths.scores.shape
    strength, share = np.unravel_index(np.argmax(paths.scores.reshape(n_folds, -1), axis=1), grid)
    estimator.C_ = np.asarray([np.mean(estimator.Cs_[strength])])
    mixed = penalty == "elasticnet"
    estimator.l1_ratio_ = np.asarray([np.mean(estimator.l1_ratios_[share]) if mixed else 0.0])
    w: Array = paths.coefs[:, np.arange(n_folds), strength, share].mean(axis=1)
    return w


def _lay_out(estimator: LogisticRegressionCV, paths: _Paths) -> None:
    """The attributes of the search, in the layout that `use_legacy_attributes` asks for."""
    no_ratios = estimator.l1_ratios is None or isinstance(estimator.l1_ratios, str)
    if not estimator.use_legacy_attributes:
        estimator.C_ = float(estimator.C_[0])
        default = 1.0 if estimator.penalty == "l1" else 0.0
        estimator.l1_ratio_ = default if no_ratios else float(estimator.l1_ratio_[0])
        estimator.coefs_paths_ = paths.coefs.transpose(1, 3, 2, 0, 4)
        estimator.scores_, estimator.n_iter_ = (a.swapaxes(1, 2) for a in (paths.scores, paths.n_iter))
        return
    n_vectors = len(paths.coefs)
    estimator.C_, estimator.l1_ratio_ = (np.tile(a, n_vectors) for a in (estimator.C_, estimator.l1_ratio_))
    coefs, scores, n_iter = paths
    if no_ratios:
        coefs, scores, n_iter = coefs[:, :, :, 0], scores[:, :, 0], n_iter[:, :, 0]
    labels = estimator.classes_[-n_vectors:]
    estimator.coefs_paths_ = dict(zip(labels, coefs, strict=True))
    estimator.scores_ = dict.fromkeys(labels, scores)
    estimator.n_iter_ = n_iter[None]
