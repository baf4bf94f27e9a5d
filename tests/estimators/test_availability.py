"""What a wrapper has, when it has it, and what it says about what it has not."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.manifold import Isomap
from sklearn.neighbors import (
    KernelDensity,
    KNeighborsClassifier,
    KNeighborsRegressor,
    KNeighborsTransformer,
    NearestCentroid,
    NearestNeighbors,
    RadiusNeighborsClassifier,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

from atoll import Distributed, Federated, Federation, Rule
from atoll.errors import InvalidData, NotAvailable, UnknownName, UnsupportedEstimator
from atoll.estimators.methods import Methods
from cases import data
from estimators.doubles import NEIGHBORS, OTHERS, WRAPPERS

X, y = data("iris")
METHODS = sorted(name for name in vars(Methods) if not name.startswith("_") and name != "get_metadata_routing")

over = pytest.mark.parametrize("over", WRAPPERS)
every = pytest.mark.parametrize("kind", NEIGHBORS + OTHERS, ids=lambda kind: kind.__name__)
neighbors = pytest.mark.parametrize("kind", NEIGHBORS, ids=lambda kind: kind.__name__)
FITTING = ("fit_predict", "fit_transform")
WITHOUT_ROWS = ("get_covariance", "get_precision", "get_support")


class Watched(Federation):
    """A federation whose nodes must not be asked anything."""

    def live(self):
        raise AssertionError("a node was contacted")


class TestMethods:
    @every
    @over
    def test_are_those_of_the_wrapped_estimator(self, over, kind):
        unfitted, fitted, pooled = over(kind()), over(kind()).fit(X, y), kind().fit(X, y)
        for name in METHODS:
            assert hasattr(fitted, name) == hasattr(unfitted, name) == hasattr(pooled, name), name

    @every
    @over
    def test_before_fit(self, over, kind):
        model = over(kind())
        asking = [n for n in METHODS if n not in FITTING and n not in WITHOUT_ROWS]
        calls = [getattr(model, name) for name in asking if hasattr(model, name)]
        for call in [*calls, lambda _: model.to_sklearn()]:
            with pytest.raises(NotFittedError, match=f"This {type(model).__name__} instance is not fitted yet"):
                call(X)
        for name in ("estimator_", "run_", "classes_", "n_features_in_"):
            assert not hasattr(model, name), name

    @every
    def test_tags_are_those_of_the_wrapped_estimator(self, kind):
        assert get_tags(Distributed(kind())) == get_tags(Federated(kind())) == get_tags(kind())

    def test_what_nobody_has(self):
        model = Distributed(KNeighborsClassifier()).fit(X, y)
        with pytest.raises(AttributeError, match="'Distributed' object has no attribute 'radius_neighbors'"):
            _ = model.radius_neighbors
        with pytest.raises(AttributeError, match="'KNeighborsClassifier' object has no attribute 'coef_'"):
            _ = model.coef_


class TestOrdinaryEstimator:
    @neighbors
    def test_equals_the_pooled_fit(self, kind):
        model, pooled = Distributed(kind(), random_state=3).fit(X, y * 1.0), kind().fit(X, y * 1.0)
        ordinary = model.to_sklearn()
        assert type(ordinary) is type(pooled)
        assert ordinary.get_params() == pooled.get_params()
        for name in METHODS:
            if hasattr(pooled, name) and name not in ("sample", "score"):
                mine, theirs = getattr(ordinary, name)(X[:20]), getattr(pooled, name)(X[:20])
                if hasattr(mine, "toarray"):
                    mine, theirs = mine.toarray(), theirs.toarray()
                for a, b in zip(mine, theirs, strict=True):
                    if np.asarray(a).dtype == object:
                        a, b = np.concatenate(a), np.concatenate(b)
                    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12, err_msg=name)

    def test_is_made_once(self):
        model = Distributed(KNeighborsClassifier()).fit(X, y)
        assert model.estimator_ is model.to_sklearn()

    def test_of_a_federation_where_it_needs_no_rows(self):
        model = Federated(NearestCentroid()).fit(Federation.simulate(X, y, partition="label"))
        assert type(model.estimator_) is NearestCentroid
        assert (model.estimator_.predict(X) == NearestCentroid().fit(X, y).predict(X)).all()
        assert (model.centroids_ == model.estimator_.centroids_).all()

    @pytest.mark.parametrize("kind", [k for k in NEIGHBORS if k is not NearestCentroid], ids=lambda k: k.__name__)
    def test_of_a_federation_that_keeps_its_rows(self, kind):
        model = Federated(kind()).fit(Federation.simulate(X, y))
        with pytest.raises(NotAvailable, match=f"a fitted {kind.__name__} consists of its rows.*\n.*predict with this"):
            model.to_sklearn()
        with pytest.raises(NotAvailable, match="consists of its rows"):
            _ = model.estimator_
        assert not hasattr(model, "estimator_")


class TestRows:
    def test_stay_in_a_federation(self):
        model = Federated(NearestNeighbors()).fit(Federation.simulate(X))
        for ask in (model.kneighbors, model.radius_neighbors, model.kneighbors_graph, model.radius_neighbors_graph):
            with pytest.raises(NotAvailable, match=r"X=None asks about the training rows.*\n.*give queries"):
                ask()
        density = Federated(KernelDensity()).fit(Federation.simulate(X))
        with pytest.raises(NotAvailable, match=r"tree_ has one entry per training row.*\n.*use Distributed"):
            _ = density.tree_
        with pytest.raises(NotAvailable, match=r"sample\(\) draws from the training rows"):
            density.sample()

    def test_are_yours_otherwise(self):
        weight = np.linspace(0.5, 2, 150)
        density = Distributed(KernelDensity(bandwidth=0.3)).fit(X, sample_weight=weight)
        pooled = KernelDensity(bandwidth=0.3).fit(X, sample_weight=weight)
        assert (density.sample(9, random_state=1) == pooled.sample(9, random_state=1)).all()
        assert density.tree_.data.shape == X.shape


class TestRecord:
    @over
    def test_grows_with_every_question(self, over):
        model = over(KNeighborsClassifier()).fit(X, y)
        run, before = model.run_, model.run_.rounds
        model.predict(X[:5])
        model.kneighbors(X[:5])
        assert model.run_ is run
        assert run.rounds == before + 2
        assert [row.op for row in run.history[-2:]] == ["neighbors.nearest"] * 2
        assert "candidates, never a row" in str(run)

    def test_does_not_grow_where_the_model_answers(self):
        model = Federated(NearestCentroid()).fit(Federation.simulate(X, y))
        before = model.run_.rounds
        model.predict(X)
        assert model.run_.rounds == before


class TestRefusal:
    """Before a node is contacted, with what to do next."""

    @pytest.mark.parametrize(
        ("estimator", "told"),
        [
            (Isomap(), "cannot fit Isomap over nodes.*generic ways that fit any classifier or regressor"),
            (KNeighborsTransformer(), "nearest: KNeighborsClassifier"),
            (make_pipeline(StandardScaler(), Isomap(), KNeighborsClassifier()), "cannot fit Isomap over nodes"),
            (type("Mine", (KNeighborsClassifier,), {})(), "pass a plain KNeighborsClassifier: Mine is a subclass"),
            (KNeighborsClassifier, r"an estimator class was given.*give an instance, such as KNeighborsClassifier\(\)"),
            ("knn", "cannot fit str over nodes"),
            (None, "cannot fit NoneType over nodes"),
        ],
        ids=["unknown", "near", "pipeline", "subclass", "class", "text", "None"],
    )
    def test_of_an_estimator(self, estimator, told):
        with pytest.raises(UnsupportedEstimator, match=f"(?s){told}"):
            Federated(estimator).fit(Watched.simulate(X, y))
        with pytest.raises(UnsupportedEstimator, match=f"(?s){told}"):
            Distributed(estimator).fit(X, y)

    @pytest.mark.parametrize(
        ("settings", "told"),
        [
            ({"method": "fais"}, "KNeighborsClassifier has no method 'fais'\n.*did you mean 'faiss'"),
            ({"partition": "labels"}, "unknown partition 'labels'\n.*did you mean 'label'"),
            ({"engine": "process"}, "unknown engine 'process'\n.*did you mean 'processes'"),
            ({"topology": "sta"}, "unknown topology 'sta'\n.*did you mean 'star'"),
            ({"topology": "tree(fan=3)"}, "'tree' has no setting 'fan'\n.*did you mean 'fan_out'"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_of_a_name(self, settings, told):
        with pytest.raises(UnknownName, match=told):
            Distributed(KNeighborsClassifier(), **settings).fit(X, y)

    @pytest.mark.parametrize("n_nodes", [0, -1, 2.5, "4", None, True])
    def test_of_a_number_of_nodes(self, n_nodes):
        with pytest.raises(InvalidData, match=r"bad n_nodes\n.*\n.*a positive whole number"):
            Distributed(KNeighborsClassifier(), n_nodes=n_nodes).fit(X, y)

    def test_of_more_nodes_than_rows(self):
        with pytest.raises(InvalidData, match=r"n_samples=150 is not enough for 151 nodes.*\n.*\n.*lower n_nodes"):
            Distributed(KNeighborsClassifier(), n_nodes=151).fit(X, y)

    def test_of_a_parameter_of_the_wrapped_estimator(self):
        told = "The 'n_neighbors' parameter of KNeighborsClassifier must be an int"
        with pytest.raises(ValueError, match=told):
            Federated(KNeighborsClassifier(n_neighbors=0)).fit(Watched.simulate(X, y))

    def test_of_more_neighbours_than_rows(self):
        with pytest.raises(ValueError, match="Expected n_neighbors <= n_samples_fit, but n_neighbors = 200"):
            Distributed(KNeighborsClassifier(n_neighbors=200)).fit(X, y).predict(X)

    def test_of_lateness_that_an_exact_fit_cannot_have(self):
        with pytest.raises(InvalidData, match="counts every row in the round that asked"):
            Distributed(KNeighborsClassifier(), rule=Rule(deadline=1.0, late="next")).fit(X, y)

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            ({"X": Federation.simulate(X, y), "y": y}, "a federation brings its own targets and nodes"),
            ({"X": Federation.simulate(X, y), "node": y}, "a federation brings its own targets and nodes"),
            ({"X": X, "y": y, "node": y[:9]}, r"one entry per row\n.*\(9,\)\n.*\(150,\)"),
            ({"X": X, "y": y, "node": [1, None] * 75}, "(?s)NoneType, int.*the column of node ids"),
            ({"X": X, "y": y, "node": np.stack([y, y])}, r"one entry per row\n.*\(2, 150\)"),
        ],
        ids=["targets twice", "nodes twice", "few nodes", "mixed nodes", "a table of nodes"],
    )
    def test_of_arguments_that_do_not_fit_together(self, arguments, told):
        with pytest.raises(InvalidData, match=told):
            Federated(KNeighborsClassifier()).fit(**arguments)

    def test_of_a_federation_to_split(self):
        with pytest.raises(InvalidData, match=r"rows that are yours\n.*\n.*Federated\(…\).fit"):
            Distributed(KNeighborsClassifier()).fit(Watched.simulate(X, y))


def test_arrays_without_nodes_are_one_node():
    assert Federated(KNeighborsRegressor()).fit(X, y).run_.nodes == ("node-0",)


def test_a_node_may_lack_a_class_and_be_of_one_row():
    site = np.where(y == 0, "oslo", "rome")
    site[7] = "lima"
    model = Federated(RadiusNeighborsClassifier(1.013)).fit(X, y, node=site)
    assert model.run_.nodes == ("lima", "oslo", "rome")
    assert (model.predict(X) == RadiusNeighborsClassifier(1.013).fit(X, y).predict(X)).all()
