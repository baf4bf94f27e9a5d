"""NearestCentroid, exact: counts, means and spreads per class, or medians found by counting."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.neighbors import NearestCentroid

from atoll.combine import Extrema, Moments
from atoll.recipes.base import recipe
from atoll.recipes.checks import check_labels
from atoll.recipes.quantiles import order_statistics
from atoll.rounds import Rounds
from atoll.trees import Array, Tree
from atoll.views import codes

__all__ = ["fit_centroids"]


@recipe(NearestCentroid)
def fit_centroids(estimator: NearestCentroid, rounds: Rounds) -> NearestCentroid:
    """Exact: per class a count, a mean and a spread leave a node; for medians, counts below thresholds.

    Attributes are scikit-learn's; deviations as in Tibshirani et al. (2002), "Diagnosis of multiple cancer types by
    shrunken centroids".
    """
    estimator._validate_params()
    schema = rounds.schema
    check_labels(schema)
    (classes,) = schema.classes
    C, n = len(classes), schema.n_rows
    if C < 2:
        raise ValueError(f"The number of classes has to be greater than one; got {C} class")
    seen = rounds.through(codes(schema.classes))
    moments = seen.round("statistics.class_moments", combine=Moments(), settings={"n_classes": C})
    _refuse_constant(rounds.round("statistics.extrema", combine=Extrema()))
    nk = moments["n"]
    if estimator.metric == "manhattan":
        estimator.centroids_ = _medians(seen, nk, schema.n_features)
    else:
        estimator.centroids_ = moments["mean"].copy()
    estimator.classes_ = classes
    estimator.n_features_in_ = schema.n_features
    estimator.class_prior_ = _priors(estimator.priors, nk)
    _shrink(estimator, moments, n)
    return estimator


def _refuse_constant(extrema: Tree) -> None:
    if (extrema["min"] == extrema["max"]).all():
        raise ValueError("All features have zero variance. Division by zero.")


def _priors(priors: Any, nk: Array) -> Array:
    if isinstance(priors, str):
        return nk / nk.sum() if priors == "empirical" else np.full(len(nk), 1 / len(nk))
    prior = np.asarray(priors)
    if (prior < 0).any():
        raise ValueError("priors must be non-negative")
    if not np.isclose(prior.sum(), 1.0):
        warnings.warn("The priors do not sum to 1. Normalizing such that it sums to one.", UserWarning, stacklevel=2)
        prior = prior / prior.sum()
    return prior


def _shrink(estimator: NearestCentroid, moments: Tree, n: int) -> None:
    """Spread within classes, deviations of the centroids from the overall one, and soft thresholding of them."""
    nk, mean = moments["n"], moments["mean"]
    about = moments["m2"] + nk[:, None] * np.square(mean - estimator.centroids_)
    std = np.sqrt(about.sum(axis=0) / (n - len(nk)))
    estimator.within_class_std_dev_ = std
    if (std == 0).any():
        warnings.warn(
            "self.within_class_std_dev_ has at least 1 zero standard deviation."
            "Inputs within the same classes for at least 1 feature are identical.",
            UserWarning,
            stacklevel=2,
        )
    overall = (nk[:, None] * mean).sum(axis=0) / n
    ms = np.sqrt(1.0 / nk - 1.0 / n)[:, None] * (std + np.median(std))
    deviations = (estimator.centroids_ - overall) / ms
    if estimator.shrink_threshold:
        size = np.clip(np.abs(deviations) - estimator.shrink_threshold, 0, None)
        deviations = size * np.sign(deviations)
        estimator.centroids_ = overall + ms * deviations
    estimator.deviations_ = deviations


def _medians(rounds: Rounds, nk: Array, d: int) -> Array:
    n = nk.astype(np.int64)
    ranks = np.repeat(np.stack([(n - 1) // 2, n // 2])[:, :, None], d, axis=2)
    low, high = order_statistics(rounds, ranks, by_class=True).astype(np.float64)
    middle: Array = (low + high) / 2
    return middle
