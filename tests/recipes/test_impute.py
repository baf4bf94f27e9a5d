"""Imputers over nodes: every attribute is that of scikit-learn's own fit on the pooled rows."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.impute import MissingIndicator, SimpleImputer

from atoll import Distributed, Federated, Federation
from atoll.errors import NodeValueError, UnsupportedEstimator
from recipes.compared import same_fit

SEED = 7
N = 60


def numbers():
    """Gaps, ties, a column far from zero, one whose values are all missing, one without gaps."""
    rng = np.random.default_rng(SEED)
    X = rng.integers(-2, 4, size=(N, 5)).astype(float)
    X[rng.random(X.shape) < 0.2] = np.nan
    X[:, 1] = 1e8 + rng.normal(size=N)
    X[:, 2] = np.nan
    X[:, 4] = np.arange(N)
    return X


def frame():
    rng = np.random.default_rng(SEED)
    city = rng.choice(["bern", "lyon", "oslo"], N).astype(object)
    return pd.DataFrame(
        {
            "city": np.where(rng.random(N) < 0.2, None, city),
            "objects": pd.Series(np.where(rng.random(N) < 0.2, None, city), dtype=object),
            "sex": pd.Categorical(np.where(rng.random(N) < 0.2, None, rng.choice(["f", "m"], N))),
            "whole": rng.integers(0, 3, N),
            "half": np.where(rng.random(N) < 0.2, np.nan, rng.integers(0, 4, N) / 2),
            "nothing": pd.Series([None] * N, dtype=object),
        }
    )


def sparse():
    """Zeros that are stored and zeros that are not; a column that stores gaps only, one that stores nothing."""
    rng = np.random.default_rng(SEED)
    X = sp.random(N, 5, 0.4, "csc", random_state=SEED, data_rvs=lambda n: rng.integers(-1, 3, n).astype(float))
    X.data[rng.random(X.nnz) < 0.3] = np.nan
    X.data[X.indptr[3] : X.indptr[4]] = np.nan
    X = sp.hstack([X[:, :4], sp.csc_matrix((N, 1))])
    return X.tocsr()


DATA = {
    "floats": numbers,
    "float32": lambda: np.abs(numbers()[:, [0, 2, 3, 4]]).astype(np.float32),
    "ints": lambda: np.nan_to_num(numbers()).astype(np.int32),
    "pandas": frame,
    "numbers of pandas": lambda: frame()[["whole", "half"]],
    "nullable": lambda: pd.DataFrame({"a": pd.array([None, 1, 2] * 20, dtype="Int64"), "b": [True, False, True] * 20}),
    "polars": lambda: pl.from_pandas(frame()[["city", "whole", "half"]]),
    "objects": lambda: frame()[["city", "whole"]].astype(object).to_numpy(),
    "list": lambda: frame()[["city", "whole"]].astype(object).to_numpy().tolist(),
    "sparse": sparse,
    "sparse array": lambda: sp.csc_array(sparse()),
}

IMPUTERS = [
    SimpleImputer(),
    SimpleImputer(add_indicator=True, keep_empty_features=True),
    SimpleImputer(strategy="median"),
    SimpleImputer(strategy="median", keep_empty_features=True, add_indicator=True),
    SimpleImputer(strategy="most_frequent", add_indicator=True),
    SimpleImputer(strategy="most_frequent", keep_empty_features=True),
    SimpleImputer(strategy="most_frequent", missing_values=None),
    SimpleImputer(strategy="most_frequent", missing_values="bern"),
    SimpleImputer(strategy="constant"),
    SimpleImputer(strategy="constant", keep_empty_features=True, add_indicator=True),
    SimpleImputer(strategy="constant", fill_value="none", missing_values=None),
    SimpleImputer(strategy="constant", fill_value=3),
    SimpleImputer(missing_values=-1),
    SimpleImputer(missing_values=0, add_indicator=True),
    SimpleImputer(missing_values=2, strategy="median"),
    SimpleImputer(missing_values=2, strategy="most_frequent"),
    SimpleImputer(missing_values=pd.NA, strategy="most_frequent"),
    MissingIndicator(),
    MissingIndicator(features="all", sparse=False),
    MissingIndicator(missing_values=2),
]


def outcome(fit):
    """A fitted estimator, or the error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return fit()
        except (ValueError, TypeError) as error:
            return error


@pytest.mark.parametrize("n_nodes", [1, 4])
@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("imputer", IMPUTERS, ids=lambda imputer: repr(imputer)[:70])
def test_equal_to_pooled(imputer, kind, n_nodes):
    X = DATA[kind]()
    pooled = outcome(lambda: clone(imputer).fit(X))
    model = outcome(lambda: Distributed(imputer, n_nodes=n_nodes, random_state=SEED).fit(X))
    if isinstance(pooled, Exception):
        assert isinstance(model, type(pooled))
        assert str(model) == str(pooled)
        return
    same_fit(model.estimator_, pooled, rtol=1e-6 if kind == "float32" else 1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        same_fit(model.transform(X), pooled.transform(X), rtol=1e-6 if kind == "float32" else 1e-12)


@pytest.mark.parametrize("imputer", IMPUTERS, ids=lambda imputer: repr(imputer)[:70])
def test_a_column_may_be_missing_on_one_node_or_on_all(imputer):
    X = numbers()
    X[:20, 0] = np.nan
    parts = [X[:20], X[20:21], X[21:]]
    pooled = outcome(lambda: clone(imputer).fit(X))
    model = outcome(lambda: Federated(imputer).fit(Federation.from_shards(parts)))
    if isinstance(pooled, Exception):
        assert isinstance(model, ValueError)
    else:
        same_fit(model.estimator_, pooled)


@pytest.mark.parametrize("strategy", ["most_frequent", "constant"])
def test_a_column_of_text_may_be_empty_on_one_node(strategy):
    """There it has the type of numbers, for pandas cannot know."""
    parts = [
        pd.DataFrame({"city": ["b", "a", "b"], "n": [1, 2, 2]}),
        pd.DataFrame({"n": [np.nan, 2.0], "city": [np.nan, np.nan]}),
    ]
    imputer = SimpleImputer(strategy=strategy, add_indicator=True)
    whole = pd.concat([parts[0], parts[1][["city", "n"]]], ignore_index=True)
    same_fit(Federated(imputer).fit(Federation.from_shards(parts)).estimator_, clone(imputer).fit(whole))


def test_ties_go_to_the_smallest_whatever_node_has_which():
    parts = [pd.DataFrame({"c": ["b", "b"]}), pd.DataFrame({"c": ["a", "a"]})]
    assert Federated(SimpleImputer(strategy="most_frequent")).fit(Federation.from_shards(parts)).statistics_ == ["a"]


@pytest.mark.parametrize("strategy", ["mean", "median"])
def test_text_is_no_number(strategy):
    parts = [pd.DataFrame({"c": ["a", "b"], "x": [1.0, 2.0]})] * 2
    with pytest.raises(ValueError, match=f"Cannot use {strategy} strategy with non-numeric data"):
        Federated(SimpleImputer(strategy=strategy)).fit(Federation.from_shards(parts))


def test_a_fill_value_of_another_kind_is_refused_in_the_same_words():
    imputer = SimpleImputer(strategy="constant", fill_value="x")
    with pytest.raises(ValueError, match="cannot be cast to the input data"):
        Distributed(imputer).fit(numbers())


def test_gaps_that_stand_for_something_else_are_refused():
    X = np.array([[1.0, np.nan], [2.0, 3.0]])
    with pytest.raises(ValueError, match="Input X contains NaN"):
        Distributed(SimpleImputer(missing_values=2), n_nodes=2).fit(X)
    with pytest.raises(NodeValueError, match="not finite in column 1"):
        Federated(SimpleImputer(missing_values=2)).fit(Federation.from_shards([X, X]))


def test_a_strategy_of_ones_own_is_refused_before_any_work():
    with pytest.raises(UnsupportedEstimator, match="sees a whole column"):
        Distributed(SimpleImputer(strategy=np.nanmax)).fit(numbers())


@pytest.mark.parametrize("size", [1e-270, 1e-200, 1e200, 1e306])
def test_means_of_very_large_and_very_small_numbers(size):
    """No square is taken, and no sum is too large on its way."""
    X = np.delete(numbers(), 2, axis=1) / 2e8 * size
    got, expected = Distributed(SimpleImputer(), n_nodes=3).fit(X), SimpleImputer().fit(X)
    np.testing.assert_allclose(got.statistics_, expected.statistics_, rtol=1e-12)
    np.testing.assert_allclose(got.transform(X), expected.transform(X), rtol=1e-12)


def test_what_leaves_a_node():
    def asked(imputer, X):
        return [row.op for row in Distributed(imputer, n_nodes=3).fit(X).run_][1:]

    X = numbers()
    assert asked(SimpleImputer(), X) == ["columns.means"]
    assert asked(SimpleImputer(strategy="constant"), X) == ["categories.missing"]
    assert set(asked(SimpleImputer(strategy="median"), X)) == {"quantiles.count_below"}
    assert asked(SimpleImputer(strategy="most_frequent"), X) == ["categories.values", "categories.counts"]
