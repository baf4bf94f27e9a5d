"""Forests grown in shares: trees are united as they are, and no array is trusted."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.tree import DecisionTreeClassifier

from atoll import Distributed, Federated, Federation
from atoll.errors import InvalidData, UnsupportedEstimator, WireError
from atoll.operations import operations
from atoll.operations.generic import grow_trees
from atoll.recipes.forest import plant
from cases import data, parts

CLASSIFIERS = [RandomForestClassifier, ExtraTreesClassifier]
REGRESSORS = [RandomForestRegressor, ExtraTreesRegressor]


def federation(name="iris", n_nodes=4, partition="label", **settings):
    X, y = data(name)
    return Federation.from_shards([(X[p], y[p]) for p in parts(name, n_nodes, partition)], **settings)


@pytest.mark.parametrize("kind", CLASSIFIERS)
@pytest.mark.parametrize("partition", ["iid", "label", "one-row"])
def test_an_ordinary_forest_comes_of_it(kind, partition):
    X, y = data("iris")
    over = Federated(kind(30, random_state=1), method="forest").fit(federation(partition=partition))
    forest, plain = over.estimator_, kind(30, random_state=1).fit(X, y)
    assert type(forest) is kind
    hidden = {"_n_samples", "_n_samples_bootstrap", "_sample_weight"}
    assert vars(forest).keys() == vars(plain).keys() - hidden
    assert vars(forest.estimators_[0]).keys() == vars(plain.estimators_[0]).keys()
    for name in ("classes_", "n_classes_", "n_outputs_", "n_features_in_"):
        assert np.array_equal(getattr(forest, name), getattr(plain, name))
    assert len(forest.estimators_) == 30
    assert forest.score(X, y) > 0.85
    assert forest.predict_proba(X).shape == (150, 3)
    assert forest.feature_importances_.sum() == pytest.approx(1)
    assert forest.apply(X).shape == (150, 30)


@pytest.mark.parametrize("kind", REGRESSORS)
def test_regressors(kind):
    X, y = data("diabetes")
    over = Distributed(kind(30, random_state=0), method="forest").fit(X, y)
    assert over.score(X, y) > 0.4
    both = Distributed(kind(10, random_state=0), method="forest").fit(X, np.column_stack([y, -y]))
    assert both.predict(X).shape == (442, 2)
    assert both.estimator_.n_outputs_ == 2


@pytest.mark.parametrize("kind", CLASSIFIERS + REGRESSORS)
def test_each_tree_is_the_tree_that_its_node_grew(kind):
    """Grown again from its seed on the node's rows, a tree is the same to the last bit."""
    X, y = data("iris")
    sites = federation(n_nodes=2, partition="iid")
    over = Federated(kind(6, random_state=3, bootstrap=False, max_features=None), method="forest").fit(sites)
    grown = iter(over.estimators_)
    for rows in parts("iris", 2, "iid"):
        for _ in range(3):
            tree = next(grown)
            again = clone(tree).fit(X[rows].astype(np.float32), y[rows])
            np.testing.assert_array_equal(again.predict(X), tree.predict(X))
            np.testing.assert_array_equal(again.tree_.threshold, tree.tree_.threshold)
            np.testing.assert_array_equal(again.tree_.impurity, tree.tree_.impurity)
            assert again.tree_.max_depth == tree.tree_.max_depth


def test_classes_that_a_node_lacks():
    X, y = data("iris")
    names = np.array(["ash", "birch", "oak"])[y]
    over = Distributed(RandomForestClassifier(9, random_state=0), method="forest", partition="label").fit(X, names)
    assert over.classes_.tolist() == ["ash", "birch", "oak"]
    alone = Federation.from_shards([(X[y == c], names[y == c]) for c in range(3)])
    one_each = Federated(RandomForestClassifier(9, random_state=0), method="forest").fit(alone)
    np.testing.assert_allclose(one_each.predict_proba(X), 1 / 3)
    both = Distributed(ExtraTreesClassifier(8, random_state=0), method="forest").fit(X, np.column_stack([y, y > 0]))
    assert [p.shape[1] for p in both.predict_proba(X)] == [3, 2]
    assert (both.predict(X) == np.column_stack([y, y > 0])).all(axis=1).mean() > 0.9


def test_shares_follow_the_rows_and_everybody_grows_one():
    X, y = data("iris")
    sites = Federation.from_shards([(X[:100], y[:100]), (X[100:148], y[100:148]), (X[148:], y[148:])])
    over = Federated(RandomForestClassifier(30, random_state=0), method="forest").fit(sites)
    rows = [tree.tree_.weighted_n_node_samples[0] for tree in over.estimators_]
    assert [rows.count(n) for n in (100, 48, 2)] == [20, 9, 1]
    many = Federated(RandomForestClassifier(2), method="forest").fit(federation(n_nodes=5, partition="iid"))
    assert len(many.estimators_) == 5
    assert "grew 5 trees" in str(many.run_)


def test_weights_and_sparse_rows_and_missing_values():
    X, y = data("iris")
    weight = (y > 0).astype(float)
    over = Distributed(RandomForestClassifier(8, random_state=0), method="forest").fit(X, y, sample_weight=weight)
    assert 0 not in over.predict(X)
    plain = Distributed(ExtraTreesRegressor(8, random_state=0), method="forest").fit(X, y)
    sparse = Distributed(ExtraTreesRegressor(8, random_state=0), method="forest").fit(sp.csr_matrix(X), y)
    assert sparse.predict(sp.csr_matrix(X)).shape == plain.predict(X).shape
    holes = X.copy()
    holes[y == 2, 2] = np.nan
    missing = Distributed(RandomForestClassifier(20, random_state=0, max_features=None), method="forest").fit(holes, y)
    assert missing.score(holes, y) > 0.95
    assert all(np.isfinite(tree.tree_.threshold).all() for tree in missing.estimators_)


@pytest.mark.parametrize("settings", [{"class_weight": {0: 1, 1: 2, 2: 9}}, {"class_weight": "balanced_subsample"},
                                      {"max_samples": 0.5}, {"max_depth": 2}, {"monotonic_cst": None}, {"n_jobs": 2},
                                      {"criterion": "entropy"}, {"warm_start": True}])  # fmt: skip
def test_settings_reach_the_nodes(settings):
    X, y = data("iris")
    over = Distributed(RandomForestClassifier(8, random_state=0, **settings), method="forest").fit(X, y)
    assert over.estimator_.get_params() == RandomForestClassifier(8, random_state=0, **settings).get_params()
    assert over.score(X, y) > 0.8
    if "max_depth" in settings:
        assert max(tree.tree_.max_depth for tree in over.estimators_) <= 2


def test_the_same_everywhere_and_other_seeds_elsewhere():
    X, y = data("iris")
    forest = RandomForestClassifier(8, random_state=0)
    here = Distributed(forest, method="forest").fit(X, y).predict_proba(X)
    there = Distributed(forest, method="forest", engine="processes", n_workers=2, topology="tree").fit(X, y)
    assert there.predict_proba(X).tobytes() == here.tobytes()
    assert Distributed(clone(forest).set_params(random_state=1), method="forest").fit(X, y).predict_proba(
        X
    ).tobytes() != (here.tobytes())
    unseeded = [Distributed(RandomForestClassifier(8), method="forest", random_state=s).fit(X, y) for s in (1, 1, 2)]
    one, again, other = (model.predict_proba(X).tobytes() for model in unseeded)
    assert one == again != other
    assert unseeded[0].estimator_.random_state is None


def test_it_has_to_be_asked_for_by_name():
    with pytest.raises(UnsupportedEstimator, match="method='forest' or method='vote'"):
        Distributed(RandomForestClassifier()).fit(*data("iris"))
    with pytest.raises(InvalidData, match="oob_score"):
        Distributed(RandomForestClassifier(oob_score=True), method="forest").fit(*data("iris"))
    over = Distributed(RandomForestClassifier(8), method="forest").fit(*data("iris"))
    assert "not the forest that the pooled rows would give" in str(over.run_)


def arrays():
    """A tree of three classes, as it travels."""
    tree = DecisionTreeClassifier(random_state=0).fit(*data("iris")).tree_
    nodes = tree.__getstate__()["nodes"]
    return {name: nodes[name].copy() for name in nodes.dtype.names} | {"value": tree.value.copy()}, tree


def test_a_tree_that_is_one_is_planted():
    given, tree = arrays()
    again = plant(given, tree)
    X = data("iris")[0].astype(np.float32)
    assert again.predict(X).tobytes() == tree.predict(X).tobytes()
    assert again.max_depth == tree.max_depth


def first(given, inner):
    return int(np.flatnonzero((given["left_child"] != -1) == inner)[-1])


LIES = {
    "a child beyond the end": (lambda g: g["left_child"].__setitem__(first(g, True), 10**6), "after its one parent"),
    "a child before its parent": (lambda g: g["right_child"].__setitem__(first(g, True), 0), "after its one parent"),
    "a child of two": (lambda g: g["left_child"].__setitem__(0, g["right_child"][0]), "after its one parent"),
    "a loop": (lambda g: g["left_child"].__setitem__(first(g, True), first(g, True)), "after its one parent"),
    "a negative child": (lambda g: g["right_child"].__setitem__(0, -5), "after its one parent"),
    "a column too many": (lambda g: g["feature"].__setitem__(0, 4), "column that does not exist"),
    "a negative column": (lambda g: g["feature"].__setitem__(0, -1), "column that does not exist"),
    "a leaf with a child": (lambda g: g["right_child"].__setitem__(first(g, False), 3), "leaf of a tree has a child"),
    "a leaf with a column": (lambda g: g["feature"].__setitem__(first(g, False), 9), "leaf of a tree has a child"),
    "a threshold that is none": (lambda g: g["threshold"].__setitem__(0, np.nan), "not finite"),
    "an endless weight": (lambda g: g["weighted_n_node_samples"].__setitem__(0, np.inf), "not finite"),
    "values for too few classes": (lambda g: g.__setitem__("value", g["value"][:, :, :2]), "values of another shape"),
    "values for too few nodes": (lambda g: g.__setitem__("value", g["value"][1:]), "different lengths"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_tree_that_is_none_is_refused(lie):
    given, tree = arrays()
    tell, why = LIES[lie]
    tell(given)
    with pytest.raises(WireError, match=why):
        plant(given, tree)


def test_random_arrays_are_refused_or_harmless():
    seed = 5
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    given, tree = arrays()
    X = data("iris")[0].astype(np.float32)
    planted = 0
    for _ in range(300):
        changed = {name: array.copy() for name, array in given.items()}
        name = rng.choice([n for n in changed if n != "value"])
        at = rng.integers(len(changed[name]))
        changed[name][at] = rng.choice([-2, -1, 0, 1, 3, 4, len(X), 2**31 - 1]) if name != "missing_go_to_left" else 1
        try:
            planted_tree = plant(changed, tree)
        except WireError:
            continue
        planted += 1
        assert np.isfinite(planted_tree.predict(X)).all()
    assert 0 < planted < 300


@pytest.mark.parametrize("break_it", [
    lambda a: {**a, "nodes": np.maximum(a["nodes"] - 1, 0)},
    lambda a: {**a, "nodes": -a["nodes"]},
    lambda a: {**a, "nodes": a["nodes"] * 10**6},
    lambda a: {**a, "seed": a["seed"][:-1]},
])  # fmt: skip
def test_counts_that_do_not_fit_are_refused(break_it, monkeypatch):
    honest = operations["forest.grow"]

    def lying(shard, payload, ctx):
        reply = grow_trees(shard, payload, ctx)
        return reply._replace(tree=break_it(reply.tree)) if shard.n_rows else reply

    monkeypatch.setitem(operations._known, "forest.grow", honest._replace(fn=lying))
    with pytest.raises(WireError):
        Distributed(RandomForestClassifier(8), method="forest").fit(*data("iris"))
