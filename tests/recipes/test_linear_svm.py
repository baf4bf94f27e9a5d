"""LinearSVC and LinearSVR over nodes: the optimum of liblinear's objective, and liblinear where it arrives there."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC, LinearSVR

from atoll import Federated
from atoll.operations.margins import _mean_weights
from recipes.fitting import NODES, both, close, same_state


def rows(n_classes=2, n=90, d=4, seed=0):
    """Rows whose classes overlap; labels are text."""
    print("seed", seed)
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    score = X @ rng.normal(size=(d, n_classes)) + rng.gumbel(size=(n, n_classes)) * 0.5
    return X, np.array(["ape", "bee", "cat"])[score.argmax(axis=1)], rng.random(n) * (rng.random(n) > 0.2)


def numbers(seed=0, n=90, d=4):
    """Targets about 30, far from zero."""
    print("seed", seed)
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    return X, X @ rng.normal(size=d) * 3 + 30 + rng.normal(size=n), rng.random(n) * (rng.random(n) > 0.2)


TIGHT = {"tol": 1e-10, "max_iter": 100_000, "C": 0.1, "random_state": 0}


@pytest.mark.parametrize("nodes", NODES)
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("loss", ["squared_hinge", "hinge"])
def test_liblinear_arrives_at_the_same_place(loss, n_classes, nodes):
    X, y, w = rows(n_classes)
    for settings, weight in [
        ({}, None),
        ({"fit_intercept": False}, w),
        ({"intercept_scaling": 5.0, "class_weight": "balanced"}, w),
        ({"class_weight": {"ape": 3.0, "bee": 0.3}}, None),
    ]:
        fits = both(LinearSVC(loss=loss, dual=True, **TIGHT, **settings), X, y, NODES[nodes](y), weight)
        close(fits, 1e-8)
        same_state(fits)
        assert (fits.over.predict(X) == fits.pooled.predict(X)).all()
    assert fits.over.run_.notes == [
        "liblinear walks from row to row; the objective that it minimises was minimised by Newton's method, whose "
        "steps n_iter_ counts"
    ]


@pytest.mark.parametrize("nodes", NODES)
@pytest.mark.parametrize("epsilon", [0.0, 0.7])
@pytest.mark.parametrize("loss", ["squared_epsilon_insensitive", "epsilon_insensitive"])
def test_liblinear_arrives_at_the_same_numbers(loss, epsilon, nodes):
    X, y, w = numbers()
    for settings, weight in [({}, None), ({"fit_intercept": False}, w), ({"intercept_scaling": 20.0}, w)]:
        fits = both(LinearSVR(loss=loss, epsilon=epsilon, dual=True, **{**TIGHT, "C": 1.0}, **settings), X, y,
                    NODES[nodes](y), weight)  # fmt: skip
        close(fits, 1e-8)
        same_state(fits)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_one_machine_over_all_classes(n_classes):
    X, y, w = rows(n_classes)
    for settings, weight in [({}, None), ({"fit_intercept": False}, w), ({"class_weight": "balanced", "C": 1.0}, w)]:
        estimator = LinearSVC(multi_class="crammer_singer", **{**TIGHT, **settings})
        fits = both(estimator, X, y, None, weight)
        close(fits, 1e-8)
        same_state(fits)


def objective(model, X, y, w, C, loss, epsilon=0.0, penalty="l2", scaling=1.0):
    """The objective of liblinear by its definition, (m,)."""
    coef, b = np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)
    score = X @ coef.T + b
    if epsilon is None:
        side = np.where(y[:, None] == (model.classes_[1:] if len(model.classes_) == 2 else model.classes_), 1, -1)
        error = np.maximum(1 - side * score, 0)
    else:
        error = np.maximum(np.abs(y[:, None] - score) - epsilon, 0)
    cost = C * (w[:, None] * (error**2 if loss == "squared" else error)).sum(axis=0)
    if penalty == "l1":
        return cost + np.abs(coef).sum(axis=1) + np.abs(b) / scaling
    return cost + (np.square(coef).sum(axis=1) + np.square(b / scaling)) / 2


@pytest.mark.parametrize("C", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_hinge_is_minimised_whatever_c(n_classes, C):
    """No small change lowers the objective, and liblinear ends no lower."""
    X, y, w = rows(n_classes)
    X[:, 0] *= 100
    fits = both(LinearSVC(loss="hinge", C=C, tol=1e-8, max_iter=50_000, random_state=0), X, y, None, w)
    best = objective(fits.over, X, y, w, C, "plain", None)
    assert (best <= objective(fits.pooled, X, y, w, C, "plain", None) * (1 + 1e-12)).all()
    model, rng = fits.over.estimator_, np.random.default_rng(1)
    for size in (1e-2, 1e-4, 1e-6):
        for _ in range(50):
            coef, b = model.coef_.copy(), model.intercept_.copy()
            model.coef_ += rng.normal(size=coef.shape) * size * np.abs(coef).max() / np.abs(X).max(axis=0)
            model.intercept_ += rng.normal(size=b.shape) * size
            assert (objective(model, X, y, w, C, "plain", None) >= best * (1 - 1e-12)).all()
            model.coef_, model.intercept_ = coef, b


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("C", [0.05, 1.0])
def test_absolute_values_in_the_penalty(C, n_classes):
    X, y, w = rows(n_classes)
    estimator = LinearSVC(penalty="l1", dual=False, tol=1e-11, max_iter=100_000, C=C, intercept_scaling=2.0)
    fits = both(estimator, X, y, None, w)
    close(fits, 1e-6)
    same_state(fits)
    best, theirs = (objective(m, X, y, w, C, "squared", None, "l1", 2.0) for m in (fits.over, fits.pooled))
    assert (best <= theirs * (1 + 1e-13)).all()
    assert C > 0.1 or (fits.over.coef_ == 0).any()


@pytest.mark.parametrize("estimator", [LinearSVR(), LinearSVR(epsilon=2.0, C=50.0)], ids=str)
def test_targets_far_from_zero(estimator):
    X, y, w = numbers()
    y = y + 1e6
    over = Federated(estimator).fit(X, y, sample_weight=w)
    pooled = estimator.set_params(tol=1e-12, max_iter=1_000_000).fit(X, y, sample_weight=w)
    best, theirs = (objective(m, X, y, w, estimator.C, "plain", estimator.epsilon)[0] for m in (over, pooled))
    assert best <= theirs * (1 + 1e-12)


def test_targets_that_cost_nothing():
    X, y, _ = numbers()
    over = Federated(LinearSVR(epsilon=1e3)).fit(X, y)
    assert (over.coef_ == 0).all()
    assert over.intercept_ == 0


@pytest.mark.parametrize("estimator", [LinearSVC(tol=1e-9), LinearSVC(loss="hinge"), LinearSVR(epsilon=0.5)], ids=str)
def test_sparse_rows_and_single_precision(estimator):
    X, y, w = rows() if isinstance(estimator, LinearSVC) else numbers()
    X = X * (np.abs(X) > 0.4)
    dense = Federated(estimator).fit(X, y, sample_weight=w)
    sparse = Federated(estimator).fit(sp.csr_matrix(X), y, sample_weight=w)
    np.testing.assert_allclose(sparse.coef_, dense.coef_, rtol=0, atol=1e-9)
    single = Federated(estimator).fit(X.astype(np.float32), y, sample_weight=w)
    assert single.coef_.dtype == np.float64
    np.testing.assert_allclose(single.coef_, dense.coef_, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "estimator",
    [LinearSVC(max_iter=2), LinearSVC(max_iter=2, loss="hinge"), LinearSVR(max_iter=2, tol=1e-12),
     LinearSVC(max_iter=2, multi_class="crammer_singer")],
    ids=str,
)  # fmt: skip
def test_too_few_iterations(estimator):
    X, y, _ = rows(3) if isinstance(estimator, LinearSVC) else numbers()
    fits = both(estimator, X, y)
    assert fits.heard == [(ConvergenceWarning, "Liblinear failed to converge, increase the number of iterations.")]
    assert fits.over.n_iter_ == 2


REFUSED = [
    LinearSVC(penalty="l1", loss="hinge", dual=True), LinearSVC(loss="hinge", dual=False),
    LinearSVC(penalty="l1", dual=True), LinearSVR(loss="epsilon_insensitive", dual=False),
]  # fmt: skip


@pytest.mark.parametrize("estimator", REFUSED, ids=str)
def test_what_liblinear_refuses_is_refused_in_its_words(estimator):
    X, y, _ = rows() if isinstance(estimator, LinearSVC) else numbers()
    with pytest.raises(ValueError) as expected:  # noqa: PT011
        estimator.fit(X, y)
    with pytest.raises(ValueError) as got:  # noqa: PT011
        Federated(estimator).fit(X, y)
    assert str(got.value) == str(expected.value)


@pytest.mark.parametrize("multi_class", ["ovr", "crammer_singer"])
def test_one_class_overall(multi_class):
    X = np.random.default_rng(0).normal(size=(12, 2))
    estimator = LinearSVC(multi_class=multi_class)
    with pytest.raises(ValueError) as expected:  # noqa: PT011
        estimator.fit(X, np.zeros(12))
    with pytest.raises(ValueError) as got:  # noqa: PT011
        Federated(estimator).fit(X, np.zeros(12))
    assert str(got.value) == str(expected.value)


@pytest.mark.parametrize("loss", ["squared_hinge", "hinge"])
def test_bytes_that_leave_a_node_depend_on_columns_and_classes_alone(loss):
    left = set()
    for n in (60, 240):
        X, y, _ = rows(3, n=n)
        over = Federated(LinearSVC(loss=loss)).fit(X, y, node=np.arange(n) % 3)
        left.add(max(row.bytes_up // 3 for row in over.run_ if row.op.startswith("margins")))
    assert left == {8 * 3 * (1 + 5 + 15 + (loss == "hinge"))}


def test_the_nearest_weights_of_a_mean():
    """Against the conditions of optimality: what is inside lies on one level, what is not lies below it."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(200, 4)) * rng.choice([0.1, 1, 10], size=(200, 1))
    got = _mean_weights(values)
    np.testing.assert_allclose(got.sum(axis=1), 1)
    assert (got >= 0).all()
    for value, weight in zip(values, got, strict=True):
        level = (value - weight)[weight > 0]
        assert np.ptp(level) < 1e-12
        assert (value[weight == 0] <= level.max() + 1e-12).all()
