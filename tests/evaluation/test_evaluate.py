"""`Federation.evaluate` and `evaluate_answers`: what they take, what they refuse, and what they show."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.metrics import accuracy_score, f1_score, get_scorer, log_loss, r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from atoll import Distributed, Federated, Federation
from atoll.errors import InvalidData, NodeValueError, NotAvailable, SchemaMismatch, WireError
from atoll.evaluation import evaluate_answers
from atoll.messages import Rule

X, Y = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])


def by_label() -> Federation:
    """Node a has classes 0 and 1, node b has 1 and 2, node c has one row of class 2."""
    node = np.array(["a"] * 75 + ["b"] * 74 + ["c"])
    return Federation.simulate(X, Y, partition=node)


def test_a_node_without_a_class_is_undefined_and_not_the_worst():
    model = GaussianNB().fit(X[::2], Y[::2])
    found = by_label().evaluate(model, ["roc_auc_ovr", "matthews_corrcoef", "balanced_accuracy", "accuracy"])
    assert np.isnan(found.per_node["roc_auc_ovr"]).all()
    assert found.worst["roc_auc_ovr"].node == ""
    assert np.isnan(found.per_node["matthews_corrcoef"]).tolist() == [False, False, True]
    assert found.worst["matthews_corrcoef"].node == "b"
    assert found.worst["matthews_corrcoef"].lacks == (0,)
    assert found.undefined == {"roc_auc_ovr": ("a", "b", "c"), "matthews_corrcoef": ("c",)}
    assert found.lacking == {"a": (2,), "b": (0,), "c": (0, 1)}
    assert found.per_node["balanced_accuracy"][2] == 1.0
    said = str(found)
    assert "roc_auc_ovr: undefined on a, b, c" in said
    assert "a has no rows of 2; b has no rows of 0; c has no rows of 0, 1" in said
    assert "without class 0" in said
    assert np.isnan(found.recalls[0, 2])
    assert found.recalls[0, 0] == 1.0


def test_a_binary_score_of_a_class_that_a_node_lacks_is_undefined():
    y = (Y == 2).astype(int)
    always = DummyClassifier(strategy="constant", constant=1).fit(X, y)
    found = by_label_of(y).evaluate(always, ["f1", "precision", "recall", "accuracy", "average_precision", "roc_auc"])
    assert found.per_node["accuracy"].tolist() == [0.0, pytest.approx(49 / 74), 1.0]
    for metric in ("f1", "precision", "recall", "average_precision"):
        assert np.isnan(found.per_node[metric]).tolist() == [True, False, False]
        assert found.worst[metric].node != "a"
    assert found.worst["accuracy"].node == "a"
    assert found.worst["accuracy"].lacks == (1,)


def by_label_of(y: np.ndarray) -> Federation:
    return Federation.simulate(X, y, partition=np.array(["a"] * 75 + ["b"] * 74 + ["c"]))


def test_constant_targets_on_a_node_have_no_r2():
    rows, target = load_diabetes(return_X_y=True)
    target[:50] = 0.1
    node = np.array(["a"] * 50 + ["b"] * 391 + ["c"])
    model = LinearRegression().fit(rows, target)
    found = Federation.simulate(rows, target, partition=node).evaluate(model, ["r2", "explained_variance"])
    assert np.isnan(found.per_node["r2"]).tolist() == [True, False, True]
    assert np.isnan(found.per_node["explained_variance"]).tolist() == [True, False, True]
    assert found.pooled["r2"] == pytest.approx(r2_score(target, model.predict(rows)), rel=1e-12)


def test_nodes_whose_weights_are_all_zero_are_undefined():
    weight = np.ones(150)
    weight[:30] = 0
    sites = Federation.simulate(X, Y, partition=np.array(["a"] * 30 + ["b"] * 120), sample_weight=weight)
    found = sites.evaluate(GaussianNB().fit(X, Y))
    for metric, values in found.per_node.items():
        assert np.isnan(values).tolist() == [True, False], metric
    assert found.rows.tolist() == [30, 120]


def test_wrapped_models_and_searches_are_unwrapped():
    sites = Federation.simulate(X, Y, n_nodes=3)
    plain = NearestCentroid().fit(X, Y)
    expected = sites.evaluate(plain, "accuracy").pooled["accuracy"]
    federated = Federated(NearestCentroid()).fit(sites)
    assert sites.evaluate(federated, "accuracy").pooled["accuracy"] == expected
    search = GridSearchCV(Distributed(NearestCentroid(), 2), {"estimator__shrink_threshold": [None]}, cv=2).fit(X, Y)
    assert sites.evaluate(search, "accuracy").pooled["accuracy"] == expected
    knn = Distributed(KNeighborsClassifier(3), n_nodes=3).fit(X, Y)
    assert sites.evaluate(knn, "accuracy").pooled["accuracy"] == knn.score(X, Y)


def test_a_model_that_asks_the_nodes_is_refused_with_a_way_out():
    sites = by_label()
    knn = Federated(KNeighborsClassifier(3)).fit(sites)
    with pytest.raises(NotAvailable, match="evaluate_answers"):
        sites.evaluate(knn)
    node = np.array(["a"] * 75 + ["b"] * 74 + ["c"])
    found = evaluate_answers(Y, knn.predict(X), node, name="KNeighborsClassifier", y_proba=knn.predict_proba(X))
    assert found.pooled["accuracy"] == knn.score(X, Y)
    assert found.pooled["neg_log_loss"] == pytest.approx(-log_loss(Y, knn.predict_proba(X)), rel=1e-12)


def test_answers_are_evaluated_as_the_model_would_be():
    model = GaussianNB().fit(X[::2], NAMES[Y[::2]])
    sites = by_label_of(NAMES[Y])
    node = np.array(["a"] * 75 + ["b"] * 74 + ["c"])
    wanted = ["accuracy", "f1_macro", "neg_log_loss", "roc_auc_ovr", "average_precision"]
    asked = sites.evaluate(model, wanted)
    given = evaluate_answers(
        NAMES[Y], model.predict(X), node, scoring=wanted, y_proba=model.predict_proba(X), classes=model.classes_
    )
    assert dict(asked.pooled) == dict(given.pooled)
    assert all(np.array_equal(asked.per_node[m], given.per_node[m], equal_nan=True) for m in wanted)
    assert given.classes == tuple(NAMES)
    alone = evaluate_answers(NAMES[Y], model.predict(X))
    assert alone.per_node == {}
    assert alone.pooled["accuracy"] == accuracy_score(NAMES[Y], model.predict(X))


def test_numbers_are_told_from_classes():
    found = evaluate_answers([1.5, 2.0, 3.25], [1.0, 2.0, 3.0], ["a", "a", "b"])
    assert list(found.pooled) == ["r2", "neg_mean_absolute_error", "neg_root_mean_squared_error"]
    assert found.confusion is None
    whole = evaluate_answers([1, 2, 3], [1, 2, 4], task="numbers", scoring="neg_max_error")
    assert whole.pooled == {"neg_max_error": -1.0}
    both = evaluate_answers(np.eye(3), np.eye(3) + 0.5, scoring="neg_mean_squared_error")
    assert both.pooled["neg_mean_squared_error"] == -0.25


def test_what_does_not_suit_is_refused():
    sites = Federation.simulate(X, Y, n_nodes=2)
    with pytest.raises(NotFittedError):
        sites.evaluate(GaussianNB())
    with pytest.raises(InvalidData, match="neither predicts nor scores"):
        sites.evaluate(KMeans(2, n_init=1).fit(X))
    with pytest.raises(ValueError, match="X has 4 features, but GaussianNB is expecting 2 features as input"):
        sites.evaluate(GaussianNB().fit(X[:, :2], Y))
    with pytest.raises(InvalidData, match="no targets"):
        Federation.simulate(X, n_nodes=2).evaluate(GaussianNB().fit(X, Y))
    with pytest.raises(InvalidData, match="evaluated on numbers"):
        Federation.simulate(X, NAMES[Y], n_nodes=2).evaluate(LinearRegression().fit(X, Y))
    with pytest.raises(SchemaMismatch, match="labels are of another type"):
        sites.evaluate(GaussianNB().fit(X, NAMES[Y]))
    with pytest.raises(InvalidData, match="classes that GaussianNB gives no score to"):
        sites.evaluate(GaussianNB().fit(X[:100], Y[:100]), "neg_log_loss")
    with pytest.raises(ValueError, match="need classifier with two classes"):
        Federation.simulate(X[:50], Y[:50], n_nodes=2).evaluate(GaussianNB().fit(X[:50], Y[:50]), "neg_log_loss")
    with pytest.raises(InvalidData, match="several labels per row"):
        Federation.simulate(X, np.eye(3)[Y], n_nodes=2).evaluate(GaussianNB().fit(X, Y))
    with pytest.raises(InvalidData, match="at least one range"):
        sites.evaluate(GaussianNB().fit(X, Y), "roc_auc_ovr", bins=0)
    with pytest.raises(AttributeError, match="RidgeClassifier has none of the following attributes: predict_proba"):
        sites.evaluate(RidgeClassifier().fit(X, Y), "neg_log_loss")


def test_a_model_of_another_library_does_not_travel():
    class Own(GaussianNB):
        pass

    with pytest.raises(WireError, match="only public estimators of scikit-learn travel"):
        Federation.simulate(X, Y, n_nodes=2).evaluate(Own().fit(X, Y))


def test_a_class_that_the_model_does_not_know_counts_as_wrong():
    model = GaussianNB().fit(X[:100], Y[:100])
    sites = Federation.simulate(X, Y, n_nodes=3)
    found = sites.evaluate(model, ["accuracy", "f1_macro"])
    assert found.pooled["accuracy"] == accuracy_score(Y, model.predict(X))
    f1 = f1_score(Y, model.predict(X), average="macro")
    assert found.pooled["f1_macro"] == pytest.approx(f1, rel=1e-12)
    assert found.confusion.sum() == 150


def test_data_frames_with_names():
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = LogisticRegression(max_iter=500).fit(frame, Y)
    for partition in ("iid", "label"):
        found = Federation.simulate(frame, Y, n_nodes=3, partition=partition).evaluate(
            model, ["accuracy", "neg_log_loss"]
        )
        assert found.pooled["accuracy"] == model.score(frame, Y)
    turned = Federation.simulate(frame[["d", "b", "a", "c"]], Y, n_nodes=3).evaluate(
        model, ["accuracy", "neg_log_loss"]
    )
    assert dict(turned.pooled) == pytest.approx(dict(found.pooled), rel=1e-12)
    renamed = frame.rename(columns={"a": "z"})
    with pytest.raises(SchemaMismatch, match="feature names should match"):
        Federation.simulate(renamed, Y, n_nodes=3).evaluate(model)


@pytest.mark.parametrize("engine", ["inprocess", "processes"])
def test_a_pipeline_over_mixed_columns(engine):
    print("seed 0")
    rng = np.random.default_rng(0)
    city = rng.choice(["oslo", "rome", "bern"], 200, p=[0.5, 0.3, 0.2])
    frame = pd.DataFrame(
        {"age": rng.normal(50, 10, 200), "city": pd.Categorical(city), "name": rng.choice(list("ab"), 200)}
    )
    frame.loc[::9, "age"] = np.nan
    y = np.where(frame["age"].fillna(50) + 9 * (city == "oslo") + rng.normal(0, 5, 200) > 54, "ill", "well")
    columns = ColumnTransformer([
        ("num", make_pipeline(SimpleImputer(), StandardScaler()), ["age"]), ("cat", OneHotEncoder(), ["city", "name"]),
    ])  # fmt: skip
    model = make_pipeline(columns, LogisticRegression()).fit(frame, y)
    wanted = ["accuracy", "neg_log_loss", "roc_auc", "f1_macro"]
    sites = Federation.simulate(frame[["name", "age", "city"]], y, partition=city, engine=engine, n_workers=2)
    found = sites.evaluate(model, wanted)
    for metric in wanted:
        assert found.pooled[metric] == pytest.approx(get_scorer(metric)(model, frame, y), rel=1e-12)
    assert found.nodes == ("bern", "oslo", "rome")
    assert dict(sites.evaluate(Federated(model).fit(sites), wanted).pooled) == pytest.approx(
        dict(found.pooled), rel=1e-7
    )


def test_a_failing_node_is_named():
    bad = X.copy()
    bad[149, 0] = np.nan
    sites = Federation.simulate(bad, Y, partition=np.array(["a"] * 100 + ["b"] * 50))
    with pytest.raises(NodeValueError, match="b"):
        sites.evaluate(GaussianNB().fit(X, Y))


def test_without_a_node_the_others_are_evaluated():
    bad = X.copy()
    bad[149, 0] = np.nan
    node = np.array(["a"] * 60 + ["b"] * 60 + ["c"] * 30)
    sites = Federation.simulate(bad, Y, partition=node, rule=Rule(quorum=0.5))
    model = GaussianNB().fit(X, Y)
    found = sites.evaluate(model, ["accuracy", "roc_auc_ovr"])
    assert found.pooled["accuracy"] == accuracy_score(Y[:120], model.predict(X[:120]))
    assert found.nodes == ("a", "b")
    assert found.silent == ("c",)
    assert found.rows.tolist() == [60, 60]
    assert "no answer from c" in str(found)
    assert set(found.lacking) <= {"a", "b"}


def test_a_journal_answers_the_same_question_again(tmp_path):
    model = GaussianNB().fit(X, Y)
    first = Federation.simulate(X, Y, n_nodes=3, journal=tmp_path).evaluate(model)
    again = Federation.simulate(X, Y, n_nodes=3, journal=tmp_path)
    assert dict(again.evaluate(model).pooled) == dict(first.pooled)
    assert set(again.evaluate(model, "accuracy").pooled) == {"accuracy"}
    assert again.evaluate(NearestCentroid().fit(X, Y), "accuracy").model == "NearestCentroid"


def test_the_record_says_what_left():
    run = by_label().evaluate(GaussianNB().fit(X, Y)).run
    assert run.estimator == "GaussianNB"
    assert [row.op for row in run] == ["describe.schema", "metrics.confusion", "metrics.losses"]
    assert all(one.what for one in run.disclosures())


def test_it_is_shown_as_text_html_frame_and_plain_values():
    found = by_label().evaluate(GaussianNB().fit(X, Y), ["accuracy", "roc_auc_ovr"])
    lines = str(found).splitlines()
    assert lines[0] == "GaussianNB on 150 rows of 3 nodes"
    assert lines[1].split() == ["metric", "all", "rows", "worst", "node"]
    assert lines[2].split()[:2] == ["accuracy", "0.9600"]
    assert "undefined" in lines[3]
    assert repr(found) == "Evaluation(GaussianNB, accuracy=0.9600, roc_auc_ovr=0.9949)"
    page = found._repr_html_()
    assert page.count("<table>") == 3
    assert "<svg" in page
    frame = found.to_frame()
    assert frame.index.tolist() == ["all rows", "a", "b", "c"]
    assert frame.columns.tolist() == ["rows", "accuracy", "roc_auc_ovr"]
    assert frame["rows"].tolist() == [150, 75, 74, 1]
    assert found.to_frame("class").loc[2, "rows"] == 50
    with pytest.raises(InvalidData, match="by node or by class"):
        found.to_frame("row")
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert data["metrics"]["accuracy"]["worst"]["node"] == found.worst["accuracy"].node
    assert data["metrics"]["roc_auc_ovr"]["worst"]["value"] is None
    assert np.sum(data["confusion"]) == 150
    assert pickle.loads(pickle.dumps(found)).pooled == found.pooled


def test_names_of_people_stay_text():
    hostile = "<script>alert(1)</script>"
    found = evaluate_answers(["<b>", "<b>", "a"], ["<b>", "a", "a"], [hostile, "n", "n"])
    page = found._repr_html_()
    assert "<script>" not in page
    assert "<b>" not in page
    assert hostile in str(found)


def test_many_nodes_are_shortened():
    node = np.array([f"n{i:03d}" for i in range(150)])
    found = evaluate_answers(Y, Y, node, scoring=["accuracy"])
    lines = str(found).splitlines()
    assert len(lines) < 60
    assert any(line.startswith("…") for line in lines)
    assert found.to_svg() == ""


def test_regressors_are_drawn_as_bars():
    found = evaluate_answers([0.5, 1.0, 2.0, 4.5], [1.0, 1.0, 2.0, 4.0], ["a", "a", "b", "b"])
    assert "r2 on each node" in found.to_svg()
