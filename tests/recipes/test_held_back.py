"""Early stopping over nodes: rows that nodes hold back, and scikit-learn's rule of when it is enough."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from atoll import Distributed, Federated, Federation
from atoll.errors import InvalidData
from atoll.rng import uniforms
from atoll.shards import Shard
from atoll.topology import gossip
from atoll.views import sampled, viewer
from cases import data

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, y = data("iris")
Z = StandardScaler().fit_transform(X)
NUMBERS = Z[:, 0] + Z[:, 1] ** 2
NET = MLPClassifier((6,), early_stopping=True, learning_rate_init=0.01, max_iter=200, random_state=1)
LINE = MLPRegressor(hidden_layer_sizes=(6,), early_stopping=True, learning_rate_init=0.01, random_state=1)
D, T = load_digits(return_X_y=True)
D = D / 16


def same(model, pooled):
    assert vars(model._model).keys() == vars(pooled).keys()
    assert model.n_iter_ == pooled.n_iter_
    np.testing.assert_allclose(model.validation_scores_, pooled.validation_scores_, rtol=1e-12)
    np.testing.assert_allclose(model.best_validation_score_, pooled.best_validation_score_, rtol=1e-12)
    for a, b in zip((*model.coefs_, *model.intercepts_), (*pooled.coefs_, *pooled.intercepts_), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "settings",
    [{}, {"solver": "sgd", "shuffle": False, "learning_rate_init": 0.1, "max_iter": 30}, {"validation_fraction": 0.3}],
    ids=["adam", "in order", "many"],
)
def test_over_one_node_it_is_scikit_learns_fit(settings):
    estimator = clone(NET).set_params(**settings)
    same(Distributed(estimator, 1).fit(Z, y), clone(estimator).fit(Z, y))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("several", [False, True])
def test_over_one_node_a_regressor_is_scikit_learns(several, weighted):
    targets = Z[:, :2] if several else NUMBERS
    weights = {"sample_weight": np.linspace(1, 9, 150)} if weighted else {}
    same(Distributed(LINE, 1).fit(Z, targets, **weights), clone(LINE).fit(Z, targets, **weights))


ESTIMATORS = {
    "net": (NET, T),
    "two classes": (NET, T > 4),
    "numbers": (LINE, D[:, 20] - D[:, 36]),
    "linear": (SGDClassifier(early_stopping=True, random_state=0), T),
    "linear numbers": (SGDRegressor(early_stopping=True, random_state=0), D[:, 20] - D[:, 36]),
}


@pytest.mark.parametrize("case", ESTIMATORS)
def test_over_nodes_it_ends_and_is_as_good(case):
    estimator, targets = ESTIMATORS[case]
    estimator = clone(estimator)
    model, pooled = Distributed(estimator, 4, random_state=0).fit(D, targets), clone(estimator).fit(D, targets)
    assert 1 < model.n_iter_ < model.estimator_.max_iter
    assert model.score(D, targets) > pooled.score(D, targets) - 0.05
    scores = [row.metrics["validation_score"] for row in model.run_.rows if "validation_score" in row.metrics]
    assert len(scores) == model.n_iter_
    if "validation_scores_" in vars(model._model):
        assert scores == model.validation_scores_
        assert max(scores) == model.best_validation_score_


@pytest.mark.parametrize("estimator", [NET, LINE], ids=["classifier", "regressor"])
def test_the_scores_are_those_of_the_rows_that_are_held_back(estimator):
    """The model that comes back is the best of all, judged by scikit-learn on rows that no node trained on."""
    targets = T if estimator is NET else T.astype(float)
    model = Distributed(estimator, 4, random_state=3).fit(D, targets)
    held = uniforms(model.run_.seed, np.arange(len(D)), "sampled") < 0.1
    score = accuracy_score if estimator is NET else r2_score
    assert score(targets[held], model.predict(D[held])) == pytest.approx(model.best_validation_score_, rel=1e-12)
    assert model.t_ == model.n_iter_ * (~held).sum()


@pytest.mark.parametrize("name", ["ids of another node", "nothing held back"])
def test_a_row_is_held_back_whoever_has_it(name):
    ids = np.arange(1000)
    drawn = uniforms(5, ids, "sampled") < 0.2
    assert abs(drawn.mean() - 0.2) < 0.05
    some = ids[300:600] if name == "ids of another node" else ids[:0]
    shard = Shard.of("a", np.zeros((len(some), 1)), np.zeros(len(some)), ids=some)
    kept = {keep: viewer((sampled(0.2, 5, keep=keep),))(shard).ids for keep in ("train", "test")}
    np.testing.assert_array_equal(kept["test"], some[drawn[some]])
    np.testing.assert_array_equal(kept["train"], some[~drawn[some]])


@pytest.mark.parametrize("engine", ["inprocess", "processes"])
def test_it_is_the_same_on_any_engine(engine):
    model = Distributed(NET, 3, engine=engine, random_state=0).fit(Z, y)
    alike = Distributed(NET, 3, random_state=0).fit(Z, y)
    assert model.validation_scores_ == alike.validation_scores_
    np.testing.assert_array_equal(model.coefs_[0], alike.coefs_[0])


def test_killed_and_run_again_it_is_the_same(tmp_path, monkeypatch):
    """A program that ends in the middle goes on, and its scores decide as they would have."""
    whole = Distributed(NET, 3, random_state=0, journal=tmp_path / "whole").fit(Z, y)
    seen = []

    def die(trained):
        seen.append(trained.step)
        if trained.step == 7:
            raise SystemExit

    with pytest.raises(SystemExit):
        Distributed(NET, 3, random_state=0, journal=tmp_path / "half", callbacks=[die]).fit(Z, y)
    rest = Distributed(NET, 3, random_state=0, journal=tmp_path / "half").fit(Z, y)
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert rest.validation_scores_ == whole.validation_scores_
    np.testing.assert_array_equal(rest.coefs_[0], whole.coefs_[0])


@pytest.mark.parametrize("topology", ["ring", gossip("ring")], ids=["ring", "gossip"])
def test_over_other_wirings(topology):
    model = Distributed(NET, 4, topology=topology, random_state=0).fit(D, T)
    assert model.n_iter_ < 200
    assert model.score(D, T) > 0.85


def test_in_pipelines_and_cross_validated():
    pipe = make_pipeline(StandardScaler(), NET)
    scores = cross_val_score(Distributed(pipe, 3, random_state=0), D, T, cv=3)
    assert scores.min() > 0.8
    node = np.arange(len(D)) % 3
    assert Federated(pipe).fit(D, T, node=node).score(D, T) > 0.85
    found = Federation.simulate(D, T, n_nodes=3).search(pipe, {"mlpclassifier__alpha": [1e-4, 1e2]}, cv=2)
    assert found.best_params_["mlpclassifier__alpha"] == 1e-4


def test_too_few_rows_are_refused_in_scikit_learns_words():
    with pytest.raises(ValueError, match="The validation set is too small"):
        Distributed(NET, 2).fit(Z[48:53], y[48:53])


def test_several_labels_are_refused_with_the_reason():
    with pytest.raises(InvalidData, match="several labels"):
        Distributed(NET, 2).fit(Z, (Z[:, :3] > 0).astype(int))
