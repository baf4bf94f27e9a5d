"""CalibratedClassifierCV over nodes: every method, with frozen models and models of folds, as on the pooled rows."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneOut, StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from atoll import Federated
from atoll.errors import SchemaMismatch, UnsupportedEstimator
from atoll.operations import operations
from cases import data
from recipes.fitting import NODES, both

METHODS = ["sigmoid", "isotonic", "temperature"]
MODELS = [LinearDiscriminantAnalysis, GaussianNB]  # one with a decision function, one with probabilities alone
CLOSE = {"sigmoid": 1e-7, "isotonic": 1e-9, "temperature": 1e-6}  # where the pooled solver stops; see the module


def frozen(model, name="iris", rows=slice(None, None, 3)):
    X, y = data(name)
    return FrozenEstimator(model.fit(X[rows], y[rows]))


def calibrators(fitted):
    return [c for pair in fitted.calibrated_classifiers_ for c in pair.calibrators]


def attributes(calibrator):
    return [name for name in vars(calibrator) if name.endswith("_") and name != "f_"]


def same(fits, X, method):
    """Calibrators of the same kind with the same parameters, and the same probabilities."""
    close = CLOSE[method]
    got, expected = fits.over.estimator_, fits.pooled
    assert vars(got).keys() == vars(expected).keys()
    assert got.classes_.tolist() == expected.classes_.tolist()
    assert len(calibrators(got)) == len(calibrators(expected))
    for a, b in zip(calibrators(got), calibrators(expected), strict=True):
        assert type(a) is type(b)
        assert vars(a).keys() == vars(b).keys()
        for name in attributes(b):
            value = getattr(a, name)
            assert type(value) is type(getattr(b, name)), name
            np.testing.assert_allclose(value, getattr(b, name), rtol=close, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(fits.over.predict_proba(X), expected.predict_proba(X), rtol=0, atol=close)


@pytest.mark.parametrize("where", NODES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ["iris", "breast_cancer"])
def test_a_frozen_model_is_calibrated_on_all_rows(name, model, method, where):
    X, y = data(name)
    estimator = CalibratedClassifierCV(frozen(model(), name), method=method)
    fits = both(estimator, X, y, NODES[where](y))
    same(fits, X, method)
    assert fits.over.estimator_.calibrated_classifiers_[0].estimator is estimator.estimator
    assert fits.heard == fits.said


@pytest.mark.parametrize("ensemble", [True, False])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model", [frozen(LinearDiscriminantAnalysis()), *[kind() for kind in MODELS]], ids=str)
def test_folds_are_those_of_the_pooled_rows(model, method, ensemble):
    X, y = data("iris")
    for cv in (None, 3, StratifiedKFold(4)):
        fits = both(CalibratedClassifierCV(model, method=method, cv=cv, ensemble=ensemble), X, y, NODES["three"](y))
        same(fits, X, method)
        assert fits.heard == fits.said


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ensemble", [True, False])
def test_weights_count_for_models_that_take_them_and_for_the_calibration(method, ensemble):
    X, y = data("wine")
    seed = 5
    print(f"{seed=}")
    weight = np.random.default_rng(seed).integers(0, 4, size=len(y)).astype(float)
    for model in (GaussianNB(), LinearDiscriminantAnalysis(), frozen(GaussianNB(), "wine")):
        fits = both(CalibratedClassifierCV(model, method=method, cv=3, ensemble=ensemble), X, y, sample_weight=weight)
        same(fits, X, method)
        assert fits.heard == fits.said
        assert bool(fits.said) is (not isinstance(model, GaussianNB))


def test_weights_that_are_fractions():
    X, y = data("breast_cancer")
    weight = np.random.default_rng(1).random(len(y))
    for method in METHODS:
        fits = both(CalibratedClassifierCV(frozen(GaussianNB(), "breast_cancer"), method=method), X, y, None, weight)
        same(fits, X, method)


@pytest.mark.parametrize("method", METHODS)
def test_single_precision(method):
    """The pooled fit adds in single precision, these rounds in double: as near as single precision tells."""
    X, y = data("breast_cancer")
    X = X.astype(np.float32)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X[::3], y[::3])
    fits = both(CalibratedClassifierCV(FrozenEstimator(model), method=method), X, y)
    (got,), (expected,) = calibrators(fits.over.estimator_), calibrators(fits.pooled)
    for name in attributes(expected):
        a, b = np.asarray(getattr(got, name)), np.asarray(getattr(expected, name))
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5, err_msg=name)


def test_sparse_rows_and_large_scores():
    X, y = data("digits")
    X, y = sp.csr_matrix(X), (y > 4).astype(int)
    model = FrozenEstimator(LogisticRegression(C=1e3, max_iter=60, solver="liblinear").fit(X[::3], y[::3]))
    assert np.abs(model.decision_function(X)).max() > 30  # scaled before the sigmoid is fitted
    for method in METHODS:
        same(both(CalibratedClassifierCV(model, method=method), X, y), X, method)


@pytest.mark.parametrize("method", METHODS)
def test_any_model_that_travels(method):
    X, y = data("wine")
    for model in (SVC(), KNeighborsClassifier(), make_pipeline(StandardScaler(), LogisticRegression())):
        same(both(CalibratedClassifierCV(frozen(model, "wine"), method=method), X, y), X, method)


def test_a_model_that_was_fitted_over_nodes():
    X, y = data("iris")
    node = np.array([f"site {i % 3}" for i in range(len(y))])
    first = Federated(GaussianNB()).fit(X[::3], y[::3], node=node[::3])
    fitted = Federated(CalibratedClassifierCV(FrozenEstimator(first))).fit(X, y, node=node)
    pooled = CalibratedClassifierCV(frozen(GaussianNB())).fit(X, y)
    np.testing.assert_allclose(fitted.predict_proba(X), pooled.predict_proba(X), atol=1e-9)


def test_frames_with_text():
    X, y = data("iris")
    frame = pd.DataFrame(X, columns=list("abcd"))
    frame["colour"] = np.where(X[:, 0] > 5.5, "red", "blue")
    columns = make_column_transformer((OneHotEncoder(), ["colour"]), remainder="passthrough")
    model = make_pipeline(columns, GaussianNB(var_smoothing=1e-3))
    calm = FrozenEstimator(make_pipeline(columns, GaussianNB(var_smoothing=1e-3)).fit(frame[::3], y[::3]))
    for inner in (calm, model):
        fits = both(CalibratedClassifierCV(inner, method="isotonic", cv=3), frame, y)
        same(fits, frame, "isotonic")
        assert fits.over.feature_names_in_.tolist() == [*"abcd", "colour"]


def test_labels_of_any_type():
    X, y = data("iris")
    names = np.array(["setosa", "versicolor", "virginica"])
    for labels in (names[y], names.astype(object)[y]):
        model = FrozenEstimator(GaussianNB().fit(X[::3], labels[::3]))
        for method in METHODS:
            same(both(CalibratedClassifierCV(model, method=method), X, labels), X, method)
    for method in ("sigmoid", "isotonic"):
        model = FrozenEstimator(GaussianNB().fit(X[::3], y[::3] * 2 - 3))
        same(both(CalibratedClassifierCV(model, method=method), X, y * 2 - 3), X, method)


def test_a_temperature_does_not_depend_on_what_classes_are_called():
    """Whole numbers other than 0 to C - 1 are encoded like text, which pooled scikit-learn 1.9 does not do."""
    X, y = data("iris")
    names = np.array(["a", "b", "c"])
    found = []
    for labels in (y, y + 7, names[y]):
        model = FrozenEstimator(GaussianNB().fit(X[::3], labels[::3]))
        fits = both(CalibratedClassifierCV(model, method="temperature"), X, labels)
        found.append(calibrators(fits.over.estimator_)[0].beta_)
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ensemble", [True, False])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("known", [(0, 1), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("rows", [(0, 1, 2), (0, 1), (1,), (0, 2)])
def test_classes_that_the_model_lacks_or_the_rows_lack(rows, known, model, ensemble, method):
    """The same warnings, errors and probabilities as on the pooled rows, odd as some are."""
    X, y = data("iris")
    old, new = np.isin(y, known), np.isin(y, rows)
    if method == "temperature" and set(rows) != set(range(len(rows))):
        pytest.skip("scikit-learn takes these labels for numbers of columns")
    inner = FrozenEstimator(model().fit(X[old], y[old]))
    estimator = CalibratedClassifierCV(inner, method=method, ensemble=ensemble, cv=3)
    X, y = X[new], y[new]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pooled, over = (_outcome(fit, X, y) for fit in (clone(estimator).fit, _fit_over(estimator)))
    assert type(over) is type(pooled)
    if isinstance(pooled, Exception):
        assert str(over) == str(pooled)
        return
    np.testing.assert_allclose(over, pooled, atol=1e-6)
    fits = both(estimator, X, y)
    assert set(fits.heard) == set(fits.said)  # of a fold, scikit-learn says so once per fold


def _fit_over(estimator):
    return lambda X, y: Federated(estimator).fit(X, y, node=np.arange(len(y)) % 3)


def _outcome(fit, X, y):
    """Probabilities, or why there are none."""
    try:
        return fit(X, y).predict_proba(X)
    except (ValueError, IndexError) as error:
        return error


def test_what_scikit_learn_refuses():
    X, y = data("iris")
    few = np.flatnonzero((y < 2) | (np.arange(len(y)) > 147))
    model = GaussianNB()
    for estimator, Xs, ys in (
        (CalibratedClassifierCV(model, cv=3), X[few], y[few]),
        (CalibratedClassifierCV(frozen(model), cv=3), X[few], y[few]),
        (CalibratedClassifierCV(frozen(GaussianNB())), X[::40], y[::40]),
        (CalibratedClassifierCV(model, cv=LeaveOneOut()), X, y),
        (CalibratedClassifierCV(FrozenEstimator(GaussianNB())), X, y),
        (CalibratedClassifierCV(model, cv=[(np.arange(75), np.arange(75, 150))], ensemble=False), X, y),
    ):
        with pytest.raises((ValueError, NotFittedError)) as pooled:
            estimator.fit(Xs, ys)
        with pytest.raises(pooled.type) as over:
            Federated(estimator).fit(Xs, ys, node=np.arange(len(ys)) % 3)
        assert str(over.value) == str(pooled.value)


def test_few_rows_of_a_class_are_warned_of():
    X, y = data("iris")
    few = np.flatnonzero((y < 2) | (np.arange(len(y)) > 147))
    fits = both(CalibratedClassifierCV(frozen(GaussianNB())), X[few], y[few])
    assert fits.heard == fits.said
    assert "least populated class" in fits.said[0][1]
    same(fits, X, "sigmoid")


def test_folds_that_need_the_pooled_rows_are_refused():
    X, y = data("iris")
    estimator = CalibratedClassifierCV(GaussianNB(), cv=StratifiedKFold(3, shuffle=True, random_state=0))
    with pytest.raises(UnsupportedEstimator, match="without the pooled rows"):
        Federated(estimator).fit(X, y, node=np.arange(len(y)) % 3)


def test_models_that_ask_the_nodes_are_refused_unless_they_are_frozen():
    X, y = data("iris")
    with pytest.raises(UnsupportedEstimator, match="FrozenEstimator"):
        Federated(CalibratedClassifierCV(KNeighborsClassifier())).fit(X, y, node=np.arange(len(y)) % 3)


def test_columns_are_the_model_s():
    X, y = data("iris")
    with pytest.raises(SchemaMismatch, match="expecting 4 features"):
        Federated(CalibratedClassifierCV(frozen(GaussianNB()))).fit(X[:, :3], y, node=np.arange(len(y)) % 3)
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = FrozenEstimator(GaussianNB().fit(frame[::3], y[::3]))
    pooled = CalibratedClassifierCV(model).fit(frame, y)
    mixed = Federated(CalibratedClassifierCV(model)).fit(frame[list("dbca")], y, node=np.arange(len(y)) % 3)
    np.testing.assert_allclose(mixed.estimator_.predict_proba(frame), pooled.predict_proba(frame), atol=1e-9)
    with pytest.raises(SchemaMismatch, match="feature names should match"):
        Federated(CalibratedClassifierCV(model)).fit(frame.rename(columns={"a": "x"}), y, node=np.arange(len(y)) % 3)


def test_only_isotonic_regression_tells_scores():
    X, y = data("breast_cancer")
    node = np.arange(len(y)) % 3
    told = {}
    for method in METHODS:
        fitted = Federated(CalibratedClassifierCV(frozen(GaussianNB(), "breast_cancer"), method=method))
        run = fitted.fit(X, y, node=node).run_
        told[method] = {d.op for d in run.disclosures()}
        sizes = {row.bytes_up // len(run.nodes) for row in run if row.op.startswith("calibration")}
        assert max(sizes) < 100
    assert "metrics.scores" in told["isotonic"]
    assert "metrics.scores" not in told["sigmoid"] | told["temperature"]
    assert "every distinct score" in operations["metrics.scores"].discloses
