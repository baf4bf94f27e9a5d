"""Transformers that learn nothing but the form of the rows: scikit-learn's own fit on two made-up rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.preprocessing import Binarizer, FunctionTransformer, Normalizer, PolynomialFeatures

from atoll.recipes.base import recipe
from atoll.recipes.scaling import extreme_rows, in_form
from atoll.rounds import Rounds

__all__ = ["fit_function", "fit_stateless"]


@recipe(Binarizer, Normalizer, PolynomialFeatures)
def fit_stateless(estimator: Any, rounds: Rounds) -> Any:
    """Exact: nothing is asked of the nodes beyond how many columns there are."""
    schema = rounds.schema
    made_up: Any = sp.csr_matrix if schema.sparse else np.zeros
    return estimator.fit(made_up((2, schema.n_features), dtype=schema.dtype))


@recipe(FunctionTransformer)
def fit_function(estimator: FunctionTransformer, rounds: Rounds) -> FunctionTransformer:
    """Exact: nothing is learned. Functions do not travel, so `check_inverse` looks at the extremes of each column.

    scikit-learn looks at one in a hundred rows instead.
    """
    if not estimator.check_inverse or estimator.func is None or estimator.inverse_func is None:
        return fit_stateless(estimator, rounds)
    rows = np.nan_to_num(extreme_rows(rounds))
    return estimator.fit(in_form(rows, rounds.schema))
