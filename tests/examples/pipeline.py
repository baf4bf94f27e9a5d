"""Pipelines, column transformers and unions."""

from __future__ import annotations

from typing import Any

from sklearn.compose import ColumnTransformer
from sklearn.linear_model import Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline, make_union
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler

from cases import data
from examples_base import Example

CLASSES = ("iris", "wine", "breast_cancer")
NUMBERS = ("diabetes", "iris", "wine")


def columns(name: str) -> ColumnTransformer:
    """Half of the columns scaled, one dropped, the others passed on."""
    half = data(name)[0].shape[1] // 2
    blocks: list[tuple[str, Any, Any]] = [
        ("scaled", StandardScaler(), list(range(half))),
        ("left out", "drop", [half]),
    ]
    return ColumnTransformer(blocks, remainder="passthrough", transformer_weights={"scaled": 0.5})


EXAMPLES: dict[type, list[Example]] = {
    Pipeline: [
        Example(lambda name: make_pipeline(StandardScaler(), GaussianNB()), CLASSES),
        Example(lambda name: make_pipeline(columns(name), "passthrough", Ridge(0.3)), NUMBERS),
    ],
    ColumnTransformer: [Example(columns, (*CLASSES, "diabetes"))],
    FeatureUnion: [Example(lambda name: make_union(MinMaxScaler(), "passthrough", MaxAbsScaler()), CLASSES)],
}
