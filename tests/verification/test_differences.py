"""Two values held against each other."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from atoll.verification import compare
from atoll.verification.differences import MISSING, parts


def close(pooled, over, rtol=1e-9, atol=1e-12):
    return compare("x_", pooled, over, rtol, atol)


def test_numbers_are_the_same_within_the_tolerances():
    a = np.array([1.0, -2.0, 0.0, 1e9])
    exact = close(a, a.copy())
    assert exact.ok
    assert (exact.differ, exact.absolute, exact.relative) == (0, 0.0, 0.0)
    near = close(a, a + np.array([0, 1e-10, 1e-13, 0.5]))
    assert near.ok
    assert near.differ == 3
    assert near.absolute == 0.5
    assert near.relative == pytest.approx(5e-10)
    far = close(a, a + np.array([0, 1e-8, 0, 0]))
    assert not far.ok
    assert far.relative == pytest.approx(5e-9, rel=1e-3)


@pytest.mark.parametrize("rtol", [0.0, 1e-9, 1e-3])
def test_the_verdict_is_that_of_allclose(rtol):
    print("seed 4")
    rng = np.random.default_rng(4)
    for _ in range(200):
        a = rng.normal(size=3) * 10.0 ** rng.integers(-14, 3, size=3)
        b = a + rng.normal(size=3) * 10.0 ** rng.integers(-16, -2)
        found = close(a, b, rtol, 1e-12)
        assert found.ok == np.allclose(b, a, rtol=rtol, atol=1e-12)
        if rtol:
            assert found.ok == (found.relative <= rtol)


def test_float32_is_compared_in_its_own_precision():
    a = np.float32([1.0, 3.0])
    assert close(a, a * np.float32(1 + 1e-6)).ok
    assert not close(a, a * np.float32(1 + 1e-5)).ok


def test_types_and_shapes_count():
    assert close(np.ones(2), np.ones(2, dtype=np.float32)).why == "float32 instead of float64"
    assert close(np.ones(2), np.ones((2, 1))).why == "shape (2, 1) instead of (2,)"
    assert close(np.arange(3), np.arange(3.0)).why == "float64 instead of int64"
    assert not close(np.int32([1]), np.int64([1])).ok
    assert close(np.array(["a", "bb"]), np.array(["a", "bbb"])[:2]).differ == 1
    assert close(np.array(["a", "b"]), np.array(["a", "b"], dtype="U9")).ok
    assert not close(1, 1.0).ok
    assert close(3, np.int64(3)).ok


def test_whole_numbers_and_text_are_equal_or_not():
    found = close(np.array([1, 2, 3]), np.array([1, 2, 5]))
    assert (found.ok, found.differ, found.absolute) == (False, 1, 2.0)
    text = close(np.array(["a", "b"], dtype=object), np.array(["a", "c"], dtype=object))
    assert (text.ok, text.differ) == (False, 1)
    assert np.isnan(text.absolute)
    assert close("auto", "auto").ok
    assert close("auto", "brute").why == "'brute' instead of 'auto'"
    assert close(None, None).ok
    assert not close(None, 3).ok
    assert close([1, 2], [1, 2]).ok


def test_what_is_not_finite_must_be_so_in_both():
    a = np.array([np.nan, np.inf, 1.0])
    assert close(a, a.copy()).ok
    found = close(a, np.array([0.0, np.inf, 1.0]))
    assert not found.ok
    assert found.absolute == np.inf
    assert not close(a, np.array([np.nan, -np.inf, 1.0])).ok


def test_sparse_matrices_are_compared_by_their_entries():
    a = sp.csr_matrix(np.eye(3))
    assert close(a, sp.csc_matrix(np.eye(3))).ok
    assert close(a, sp.csr_matrix(np.eye(3)[::-1])).differ == 4


def test_a_missing_attribute_is_a_difference():
    assert close(np.ones(2), MISSING).why == "missing over nodes"
    assert close(MISSING, np.ones(2)).why == "only over nodes"


def test_other_objects_are_compared_by_class():
    assert close(np.random.RandomState(0), np.random.RandomState(1)).ok
    assert not close(np.random.RandomState(0), object()).ok


def test_parts_of_a_pipeline_have_its_names():
    X, y = np.arange(12.0).reshape(6, 2), np.arange(6.0)
    pipe = make_pipeline(StandardScaler(), make_pipeline(Ridge())).fit(X, y)
    names = [name for name, _, _ in parts("", pipe, pipe)]
    assert names[0] == "standardscaler.mean_"
    assert "pipeline.ridge.coef_" in names


def test_lists_and_mappings_are_taken_apart():
    a = {"x": [np.ones(2), np.zeros(1)], "y": np.array([None, {"z": 1}], dtype=object)}
    assert [name for name, _, _ in parts("m_", a, a)] == ["m_['x'][0]", "m_['x'][1]", "m_['y'][0]", "m_['y'][1]['z']"]
    (one,) = [p for p in parts("m_", {"x": 1}, {}) if p[0] == "m_['x']"]
    assert one[2] is MISSING
    assert [n for n, _, _ in parts("m_", [np.ones(1)], [np.ones(1)] * 2)] == ["m_"]
