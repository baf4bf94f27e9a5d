"""Random features that approximate kernels, exact: drawn by scikit-learn from the seed and the number of columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.kernel_approximation import AdditiveChi2Sampler, PolynomialCountSketch, RBFSampler, SkewedChi2Sampler

from atoll.combine import Extrema, Moments
from atoll.recipes.base import recipe
from atoll.recipes.random_projection import fit_on, of_shape
from atoll.rounds import Rounds
from atoll.trees import Array

__all__ = ["fit_chi2_sampler", "fit_rbf_sampler", "fit_sampler"]


@recipe(PolynomialCountSketch, SkewedChi2Sampler)
def fit_sampler(estimator: Any, rounds: Rounds) -> Any:
    """Exact to the last bit: scikit-learn's own `fit` on made-up rows of the same shape and type; nothing is asked."""
    return fit_on(of_shape(rounds), estimator, rounds)


@recipe(RBFSampler)
def fit_rbf_sampler(estimator: RBFSampler, rounds: Rounds) -> RBFSampler:
    """Exact to the last bit; with `gamma="scale"` nodes tell the moments of their columns (Rahimi & Recht, 2007)."""
    X = _as_varied(rounds) if isinstance(estimator.gamma, str) else of_shape(rounds)
    fitted: RBFSampler = fit_on(X, estimator, rounds)
    return fitted


@recipe(AdditiveChi2Sampler)
def fit_chi2_sampler(estimator: AdditiveChi2Sampler, rounds: Rounds) -> AdditiveChi2Sampler:
    """Exact: nothing is fitted; nodes tell the smallest value of each column, for none may be negative."""
    least = rounds.round("statistics.extrema", combine=Extrema())["min"]
    fitted: AdditiveChi2Sampler = fit_on(least[None].astype(rounds.schema.dtype), estimator, rounds)
    return fitted


def _as_varied(rounds: Rounds) -> Array:
    """Two made-up rows, the variance of whose numbers is that of all numbers of the pooled rows."""
    schema = rounds.schema
    moments = rounds.round("selection.moments", combine=Moments())
    mean, n = moments["mean"] - moments["mean"][0], schema.n_rows
    squares = moments["m2"].sum() + n * np.square(mean - mean.mean()).sum()
    half = np.sqrt(squares / (n * schema.n_features))
    return np.repeat(np.array([[-half], [half]], dtype=schema.dtype), schema.n_features, axis=1)
