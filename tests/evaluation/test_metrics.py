"""Every metric against scikit-learn's own on the pooled rows: weights, classes, engines, partitions."""

from __future__ import annotations

import re
import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest
from sklearn import metrics
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, RidgeClassifier
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.mixture import GaussianMixture
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from atoll import Federation
from atoll.errors import InvalidData, UnknownName
from atoll.evaluation import METRICS

CLASSES = sorted(name for name, metric in METRICS.items() if metric.task == "classes")
NUMBERS = sorted(name for name, metric in METRICS.items() if metric.task == "numbers")
BINARY = {
    "f1", "precision", "recall", "jaccard", "neg_negative_likelihood_ratio", "positive_likelihood_ratio", "roc_auc",
}  # fmt: skip
CLOSE = 1e-12


@cache
def rows(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, labels and weights; some weights are zero."""
    X, y = {"iris": load_iris, "breast_cancer": load_breast_cancer, "diabetes": load_diabetes}[name](return_X_y=True)
    weight = np.random.default_rng(3).integers(0, 4, size=len(y)).astype(float)
    return X, y, weight


@cache
def model(name: str) -> Any:
    """A classifier or regressor that is neither perfect nor sure."""
    X, y, _ = rows(name)
    if name == "diabetes":
        return LinearRegression().fit(X[::3], y[::3])
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01)).fit(X[::3, :2], y[::3])


def columns(name: str) -> np.ndarray:
    X = rows(name)[0]
    return X if name == "diabetes" else np.ascontiguousarray(X[:, :2])


def federation(name: str, partition: str, n_nodes: int, *, weighted: bool = False, **settings: Any) -> Federation:
    _, y, weight = rows(name)
    given = weight if weighted else None
    return Federation.simulate(
        columns(name), y, n_nodes=n_nodes, partition=partition, sample_weight=given, verbose=0, **settings
    )


def expected(metric: str, fitted: Any, X: Any, y: np.ndarray, weight: np.ndarray | None = None) -> float:
    scorer = get_scorer(metric)
    given = {} if weight is None else {"sample_weight": weight}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that weights are passed on without metadata routing
        return float(scorer(fitted, X, y, **given))


def usable(metric: str, name: str) -> bool:
    return metric != "top_k_accuracy" if name == "breast_cancer" else metric not in BINARY


GRID = [("iid", 1), ("label", 3), ("dirichlet", 7)]


@pytest.mark.parametrize(("partition", "n_nodes"), GRID)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["iris", "breast_cancer"])
def test_metrics_of_classifiers_are_those_of_the_pooled_rows(name, weighted, partition, n_nodes):
    wanted = [
        m for m in CLASSES if usable(m, name) and not (weighted and m.startswith("roc_auc_ovo") and name == "iris")
    ]
    found = federation(name, partition, n_nodes, weighted=weighted).evaluate(model(name), wanted)
    _, y, weight = rows(name)
    assert set(found.pooled) == set(wanted)
    for metric in wanted:
        known = expected_with_ratio(metric, name, y, weight if weighted else None)
        assert found.pooled[metric] == pytest.approx(known, rel=CLOSE), metric


def expected_with_ratio(metric: str, name: str, y: np.ndarray, weight: np.ndarray | None, X: Any = None) -> float:
    """scikit-learn's scorers of likelihood ratios take no weights, its function does."""
    X = columns(name) if X is None else X
    if weight is None or "likelihood" not in metric:
        return expected(metric, model(name), X, y, weight)
    answers = model(name).predict(X)
    positive, negative = metrics.class_likelihood_ratios(y, answers, sample_weight=weight, replace_undefined_by=1.0)
    return positive if metric.startswith("positive") else -negative


@pytest.mark.parametrize(("partition", "n_nodes"), GRID)
@pytest.mark.parametrize("weighted", [False, True])
def test_metrics_of_regressors_are_those_of_the_pooled_rows(weighted, partition, n_nodes):
    wanted = [m for m in NUMBERS if not (weighted and m == "neg_max_error")]
    found = federation("diabetes", partition, n_nodes, weighted=weighted).evaluate(model("diabetes"), wanted)
    X, y, weight = rows("diabetes")
    for metric in wanted:
        known = expected(metric, model("diabetes"), X, y, weight if weighted else None)
        assert found.pooled[metric] == pytest.approx(known, rel=CLOSE), metric


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["iris", "breast_cancer", "diabetes"])
def test_each_node_is_scikit_learn_on_its_own_rows(name, weighted):
    wanted = NUMBERS if name == "diabetes" else [m for m in CLASSES if usable(m, name)]
    wanted = [m for m in wanted if not (weighted and (m == "neg_max_error" or "_ovo" in m))]
    sites = federation(name, "iid", 4, weighted=weighted)
    found = sites.evaluate(model(name), wanted)
    assert found.nodes == sites.names
    for i, shard in enumerate(sites._shards):
        assert found.rows[i] == shard.n_rows
        for metric in wanted:
            known = expected_with_ratio(metric, name, shard.y, shard.columns.get("sample_weight"), shard.X)
            assert found.per_node[metric][i] == pytest.approx(known, rel=CLOSE), (metric, i)
    for metric, worst in found.worst.items():
        assert worst.value == found.per_node[metric].min()
        assert found.per_node[metric][found.nodes.index(worst.node)] == worst.value


@pytest.mark.parametrize("which", ["precision", "recall", "f1", "jaccard"])
@pytest.mark.parametrize("average", ["macro", "weighted", "micro"])
def test_a_node_that_lacks_a_class_is_judged_on_those_it_has(which, average):
    X, y, _ = rows("iris")
    node = np.where(y == 0, "a", np.where(np.arange(len(y)) % 3 == 0, "a", "b"))
    name = f"{which}_{average}"
    found = Federation.simulate(X[:, :2], y, partition=node).evaluate(model("iris"), name)
    answers, own = model("iris").predict(X[:, :2]), node == "b"
    function = getattr(metrics, f"{which}_score")
    labels = np.unique(y[own]) if average != "micro" else None
    known = function(y[own], answers[own], labels=labels, average=average, zero_division=0)
    assert 0 in answers[own]  # it is given the class that it lacks
    assert found.per_node[name][1] == pytest.approx(known, rel=CLOSE)
    assert found.lacking == {"b": (0,)}


@pytest.mark.parametrize("name", ["iris", "diabetes"])
def test_sums_alone_give_the_same_bits(name):
    wanted = NUMBERS if name == "diabetes" else [m for m in CLASSES if usable(m, name)]
    sites = federation(name, "dirichlet", 5)
    each, sums = (sites.evaluate(model(name), wanted, per_node=per_node) for per_node in (True, False))
    assert dict(each.pooled) == dict(sums.pooled)
    assert sums.per_node == {}
    assert sums.worst == {}
    assert sums.confusions is None


def test_the_same_bits_in_worker_processes():
    wanted = [m for m in CLASSES if usable(m, "iris")]
    here = federation("iris", "label", 4).evaluate(model("iris"), wanted)
    there = federation("iris", "label", 4, engine="processes", n_workers=2, topology="tree")
    found = there.evaluate(model("iris"), wanted)
    assert dict(found.pooled) == dict(here.pooled)
    assert all(np.array_equal(found.per_node[m], here.per_node[m], equal_nan=True) for m in wanted)


def test_decision_functions_rank_rows():
    X, y, weight = rows("breast_cancer")
    ridge = RidgeClassifier(alpha=50.0).fit(X[::5, :2], y[::5])
    sites = federation("breast_cancer", "label", 4, weighted=True)
    found = sites.evaluate(ridge, ["roc_auc", "average_precision"])
    for metric, value in found.pooled.items():
        assert value == pytest.approx(expected(metric, ridge, columns("breast_cancer"), y, weight), rel=CLOSE)
    many = RidgeClassifier(alpha=50.0).fit(*rows("iris")[:2])
    X, y, _ = rows("iris")
    found = Federation.simulate(X, y, n_nodes=3).evaluate(many, ["top_k_accuracy", "average_precision"])
    for metric, value in found.pooled.items():
        assert value == pytest.approx(expected(metric, many, X, y), rel=CLOSE)


@pytest.mark.parametrize("bins", [1, 7, 1000])
@pytest.mark.parametrize("weighted", [False, True])
def test_counted_scores_give_bounds_that_hold(bins, weighted):
    for name, wanted in (
        ("breast_cancer", ["roc_auc", "average_precision"]),
        ("iris", ["roc_auc_ovr_weighted", "average_precision"] + ["roc_auc_ovo"] * (not weighted)),
    ):
        sites = federation(name, "label", 4, weighted=weighted)
        exact, counted = (sites.evaluate(model(name), wanted, bins=b) for b in (None, bins))
        assert dict(exact.bounds) == {}
        for metric in wanted:
            low, high = counted.bounds[metric]
            assert low - 1e-12 <= exact.pooled[metric] <= high + 1e-12
            assert low - 1e-12 <= counted.pooled[metric] <= high + 1e-12
            assert bins < 1000 or high - low < 0.02
        assert "metrics.scores" not in {one.op for one in counted.run.disclosures()}


def test_counting_scores_keeps_messages_small():
    sizes = []
    for times in (1, 20):
        X, y, _ = rows("breast_cancer")
        sites = Federation.simulate(np.tile(X[:, :2], (times, 1)), np.tile(y, times), n_nodes=3)
        run = sites.evaluate(model("breast_cancer"), ["roc_auc", "accuracy", "neg_log_loss"], bins=50).run
        sizes.append(run.bytes_up)
    assert sizes[0] == sizes[1]


def test_text_and_boolean_labels():
    X, y, _ = rows("breast_cancer")
    for labels in (np.array(["no", "yes"])[y], np.array(["no", "yes"], dtype=object)[y], y.astype(bool)):
        fitted = GaussianNB().fit(X[::3], labels[::3])
        wanted = ["accuracy", "f1_macro", "roc_auc", "neg_log_loss", "neg_brier_score"]
        if labels.dtype != object and labels.dtype.kind == "U":
            wanted.remove("neg_brier_score")  # scikit-learn wants to be told which label of text is the positive one
        found = Federation.simulate(X, labels, n_nodes=3, partition="label").evaluate(fitted, wanted)
        for metric in wanted:
            if metric == "neg_brier_score" and labels.dtype == object:
                continue
            assert found.pooled[metric] == pytest.approx(expected(metric, fitted, X, labels), rel=CLOSE), metric
        assert found.classes == tuple(np.unique(labels).tolist())


def test_errors_of_a_metric_are_scikit_learns():
    X, y, _ = rows("iris")
    fitted = LinearDiscriminantAnalysis().fit(X, y)
    sites = Federation.simulate(X, y, n_nodes=3)
    for metric in ("f1", "roc_auc"):
        with pytest.raises(ValueError, match=r"average='binary'|multi_class must be") as theirs:
            get_scorer(metric)(fitted, X, y)
        with pytest.raises(ValueError, match=re.escape(str(theirs.value))):
            sites.evaluate(fitted, metric)
    text = np.array(["a", "b"])[rows("breast_cancer")[1]]
    X = rows("breast_cancer")[0]
    with pytest.raises(ValueError, match="pos_label=1 is not a valid label"):
        Federation.simulate(X, text, n_nodes=3).evaluate(GaussianNB().fit(X, text), "f1")


def test_warnings_of_a_metric_are_scikit_learns():
    X, y, _ = rows("iris")
    never = GaussianNB(priors=[0.5, 0.5 - 1e-300, 1e-300]).fit(X, y)
    sites = Federation.simulate(X, y, n_nodes=2)
    with pytest.warns(UndefinedMetricWarning, match="Precision is ill-defined"):
        found = sites.evaluate(never, "precision_macro")
    with pytest.warns(UndefinedMetricWarning):
        assert found.pooled["precision_macro"] == get_scorer("precision_macro")(never, X, y)
    assert not np.isnan(found.per_node["precision_macro"]).any()


def test_weights_in_one_against_one_are_refused_as_scikit_learn_does():
    sites = federation("iris", "iid", 2, weighted=True)
    with pytest.raises(ValueError, match="sample_weight is not supported for multiclass one-vs-one"):
        sites.evaluate(model("iris"), "roc_auc_ovo")
    assert sites.evaluate(model("iris"), "roc_auc_ovo", sample_weight=False).pooled["roc_auc_ovo"] > 0.5


def test_names_are_those_of_scikit_learn():
    known = set(get_scorer_names())
    assert set(METRICS) - known == {"mean_log_likelihood"}
    sites = federation("iris", "iid", 2)
    for name in sorted(known - set(METRICS)):
        with pytest.raises(InvalidData, match="cannot be computed over nodes"):
            sites.evaluate(model("iris"), name)
    with pytest.raises(UnknownName, match="did you mean 'accuracy'"):
        sites.evaluate(model("iris"), ["acuracy"])
    with pytest.raises(InvalidData, match="is a metric for numbers"):
        sites.evaluate(model("iris"), "r2")
    with pytest.raises(InvalidData, match="by name"):
        sites.evaluate(model("iris"), get_scorer("accuracy"))
    with pytest.raises(InvalidData, match="no metric was asked for"):
        sites.evaluate(model("iris"), [])


def test_several_outputs_are_averaged():
    X, y, _ = rows("diabetes")
    both = np.column_stack([y, np.sqrt(y)])
    fitted = LinearRegression().fit(X[::4], both[::4])
    wanted = ["r2", "neg_root_mean_squared_error", "neg_mean_absolute_error", "explained_variance"]
    found = Federation.simulate(X, both, n_nodes=3, partition="quantity").evaluate(fitted, wanted)
    for metric in wanted:
        assert found.pooled[metric] == pytest.approx(expected(metric, fitted, X, both), rel=CLOSE)


def test_counts_are_evaluated_as_counts():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(300, 3))
    y = rng.poisson(np.exp(X @ [0.3, -0.2, 0.1] + 1)) + 1
    fitted = PoissonRegressor().fit(X, y)
    wanted = ["neg_mean_poisson_deviance", "neg_mean_gamma_deviance", "neg_root_mean_squared_log_error", "r2"]
    found = Federation.simulate(X, y, n_nodes=4).evaluate(fitted, wanted)
    for metric in wanted:
        assert found.pooled[metric] == pytest.approx(expected(metric, fitted, X, y), rel=CLOSE)


def test_means_far_from_zero_lose_no_digits():
    rng = np.random.default_rng(6)
    X = rng.normal(size=(400, 2))
    y = X @ [1.0, 2.0] + 1e8 + rng.normal(size=400)
    fitted = LinearRegression().fit(X, y)
    found = Federation.simulate(X, y, n_nodes=5, partition="quantity").evaluate(fitted, ["r2", "explained_variance"])
    assert found.pooled["r2"] == pytest.approx(expected("r2", fitted, X, y), rel=1e-10)
    assert found.pooled["explained_variance"] == pytest.approx(expected("explained_variance", fitted, X, y), rel=1e-7)


def test_a_density_is_its_mean_log_likelihood():
    X = rows("iris")[0]
    mixture = GaussianMixture(2, random_state=0).fit(X)
    found = Federation.simulate(X, n_nodes=3).evaluate(mixture)
    assert found.pooled["mean_log_likelihood"] == pytest.approx(mixture.score(X), rel=CLOSE)
    assert found.classes == ()
