"""Pipelines over nodes are scikit-learn's own: a mixed-type frame, every kind of block, names, errors, searches."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_selector, make_column_transformer
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Lars, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, PolynomialFeatures, StandardScaler

from atoll import Distributed, Federated, Federation
from atoll.errors import InvalidData, NotAvailable, UnsupportedEstimator

pandas = pytest.importorskip("pandas")

NUMBERS, WORDS = ["age", "income", "visits"], ["sex", "city"]


def patients(n=400, seed=0):
    """A mixed-type frame as a hospital has it: numbers, whole numbers, text, categories, truth values, gaps."""
    rng = np.random.default_rng(seed)
    frame = pandas.DataFrame(
        {
            "age": rng.normal(50, 10, n),
            "income": rng.lognormal(10, 1, n),
            "visits": rng.integers(0, 9, n),
            "sex": rng.choice(["female", "male"], n),
            "city": pandas.Categorical(rng.choice(["bern", "lima", "oslo", "rome"], n, p=[0.1, 0.2, 0.3, 0.4])),
            "smoker": rng.random(n) < 0.3,
        }
    )
    risk = (frame.age - 50) / 10 + 0.8 * frame.smoker + 0.5 * (frame.sex == "male")
    ill = np.where(rng.random(n) < 1 / (1 + np.exp(-risk)), "ill", "well")
    frame.loc[rng.choice(n, n // 15, replace=False), "age"] = np.nan
    frame.loc[rng.choice(n, n // 15, replace=False), "sex"] = None
    frame.loc[frame.index[frame.city == "bern"], "income"] = np.nan  # missing on all rows of a node
    return frame, ill, frame.city.astype(str).to_numpy()


def preparation():
    return ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), NUMBERS),
            ("words", make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()), WORDS),
        ],
        remainder="passthrough",
    )


def pipeline(**settings):
    return make_pipeline(preparation(), LogisticRegression(tol=1e-10, max_iter=2000, **settings))


@pytest.mark.parametrize("engine", ["inprocess", "processes"])
def test_whole_numbers_that_a_step_leaves_whole(engine):
    """The contract of a round is the answer of rows without values, so these have to be of the same type."""
    X = np.random.default_rng(0).integers(0, 4, size=(40, 2))
    chain = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())
    over = Distributed(chain, n_nodes=3, engine=engine, n_workers=1).fit(X).estimator_
    for got, expected in zip(over[-1].categories_, clone(chain).fit(X)[-1].categories_, strict=True):
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


class TestMixedFrame:
    """The third box of the table: coefficients to 1e-8, and the same search."""

    def test_split_by_a_column(self):
        frame, ill, city = patients()
        pooled = pipeline().fit(frame, ill)
        model = Federated(pipeline()).fit(frame, ill, node=city)
        assert sorted(model.run_.nodes) == ["bern", "lima", "oslo", "rome"]
        np.testing.assert_allclose(model.estimator_[-1].coef_, pooled[-1].coef_, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(model.estimator_[-1].intercept_, pooled[-1].intercept_, rtol=1e-8)
        assert (model.predict(frame) == pooled.predict(frame)).all()
        assert model.estimator_[-1].n_iter_ == pooled[-1].n_iter_
        np.testing.assert_allclose(model.predict_proba(frame), pooled.predict_proba(frame), rtol=1e-9)

    def test_the_fitted_pipeline_is_an_ordinary_one(self):
        frame, ill, city = patients()
        pooled, fitted = pipeline().fit(frame, ill), Federated(pipeline()).fit(frame, ill, node=city).estimator_
        assert type(fitted) is Pipeline
        assert fitted.feature_names_in_.tolist() == pooled.feature_names_in_.tolist()
        assert fitted[:-1].get_feature_names_out().tolist() == pooled[:-1].get_feature_names_out().tolist()
        assert repr(fitted) == repr(pooled)
        ours, theirs = fitted[0], pooled[0]
        assert ours.output_indices_ == theirs.output_indices_
        assert ours.sparse_output_ == theirs.sparse_output_
        assert [name for name, _, _ in ours.transformers_] == [name for name, _, _ in theirs.transformers_]
        np.testing.assert_allclose(ours.transform(frame), theirs.transform(frame), rtol=1e-12)
        own = ours.named_transformers_["words"][-1].categories_
        assert [c.tolist() for c in own] == [c.tolist() for c in theirs.named_transformers_["words"][-1].categories_]

    def test_nodes_that_bring_their_frames_in_another_order_of_columns(self):
        frame, ill, city = patients()
        pooled = pipeline().fit(frame, ill)
        parts = [(frame[city == c], ill[city == c]) for c in np.unique(city)]
        turned = [(f[f.columns[::-1]] if i % 2 else f, y) for i, (f, y) in enumerate(parts)]
        model = Federated(pipeline()).fit(Federation.from_shards(turned))
        np.testing.assert_allclose(model.estimator_[-1].coef_, pooled[-1].coef_, rtol=1e-8, atol=1e-12)

    @pytest.mark.parametrize("engine", ["inprocess", "processes"])
    def test_every_engine_gives_the_same_bits(self, engine):
        frame, ill, city = patients(120)
        here = Federated(pipeline()).fit(Federation.simulate(frame, ill, partition=city))
        there = Federated(pipeline()).fit(Federation.simulate(frame, ill, partition=city, engine=engine, n_workers=2))
        assert there.estimator_[-1].coef_.tobytes() == here.estimator_[-1].coef_.tobytes()

    def test_grid_search_over_it_picks_the_same_with_the_same_scores(self):
        frame, ill, _ = patients(200)
        grid = {"logisticregression__C": [0.01, 1.0], "columntransformer__numbers__simpleimputer__strategy": ["mean"]}
        pooled = GridSearchCV(pipeline(), grid, cv=3).fit(frame, ill)
        over = GridSearchCV(Distributed(pipeline(), n_nodes=3), {f"estimator__{k}": v for k, v in grid.items()}, cv=3)
        over.fit(frame, ill)
        assert {k.removeprefix("estimator__"): v for k, v in over.best_params_.items()} == pooled.best_params_
        assert over.cv_results_["mean_test_score"].tolist() == pooled.cv_results_["mean_test_score"].tolist()

    def test_rows_stay_on_their_nodes(self):
        frame, ill, city = patients()
        run = Federated(pipeline()).fit(frame, ill, node=city).run_
        twice = Federated(pipeline()).fit(pandas.concat([frame] * 2), np.tile(ill, 2), node=np.tile(city, 2)).run_
        for ours, theirs in zip(run, twice, strict=False):
            if ours.op == theirs.op:
                assert ours.bytes_up == theirs.bytes_up, ours.op


class TestBlocks:
    def setup_method(self):
        rng = np.random.default_rng(1)
        self.X = rng.normal(size=(90, 6)) + 3
        self.y = (self.X[:, 0] + rng.normal(size=90) > 3).astype(int)

    def compare(self, transformer, X=None, **settings):
        X = self.X if X is None else X
        pooled = clone(transformer).fit(X, self.y)
        model = Distributed(transformer, n_nodes=4, **settings).fit(X, self.y)
        expected, got = pooled.transform(X), model.transform(X)
        assert sp.issparse(got) == sp.issparse(expected)
        dense = (a.toarray() if sp.issparse(a) else np.asarray(a) for a in (got, expected))
        np.testing.assert_allclose(*dense, rtol=1e-9, atol=1e-12)
        return model, pooled

    def test_drop_passthrough_weights_and_empty_selections(self):
        blocks = [
            ("a", StandardScaler(), [0, 2]),
            ("b", "drop", [1]),
            ("c", MinMaxScaler(), []),
            ("d", "passthrough", [5]),
        ]
        ours, theirs = self.compare(ColumnTransformer(blocks, transformer_weights={"a": 3.0, "d": 0.1}))
        assert ours.estimator_.output_indices_ == theirs.output_indices_

    def test_slices_masks_callables_and_selectors(self):
        blocks = [("a", StandardScaler(), slice(0, 2)), ("b", MinMaxScaler(), np.array([False] * 4 + [True] * 2))]
        self.compare(ColumnTransformer(blocks, remainder=StandardScaler()))
        frame = pandas.DataFrame(self.X, columns=list("abcdef"))
        self.compare(make_column_transformer((StandardScaler(), make_column_selector(pattern="[abc]"))), frame)
        self.compare(make_column_transformer((StandardScaler(), lambda f: f.columns[:2])), frame)

    @pytest.mark.parametrize("threshold", [0.0, 0.3, 1.0])
    def test_sparse_blocks_and_the_threshold(self, threshold):
        X = np.c_[self.X[:, :2], np.arange(90) % 5]
        blocks = [("words", OneHotEncoder(), [2]), ("numbers", StandardScaler(), [0, 1])]
        ours, theirs = self.compare(ColumnTransformer(blocks, sparse_threshold=threshold), X)
        assert ours.estimator_.sparse_output_ == theirs.sparse_output_

    def test_unions_and_pipelines_within_each_other(self):
        union = FeatureUnion(
            [
                ("p", make_pipeline(StandardScaler(), PCA(2))),
                ("s", MinMaxScaler()),
                ("no", "drop"),
                ("yes", "passthrough"),
            ],
            transformer_weights={"s": 2.0},
        )
        self.compare(make_pipeline(StandardScaler(), union, PolynomialFeatures()))
        self.compare(make_union(StandardScaler(), FunctionTransformer()))

    def test_pandas_output(self):
        frame = pandas.DataFrame(self.X, columns=list("abcdef"))
        step = ColumnTransformer([("a", StandardScaler(), ["a", "b"])], remainder="passthrough")
        ours, theirs = self.compare(step.set_output(transform="pandas"), frame)
        assert ours.transform(frame).columns.tolist() == theirs.transform(frame).columns.tolist()
        model = make_pipeline(step, GaussianNB())
        pooled, over = clone(model).fit(frame, self.y), Distributed(model, n_nodes=3).fit(frame, self.y)
        assert (over.predict(frame) == pooled.predict(frame)).all()

    def test_a_last_step_that_asks_the_nodes(self):
        chain = make_pipeline(StandardScaler(), KNeighborsClassifier(3))
        pooled, over = clone(chain).fit(self.X, self.y), Distributed(chain, n_nodes=4).fit(self.X, self.y)
        queries = self.X + 0.01
        assert (over.predict(queries) == pooled.predict(queries)).all()
        np.testing.assert_allclose(over.predict_proba(queries), pooled.predict_proba(queries))
        assert over.run_.history[-1].op == "neighbors.nearest"
        assert type(over.estimator_[-1]) is KNeighborsClassifier
        over = Federated(chain).fit(Federation.simulate(self.X, self.y, n_nodes=3))
        assert (over.predict(queries) == pooled.predict(queries)).all()
        with pytest.raises(NotAvailable, match="consists of its rows"):
            over.to_sklearn()

    def test_only_passthrough(self):
        model = Distributed(Pipeline([("no", "passthrough"), ("last", Ridge())]), n_nodes=3).fit(self.X, self.y)
        np.testing.assert_allclose(model.estimator_[-1].coef_, Ridge().fit(self.X, self.y).coef_, rtol=1e-9)


class TestRefused:
    def setup_method(self):
        self.frame, self.ill, _ = patients(60)

    def test_text_in_a_numeric_estimator_names_the_column(self):
        chain = make_pipeline(StandardScaler(), GaussianNB())
        with pytest.raises(InvalidData, match="'sex' holds text"):
            Federated(chain).fit(Federation.simulate(self.frame, self.ill, n_nodes=2))
        for model in (chain, Distributed(chain)):
            with pytest.raises(ValueError, match="could not convert string to float"):
                model.fit(self.frame, self.ill)

    def test_an_unsupported_step_is_named(self):
        from sklearn.manifold import Isomap

        with pytest.raises(UnsupportedEstimator, match="Isomap"):
            Distributed(make_pipeline(Isomap(), GaussianNB())).fit(self.frame[["visits"]], self.ill)

    def test_columns_that_are_not_there(self):
        step = ColumnTransformer([("a", StandardScaler(), ["agee"])])
        with pytest.raises(ValueError, match="agee"):
            Distributed(step).fit(self.frame)

    def test_unseen_categories_at_predict(self):
        model = Distributed(pipeline(), n_nodes=2).fit(self.frame, self.ill)
        strange = self.frame.assign(sex="other")
        with pytest.raises(ValueError, match="Found unknown categories"):
            model.predict(strange)

    def test_dates_by_name(self):
        dated = self.frame.assign(born=pandas.Timestamp("1970-01-01"))
        with pytest.raises(InvalidData, match="born"):
            Distributed(pipeline()).fit(dated, self.ill)

    def test_missing_values_that_nobody_fills(self):
        chain = make_pipeline(StandardScaler(), LogisticRegression())
        frame = self.frame[["age", "visits"]]
        for model in (chain, Distributed(chain, n_nodes=2)):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                with pytest.raises(ValueError, match=r"NaN|not finite"):
                    model.fit(frame, self.ill)


class TestWeights:
    """Weights reach the steps that they name; those that name none reach every step that knows weights."""

    def setup_method(self):
        rng = np.random.default_rng(2)
        self.X = rng.normal(size=(80, 3)) * [1, 10, 100]
        self.y = self.X @ [1.0, 0.2, 0.01] + rng.normal(size=80)
        self.weight = rng.integers(0, 4, size=80).astype(float)
        self.chain = make_pipeline(StandardScaler(), Ridge())

    def close(self, model, pooled):
        np.testing.assert_allclose(model.estimator_[-1].coef_, pooled[-1].coef_, rtol=1e-9)
        np.testing.assert_allclose(model.estimator_[0].mean_, pooled[0].mean_, rtol=1e-9)

    @pytest.mark.parametrize("step", ["ridge", "standardscaler"])
    def test_of_one_step(self, step):
        given = {f"{step}__sample_weight": self.weight}
        pooled = clone(self.chain).fit(self.X, self.y, **given)
        self.close(Distributed(self.chain, n_nodes=3).fit(self.X, self.y, **given), pooled)
        sites = Federation.simulate(self.X, self.y, n_nodes=3, sample_weight=given)
        self.close(Federated(self.chain).fit(sites), pooled)

    def test_of_all_steps_are_repeated_rows(self):
        sites = Federation.simulate(self.X, self.y, n_nodes=3, sample_weight=self.weight)
        often = np.repeat(np.arange(80), self.weight.astype(int))
        self.close(Federated(self.chain).fit(sites), clone(self.chain).fit(self.X[often], self.y[often]))

    def test_routed_to_those_that_ask(self):
        with config_context(enable_metadata_routing=True):
            chain = make_pipeline(
                StandardScaler().set_fit_request(sample_weight=False), Ridge().set_fit_request(sample_weight=True)
            )
            pooled = clone(chain).fit(self.X, self.y, sample_weight=self.weight)
            self.close(Distributed(chain, n_nodes=3).fit(self.X, self.y, sample_weight=self.weight), pooled)

    def test_of_a_step_within_a_step(self):
        chain = make_pipeline(make_pipeline(StandardScaler()), Ridge())
        given = {"pipeline__standardscaler__sample_weight": self.weight}
        pooled = clone(chain).fit(self.X, self.y, **given)
        model = Distributed(chain, n_nodes=3).fit(self.X, self.y, **given)
        np.testing.assert_allclose(model.estimator_[-1].coef_, pooled[-1].coef_, rtol=1e-9)

    def test_of_steps_that_are_not_there_or_know_none(self):
        for name in ("sample_weight", "lasso__sample_weight", "ridge__weights"):
            for model in (self.chain, Distributed(self.chain)):
                with pytest.raises((TypeError, ValueError, KeyError)):
                    clone(model).fit(self.X, self.y, **{name: self.weight})

    def test_that_name_a_step_of_nodes_which_takes_none(self):
        """In scikit-learn's words, right after round 0."""
        deep = make_pipeline(make_pipeline(StandardScaler(), PCA(2)), Lars())
        sides = make_pipeline(ColumnTransformer([("pca", PCA(1), [0, 1])]), Ridge())
        for model, name, words in (
            (deep, "lars__sample_weight", "Lars.fit() got an unexpected keyword argument 'sample_weight'"),
            (deep, "pipeline__pca__sample_weight", "PCA.fit() got an unexpected keyword argument 'sample_weight'"),
            (sides, "columntransformer__pca__sample_weight", "PCA.fit() got an unexpected keyword"),
            (self.chain, "lasso__sample_weight", "Pipeline.fit() got an unexpected keyword argument 'lasso__sample_w"),
            (Ridge(), "ridge__sample_weight", "Ridge.fit() got an unexpected keyword argument 'ridge__sample_weight'"),
        ):
            sites = Federation.simulate(self.X, self.y, n_nodes=3, sample_weight={name: self.weight})
            with pytest.raises(TypeError, match=re.escape(words)):
                Federated(model).fit(sites)
