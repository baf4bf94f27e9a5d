"""Linear and ridge regression, and the ridge classifier: every parameter and edge against the pooled fit."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.linalg import LinAlgWarning
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LinearRegression, Ridge, RidgeClassifier

from atoll import Distributed, Federated, Federation
from atoll.errors import InvalidData, NodeValueError
from atoll.recipes import supported
from recipes.fitting import NODES, both
from recipes.linear_cases import rows, same, some_weights, thinned

SOLVERS = ["auto", "svd", "cholesky", "lsqr", "sparse_cg"]
METHODS = ["exact", "sums"]
ROUNDED = 1e-5  # pooled scikit-learn is as far from itself when rows are permuted: these solvers amplify rounding
REGRESSORS = [
    LinearRegression(),
    LinearRegression(fit_intercept=False),
    LinearRegression(positive=True),
    *[Ridge(alpha=0.7, solver=solver) for solver in SOLVERS],
    Ridge(alpha=0.7, fit_intercept=False),
    Ridge(positive=True, tol=1e-8),
]


def tolerance(estimator):
    return ROUNDED if getattr(estimator, "solver", None) in ("lsqr", "sparse_cg") else 1e-9


def test_every_one_offers_sums_too():
    for kind in (LinearRegression, Ridge, RidgeClassifier):
        assert list(supported()[kind]) == METHODS


@pytest.mark.parametrize("where", NODES)
@pytest.mark.parametrize("estimator", REGRESSORS, ids=repr)
def test_one_target_over_all_kinds_of_nodes(estimator, where):
    X, y = rows()
    same(both(estimator, X, y, NODES[where](y)), rtol=tolerance(estimator), leave=("n_iter_",))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("estimator", REGRESSORS, ids=repr)
def test_weights_several_targets_and_both_methods(estimator, method):
    X, Y = rows(targets=3)
    X, w = X[:, :-1], some_weights(len(Y))  # of a constant column, non-negative least squares takes the rounding error
    for y, weight in ((Y, None), (Y[:, 0], w), (Y, w), (Y[:, :1], None)):
        fits = both(estimator, X, y, sample_weight=weight, method=method)
        same(fits, rtol=tolerance(estimator), leave=("n_iter_",))


def test_a_penalty_for_each_target():
    X, Y = rows(targets=2)
    same(both(Ridge(alpha=[0.1, 30.0]), X, Y))
    fits = [lambda: both(Ridge(alpha=[0.1, 30.0, 1.0]), X, Y), lambda: Ridge(alpha=[0.1, 30.0, 1.0]).fit(X, Y)]
    for fit in fits:
        with pytest.raises(ValueError, match="Number of targets and number of penalties do not correspond: 3 != 2"):
            fit()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "estimator",
    [
        LinearRegression(tol=1e-10), LinearRegression(tol=1e-10, fit_intercept=False), Ridge(tol=1e-10),
        Ridge(solver="lsqr", tol=1e-12), Ridge(solver="cholesky", fit_intercept=False), Ridge(positive=True, tol=1e-9),
    ],
    ids=repr,
)  # fmt: skip
def test_sparse_rows(estimator, weighted, method):
    X, y = rows()
    w = some_weights(len(y)) if weighted else None
    same(both(estimator, thinned(X), y, sample_weight=w, method=method), rtol=ROUNDED, leave=("n_iter_",))


@pytest.mark.parametrize("estimator", [LinearRegression(), Ridge(), Ridge(solver="lsqr")], ids=repr)
def test_single_precision_gives_single_precision(estimator):
    X, y = rows(shift=1.0, ratio=1.0)
    same(both(estimator, X.astype(np.float32), y.astype(np.float32)), rtol=1e-4)
    same(both(estimator, X, y.astype(np.float32)), rtol=tolerance(estimator))


@pytest.mark.parametrize("estimator", [LinearRegression(), Ridge(), Ridge(solver="svd", fit_intercept=False)], ids=repr)
@pytest.mark.parametrize("n", [1, 2, 5, 7, 8, 9])
def test_fewer_rows_than_columns(estimator, n):
    X, y = rows(d=7)
    same(both(estimator, X[:n], y[:n], np.arange(n) % min(n, 3)), rtol=1e-7)


def test_means_far_from_zero_cost_no_digits():
    X, y = rows(n=400)
    far = X + 1e8
    exact = LinearRegression().fit(far - 1e8, y)
    fits = both(LinearRegression(), far, y, np.arange(400) // 100)
    same(fits, rtol=1e-7)
    np.testing.assert_allclose(fits.over.coef_, exact.coef_, rtol=1e-9)


def test_columns_that_depend_on_each_other():
    X, y = rows()
    X = np.column_stack([X, X[:, 0] + X[:, 1], X[:, 2]])
    same(both(LinearRegression(), X, y))
    same(both(Ridge(1e-3), X, y))


def test_a_singular_problem_warns_as_scikit_learn_does():
    X = np.ones((8, 3)) * np.arange(8)[:, None]
    y = np.arange(8.0)
    fits = both(Ridge(alpha=0, fit_intercept=False), X, y)
    assert {kind for kind, _ in fits.heard} <= {LinAlgWarning}
    np.testing.assert_allclose(X @ fits.over.coef_, y, atol=1e-9)
    wide = np.vstack([np.eye(2, 5), np.eye(2, 5)])
    same(both(Ridge(alpha=0, fit_intercept=False), wide, np.array([1.0, 2.0, 1.0, 2.0])))


@pytest.mark.parametrize("solver", ["sag", "saga"])
def test_solvers_that_pass_over_rows_are_replaced_and_the_record_says_so(solver):
    X, y = rows(shift=0.0)
    X = X / X.std(axis=0).clip(1e-3)
    fits = both(Ridge(solver=solver, tol=1e-12, max_iter=100_000, random_state=0), X, y)
    same(fits, rtol=1e-8, leave=("solver_", "n_iter_"))
    assert fits.over.solver_ == "cholesky"
    assert any(solver in note for note in fits.over.run_.notes)


def test_refusals_are_in_scikit_learns_words():
    X, y = rows()
    sites = Federation.from_shards([(thinned(X), y)] * 2)
    with pytest.raises(ValueError, match="'lbfgs' solver can be used only when positive=True"):
        Distributed(Ridge(solver="lbfgs")).fit(X, y)
    with pytest.raises(ValueError, match="solver='svd' does not support positive fitting"):
        Distributed(Ridge(solver="svd", positive=True)).fit(X, y)
    with pytest.raises(ValueError, match="solver='saga' does not support fitting the intercept on sparse data"):
        Federated(Ridge(solver="saga")).fit(sites)
    with pytest.warns(UserWarning, match='"sag" solver requires many iterations to fit an intercept'):
        Federated(Ridge(solver="sag", tol=1e-3)).fit(sites)


def test_weights_that_are_all_zero():
    X, y = rows()
    nothing = Federation.simulate(X, y, n_nodes=3, sample_weight=np.zeros(len(y)))
    with pytest.raises(ValueError, match="Sample weights must contain at least one non-zero number"):
        Federated(Ridge()).fit(nothing)
    some = np.where(np.arange(len(y)) % 3 == 0, 0.0, 1.0)
    same(both(LinearRegression(), X, y, sample_weight=some))  # zero on a whole node


def test_numbers_too_large_to_be_squared_are_refused_by_the_node():
    X, y = np.array([[1.0, 1.0], [-1.0, 2.0], [0.3, 1.0], [0.2, 1.0]]), np.arange(4.0)
    same(both(LinearRegression(), X * 1e200, y, np.zeros(4, int)))
    with pytest.raises(NodeValueError, match="squares of these numbers are not finite"):
        Distributed(LinearRegression(), n_nodes=1).fit(X * 8e307, y)


@pytest.mark.parametrize("where", NODES)
@pytest.mark.parametrize("weight", [None, "balanced", {0: 3.0, 1: 0.5}], ids=str)
@pytest.mark.parametrize("load", [load_iris, load_digits])
def test_classifier(load, weight, where):
    X, y = load(return_X_y=True)
    X, y = X[::4], y[::4]
    fits = both(RidgeClassifier(alpha=0.5, class_weight=weight), X, y, NODES[where](y))
    same(fits, rtol=1e-8)
    assert (fits.over.predict(X) == fits.pooled.predict(X)).all()
    assert str(fits.over._model._label_binarizer) == str(fits.pooled._label_binarizer)


def test_classifier_with_two_classes_one_class_text_and_weights():
    X, y = rows()
    w = some_weights(len(y))
    names = np.where(y > y.mean(), "high", "low")
    for labels in (names, names.astype(object), np.full(len(y), "low")):
        fits = both(
            RidgeClassifier(class_weight={"high": 2.0, "low": 1.0} if len(set(labels)) > 1 else None), X, labels
        )
        same(fits)
        assert fits.over.predict(X).tolist() == fits.pooled.predict(X).tolist()
    same(both(RidgeClassifier(class_weight="balanced"), X, names, sample_weight=w))
    same(both(RidgeClassifier(), thinned(X), names), rtol=1e-6)


def test_classifier_with_several_labels_a_row():
    X, Y = rows(targets=3)
    labels = np.greater(Y, Y.mean(axis=0)).astype(int)
    fits = both(RidgeClassifier(), X, labels)
    same(fits)
    assert (fits.over.predict(X) == fits.pooled.predict(X)).all()
    with pytest.raises(InvalidData, match="class weights need one label per row"):
        both(RidgeClassifier(class_weight="balanced"), X, labels)


def test_targets_that_are_integers_or_truth_values():
    X, y = rows()
    for target in (y.astype(int), y > 0):
        same(both(LinearRegression(), X.astype(int), target))


def test_one_round_after_meeting_and_two_by_sums():
    X, y = rows()
    assert [r.op for r in both(Ridge(), X, y).over.run_] == ["describe.schema", "linear.triangle"]
    by_sums = both(Ridge(), X, y, method="sums").over.run_
    assert [r.op for r in by_sums] == ["describe.schema", "linear.sums", "linear.gram"]


def test_bytes_do_not_grow_with_rows():
    sizes = []
    for n in (60, 6000):
        X, y = rows(n=n)
        sizes.append(both(Ridge(), X, y).over.run_.rows[-1].bytes_up)
    assert sizes[0] == sizes[1]


def test_data_frames_give_their_names():
    pd = pytest.importorskip("pandas")
    X, y = rows()
    frame = pd.DataFrame(X, columns=[f"c{i}" for i in range(X.shape[1])])
    model = Distributed(Ridge(), n_nodes=3).fit(frame, y)
    assert model.estimator_.feature_names_in_.tolist() == frame.columns.tolist()
    np.testing.assert_allclose(model.predict(frame), Ridge().fit(frame, y).predict(frame), rtol=1e-9)
    assert sp.issparse(thinned(X))
