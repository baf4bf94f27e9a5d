"""Data frames as people have them: both wrappers take them, and both trust models agree with scikit-learn."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from atoll import Distributed, Federated, Federation
from atoll.errors import InvalidData, SchemaMismatch
from recipes.compared import same_fit

N = 40


def numbers():
    rng = np.random.default_rng(3)
    return pd.DataFrame({"age": rng.normal(50, 9, N), "visits": rng.integers(0, 9, N), "smoker": rng.random(N) < 0.3})


def mixed():
    rng = np.random.default_rng(4)
    return numbers().assign(city=rng.choice(["bern", "lyon"], N), sex=pd.Categorical(rng.choice(["f", "m"], N)))


Y = np.random.default_rng(5).normal(size=N)
KINDS = {
    "pandas": numbers,
    "nullable": lambda: numbers().convert_dtypes(),
    "arrow": lambda: numbers().convert_dtypes(dtype_backend="pyarrow"),
    "polars": lambda: pl.from_pandas(numbers()),
    "objects": lambda: numbers().astype(object),
}


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_every_kind_are_numbers(kind):
    X = KINDS[kind]()
    pooled = LinearRegression().fit(X, Y)
    for model in (
        Distributed(LinearRegression(), n_nodes=3).fit(X, Y),
        Federated(LinearRegression()).fit(Federation.from_shards([(X[:9], Y[:9]), (X[9:], Y[9:])])),
    ):
        np.testing.assert_allclose(model.coef_, pooled.coef_, rtol=1e-10)
        assert model.feature_names_in_.tolist() == ["age", "visits", "smoker"]
        np.testing.assert_allclose(model.predict(X), pooled.predict(X), rtol=1e-10)


@pytest.mark.parametrize("library", [pd.DataFrame, pl.from_pandas])
def test_the_order_of_columns_does_not_matter(library):
    X = numbers()
    parts = [(library(X[:9]), Y[:9]), (library(X[9:][["smoker", "age", "visits"]]), Y[9:])]
    model = Federated(Ridge()).fit(Federation.from_shards(parts))
    np.testing.assert_allclose(model.coef_, Ridge().fit(X, Y).coef_, rtol=1e-10)
    assert model.feature_names_in_.tolist() == ["age", "visits", "smoker"]


def test_nodes_may_hold_whole_numbers_where_others_hold_floats():
    X = numbers()
    parts = [(X[:9], Y[:9]), (X[9:].astype({"visits": "float32", "smoker": float}), Y[9:])]
    model = Federated(StandardScaler()).fit(Federation.from_shards(parts))
    np.testing.assert_allclose(model.mean_, StandardScaler().fit(X).mean_, rtol=1e-10)


@pytest.mark.parametrize("library", [pd.DataFrame, pl.from_pandas])
def test_text_for_an_estimator_of_numbers_names_the_column(library):
    frame = library(mixed())
    with pytest.raises(ValueError, match=r"could not convert string to float|column 'city' holds text"):
        Distributed(Ridge()).fit(frame, Y)
    with pytest.raises(InvalidData, match=r"(?s)column 'city' holds text.*encode it in a pipeline"):
        Federated(Ridge()).fit(Federation.from_shards([(frame[:9], Y[:9]), (frame[9:], Y[9:])]))


@pytest.mark.parametrize("encoder", [OneHotEncoder(), OrdinalEncoder(encoded_missing_value=-1)])
@pytest.mark.parametrize("library", [pd.DataFrame, pl.from_pandas])
def test_frames_with_text_go_to_the_nodes_as_they_are(encoder, library):
    frame = library(mixed().drop(columns="age"))
    pooled = type(encoder)(**encoder.get_params()).fit(frame)
    sites = Federation.from_shards([frame[:9], frame[9:10], frame[10:]])
    for model in (
        Distributed(encoder, n_nodes=3).fit(frame),
        Federated(encoder).fit(sites),
        Federated(encoder).fit(frame, node=np.arange(N) % 4),
    ):
        same_fit(model.estimator_, pooled)
        same_fit(model.transform(frame), pooled.transform(frame))
        assert model.feature_names_in_.tolist() == pooled.feature_names_in_.tolist()
        assert model.n_features_in_ == 4


def test_frames_come_out_where_scikit_learn_is_told_so():
    frame = mixed()[["city", "sex"]]
    encoder = OneHotEncoder(sparse_output=False).set_output(transform="pandas")
    model = Distributed(encoder, n_nodes=3).fit(frame)
    pd.testing.assert_frame_equal(model.transform(frame), encoder.fit(frame).transform(frame))


def test_names_are_checked_when_predicting():
    model = Distributed(OneHotEncoder(), n_nodes=2).fit(mixed()[["city", "sex"]])
    with pytest.raises(ValueError, match="feature names should match"):
        model.transform(mixed()[["sex", "city"]])


def test_a_frame_on_one_node_and_an_array_on_another():
    with pytest.raises(SchemaMismatch, match="names its columns and node 'lyon' does not"):
        Federated(OneHotEncoder()).fit(Federation.from_shards([mixed(), np.zeros((2, 5))], names=["bern", "lyon"]))


def test_dates_are_refused_by_name():
    frame = mixed().assign(when=pd.Timestamp("2020-01-01"))
    words = r"(?s)column 'when' of {} holds dates.*days since a start"
    with pytest.raises(InvalidData, match=words.format("X")):
        Distributed(OneHotEncoder()).fit(frame)
    with pytest.raises(InvalidData, match=words.format("node 'node-1'")):
        Federation.from_shards([mixed(), frame])


@pytest.mark.parametrize("engine", ["inprocess", "processes"])
def test_sites_with_tables_are_values(engine):
    frame = mixed()
    sites = Federation.from_shards([frame[:20], frame[20:]], engine=engine, n_workers=2)
    pooled = OneHotEncoder().fit(frame)
    same_fit(Federated(OneHotEncoder()).fit(pickle.loads(pickle.dumps(sites))).estimator_, pooled)
    whole = sites.pooled()
    pd.testing.assert_frame_equal(whole.X.frame(), frame)
    assert "5 features" in repr(sites)


def test_a_table_without_names_has_positions():
    frame = mixed()[["city", "sex"]]
    frame.columns = [0, 1]
    model = Distributed(OneHotEncoder(), n_nodes=2).fit(frame)
    assert not hasattr(model, "feature_names_in_")
    assert model.get_feature_names_out().tolist() == ["x0_bern", "x0_lyon", "x1_f", "x1_m"]


def test_nullable_text_goes_through_a_pipeline():
    frame = mixed()[["city", "sex"]].astype("string")
    frame.loc[::7, "city"] = pd.NA
    steps = SimpleImputer(missing_values=pd.NA, strategy="most_frequent"), OneHotEncoder(), Ridge()
    pooled = make_pipeline(*steps).fit(frame, Y)
    model = Distributed(make_pipeline(*steps), n_nodes=3).fit(frame, Y)
    np.testing.assert_allclose(model.predict(frame), pooled.predict(frame), rtol=1e-9)
