"""`atoll.verify`: what is the same, what differs, and how it is said."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KernelDensity, KNeighborsClassifier, NearestCentroid, NearestNeighbors
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

import atoll
from atoll import verify
from atoll.errors import UnsupportedEstimator
from atoll.recipes.base import _recipes, recipe
from atoll.verification import Verification

X, Y = load_iris(return_X_y=True)


def named(found: Verification) -> dict[str, object]:
    return {one.name: one for one in found.differences}


@pytest.mark.parametrize("engine", ["inprocess", "processes"])
@pytest.mark.parametrize("partition", ["iid", "label", "dirichlet(alpha=0.3)"])
def test_a_model_that_is_the_same(partition, engine):
    found = verify(GaussianNB(), X, Y, n_nodes=5, partition=partition, engine=engine, n_workers=2, topology="tree")
    assert found.ok
    assert found
    assert found.failed == ()
    assert {"theta_", "var_", "classes_", "predict(X)", "predict_proba(X)"} <= set(named(found))
    assert named(found)["class_count_"].differ == 0
    assert found.largest < 1e-9
    assert found.where == f"5 nodes ({partition}, {engine})"
    assert found.run.rounds > 0
    assert found.pooled.score(X, Y) == found.over.score(X, Y)


@pytest.mark.parametrize("estimator", [KNeighborsClassifier(3), NearestCentroid(), NearestNeighbors(), KernelDensity()])
def test_the_neighbours_family(estimator):
    classifies = hasattr(estimator, "predict")
    found = verify(estimator, X, Y if classifies else None, partition="label" if classifies else "quantity")
    assert found.ok, str(found)
    assert any(one.name.endswith("(X)") for one in found.differences)


def test_weights_and_frames_are_given_to_both():
    rows, target = load_diabetes(as_frame=True, return_X_y=True)
    weight = np.random.default_rng(0).random(len(target))
    found = verify(Ridge(), rows, target, sample_weight=weight, n_nodes=3)
    assert found.ok, str(found)
    assert named(found)["feature_names_in_"].ok
    assert not np.allclose(found.pooled.coef_, Ridge().fit(rows, target).coef_)


def test_a_way_that_is_not_exact_is_found_out():
    found = verify(DecisionTreeClassifier(), X, Y, method="vote", partition="label", n_nodes=3)
    assert not found.ok
    assert found.failed
    assert "differs" in str(found)
    assert "not as on the pooled rows" in found.headline()


class Faulty(Ridge):
    """An estimator whose recipe is wrong in every way that is looked for."""


def _fit_faulty(estimator, rounds):
    estimator.coef_ = np.full(10, 1.0, dtype=np.float32)
    estimator.intercept_ = np.float64(3.0)
    estimator.more_ = 1
    import warnings

    warnings.warn("this is not well", UserWarning, stacklevel=1)
    return estimator


@pytest.fixture
def faulty():
    recipe(Faulty)(_fit_faulty)
    yield Faulty()
    del _recipes[Faulty]


def test_every_kind_of_fault_is_named(faulty):
    rows, target = load_diabetes(return_X_y=True)
    found = verify(faulty, rows, target)
    assert not found.ok
    one = named(found)
    assert one["coef_"].why == "float32 instead of float64"
    assert one["intercept_"].absolute == pytest.approx(found.pooled.intercept_ - 3)
    assert one["more_"].why == "only over nodes"
    assert one["solver_"].why == "missing over nodes"
    assert one["predict(X)"].differ == len(target)
    assert one["UserWarning"].why == "only over nodes: this is not well"
    assert not one["UserWarning"].ok
    assert {d.name for d in found.failed} >= {"coef_", "intercept_", "more_", "solver_", "predict(X)", "UserWarning"}


def test_the_same_error_is_the_same_and_another_is_not(faulty):
    bad = X.copy()
    bad[3, 1] = np.nan
    found = verify(GaussianNB(), bad, Y)
    assert found.ok
    assert [one.name for one in found.differences] == ["fit"]
    assert found.differences[0].why == "ValueError: Input X contains NaN."
    assert found.pooled is found.over is None
    rows, target = load_diabetes(return_X_y=True)
    rows[0, 0] = np.nan
    assert verify(Ridge(), rows, target).ok
    alone = verify(GaussianNB(), X[:3], Y[:3], n_nodes=5)
    assert not alone.ok
    assert "instead of no error" in alone.differences[0].why


def test_the_same_warning_is_the_same():
    constant = np.column_stack([X, np.ones(150)])
    found = verify(NearestCentroid(), constant, Y)
    assert found.ok
    assert named(found)["UserWarning"].kind == "warning"


def test_an_unsupported_estimator_is_refused_before_anything_is_fitted():
    with pytest.raises(UnsupportedEstimator, match="SVC"):
        verify(SVC(), "not rows at all", None)


def test_a_random_state_is_set_for_both(faulty):
    found = verify(faulty, *load_diabetes(return_X_y=True), random_state=7)
    assert found.pooled.random_state == 7
    assert faulty.random_state is None
    assert found.estimator == "Faulty()"


def test_tolerances_decide():
    strict = verify(GaussianNB(), X, Y, n_nodes=5, rtol=0.0, atol=0.0)
    assert not strict.ok
    assert strict.largest < 1e-9
    assert verify(GaussianNB(), X, Y, n_nodes=5, rtol=1e-6).ok


def test_it_is_shown_as_text_html_frame_and_plain_values():
    found = verify(GaussianNB(), X, Y, n_nodes=2)
    lines = str(found).splitlines()
    assert lines[0].startswith("GaussianNB() over 2 nodes (iid, inprocess): as on the pooled rows")
    assert lines[1].split()[:3] == ["what", "type", "shape"]
    assert repr(found).startswith("Verification(GaussianNB(), ok=True, largest=")
    assert found._repr_html_().count("<tr>") == len(found.differences) + 1
    frame = found.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert frame.loc["theta_", "shape"] == (3, 4)
    assert frame["ok"].all()
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert data["ok"] is True
    assert data["differences"][0]["name"] == "class_count_"


def test_it_is_in_the_package():
    assert atoll.verify is verify
    assert "verify" in dir(atoll)
