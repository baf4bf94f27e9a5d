"""Naive Bayes, exact: moments or counts per class."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.naive_bayes import BernoulliNB, CategoricalNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.utils import get_tags
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import check_non_negative

from atoll.combine import Extrema, Moments, Sum
from atoll.operations.classes import over_classes
from atoll.recipes.base import recipe
from atoll.rounds import Rounds
from atoll.trees import Array
from atoll.views import codes

__all__ = ["fit_categories", "fit_counts", "fit_gaussian"]


@recipe(GaussianNB)
def fit_gaussian(estimator: GaussianNB, rounds: Rounds) -> GaussianNB:
    """Exact: per class a count, a mean and a spread leave a node.

    Moments are merged by the pairwise formula that scikit-learn's own `partial_fit` uses (Chan, Golub & LeVeque, 1979).
    As there, `var_smoothing` looks at the variance of all rows, whatever their weights.
    """
    schema = rounds.schema
    (classes,) = schema.classes
    dtype = np.dtype(schema.dtype)
    priors = _priors(estimator.priors, len(classes), dtype)
    seen, op = rounds.through(codes(schema.classes)), "statistics.class_moments"
    moments = seen.round(op, combine=Moments(), settings={"n_classes": len(classes), "weighted": True})
    if schema.weighted:
        whole = rounds.round(op, combine=Moments(), settings={"n_classes": None, "weighted": False})
    else:
        whole = over_classes(moments)
    n, some = moments["n"], ~np.isclose(moments["n"], 0.0)[:, None]
    variance = np.divide(moments["m2"], n[:, None], out=np.zeros_like(moments["m2"]), where=some)
    estimator.classes_ = unique_labels(classes)
    estimator.epsilon_ = estimator.var_smoothing * dtype.type((whole["m2"] / whole["n"]).max())
    estimator.theta_ = np.where(some, moments["mean"], 0.0).astype(dtype)
    estimator.var_ = variance.astype(dtype) + estimator.epsilon_
    estimator.class_count_ = n.astype(dtype)
    estimator.class_prior_ = estimator.class_count_ / estimator.class_count_.sum() if priors is None else priors
    return estimator


def _priors(given: Any, n_classes: int, dtype: Any) -> Array | None:
    if given is None:
        return None
    priors: Array = np.asarray(given, dtype=dtype)
    if len(priors) != n_classes:
        raise ValueError("Number of priors must match number of classes.")
    if not np.isclose(priors.sum(), 1.0):
        raise ValueError("The sum of the priors should be 1.")
    if (priors < 0).any():
        raise ValueError("Priors must be non-negative.")
    return priors


@recipe(MultinomialNB, ComplementNB, BernoulliNB)
def fit_counts(estimator: Any, rounds: Rounds) -> Any:
    """Exact: per class a count and the sum of each column leave a node; probabilities are scikit-learn's own code."""
    schema = rounds.schema
    alpha = _begin(estimator, rounds)
    above = getattr(estimator, "binarize", None)
    whom = f"{type(estimator).__name__} (input X)" if get_tags(estimator).input_tags.positive_only else None
    settings = {"n_classes": len(estimator.classes_), "above": None if above is None else float(above), "whom": whom}
    sums = rounds.through(codes(schema.classes)).round("classes.sums", combine=Sum(), settings=settings)
    estimator.class_count_, estimator.feature_count_ = sums["rows"], sums["total"]
    if isinstance(estimator, ComplementNB):
        estimator.feature_all_ = estimator.feature_count_.sum(axis=0)
    return _finish(estimator, alpha)


@recipe(CategoricalNB)
def fit_categories(estimator: CategoricalNB, rounds: Rounds) -> CategoricalNB:
    """Exact: the largest category of each column, then per class how many rows have each category."""
    schema = rounds.schema
    alpha = _begin(estimator, rounds)
    extrema = rounds.round("statistics.extrema", combine=Extrema())
    lowest, highest = (extrema[name].astype(np.int64)[None, :] for name in ("min", "max"))
    check_non_negative(lowest, "CategoricalNB (input X)")
    n_categories = estimator._validate_n_categories(highest, estimator.min_categories)
    counts = rounds.through(codes(schema.classes)).round(
        "classes.categories",
        {"n_categories": n_categories},
        combine=Sum(),
        settings={"n_classes": len(estimator.classes_)},
    )
    estimator.n_categories_ = n_categories
    split = np.split(counts["count"], np.cumsum(n_categories)[:-1], axis=1)
    estimator.category_count_ = [np.ascontiguousarray(count) for count in split]
    estimator.class_count_ = estimator.category_count_[0].sum(axis=1)
    return _finish(estimator, alpha)


def _begin(estimator: Any, rounds: Rounds) -> Any:
    """Set what is known before any rows are counted; the smoothing, checked."""
    (classes,) = rounds.schema.classes
    estimator.n_features_in_ = rounds.schema.n_features
    estimator.classes_ = unique_labels(classes)
    return estimator._check_alpha()


def _finish(estimator: Any, alpha: Any) -> Any:
    estimator._update_feature_log_prob(alpha)
    estimator._update_class_log_prior(class_prior=estimator.class_prior)
    return estimator
