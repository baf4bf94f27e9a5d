"""Random projections, exact: they depend on the shape of the rows alone, so scikit-learn draws them as ever."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import config_context
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

from atoll.recipes.base import recipe
from atoll.rounds import Rounds
from atoll.trees import Array

__all__ = ["fit_on", "fit_projection", "of_shape"]


@recipe(GaussianRandomProjection, SparseRandomProjection)
def fit_projection(estimator: Any, rounds: Rounds) -> Any:
    """Exact to the last bit: scikit-learn's own `fit` on made-up rows of the same shape and type; nothing is asked.

    How many components are needed follows from the number of rows (Johnson & Lindenstrauss, 1984).
    """
    return fit_on(of_shape(rounds), estimator, rounds)


def of_shape(rounds: Rounds) -> Array:
    """Zeros that have the shape and the dtype of the pooled rows, and take no memory.

    Parameters
    ----------
    rounds : Rounds
        The way to the rows.

    Returns
    -------
    ndarray of shape (n, d)
        Read-only.
    """
    schema = rounds.schema
    return np.broadcast_to(np.zeros(1, dtype=schema.dtype), (schema.n_rows, schema.n_features))


def fit_on(X: Array, estimator: Any, rounds: Rounds) -> Any:
    """Fit an estimator on made-up rows, with a seed of the run where it has none of its own.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Made-up rows, finite.
    estimator : estimator
        Unfitted.
    rounds : Rounds
        The run.

    Returns
    -------
    estimator
        The same one, fitted; its `random_state` is as it was.
    """
    unseeded = getattr(estimator, "random_state", 0) is None
    if unseeded:
        estimator.random_state = int(rounds.rng("random_state").integers(2**31 - 1))
    with config_context(assume_finite=True):  # or scikit-learn would look at every zero
        estimator.fit(X)
    if unseeded:
        estimator.random_state = None
    return estimator
