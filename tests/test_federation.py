"""`Federation`: what it is made of."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.linear_model import ARDRegression, Lars, OrthogonalMatchingPursuit
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from atoll import Federated, Federation
from atoll.errors import InvalidData
from atoll.nodes import Nodes

X, Y = load_iris(return_X_y=True)
WEIGHT = np.random.default_rng(2).random(150)


def test_weights_come_with_the_rows_of_each_node():
    halves = [(X[::2], Y[::2], WEIGHT[::2]), (X[1::2], Y[1::2], WEIGHT[1::2])]
    model = Federated(GaussianNB()).fit(Federation.from_shards(halves))
    pooled = GaussianNB().fit(X, Y, sample_weight=WEIGHT)
    np.testing.assert_allclose(model.estimator_.theta_, pooled.theta_, rtol=1e-12)
    found = Federation.from_shards(halves).evaluate(pooled, "accuracy")
    assert found.pooled["accuracy"] == pytest.approx(pooled.score(X, Y, sample_weight=WEIGHT), rel=1e-12)


@pytest.mark.parametrize("weight", [WEIGHT[:10], WEIGHT[:, None], 1.0])
def test_weights_that_do_not_fit_are_refused_by_node(weight):
    with pytest.raises(InvalidData, match=r"one weight per row\n.*\n.*150,\)?[\s\S]*node 'b'"):
        Federation.from_shards([(X, Y, WEIGHT), (X, Y, weight)], names=["a", "b"])
    with pytest.raises(InvalidData, match="one weight per row"):
        Federation.simulate(X, Y, sample_weight=weight)


@pytest.mark.parametrize(
    "estimator", [Lars(), OrthogonalMatchingPursuit(), ARDRegression(), PCA(), LedoitWolf()], ids=str
)
def test_weights_are_refused_where_an_estimator_takes_none(estimator):
    sites = Federation.simulate(X, Y, n_nodes=2, sample_weight=WEIGHT)
    for fit in (lambda: estimator.fit(X, Y, sample_weight=WEIGHT), lambda: Federated(estimator).fit(sites)):
        with pytest.raises(TypeError, match=r"\.fit\(\) got an unexpected keyword argument 'sample_weight'"):
            fit()
    with pytest.raises(TypeError, match="unexpected keyword argument 'sample_weight'"):
        sites.search(estimator, {}, refit=False)


def test_weights_count_in_the_steps_that_take_some():
    sites, model = Federation.simulate(X, Y, n_nodes=2, sample_weight=WEIGHT), make_pipeline(StandardScaler(), Lars())
    over = Federated(model).fit(sites).estimator_
    pooled = clone(model).fit(X, Y, standardscaler__sample_weight=WEIGHT)
    np.testing.assert_allclose(over[0].mean_, pooled[0].mean_, rtol=1e-12)
    np.testing.assert_allclose(over[1].coef_, pooled[1].coef_, rtol=1e-9)


def test_rows_come_with_or_without_targets():
    sites = Federation.from_shards([X[:50], X[50:]], names=["b", "a"])
    assert sites.names == ("a", "b")
    assert len(sites) == 2
    assert repr(sites) == "Federation(2 nodes, 50 to 100 rows, 4 features, engine='inprocess', topology='star')"


def test_rows_come_by_the_name_of_their_node():
    halves = {"bay": (X[:50], Y[:50]), "atoll": (X[50:], Y[50:])}
    sites = Federation.from_shards(halves)
    listed = Federation.from_shards(list(halves.values()), names=list(halves))
    assert sites.names == listed.names == ("atoll", "bay")
    assert Federated(GaussianNB()).fit(sites).theta_.tobytes() == Federated(GaussianNB()).fit(listed).theta_.tobytes()
    with pytest.raises(InvalidData, match="the shards have names"):
        Federation.from_shards(halves, names=["a", "b"])


def test_it_is_nodes_and_can_be_pickled():
    sites = Federation.simulate(X, Y, n_nodes=3)
    assert isinstance(sites, Nodes)
    again = pickle.loads(pickle.dumps(sites))
    assert again.report().counts.tolist() == sites.report().counts.tolist()
