"""What scikit-learn builds out of estimators: clones, pickles, pipelines, searches, folds, representations."""

from __future__ import annotations

import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
from joblib.externals.loky import get_reusable_executor
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut, cross_validate
from sklearn.neighbors import KernelDensity, KNeighborsClassifier, KNeighborsRegressor, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from atoll import Distributed, Federated, Federation
from cases import data
from estimators.doubles import NEIGHBORS, WRAPPERS, FederatedOverSites

X, y = data("iris")
SITE = np.array(["lima", "oslo", "rome"])[np.random.default_rng(5).integers(0, 3, size=len(X))]
GRID = {"estimator__n_neighbors": [1, 4, 9]}

over = pytest.mark.parametrize("over", WRAPPERS)
neighbors = pytest.mark.parametrize("kind", NEIGHBORS, ids=lambda kind: kind.__name__)


def answer(model, rows=X):
    """What a fitted model says about rows."""
    method = next(m for m in ("predict", "score_samples", "kneighbors") if hasattr(model, m))
    return np.stack(model.kneighbors(rows)) if method == "kneighbors" else getattr(model, method)(rows)


class TestParameters:
    def test_are_those_of_the_constructor_and_of_the_wrapped_estimator(self):
        model = Distributed(KNeighborsClassifier(n_neighbors=7), n_nodes=3)
        params = model.get_params()
        assert params["estimator__n_neighbors"] == 7
        assert params["n_nodes"] == 3
        assert set(model.get_params(deep=False)) == {n for n in params if not n.startswith("estimator__")}

    def test_can_be_set(self):
        model = Distributed(KNeighborsClassifier()).set_params(estimator__n_neighbors=1, n_nodes=2).fit(X, y)
        assert model.run_.nodes == ("node-0", "node-1")
        assert model.kneighbors(X[:2])[1].tolist() == [[0], [1]]
        model.set_params(estimator=NearestCentroid()).fit(X, y)
        assert model.centroids_.shape == (3, 4)
        with pytest.raises(ValueError, match="Invalid parameter 'nodes' for estimator Distributed"):
            model.set_params(nodes=3)

    @over
    def test_the_wrapped_estimator_is_never_fitted(self, over):
        estimator = KNeighborsClassifier()
        over(estimator).fit(X, y)
        assert vars(estimator) == vars(KNeighborsClassifier())

    @over
    def test_a_clone_has_the_parameters_and_no_more(self, over):
        fitted = over(KNeighborsClassifier(n_neighbors=4)).fit(X, y)
        copy = clone(fitted)
        assert repr(copy) == repr(fitted)
        assert not [name for name in vars(copy) if name.endswith("_") or name.startswith("_")]
        assert copy.estimator is not fitted.estimator


class TestAgain:
    def test_a_second_fit_replaces_the_first(self):
        frame = pytest.importorskip("pandas").DataFrame(X, columns=list("abcd"))
        model = Distributed(KNeighborsClassifier()).fit(frame, y)
        first = model.estimator_
        model.set_params(estimator=KNeighborsRegressor()).fit(X[:, :2], y)
        assert type(model.estimator_) is KNeighborsRegressor
        assert first.n_features_in_ == 4
        assert model.n_features_in_ == model.estimator_.n_features_in_ == 2
        assert not hasattr(model, "classes_")
        assert not hasattr(model, "feature_names_in_")

    def test_names_do_not_outlive_the_federation_that_had_them(self):
        frame = pytest.importorskip("pandas").DataFrame(X, columns=list("abcd"))
        model = Federated(KNeighborsClassifier()).fit(Federation.simulate(frame, y))
        assert model.feature_names_in_.tolist() == list("abcd")
        assert not hasattr(model.fit(Federation.simulate(X, y)), "feature_names_in_")


class TestPickle:
    @neighbors
    @over
    def test_predictions_stay(self, over, kind):
        fitted = over(kind()).fit(X, y)
        before = answer(fitted)
        rounds = fitted.run_.rounds
        copy = pickle.loads(pickle.dumps(fitted))
        assert copy.run_.rounds == rounds
        assert (answer(copy) == before).all()
        assert fitted.run_.rounds == rounds

    @pytest.mark.parametrize("verbose", [0, 1])
    def test_holds_no_live_handle(self, verbose, capfd):
        fitted = Distributed(KNeighborsClassifier(), engine="processes", n_workers=1, verbose=verbose).fit(X, y)
        fitted.predict(X[:3])
        copy = pickle.loads(pickle.dumps(fitted))
        assert copy._federation._attachment is None
        assert copy.predict(X[:3]).tolist() == [0, 0, 0]

    def test_another_process_can_go_on(self, tmp_path):
        fitted = Federated(KNeighborsClassifier(n_neighbors=3)).fit(Federation.simulate(X, y, partition="label"))
        (tmp_path / "model.pickle").write_bytes(pickle.dumps(fitted))
        np.save(tmp_path / "X.npy", X)
        code = (
            "import pickle, numpy; m = pickle.load(open('model.pickle', 'rb')); print(*m.predict(numpy.load('X.npy')))"
        )
        told = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert [int(c) for c in told.stdout.split()] == fitted.predict(X).tolist()

    @neighbors
    def test_the_ordinary_estimator_does_not_need_atoll(self, kind):
        ordinary = Distributed(kind()).fit(X, y).estimator_
        assert type(ordinary) is kind
        assert b"atoll" not in pickle.dumps(ordinary)


class TestPipeline:
    @over
    @pytest.mark.parametrize("output", ["default", "pandas"])
    def test_last_step(self, over, output):
        pooled = make_pipeline(StandardScaler(), KNeighborsClassifier())
        nodes = make_pipeline(StandardScaler(), over(KNeighborsClassifier()))
        for model in (pooled, nodes):
            model.set_output(transform=output).fit(X, y)
        assert (nodes.predict_proba(X) == pooled.predict_proba(X)).all()
        assert (nodes.classes_ == pooled.classes_).all()
        assert hasattr(nodes[-1], "feature_names_in_") == (output == "pandas")

    def test_search_over_all_steps(self):
        grid = {"standardscaler__with_mean": [True, False], "distributed__estimator__n_neighbors": [2, 5]}
        nodes = make_pipeline(StandardScaler(), Distributed(KNeighborsClassifier()))
        assert GridSearchCV(nodes, grid, cv=3).fit(X, y).best_score_ > 0.9


@pytest.fixture
def _no_leftovers():
    yield
    get_reusable_executor().shutdown(wait=True, kill_workers=True)


class TestSearch:
    @over
    def test_same_scores_as_pooled(self, over):
        same_search(GridSearchCV(over(KNeighborsClassifier()), GRID, cv=4))

    @pytest.mark.usefixtures("_no_leftovers")
    @pytest.mark.parametrize("engine", ["inprocess", "processes"])
    def test_in_the_workers_of_joblib(self, engine):
        same_search(GridSearchCV(Distributed(KNeighborsClassifier(), engine=engine), GRID, cv=4, n_jobs=2))

    @pytest.mark.usefixtures("_no_leftovers")
    def test_processes_are_not_started_by_somebodys_worker(self):
        def engine():
            from atoll.engines import live

            return type(live("processes")).__name__

        assert set(joblib.Parallel(n_jobs=2)(joblib.delayed(engine)() for _ in range(2))) == {"InProcess"}


def same_search(search):
    """Compare a search over nodes to the same search over the pooled rows."""
    pooled = GridSearchCV(KNeighborsClassifier(), {"n_neighbors": GRID["estimator__n_neighbors"]}, cv=4).fit(X, y)
    search.fit(X, y)
    assert (search.cv_results_["mean_test_score"] == pooled.cv_results_["mean_test_score"]).all()
    assert search.best_params_ == {"estimator__n_neighbors": pooled.best_params_["n_neighbors"]}
    assert (search.predict(X) == pooled.predict(X)).all()


class TestRouting:
    def test_leave_one_site_out(self):
        pooled = cross_validate(KNeighborsClassifier(), X, y, groups=SITE, cv=LeaveOneGroupOut())
        with config_context(enable_metadata_routing=True):
            sites = cross_validate(
                Federated(KNeighborsClassifier()), X, y, params={"node": SITE, "groups": SITE}, cv=LeaveOneGroupOut(),
                return_estimator=True,
            )  # fmt: skip
        assert (sites["test_score"] == pooled["test_score"]).all()
        assert [model.run_.nodes for model in sites["estimator"]] == [
            ("oslo", "rome"),
            ("lima", "rome"),
            ("lima", "oslo"),
        ]

    def test_weights_are_asked_for_by_the_wrapped_estimator(self):
        weight = np.arange(1.0, len(X) + 1)
        expected = KernelDensity().fit(X, sample_weight=weight).score_samples(X[:5])
        with config_context(enable_metadata_routing=True):
            asked = Distributed(KernelDensity().set_fit_request(sample_weight=True)).fit(X, sample_weight=weight)
            np.testing.assert_allclose(asked.score_samples(X[:5]), expected, rtol=1e-10)
            with pytest.raises(
                UnsetMetadataPassedError, match=r"KernelDensity.fit, which is used within Distributed.fit"
            ):
                Distributed(KernelDensity()).fit(X, sample_weight=weight)
            with pytest.raises(TypeError, match="sample_weight"):
                Distributed(KNeighborsClassifier()).fit(X, y, sample_weight=weight)

    @pytest.mark.parametrize("routing", [False, True])
    def test_weights_of_a_score(self, routing):
        weight = np.where(y == 1, 3.0, 1.0)
        with config_context(enable_metadata_routing=routing):
            estimator = KNeighborsClassifier()
            if routing:
                estimator.set_score_request(sample_weight=True)
            score = Distributed(estimator).fit(X, y).score(X, y, sample_weight=weight)
        assert score == KNeighborsClassifier().fit(X, y).score(X, y, sample_weight=weight)


class TestRepresentation:
    def test_text_is_the_constructor_call(self):
        model = Distributed(KNeighborsClassifier(n_neighbors=3), n_nodes=2)
        assert repr(model) == "Distributed(estimator=KNeighborsClassifier(n_neighbors=3), n_nodes=2)"
        assert repr(Federated(NearestCentroid())) == "Federated(estimator=NearestCentroid())"

    def test_html_shows_what_the_nodes_did(self):
        model = Distributed(KNeighborsClassifier(n_neighbors=3), n_nodes=2)
        before = model._repr_html_()
        assert "KNeighborsClassifier" in before
        assert "what left the nodes" not in before
        after = model.fit(X, y)._repr_html_()
        for shown in ("over 2 nodes", "what left the nodes", "describe.schema"):
            assert shown in after
        assert "what left the nodes" in model._repr_mimebundle_()["text/html"]

    def test_html_trusts_nobody(self):
        frame = pytest.importorskip("pandas").DataFrame(X, columns=["a<b", "<i>b</i>", "c", "d"])
        labels = np.array(["<script>alert(1)</script>", "b", "c"])[y]
        shards = [(frame[::2], labels[::2]), (frame[1::2], labels[1::2])]
        model = Federated(KNeighborsClassifier()).fit(Federation.from_shards(shards, names=["<img src=x>", "b&b"]))
        shown = model._repr_html_()
        assert "&lt;i&gt;b&lt;/i&gt;" in shown
        for raw in ("<script>alert", "<img", "<i>b"):
            assert raw not in shown

    def test_html_does_not_gather_the_rows(self, monkeypatch):
        model = Distributed(KNeighborsClassifier()).fit(X, y)
        monkeypatch.setattr(Federation, "pooled", lambda self: pytest.fail("rows were gathered for a picture"))
        assert model._repr_html_()
        with config_context(display="text"):
            assert not hasattr(FederatedOverSites(NearestCentroid()), "_repr_html_")
