"""Rows and targets of every kind, as scikit-learn takes them: the same answers, types and complaints."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.exceptions import DataConversionWarning
from sklearn.metrics import DistanceMetric
from sklearn.neighbors import (
    KernelDensity,
    KNeighborsClassifier,
    KNeighborsRegressor,
    NearestCentroid,
    NearestNeighbors,
    RadiusNeighborsClassifier,
    RadiusNeighborsRegressor,
)

from atoll import Distributed, Federated, Federation
from atoll.errors import InvalidData, NodeValueError
from atoll.recipes import asking
from cases import data
from estimators.doubles import WRAPPERS

X, y = data("iris")
Q = X[::3] + 0.013
WORDS = np.array(["setosa", "versicolor", "virginica"])[y]

over = pytest.mark.parametrize("over", WRAPPERS)


def both(over, estimator, X, y=None, **params):
    """An estimator fitted over nodes, and on the pooled rows."""
    return over(estimator).fit(X, y, **params), type(estimator)(**estimator.get_params()).fit(X, y, **params)


def same(got, expected):
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    assert (got == expected).all()


class TestLabels:
    @over
    @pytest.mark.parametrize("classifier", [KNeighborsClassifier(), RadiusNeighborsClassifier(2.0), NearestCentroid()])
    @pytest.mark.parametrize(
        "labels",
        [
            WORDS, WORDS.astype(object), y.astype(np.int8), y.astype(np.uint32) + 7, y > 0, y.astype(np.float32) * 2,
            -y, y.tolist(), WORDS.tolist(),
        ],
        ids=["text", "objects", "int8", "uint32", "bool", "float32", "negative", "list", "list of text"],
    )  # fmt: skip
    def test_keep_their_type(self, over, classifier, labels):
        nodes, pooled = both(over, classifier, X, labels)
        same(nodes.classes_, pooled.classes_)
        same(nodes.predict(Q), pooled.predict(Q))

    @over
    @pytest.mark.parametrize("weights", ["uniform", "distance"])
    def test_several_outputs(self, over, weights):
        Y = np.stack([WORDS, np.array(["even", "odd"])[np.arange(150) % 2]], axis=1)
        nodes, pooled = both(over, KNeighborsClassifier(weights=weights), X, Y)
        same(nodes.predict(Q), pooled.predict(Q))
        for mine, theirs in zip(nodes.classes_, pooled.classes_, strict=True):
            same(mine, theirs)
        for mine, theirs in zip(nodes.predict_proba(Q), pooled.predict_proba(Q), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-12)

    @over
    def test_a_column_is_raveled_with_a_warning(self, over):
        with pytest.warns(DataConversionWarning, match="column-vector") as caught:
            model = over(KNeighborsClassifier()).fit(X, y[:, None])
        assert len(caught) == 1
        same(model.predict(Q), KNeighborsClassifier().fit(X, y).predict(Q))

    @over
    @pytest.mark.parametrize(
        ("labels", "told"),
        [
            (np.array([1, "a"] * 75, dtype=object), "labels of mixed type\n  got:      int, str"),
            (np.array([None, "a"] * 75, dtype=object), "NoneType, str"),
            (np.array([np.nan, "a"] * 75, dtype=object), "contains NaN"),
            (np.array([np.nan, 1.0] * 75), "contains NaN"),
            (y + 0.5, "Unknown label type: continuous"),
            (y.astype(object), "Unknown label type: unknown"),
            (y[:100], r"inconsistent numbers of samples: \[150, 100\]"),
            (None, "requires y to be passed"),
        ],
        ids=["mixed", "None", "NaN among text", "NaN", "continuous", "number objects", "too few", "none"],
    )
    def test_that_cannot_be_used(self, over, labels, told):
        with pytest.raises(ValueError, match=told):
            over(KNeighborsClassifier()).fit(X, labels)

    def test_of_one_class_only(self):
        with pytest.raises(ValueError, match="The number of classes has to be greater than one; got 1 class"):
            Distributed(NearestCentroid()).fit(X, np.zeros(150))


class TestTargets:
    @over
    @pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, bool])
    @pytest.mark.parametrize("n_outputs", [0, 1, 2])
    def test_keep_their_type(self, over, dtype, n_outputs):
        target = X[:, 0] if not n_outputs else X[:, :n_outputs]
        target = (target > 5) if dtype is bool else target.astype(dtype)
        nodes, pooled = both(over, KNeighborsRegressor(weights="uniform"), X, target)
        same(nodes.predict(Q), pooled.predict(Q))
        nodes, pooled = both(over, KNeighborsRegressor(weights="distance"), X, target)
        assert nodes.predict(Q).dtype == pooled.predict(Q).dtype
        np.testing.assert_allclose(nodes.predict(Q), pooled.predict(Q), rtol=1e-12)

    @over
    def test_nobody_within_the_radius_is_nan(self, over):
        far = np.concatenate([Q, Q[:2] + 1000])
        nodes, pooled = both(over, RadiusNeighborsRegressor(0.7), X, X[:, 0])
        for model in (nodes, pooled):
            with pytest.warns(UserWarning, match="predicting NaN"):
                assert np.isnan(model.predict(far)[-2:]).all()
        with pytest.warns(UserWarning, match="predicting NaN"):
            assert np.isnan(nodes.predict(far[-2:])).all()
        np.testing.assert_allclose(nodes.predict(Q[:30]), pooled.predict(Q[:30]), rtol=1e-12)

    @over
    def test_text_is_refused_before_a_node_is_asked(self, over):
        with pytest.raises(InvalidData, match="KNeighborsRegressor is a regressor: its targets are numbers"):
            over(KNeighborsRegressor()).fit(X, WORDS)
        with pytest.raises(InvalidData, match="KNeighborsRegressor is a regressor: its targets are numbers"):
            Federated(KNeighborsRegressor()).fit(Federation.simulate(X, WORDS))

    @pytest.mark.parametrize("estimator", [KNeighborsClassifier(), KNeighborsRegressor(), NearestCentroid()])
    def test_a_federation_without_any(self, estimator):
        with pytest.raises(InvalidData, match=r"needs targets, and these nodes have none\n.*from_shards"):
            Federated(estimator).fit(Federation.simulate(X))


class TestFrames:
    @pytest.fixture
    def frame(self):
        return pytest.importorskip("pandas").DataFrame(
            X, columns=["sepallength", "sepalwidth", "petallength", "petalwidth"]
        )

    @over
    @pytest.mark.parametrize("dtype", ["category", "object", "str"])
    def test_as_fetch_openml_gives_them(self, over, frame, dtype):
        labels = pytest.importorskip("pandas").Series(WORDS, name="class").astype(dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            nodes, pooled = both(over, KNeighborsClassifier(), frame, labels)
            same(nodes.predict(frame), pooled.predict(frame))
        same(nodes.classes_, pooled.classes_)
        same(nodes.feature_names_in_, pooled.feature_names_in_)
        assert nodes.score(frame, labels) == pooled.score(frame, labels)

    def test_the_ordinary_estimator_knows_the_names(self, frame):
        nodes, pooled = both(Distributed, NearestCentroid(), frame, WORDS)
        same(nodes.estimator_.feature_names_in_, pooled.feature_names_in_)
        nodes, pooled = both(Distributed, KNeighborsClassifier(), frame, WORDS)
        same(nodes.estimator_.feature_names_in_, pooled.feature_names_in_)

    @over
    def test_wrong_names_are_told_as_scikit_learn_tells_them(self, over, frame):
        nodes, pooled = both(over, KNeighborsClassifier(), frame, WORDS)
        for wrong in (frame[frame.columns[::-1]], frame.rename(columns={"sepalwidth": "width"}), frame.iloc[:, :3]):
            with pytest.raises(ValueError, match="feature names") as theirs:
                pooled.predict(wrong)
            with pytest.raises(ValueError, match="feature names") as mine:
                nodes.predict(wrong)
            assert str(mine.value) == str(theirs.value)

    @over
    def test_names_on_one_side_only(self, over, frame):
        named, bare = over(KNeighborsClassifier()).fit(frame, y), over(KNeighborsClassifier()).fit(X, y)
        with pytest.warns(
            UserWarning, match="X does not have valid feature names, but KNeighborsClassifier was fitted"
        ):
            named.predict(X)
        with pytest.warns(UserWarning, match="X has feature names, but KNeighborsClassifier was fitted without"):
            bare.predict(frame)


class TestQueries:
    @over
    def test_of_another_width(self, over):
        for estimator in (KNeighborsClassifier(), NearestCentroid(), KernelDensity()):
            nodes, pooled = both(over, estimator, X, y)
            method = "predict" if hasattr(pooled, "predict") else "score_samples"
            with pytest.raises(ValueError, match="features") as theirs:
                getattr(pooled, method)(X[:, :3])
            with pytest.raises(ValueError, match="features") as mine:
                getattr(nodes, method)(X[:, :3])
            assert str(mine.value) == str(theirs.value)

    @over
    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_that_are_not_finite(self, over, bad):
        rows = X.copy()
        rows[3, 1] = bad
        with pytest.raises(ValueError, match=r"Input X contains (NaN|infinity)"):
            over(KNeighborsClassifier()).fit(rows, y)
        with pytest.raises(ValueError, match=r"Input X contains (NaN|infinity)"):
            over(KNeighborsClassifier()).fit(X, y).predict(rows)
        told = r"1 of 2 nodes.*\n.*not finite in column 1.*\n.*(nan|inf)\n(.*\n)*.*on rome"
        for form in (np.asarray, sp.csr_matrix):
            sites = Federation.from_shards([(form(X), y), (form(rows), y)], names=["oslo", "rome"])
            with pytest.raises(NodeValueError, match=told):
                Federated(KNeighborsClassifier()).fit(sites)

    def test_a_sum_that_overflows_is_not_a_value_that_does(self):
        rows = np.full((6, 2), 3e38, dtype=np.float32)
        rows[::2] *= 0.5
        model = Federated(KNeighborsClassifier(1, metric="manhattan")).fit(Federation.simulate(rows, [0, 1] * 3))
        assert model.predict(rows).tolist() == [0, 1] * 3

    @over
    def test_nan_where_the_metric_allows_it(self, over):
        rows = X + np.random.default_rng(9).normal(size=X.shape, scale=0.01)  # no ties
        rows[::7, 2] = np.nan
        nodes, pooled = both(over, KNeighborsClassifier(metric="nan_euclidean"), rows, y)
        same(nodes.predict(rows), pooled.predict(rows))
        np.testing.assert_allclose(nodes.kneighbors(rows)[0], pooled.kneighbors(rows)[0], atol=1e-7)
        with pytest.raises(NodeValueError, match=r"column 2.*\n.*inf"):
            Federated(nodes.estimator).fit(Federation.simulate(np.where(np.isnan(rows), np.inf, rows), y))

    @over
    @pytest.mark.parametrize("container", [sp.csr_matrix, sp.csc_array, sp.coo_matrix])
    @pytest.mark.parametrize("estimator", [KNeighborsClassifier(), RadiusNeighborsRegressor(2.0), NearestCentroid()])
    def test_sparse(self, over, container, estimator):
        thin = container(np.where(X < 1.4, 0, X))
        nodes, pooled = both(over, estimator, thin, y * 1.0)
        same(nodes.predict(container(Q)), pooled.predict(container(Q)))
        assert nodes.predict(Q).shape == (50,)

    @over
    def test_sparse_where_it_is_not_taken(self, over):
        with pytest.raises(TypeError, match="Sparse data was passed"):
            over(KernelDensity()).fit(sp.csr_matrix(X))

    @over
    def test_in_small_batches(self, over, monkeypatch):
        monkeypatch.setattr(asking, "_BATCH", 7)
        for estimator in (
            KNeighborsClassifier(weights="distance"), RadiusNeighborsClassifier(0.9), KNeighborsRegressor(),
            RadiusNeighborsRegressor(0.9),
        ):  # fmt: skip
            nodes, pooled = both(over, estimator, X, y * 1.0)
            np.testing.assert_allclose(nodes.predict(Q), pooled.predict(Q), rtol=1e-12)
            if hasattr(pooled, "predict_proba"):
                np.testing.assert_allclose(nodes.predict_proba(Q), pooled.predict_proba(Q), rtol=1e-12)

    @over
    def test_without_a_neighbour_are_all_named(self, over, monkeypatch):
        monkeypatch.setattr(asking, "_BATCH", 7)
        far = Q.copy()
        far[[2, 11, 40]] += 1000
        nodes = over(RadiusNeighborsClassifier(0.9)).fit(X, y)
        for method in (nodes.predict, nodes.predict_proba):
            with pytest.raises(ValueError, match=r"No neighbors found for test samples array\(\[ 2, 11, 40\]\)"):
                method(far)

    @over
    @pytest.mark.parametrize("outlier", [7, "most_frequent"])
    def test_without_a_neighbour_get_the_outlier_label(self, over, outlier):
        labels = np.where(np.arange(150) % 3, 4, 9)
        nodes, pooled = both(over, RadiusNeighborsClassifier(0.9, outlier_label=outlier), X, labels)
        assert nodes.outlier_label_ == pooled.outlier_label_
        far = np.concatenate([Q[:3], Q[:1] + 1000])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Outlier label 7 is not in training classes")
            same(nodes.predict(far), pooled.predict(far))
            same(nodes.predict_proba(far), pooled.predict_proba(far))

    def test_are_the_training_rows_where_those_are_yours(self):
        rows = np.random.default_rng(3).normal(size=(60, 3))
        nodes, pooled = both(Distributed, NearestNeighbors(n_neighbors=4, radius=1.1), rows)
        same(nodes.kneighbors()[1], pooled.kneighbors()[1])
        np.testing.assert_allclose(nodes.kneighbors()[0], pooled.kneighbors()[0], rtol=1e-12)
        for graph in ("kneighbors_graph", "radius_neighbors_graph"):
            for mode in ("connectivity", "distance"):
                mine, theirs = (getattr(model, graph)(mode=mode) for model in (nodes, pooled))
                np.testing.assert_allclose(mine.toarray(), theirs.toarray(), rtol=1e-12)
        for mine, theirs in zip(nodes.radius_neighbors()[1], pooled.radius_neighbors()[1], strict=True):
            assert mine.tolist() == sorted(theirs)
        nodes, pooled = both(Distributed, KNeighborsClassifier(), rows, rows[:, 0] > 0)
        same(nodes.predict(None), pooled.predict(None))
        assert nodes.score(None, rows[:, 0] > 0) == pooled.score(None, rows[:, 0] > 0)


class TestSettings:
    @over
    @pytest.mark.parametrize(
        "classifier",
        [
            KNeighborsClassifier(weights="distance"),
            KNeighborsClassifier(weights=lambda distance: 1 / (1 + distance)),
            RadiusNeighborsClassifier(0.9, weights="distance"),
            RadiusNeighborsClassifier(0.9, weights=lambda distance: per_query(distance)),
        ],
        ids=["by name", "by function", "by name, radius", "by function, radius"],
    )
    def test_weights(self, over, classifier):
        nodes, pooled = both(over, classifier, X, y)
        np.testing.assert_allclose(nodes.predict_proba(Q), pooled.predict_proba(Q), rtol=1e-12)
        with pytest.raises(ValueError, match=r"All neighbors .* zero weights|must be"):
            over(KNeighborsClassifier(weights=np.zeros_like)).fit(X, y).predict(Q)

    @over
    @pytest.mark.parametrize("metric", [DistanceMetric.get_metric("manhattan"), lambda a, b: np.abs(a - b).sum()])
    def test_a_metric_that_is_not_a_name(self, over, metric):
        nodes = over(KNeighborsRegressor(metric=metric, algorithm="brute")).fit(X, X[:, 0])
        pooled = KNeighborsRegressor(metric="manhattan").fit(X, X[:, 0])
        np.testing.assert_allclose(nodes.kneighbors(Q)[0], pooled.kneighbors(Q)[0], rtol=1e-12)

    def test_a_metric_object_with_settings(self):
        metric = DistanceMetric.get_metric("minkowski", p=3)
        with pytest.raises(InvalidData, match="metric_params"):
            Distributed(NearestNeighbors(metric=metric, algorithm="brute")).fit(X)

    @over
    def test_sample_weight(self, over):
        weight = np.linspace(0.1, 3, 150)
        nodes, pooled = both(over, KernelDensity(), X, sample_weight=weight)
        np.testing.assert_allclose(nodes.score_samples(Q), pooled.score_samples(Q), rtol=1e-12)
        assert np.isclose(nodes.score(Q), pooled.score(Q), rtol=1e-12)
        with pytest.raises(ValueError, match="Negative values"):
            over(KernelDensity()).fit(X, sample_weight=-weight)
        with pytest.raises(ValueError, match=r"sample_weight.shape"):
            over(KernelDensity()).fit(X, sample_weight=weight[:9])
        with pytest.raises(TypeError, match="KNeighborsClassifier got an unexpected keyword argument 'sample_weight'"):
            over(KNeighborsClassifier()).fit(X, y, sample_weight=weight)

    def test_distances_that_are_given(self):
        D = np.abs(X[:, None, :] - X).sum(axis=2)
        nodes, pooled = both(Distributed, KNeighborsClassifier(metric="precomputed"), D, y)
        np.testing.assert_allclose(nodes.kneighbors(D[:20])[0], pooled.kneighbors(D[:20])[0])
        with pytest.raises(ValueError, match=r"Precomputed matrix must be square. Input is a 150x9 matrix"):
            Distributed(KNeighborsClassifier(metric="precomputed")).fit(D[:, :9], y)


def per_query(distance):
    """Weights of neighbours by radius: one array per query."""
    weight = np.empty(len(distance), dtype=object)
    weight[:] = [1 / (1 + row) for row in distance]
    return weight


def test_a_row_is_not_its_own_neighbour_even_among_duplicates() -> None:
    X = np.repeat(np.array([[0.0, 0.0], [1.0, 0.0], [5.0, 5.0]]), [3, 2, 3], axis=0)
    model = Distributed(NearestNeighbors(n_neighbors=2), n_nodes=3).fit(X)
    distance, index = model.kneighbors()
    assert index.tolist() == [[1, 2], [0, 2], [0, 1], [4, 0], [3, 0], [6, 7], [5, 7], [5, 6]]
    assert (distance == NearestNeighbors(n_neighbors=2).fit(X).kneighbors()[0]).all()
    assert all(i not in hits for i, hits in enumerate(model.radius_neighbors(radius=0.5)[1]))
