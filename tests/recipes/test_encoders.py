"""Encoders over nodes: every attribute is that of scikit-learn's own fit on the pooled rows, to the letter."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from atoll import Distributed, Federated, Federation
from atoll.errors import InvalidData, NodeValueError
from recipes.compared import same_fit

SEED = 5
N = 70


def frame():
    """Text with None and with NaN, categories of which some never occur, whole numbers, floats, truth values."""
    rng = np.random.default_rng(SEED)
    city = rng.choice(["bern", "lyon", "oslo", "rome", "", "x"], N, p=[0.4, 0.3, 0.15, 0.06, 0.05, 0.04]).astype(object)
    sex = rng.choice(["f", "m"], N)
    gaps = np.where(rng.random(N) < 0.1, None, city)
    return pd.DataFrame(
        {
            "city": city,
            "gaps": gaps,
            "objects": pd.Series(gaps, dtype=object),
            "sex": pd.Categorical(sex, categories=["m", "f", "none"]),
            "whole": rng.integers(0, 5, N),
            "half": np.where(rng.random(N) < 0.2, np.nan, rng.integers(0, 4, N) / 2),
            "yes": rng.random(N) < 0.4,
            "nullable": pd.array([None if i % 11 == 0 else i % 3 for i in range(N)], dtype="Int64"),
        }
    )


def as_objects():
    return frame()[["city", "objects", "whole"]].astype(object).to_numpy()


DATA = {
    "pandas": frame,
    "polars": lambda: pl.from_pandas(frame().drop(columns="sex")),
    "objects": as_objects,
    "list": lambda: as_objects().tolist(),
    "text": lambda: frame()[["city", "sex"]].astype(str).to_numpy().astype("U6"),
    "bytes": lambda: frame()[["city", "sex"]].astype(str).to_numpy().astype("S6"),
    "whole": lambda: frame()[["whole", "yes"]].to_numpy(dtype=np.int16),
    "truth": lambda: frame()[["yes"]].to_numpy(),
    "float32": lambda: frame()[["half", "whole"]].to_numpy(dtype=np.float32),
    "numbers": lambda: frame()[["half", "whole", "yes", "nullable"]],
}

ENCODERS = [
    OneHotEncoder(),
    OneHotEncoder(drop="first", sparse_output=False),
    OneHotEncoder(drop="if_binary", dtype=np.float32),
    OneHotEncoder(min_frequency=6, handle_unknown="infrequent_if_exist"),
    OneHotEncoder(min_frequency=0.2, max_categories=3, handle_unknown="ignore"),
    OneHotEncoder(max_categories=2, drop="first", handle_unknown="warn", feature_name_combiner=lambda c, v: f"{c}={v}"),
    OrdinalEncoder(),
    OrdinalEncoder(encoded_missing_value=-5),
    OrdinalEncoder(min_frequency=8, encoded_missing_value=-5),
    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, max_categories=3),
    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, dtype=np.int64, encoded_missing_value=-2),
]


@pytest.mark.parametrize("n_nodes", [1, 4])
@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("encoder", ENCODERS, ids=[repr(e)[:60] for e in ENCODERS])
def test_equal_to_pooled(encoder, kind, n_nodes):
    X = DATA[kind]()
    pooled = clone(encoder).fit(X)
    model = Distributed(encoder, n_nodes=n_nodes, random_state=SEED).fit(X)
    same_fit(model.estimator_, pooled)
    same_fit(model.transform(X), pooled.transform(X))
    same_fit(model.get_feature_names_out(), pooled.get_feature_names_out())


def by_city():
    """A node per city: on some nodes a column holds a single value, or none at all; one has a single row."""
    whole = frame().sort_values("city", kind="stable", ignore_index=True)
    whole.loc[whole.city == "oslo", ["gaps", "half"]] = [None, np.nan]
    parts = [part for _, part in whole.groupby("city")]
    return [*parts[:-1], parts[-1][:1]]


@pytest.mark.parametrize("encoder", ENCODERS, ids=[repr(e)[:60] for e in ENCODERS])
def test_nodes_that_differ_are_pooled_by_name(encoder):
    """Columns in another order, whole numbers here and floats there, categories here and text there."""
    parts = by_city()
    parts[1] = parts[1][parts[1].columns[::-1]]
    parts[2] = parts[2].assign(whole=parts[2].whole.astype(float), sex=parts[2].sex.astype(str))
    model = Federated(encoder).fit(Federation.from_shards([p.reset_index(drop=True) for p in parts]))
    whole = pd.concat([p[parts[0].columns].astype({"sex": object, "whole": float}) for p in parts], ignore_index=True)
    same_fit(model.estimator_, clone(encoder).fit(whole))


@pytest.mark.parametrize(
    "rows", [np.array([["a", 1], ["b", 2], ["a", 3]], dtype=object), np.array([["b"], ["a"], ["c"]])]
)
def test_categories_that_are_given(rows):
    given = [["c", "b", "a", "never"], [1, 2, 3, 9]][: rows.shape[1]]
    for encoder in (
        OneHotEncoder(categories=given),
        OneHotEncoder(categories=given, min_frequency=2),
        OrdinalEncoder(categories=given, max_categories=2),
    ):
        same_fit(Distributed(encoder, n_nodes=3).fit(rows).estimator_, clone(encoder).fit(rows))


NONSENSE = [
    (OneHotEncoder(categories=[["a", "b"], [1, 2, 3]]), "Found unknown categories .*'c'.* in column 0 during fit"),
    (OneHotEncoder(categories=[["a", "b", "c"]]), "Shape mismatch: if categories is an array"),
    (OneHotEncoder(categories=[["a", "a", "b"], [1, 2, 3]]), "the predefined categories contain duplicate elements"),
    (OneHotEncoder(drop=["nowhere", 1]), "not found in the training data"),
    (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=1), "is one of the values already used"),
    (OrdinalEncoder(unknown_value=1), "should only be set when handle_unknown is 'use_encoded_value'"),
]


@pytest.mark.parametrize(("encoder", "words"), NONSENSE)
def test_nonsense_is_refused_in_the_same_words(encoder, words):
    X = np.array([["a", 1], ["b", 2], ["b", 2], ["c", 3]], dtype=object)
    with pytest.raises((ValueError, TypeError), match=words) as expected:
        clone(encoder).fit(X)
    for fit in (
        lambda: Distributed(encoder, n_nodes=2).fit(X),
        lambda: Federated(encoder).fit(Federation.from_shards([pd.DataFrame(X[:2]), pd.DataFrame(X[2:])])),
    ):
        with pytest.raises(type(expected.value), match=words):
            fit()


@pytest.mark.parametrize(
    "X",
    [
        ["a", "b"],
        [[np.inf], [1.0]],
        sp.csr_matrix(np.eye(2)),
        np.zeros((0, 2)),
        [["a", 1], [2, "b"]],
        np.zeros((2, 2, 2)),
    ],
    ids=["one dimension", "infinity", "sparse", "no rows", "mixed", "three dimensions"],
)
def test_rows_that_scikit_learn_refuses_are_refused_in_its_words(X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises((ValueError, TypeError)) as expected:
            OneHotEncoder().fit(X)
    with pytest.raises(type(expected.value)) as got:
        Distributed(OneHotEncoder(), n_nodes=1).fit(X)
    assert str(got.value).splitlines()[0] == str(expected.value).splitlines()[0]


WHOLE = {
    "int64": lambda: frame()[["whole", "yes"]].to_numpy(dtype=np.int64),
    "uint8": lambda: frame()[["whole", "yes"]].to_numpy(dtype=np.uint8),
    "truth": lambda: frame()[["yes"]].to_numpy(),
    "list": lambda: frame()[["whole"]].to_numpy().tolist(),
    "pandas": lambda: frame()[["half", "whole", "yes"]],
    "polars": lambda: pl.from_pandas(frame()[["whole", "yes"]]),
    "polars gaps": lambda: pl.DataFrame({"a": [1, None] * 35, "b": [1, 2] * 35}),
}


@pytest.mark.parametrize("engine", ["inprocess", "processes"])
@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("encoder", [OneHotEncoder(), OrdinalEncoder()], ids=["OneHot", "Ordinal"])
def test_whole_numbers_of_nodes_stay_whole(encoder, kind, engine):
    """Categories have the type that they have pooled, and so have names of columns made of them."""
    rows = WHOLE[kind]()
    pooled = clone(encoder).fit(rows)
    over = Federated(encoder).fit(Federation.simulate(rows, n_nodes=3, engine=engine, n_workers=1))._model
    for got, expected in zip(over.categories_, pooled.categories_, strict=True):
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)
    assert over.get_feature_names_out().tolist() == pooled.get_feature_names_out().tolist()


def test_whole_numbers_on_one_node_and_halves_on_another():
    whole, half = np.array([[1, 2], [3, 2]]), np.array([[0.5, 2.0], [3.0, 1.5]])
    over = Federated(OneHotEncoder()).fit(Federation.from_shards([whole, half]))._model
    pooled = OneHotEncoder().fit(np.concatenate([whole, half]))
    assert [c.dtype for c in over.categories_] == [c.dtype for c in pooled.categories_]
    mixed = [pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]}), pd.DataFrame({"b": [1.5, 2.5], "a": [2, 3]})]
    over = Federated(OneHotEncoder()).fit(Federation.from_shards(mixed))._model
    assert [c.tolist() for c in over.categories_] == [[1, 2, 3], [0.5, 1.5, 2.5]]
    assert [c.dtype.kind for c in over.categories_] == ["i", "f"]


def test_values_that_were_never_seen_are_refused_when_they_come():
    sites = Federation.from_shards([pd.DataFrame({"city": ["bern"]}), pd.DataFrame({"city": ["lyon"]})])
    model = Federated(OneHotEncoder()).fit(sites)
    with pytest.raises(ValueError, match=r"Found unknown categories \['oslo'\] in column 0 during transform"):
        model.transform(pd.DataFrame({"city": ["oslo"]}))


def test_what_leaves_a_node_is_values_and_counts():
    model = Distributed(OneHotEncoder(min_frequency=3), n_nodes=3).fit(frame())
    assert [row.op for row in model.run_] == ["describe.schema", "categories.values", "categories.counts"]
    assert [row.op for row in Distributed(OneHotEncoder()).fit(frame()).run_][1:] == ["categories.values"]


def test_categories_that_do_not_occur_stay_at_home():
    """A type knows categories that no row has; they are the owner's business."""
    parts = [pd.DataFrame({"c": pd.Categorical([v], ["secret", v])}) for v in "ab"]
    model = Federated(OneHotEncoder()).fit(Federation.from_shards(parts))
    assert model.categories_[0].tolist() == ["a", "b"]


def test_a_node_with_infinity_is_named():
    parts = [pd.DataFrame({"c": ["a"], "x": [1.0]}), pd.DataFrame({"c": ["b"], "x": [np.inf]})]
    with pytest.raises(NodeValueError, match=r"(?s)not finite in column 'x'.*lyon"):
        Federated(OneHotEncoder()).fit(Federation.from_shards(parts, names=["bern", "lyon"]))


def test_text_and_numbers_in_one_column_are_refused_on_their_node():
    with pytest.raises(InvalidData, match="column 'c' of node 'node-0' holds text and numbers"):
        Federation.from_shards([pd.DataFrame({"c": ["a", 1]})])


@pytest.mark.parametrize("engine", ["inprocess", "processes"])
def test_tables_travel_to_workers(engine):
    model = Distributed(OrdinalEncoder(), n_nodes=3, engine=engine, n_workers=2).fit(frame())
    same_fit(model.estimator_, OrdinalEncoder().fit(frame()))
