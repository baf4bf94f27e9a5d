"""LogisticRegression over nodes against the fit on the pooled rows: every solver, penalty, parameter and edge."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.special import expit, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from atoll import Federated, Federation
from recipes.fitting import NODES, both, close, same_state

BATCH = ["lbfgs", "newton-cg", "newton-cholesky"]
WALKING = ["liblinear", "sag", "saga"]


def rows(n_classes=2, n=120, d=5, seed=0):
    """Rows whose classes overlap, one column constant; labels are text."""
    print("seed", seed)
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    X[:, -1] = 0.5
    score = X @ rng.normal(size=(d, n_classes)) + rng.gumbel(size=(n, n_classes))
    return X, np.array(["ape", "bee", "cat", "doe"])[score.argmax(axis=1)], rng.random(n) * (rng.random(n) > 0.2)


@pytest.mark.parametrize("nodes", NODES)
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("solver", BATCH)
def test_scikit_learns_own_solvers_take_the_same_steps(solver, n_classes, nodes):
    X, y, w = rows(n_classes)
    node = NODES[nodes](y)
    for settings, weight in [
        ({}, None),
        ({"tol": 1e-10, "max_iter": 1000}, w),
        ({"tol": 1e-10, "fit_intercept": False, "class_weight": "balanced"}, w),
        ({"tol": 1e-10, "class_weight": {"ape": 3.0, "bee": 0.5}, "C": 20.0, "max_iter": 1000}, None),
    ]:
        fits = both(LogisticRegression(solver=solver, **settings), X, y, node, weight)
        close(fits)
        same_state(fits)
        assert fits.over.n_iter_ == fits.pooled.n_iter_
        assert fits.heard == fits.said == []
        assert (fits.over.predict(X) == fits.pooled.predict(X)).all()
        assert fits.over.run_.notes == []


@pytest.mark.parametrize("solver", BATCH)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_no_penalty(solver, n_classes):
    X, y, w = rows(n_classes)
    X = X[:, :-1]
    fits = both(LogisticRegression(solver=solver, C=np.inf, tol=1e-8, max_iter=1000), X, y, None, w)
    close(fits, 1e-8)
    assert fits.over.n_iter_ == fits.pooled.n_iter_
    assert fits.heard == fits.said


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("solver", BATCH)
@pytest.mark.parametrize("max_iter", [0, 1, 3])
def test_too_few_iterations_end_where_scikit_learns_do_with_its_warning(solver, n_classes, max_iter):
    X, y, w = rows(n_classes)
    fits = both(LogisticRegression(solver=solver, max_iter=max_iter, tol=1e-12), X, y, None, w)
    close(fits, atol=1e-15)
    assert fits.over.n_iter_ == fits.pooled.n_iter_
    assert [c for c, _ in fits.heard] == [ConvergenceWarning]
    assert [t.split("\n")[0].split("loss =")[0] for _, t in fits.heard] == [
        t.split("\n")[0].split("loss =")[0] for _, t in fits.said
    ]


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("solver", ["sag", "saga"])
def test_sag_and_saga_with_squares_minimise_what_newton_cholesky_does(solver, n_classes, fit_intercept):
    X, y, w = rows(n_classes)
    settings = {"C": 0.7, "fit_intercept": fit_intercept, "class_weight": "balanced"}
    over = Federated(LogisticRegression(solver=solver, **settings)).fit(X, y, sample_weight=w)
    optimum = LogisticRegression(solver="newton-cholesky", tol=1e-12, **settings).fit(X, y, sample_weight=w)
    np.testing.assert_allclose(over.coef_, optimum.coef_, rtol=0, atol=1e-10)
    np.testing.assert_allclose(over.intercept_, optimum.intercept_, rtol=0, atol=1e-10)
    assert over.run_.notes == [
        f"{solver} walks from row to row; the objective that it minimises was minimised by Newton's method, whose "
        "steps n_iter_ counts"
    ]
    assert over.n_iter_ < 15


def steepest(over, X, y, w, C, l1_ratio, free_intercept=True, scaling=1.0):
    """The largest entry of the subgradient nearest to zero, by the definition of the objective."""
    classes, coef, b = over.classes_, np.atleast_2d(over.coef_), np.atleast_1d(over.intercept_)
    if len(classes) == 2:
        slope = (w * (expit(X @ coef[0] + b[0]) - (y == classes[1])))[:, None]
    else:
        slope = w[:, None] * (softmax(X @ coef.T + b, axis=1) - (y[:, None] == classes))
    gradient = C * slope.T @ X + (1 - l1_ratio) * coef
    ends = C * slope.sum(axis=0)
    parts = [np.where(coef != 0, np.abs(gradient + l1_ratio * np.sign(coef)), np.abs(gradient) - l1_ratio)]
    if free_intercept:
        parts.append(np.abs(ends))
    else:
        ends = ends + (1 - l1_ratio) * b / scaling**2
        flat = np.abs(ends) - l1_ratio / scaling
        parts.append(np.where(b != 0, np.abs(ends + l1_ratio / scaling * np.sign(b)), flat))
    return max(part.max() for part in parts)


@pytest.mark.parametrize("nodes", NODES)
@pytest.mark.parametrize("C", [0.05, 1.0, 1e4])
@pytest.mark.parametrize("l1_ratio", [0.3, 1.0])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_absolute_values_in_the_penalty_end_at_the_optimum(n_classes, l1_ratio, C, nodes):
    X, y, w = rows(n_classes)
    X[:, 1] *= 30.0
    estimator = LogisticRegression(solver="saga", l1_ratio=l1_ratio, C=C)
    over = Federated(estimator).fit(X, y, node=NODES[nodes](y), sample_weight=w)
    assert steepest(over, X, y, w, C, l1_ratio) < 1e-9 * max(1.0, C)
    if C == 0.05:
        assert (over.coef_ == 0).any()
    start = estimator.set_params(tol=1e-10, max_iter=100_000)
    if C < 1:
        pooled = start.fit(X / np.array([1, 30.0, 1, 1, 1]), y, sample_weight=w)
        assert pooled.coef_.shape == over.coef_.shape


@pytest.mark.parametrize("l1_ratio", [0.4, 1.0])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_saga_arrives_at_the_same_place(n_classes, l1_ratio):
    X, y, w = rows(n_classes)
    estimator = LogisticRegression(solver="saga", l1_ratio=l1_ratio, C=0.3, tol=1e-13, max_iter=100_000)
    fits = both(estimator, X, y, None, w)
    close(fits, 1e-8)
    same_state(fits)
    assert ((fits.over.coef_ == 0) == (fits.pooled.coef_ == 0)).all()


@pytest.mark.parametrize("scaling", [1.0, 0.2, 7.5])
@pytest.mark.parametrize("settings", [{"dual": True}, {"fit_intercept": False, "dual": True}, {"l1_ratio": 1}])
def test_liblinear_penalises_the_intercept_by_its_scaling(settings, scaling):
    X, y, w = rows()
    estimator = LogisticRegression(
        solver="liblinear", C=0.4, intercept_scaling=scaling, tol=1e-11, max_iter=10_000, class_weight="balanced",
        random_state=0, **settings,
    )  # fmt: skip
    fits = both(estimator, X, y, None, w)
    close(fits, 1e-6 if "l1_ratio" in settings else 1e-9)
    same_state(fits)
    assert fits.over.coef_.dtype == np.float64
    balance = w.sum() / (2 * np.array([w[y == c].sum() for c in fits.over.classes_]))
    weight = w * balance[np.searchsorted(fits.over.classes_, y)]
    if estimator.fit_intercept:
        ratio = settings.get("l1_ratio", 0)
        assert steepest(fits.over, X, y, weight, 0.4, ratio, free_intercept=False, scaling=scaling) < 1e-10


def test_without_penalty_saga_does_not_move_all_classes_alike():
    X, y, w = rows(3)
    X = X[:, :-1]
    over = Federated(LogisticRegression(solver="saga", C=np.inf)).fit(X, y, sample_weight=w)
    optimum = LogisticRegression(solver="newton-cholesky", C=np.inf, tol=1e-12).fit(X, y, sample_weight=w)
    np.testing.assert_allclose(over.coef_, optimum.coef_, atol=1e-8)
    np.testing.assert_allclose(over.coef_.sum(axis=0), 0, atol=1e-9)


@pytest.mark.parametrize("solver", WALKING)
def test_a_newton_that_is_stopped_says_what_the_solver_would(solver):
    X, y, _ = rows()
    fits = both(LogisticRegression(solver=solver, max_iter=1, tol=1e-12), X, y)
    assert fits.heard == fits.said
    assert fits.over.n_iter_ == 1


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("solver", [*BATCH, "sag", "saga"])
def test_newtons_method_by_name_takes_few_rounds(solver, n_classes):
    X, y, w = rows(n_classes)
    fits = both(LogisticRegression(solver=solver, tol=1e-12, max_iter=100), X, y, None, w, method="newton")
    optimum = LogisticRegression(solver="newton-cholesky", tol=1e-12).fit(X, y, sample_weight=w)
    np.testing.assert_allclose(fits.over.coef_, optimum.coef_, atol=1e-12)
    assert fits.over.run_.rounds <= optimum.n_iter_[0] + 4
    assert fits.over.n_iter_ == optimum.n_iter_


@pytest.mark.parametrize(("solver", "l1_ratio"), [("liblinear", 0), ("liblinear", 1), ("saga", 1), ("saga", 0.5)])
def test_newtons_method_by_name_keeps_to_the_objective_of_the_solver(solver, l1_ratio):
    X, y, w = rows()
    estimator = LogisticRegression(solver=solver, l1_ratio=l1_ratio)
    one = Federated(estimator).fit(X, y, sample_weight=w)
    other = Federated(estimator, method="newton").fit(X, y, sample_weight=w)
    assert (one.coef_ == other.coef_).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_singular_hessian_is_met_as_newton_cholesky_meets_it(n_classes):
    X, y, _ = rows(n_classes)
    X = np.concatenate([X, X[:, :2]], axis=1)
    fits = both(LogisticRegression(solver="newton-cholesky", C=np.inf, tol=1e-6), X, y)
    assert {c for c, _ in fits.heard} == {c for c, _ in fits.said}
    assert any("resort to lbfgs" in t for _, t in fits.heard)
    np.testing.assert_allclose(fits.over.predict_proba(X), fits.pooled.predict_proba(X), atol=1e-4)


@pytest.mark.parametrize("solver", [*BATCH, "liblinear", "saga"])
def test_perfect_separation(solver):
    X = np.linspace(-1, 1, 40)[:, None] + np.where(np.arange(40) < 20, -3.0, 3.0)[:, None]
    y = np.arange(40) >= 20
    fits = both(LogisticRegression(solver=solver, tol=1e-9, max_iter=20_000, random_state=0), X, y)
    close(fits, 1e-6, atol=1e-3 if solver == "saga" else 1e-7)
    assert (fits.over.predict(X) == y).all()


@pytest.mark.parametrize("solver", BATCH)
def test_perfect_separation_without_a_penalty_ends_as_scikit_learn_does(solver):
    X = np.linspace(-1, 1, 40)[:, None] + np.where(np.arange(40) < 20, -3.0, 3.0)[:, None]
    y = np.arange(40) >= 20
    fits = both(LogisticRegression(solver=solver, C=np.inf), X, y)
    assert [c for c, _ in fits.heard] == [c for c, _ in fits.said]
    close(fits, 1e-6, atol=1e-9)
    assert fits.over.n_iter_ == fits.pooled.n_iter_


@pytest.mark.parametrize(("shift", "atol"), [(1e3, 1e-11), (1e4, 1e-5)])
def test_columns_far_from_zero(shift, atol):
    """From 1e4 on scikit-learn falls back to L-BFGS, which then ends elsewhere for the same rows in another order."""
    X, y, w = rows()
    X = X + shift
    fits = both(LogisticRegression(solver="newton-cholesky", tol=1e-9, max_iter=1000), X, y, None, w)
    np.testing.assert_allclose(fits.over.predict_proba(X), fits.pooled.predict_proba(X), atol=atol)
    assert [(c, t.split("rcond")[0]) for c, t in fits.heard] == [(c, t.split("rcond")[0]) for c, t in fits.said]


@pytest.mark.parametrize("solver", [*BATCH, *WALKING])
def test_sparse_rows_give_what_dense_rows_give(solver):
    X, y, w = rows()
    X[np.abs(X) < 0.6] = 0
    estimator = LogisticRegression(solver=solver, tol=1e-10, max_iter=1000)
    sparse = both(estimator, sp.csr_matrix(X), y, None, w)
    dense = Federated(estimator).fit(X, y, node=np.arange(len(X)) % 3, sample_weight=w)
    np.testing.assert_allclose(sparse.over.coef_, dense.coef_, rtol=1e-9)
    if solver in BATCH:
        close(sparse)


@pytest.mark.parametrize("solver", [*BATCH, *WALKING])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_single_precision_rows_give_single_precision_coefficients(solver, n_classes):
    if solver == "liblinear" and n_classes > 2:
        pytest.skip("takes two classes")
    X, y, w = rows(n_classes)
    fits = both(LogisticRegression(solver=solver, max_iter=1000), X.astype(np.float32), y, None, w)
    close(fits, 2e-2)
    same_state(fits)
    double = Federated(LogisticRegression(solver=solver, max_iter=1000)).fit(X.astype(np.float32).astype(float), y,
                                                                             sample_weight=w)  # fmt: skip
    np.testing.assert_allclose(fits.over.coef_, double.coef_, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("solver", BATCH)
def test_a_step_that_goes_too_far_for_a_double_is_taken_back(solver):
    X, y, _ = rows()
    fits = both(LogisticRegression(solver=solver, C=1e8, tol=1e-6, max_iter=300), X[:, :-1] * 1e150, y)
    np.testing.assert_allclose(fits.over.coef_, fits.pooled.coef_, rtol=1e-2)


PARAMETERS = [
    {"penalty": "l2"},
    {"penalty": "l1", "solver": "liblinear", "l1_ratio": 1},
    {"penalty": "elasticnet", "solver": "saga", "l1_ratio": 0.5},
    {"penalty": None},
    {"penalty": None, "C": 2.0},
    {"penalty": "l2", "l1_ratio": 0.5},
    {"l1_ratio": None},
    {"n_jobs": 2},
    {"penalty": "l1", "solver": "saga"},
]


@pytest.mark.parametrize("settings", PARAMETERS, ids=str)
def test_what_scikit_learn_warns_of_is_warned_of(settings):
    X, y, _ = rows()
    fits = both(LogisticRegression(tol=1e-6, max_iter=50_000).set_params(**settings), X, y)
    assert fits.heard == fits.said
    assert fits.heard
    close(fits, 1e-3)


@pytest.mark.parametrize(
    "settings",
    [
        {"solver": "lbfgs", "l1_ratio": 1},
        {"solver": "newton-cg", "l1_ratio": 0.5},
        {"solver": "lbfgs", "dual": True},
        {"solver": "liblinear", "l1_ratio": 0.5},
        {"solver": "liblinear", "C": np.inf},
        {"penalty": "elasticnet", "solver": "saga", "l1_ratio": None},
        {"class_weight": {"ape": 1.0, "fox": 2.0, "gnu": 1.0}},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_what_scikit_learn_refuses_is_refused_in_its_words(settings):
    X, y, _ = rows()
    with pytest.raises(ValueError) as expected:  # noqa: PT011
        LogisticRegression(**settings).fit(X, y)
    with pytest.raises(ValueError) as got:  # noqa: PT011
        Federated(LogisticRegression(**settings)).fit(X, y)
    assert str(got.value) == str(expected.value)


@pytest.mark.parametrize("solver", [*BATCH, *WALKING])
def test_one_class_overall(solver):
    X = np.random.default_rng(0).normal(size=(12, 2))
    y = np.zeros(12, dtype=int)
    with pytest.raises(ValueError) as expected:  # noqa: PT011
        LogisticRegression(solver=solver).fit(X, y)
    with pytest.raises(ValueError) as got:  # noqa: PT011
        Federated(LogisticRegression(solver=solver)).fit(X, y, node=np.arange(12) % 3)
    assert str(got.value) == str(expected.value)


def test_liblinear_refuses_a_third_class_and_values_that_freeze_it():
    X, y, _ = rows(3)
    with pytest.raises(ValueError, match="does not support multiclass classification"):
        Federated(LogisticRegression(solver="liblinear")).fit(X, y)
    X, y, _ = rows()
    X[0, 0] = 1e31
    with pytest.raises(ValueError, match="frozen fit"):
        Federated(LogisticRegression(solver="liblinear")).fit(X, y)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("solver", [*BATCH, "saga"])
def test_a_warm_start_goes_on_from_the_last_fit(solver, n_classes):
    X, y, _ = rows(n_classes)
    over = Federated(LogisticRegression(solver=solver, warm_start=True, tol=1e-8))
    pooled = LogisticRegression(solver=solver, warm_start=True, tol=1e-8, max_iter=10_000)
    for _ in range(2):
        over.fit(X, y, node=np.arange(len(y)) % 3)
        pooled.fit(X, y)
    if solver in BATCH:
        assert over.n_iter_ == pooled.n_iter_
    assert over.n_iter_ <= 1
    np.testing.assert_allclose(over.coef_, pooled.coef_, rtol=1e-5, atol=1e-6)


def test_a_warm_start_of_another_shape_is_refused_as_scikit_learn_does():
    X, y, _ = rows(2)
    over, pooled = Federated(LogisticRegression(warm_start=True)), LogisticRegression(warm_start=True)
    over.fit(X, y)
    pooled.fit(X, y)
    with pytest.raises(ValueError) as expected:  # noqa: PT011
        pooled.fit(X[:, :3], y)
    with pytest.raises(ValueError) as got:  # noqa: PT011
        over.fit(X[:, :3], y)
    assert str(got.value) == str(expected.value)


def test_bytes_that_leave_a_node_depend_on_columns_and_classes_alone():
    left = {}
    for n in (60, 240):
        X, y, _ = rows(3, n=n)
        over = Federated(LogisticRegression(solver="newton-cholesky")).fit(X, y, node=np.arange(n) % 3)
        left[n] = {r.op: r.bytes_up // 3 for r in over.run_}
    assert left[60]["losses.curvature"] == left[240]["losses.curvature"] == 8 * (1 + 18 + 18 * 19 // 2 + 1)
    X, y, _ = rows(3)
    over = Federated(LogisticRegression()).fit(X, y, node=np.arange(len(y)) % 3)
    assert {r.bytes_up // 3 for r in over.run_ if r.op == "losses.gradient"} == {8 * (1 + 18)}


def test_a_class_on_one_node_alone_and_a_node_without_it():
    X, y, _ = rows(3)
    sites = Federation.from_shards([(X[y == c], y[y == c]) for c in np.unique(y)])
    order = np.concatenate([np.flatnonzero(y == c) for c in np.unique(y)])
    over = Federated(LogisticRegression(solver="newton-cholesky", tol=1e-10)).fit(sites)
    pooled = LogisticRegression(solver="newton-cholesky", tol=1e-10).fit(X[order], y[order])
    np.testing.assert_allclose(over.coef_, pooled.coef_, rtol=0, atol=1e-12)
