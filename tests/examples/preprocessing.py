"""Scaling, power and quantile transforms, bins, and what learns nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
)

from cases import Asked, data
from examples_base import ALL, Example

VARIED = ("iris", "wine", "diabetes")  # without columns that never vary, which scikit-learn warns of
SPREAD = ("iris", "breast_cancer")  # without columns of which many rows are equally far from their cluster
FLAT: dict[str, Any] = {
    "close": 1e-5,
    "atol": 1e-6,
    "why": "only exponents: a likelihood is flat at its top, so that a change of 1e-7 is lost in its rounding, and no "
    "tolerance of the search helps; the two exponents are equally likely, to the last digits",
}

EXAMPLES: dict[type, list[Example]] = {
    StandardScaler: [
        Example(lambda name: StandardScaler()),
        Example(lambda name: StandardScaler(with_mean=False, with_std=False)),
    ],
    MinMaxScaler: [Example(lambda name: MinMaxScaler(feature_range=(-1, 2)))],
    MaxAbsScaler: [Example(lambda name: MaxAbsScaler())],
    RobustScaler: [Example(lambda name: RobustScaler(quantile_range=(10.0, 80.0), unit_variance=True))],
    QuantileTransformer: [
        Example(lambda name: QuantileTransformer(n_quantiles=20)),
        Example(lambda name: QuantileTransformer(n_quantiles=30, output_distribution="normal"), VARIED),
    ],
    PowerTransformer: [
        Example(lambda name: PowerTransformer(), VARIED, **FLAT),
        Example(lambda name: PowerTransformer(method="box-cox", standardize=False), ("iris",), **FLAT),
    ],
    KBinsDiscretizer: [
        Example(lambda name: KBinsDiscretizer(n_bins=3), ("wine", "iris")),
        Example(lambda name: KBinsDiscretizer(strategy="uniform", encode="ordinal"), VARIED),
        Example(lambda name: KBinsDiscretizer(strategy="kmeans", encode="onehot-dense"), SPREAD),
    ],
    SplineTransformer: [
        Example(lambda name: SplineTransformer(n_knots=4), VARIED),
        Example(lambda name: SplineTransformer(n_knots=3, knots="quantile", extrapolation="linear"), VARIED),
    ],
    PolynomialFeatures: [Example(lambda name: PolynomialFeatures(2), ("iris", "wine"))],
    Normalizer: [Example(lambda name: Normalizer())],
    Binarizer: [Example(lambda name: Binarizer(threshold=1.0), ALL)],
    FunctionTransformer: [Example(lambda name: FunctionTransformer())],
}


def asked(name: str) -> dict[str, Asked]:
    """An example of each operation."""
    X = data(name)[0]
    d = X.shape[1]
    mean = X.mean(axis=0)
    centers = {"centers": np.quantile(X, [0.2, 0.5, 0.9], axis=0) - mean, "mean": mean}
    exponents = {"upper": np.full(d, 0.5), "lower": np.full(d, 1.5), "shift": np.zeros(d)}
    counted = {"by_class": False, "stored": False, "weighted": False, "last": True}
    return {
        "columns.means": Asked({}, {}, "Sum"),
        "columns.moments": Asked({}, {}, "Moments"),
        "columns.extrema": Asked({}, {}, "Extrema"),
        "columns.power_moments": Asked({"method": "yeo-johnson"}, exponents, "Moments"),
        "columns.clusters": Asked({}, centers, "Sum"),
        "columns.farthest": Asked({"k": 2}, centers, "TopK", (), {"k": 2}),
        "quantiles.count_below": Asked(counted, {"threshold": np.quantile(X, [0.3, 0.7], axis=0)[:, None, :]}, "Sum"),
    }
