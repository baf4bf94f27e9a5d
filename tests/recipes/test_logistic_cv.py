"""LogisticRegressionCV over nodes against the fit on the pooled rows: folds, paths, scores and what is made of them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import config_context
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import fbeta_score, get_scorer, make_scorer
from sklearn.model_selection import KFold, StratifiedKFold

from atoll import Federated
from atoll.errors import UnsupportedEstimator
from cases import label_of
from recipes.fitting import NODES, both, close
from recipes.test_logistic import rows

NEWTON = {"solver": "newton-cholesky", "tol": 1e-10}


def search(**settings):
    given = {
        "Cs": [0.05, 1.0], "l1_ratios": (0,), "use_legacy_attributes": False, "scoring": "neg_log_loss", "cv": 3,
        **NEWTON, **settings,
    }  # fmt: skip
    return LogisticRegressionCV(**given)


def same(got, expected, rtol=1e-9, what=""):
    """The same types, keys, shapes, dtypes and nearly the same numbers."""
    assert type(got) is type(expected), what
    if isinstance(expected, dict):
        assert list(got) == list(expected), what
        for key in expected:
            same(got[key], expected[key], rtol, f"{what}[{key}]")
        return
    a, b = np.asarray(got), np.asarray(expected)
    assert (a.shape, a.dtype) == (b.shape, b.dtype), what
    if b.dtype.kind == "f":
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * max(np.abs(b).max(), 1e-3), err_msg=what)
    else:
        assert (a == b).all(), what


def compare(fits, rtol=1e-9, leave=()):
    got, expected = vars(fits.over.estimator_), vars(fits.pooled)
    assert {n for n in expected if n.endswith("_")} == {n for n in got if n.endswith("_")}
    for name in sorted(n for n in expected if n.endswith("_") and n not in leave):
        same(got[name], expected[name], rtol, name)
    assert fits.heard == fits.said


@pytest.mark.parametrize("nodes", NODES)
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("legacy", [True, False])
def test_every_attribute_in_both_layouts(n_classes, legacy, nodes):
    X, y, w = rows(n_classes)
    for settings in ({}, {"refit": False}, {"l1_ratios": np.array([0.0]), "Cs": 4, "cv": None}):
        estimator = search(use_legacy_attributes=legacy, **settings)
        compare(both(estimator, X, y, NODES[nodes](y), w))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("legacy", [True, False, "warn"])
@pytest.mark.parametrize("settings", [{"l1_ratios": "warn"}, {"l1_ratios": None}, {"scoring": "warn"},
                                      {"penalty": "l2"}, {"penalty": "l2", "l1_ratios": None}], ids=str)  # fmt: skip
def test_what_is_deprecated_is_warned_of_and_still_works(settings, legacy, n_classes):
    X, y, _ = rows(n_classes)
    fits = both(search(use_legacy_attributes=legacy, **settings), X, y)
    compare(fits)
    assert fits.heard


SCORES = [
    None, "accuracy", "balanced_accuracy", "neg_log_loss", "neg_brier_score", "f1_macro", "precision_weighted",
    "jaccard_micro", "recall_macro", "matthews_corrcoef", make_scorer(fbeta_score, beta=0.5, average="macro"),
]  # fmt: skip


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scoring", SCORES, ids=str)
def test_scores_of_three_classes(scoring, weighted):
    X, y, w = rows(3)
    compare(both(search(scoring=scoring), X, y, None, w + 0.1 if weighted else None))


@pytest.mark.parametrize("scoring", ["accuracy", "f1", "precision", "neg_log_loss", "neg_brier_score"])
def test_scores_of_two_classes(scoring):
    X, y, w = rows(2)
    compare(both(search(scoring=scoring), X, y, None, w))


@pytest.mark.parametrize("scoring", ["roc_auc", "average_precision", lambda model, X, y: 0.5], ids=label_of)
def test_scores_that_are_not_sums_are_refused_by_name(scoring):
    X, y, _ = rows(2)
    with pytest.raises(UnsupportedEstimator, match="not made of sums"):
        Federated(search(scoring=scoring)).fit(X, y)


@pytest.mark.parametrize("cv", [2, StratifiedKFold(4), KFold(3), [(np.arange(60, 120), np.arange(60))]], ids=str)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_folds(n_classes, cv):
    X, y, w = rows(n_classes)
    compare(both(search(cv=cv), X, y, None, w))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_fold_without_a_class(n_classes):
    X, y, _ = rows(n_classes)
    order = np.argsort(y, kind="stable")
    compare(both(search(cv=KFold(4), scoring="neg_brier_score"), X[order], y[order]), rtol=1e-7)


@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_other_batch_solvers(solver, n_classes):
    X, y, w = rows(n_classes)
    compare(both(search(solver=solver, class_weight="balanced", fit_intercept=False), X, y, None, w), rtol=1e-7)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("refit", [True, False])
def test_shares_of_absolute_values(n_classes, refit):
    X, y, w = rows(n_classes)
    settings = {"solver": "saga", "l1_ratios": np.array([0.2, 1.0]), "Cs": [0.5, 2.0], "tol": 1e-11}
    estimator = search(**settings, max_iter=50_000, refit=refit)
    compare(both(estimator, X, y, None, w), 1e-6, leave=("n_iter_",))


@pytest.mark.parametrize(("l1_ratios", "rtol"), [((0,), 1e-6), ((1,), 1e-5)])
def test_liblinear(l1_ratios, rtol):
    """The refit takes no notice of `intercept_scaling`, here as in scikit-learn."""
    X, y, w = rows(2)
    estimator = search(solver="liblinear", l1_ratios=l1_ratios, intercept_scaling=4.0, tol=1e-12, max_iter=50_000)
    compare(both(estimator, X, y, None, w), rtol, leave=("n_iter_",))


def test_class_weights_are_balanced_over_all_rows_whatever_the_fold():
    X, y, w = rows(3)
    for class_weight in ("balanced", {"ape": 2.0, "bee": 0.5, "cat": 1.0}):
        compare(both(search(class_weight=class_weight), X, y, None, w))


def test_a_class_weight_for_a_class_that_is_not_there():
    X, y, _ = rows(3)
    estimator = search(class_weight={"fox": 1.0})
    with pytest.raises(ValueError, match="must have the class labels as keys"):
        Federated(estimator).fit(X, y)


def test_one_class_overall():
    with pytest.raises(ValueError, match="needs samples of at least 2 classes"):
        Federated(search()).fit(np.zeros((6, 1)), np.zeros(6))


def test_sparse_rows_and_single_precision():
    X, y, w = rows(3)
    compare(both(search(), sp.csr_matrix(X * (np.abs(X) > 0.5)), y, None, w))
    fits = both(search(), X.astype(np.float32), y, None, w)
    close(fits)
    assert fits.over.coef_.dtype == np.float64


@pytest.mark.parametrize("requested", [True, False])
def test_weights_count_in_scores_that_ask_for_them(requested):
    X, y, w = rows(3)
    with config_context(enable_metadata_routing=True):
        scorer = get_scorer("accuracy").set_score_request(sample_weight=requested)
        estimator = search(scoring=scorer).set_fit_request(sample_weight=True)
        over = Federated(estimator).fit(X, y, sample_weight=w)
        pooled = search(scoring=scorer).fit(X, y, sample_weight=w)
        np.testing.assert_allclose(over.scores_, pooled.scores_)
