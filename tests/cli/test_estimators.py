"""Names, parameters and values as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, Pipeline

from atoll.catalogue import public_name
from atoll.cli.estimators import make, parse_value, parse_values
from atoll.errors import UnknownName, UnsupportedEstimator
from atoll.recipes import supported


@pytest.mark.parametrize("kind", [k for k in supported() if k not in (ColumnTransformer, FeatureUnion, Pipeline)])
def test_each_supported_estimator_has_three_names(kind: type) -> None:
    name = public_name(kind)
    for written in (name, kind.__name__, f"sklearn.{name}"):
        assert type(make(written, {})) is kind


def test_the_public_name_leaves_private_modules_out() -> None:
    assert public_name(LogisticRegression) == "linear_model.LogisticRegression"
    assert public_name(KNeighborsClassifier) == "neighbors.KNeighborsClassifier"


def test_a_generic_way_takes_any_estimator_of_scikit_learn() -> None:
    assert type(make("SVC", {"C": 2.0}, "vote")).__name__ == "SVC"
    assert type(make("RandomForestClassifier", {}, "forest")).__name__ == "RandomForestClassifier"
    with pytest.raises(UnsupportedEstimator, match="SVC"):
        make("SVC", {})


def test_parameters_arrive() -> None:
    estimator = make("KNeighborsClassifier", {"n_neighbors": 4, "metric_params": {"p": 3}})
    assert estimator.get_params()["n_neighbors"] == 4
    assert estimator.get_params()["metric_params"] == {"p": 3}


@pytest.mark.parametrize("name", ["", ".", "neighbors.", "neighbors.neighbors.KNeighborsClassifier", "builtins.print"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(UnknownName, match="unknown estimator"):
        make(name, {})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-1", -1),
        ("1e-3", 1e-3),
        ("true", True),
        ("False", False),
        ("none", None),
        ("None", None),
        ("distance", "distance"),
        ("'distance'", "distance"),
        ('"3"', "3"),
        ("[1, 2]", [1, 2]),
        ("{p = 3}", {"p": 3}),
        ("1\nother = 2", "1\nother = 2"),
        ("", ""),
        ("a=b", "a=b"),
    ],
)
def test_values(text: str, value: object) -> None:
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)


@given(st.text(max_size=30))
def test_every_text_is_some_value(text: str) -> None:
    value = parse_value(text)
    assert parse_values([f"name={text}"]) == {"name": parse_value(text.strip())}
    assert value is None or value == value or value != value
