"""Statistics of the classes, by themselves: sparse rows, weights, and sums in one piece or several."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from atoll.combine import Triangle
from atoll.context import Ctx
from atoll.operations import operations
from atoll.operations.classes import membership, over_classes
from atoll.shards import Shard


def ask(op, X, code, settings, payload=None, weight=None):
    columns = {"code": code} if weight is None else {"code": code, "sample_weight": weight}
    shard = Shard.of("node", X, code, columns=columns)
    return operations[op].fn(shard, payload or {}, Ctx(0, 0, 0, 0, settings, {}, (0,))).tree


def rows(seed=0, n=60, d=4, n_classes=3):
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.4)
    X[:, 0] = rng.normal(size=n) + 1e8
    return X, rng.integers(0, n_classes, size=n), rng.random(n) * (rng.random(n) < 0.8)


@pytest.mark.parametrize("layout", [np.asarray, sp.csr_matrix], ids=["dense", "sparse"])
@pytest.mark.parametrize("weighted", [False, True])
def test_moments(layout, weighted):
    """One column is far from zero and has no zeros; a class that nobody has counts nothing."""
    X, code, weight = rows()
    settings = {"n_classes": 4, "weighted": weighted}
    got = ask("statistics.class_moments", layout(X), code, settings, weight=weight)
    for c in range(3):
        own, w = X[code == c], weight[code == c] if weighted else np.ones((code == c).sum())
        assert got["n"][c] == pytest.approx(w.sum(), rel=1e-14)
        mean = np.average(own, axis=0, weights=w)
        np.testing.assert_allclose(got["mean"][c], mean, rtol=1e-13)
        np.testing.assert_allclose(got["m2"][c], (w[:, None] * np.square(own - mean)).sum(axis=0), rtol=1e-7)
    assert got["n"][3] == 0
    assert not got["mean"][3].any()
    assert not got["m2"][3].any()


def test_moments_of_all_rows_are_those_of_the_classes_together():
    X, code, _ = rows(1)
    X[:, 3] = 0.1
    classes = over_classes(ask("statistics.class_moments", X, code, {"n_classes": 3}))
    whole = ask("statistics.class_moments", X, code, {"n_classes": None})
    for name, array in whole.items():
        np.testing.assert_allclose(classes[name], array, rtol=1e-7, atol=1e-12)
    assert (classes["mean"][0, 3], classes["m2"][0, 3]) == (0.1, 0.0)


@pytest.mark.parametrize("layout", [np.asarray, sp.csr_matrix], ids=["dense", "sparse"])
@pytest.mark.parametrize("above", [None, 0.5])
def test_sums(layout, above):
    X, code, weight = rows(2)
    settings = {"n_classes": 4, "above": above, "whom": None}
    got = ask("classes.sums", layout(X), code, settings, weight=weight)
    counted = X if above is None else np.greater(X, above).astype(float)
    for c in range(4):
        w = weight[code == c]
        np.testing.assert_allclose(got["total"][c], w @ counted[code == c], rtol=1e-13, atol=1e-13)
        assert got["rows"][c] == pytest.approx(w.sum(), rel=1e-14)


def test_scatter_and_triangle_agree():
    X, code, _ = rows(3)
    X[:, 0] -= 1e8
    mean = np.stack([X[code == c].mean(axis=0) if c < 3 else np.zeros(4) for c in range(4)])
    share = np.array([0.5, 0.0, 2.0, 1.0])
    settings = {"n_classes": 4, "together": False, "fourth": True}
    scatter = ask("classes.scatter", X, code, settings, {"mean": mean})
    R = ask("classes.triangle", X, code, {"n_classes": 4, "together": False}, {"mean": mean})["R"]
    for c in range(4):
        own = X[code == c] - mean[c]
        np.testing.assert_allclose(scatter["scatter"][c], own.T @ own, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(R[c].T @ R[c], own.T @ own, rtol=1e-12, atol=1e-12)
        assert scatter["fourth"][c] == pytest.approx(np.square(np.square(own).sum(axis=1)).sum(), rel=1e-12)
    settings = {"n_classes": 4, "together": True, "fourth": False}
    together = ask("classes.scatter", X, code, settings, {"mean": mean, "share": share})["scatter"]
    np.testing.assert_allclose(together, np.einsum("c,cij->ij", share, scatter["scatter"]), rtol=1e-12, atol=1e-12)
    R = ask("classes.triangle", X, code, {"n_classes": 4, "together": True}, {"mean": mean})["R"]
    np.testing.assert_allclose(R.T @ R, scatter["scatter"].sum(axis=0), rtol=1e-12, atol=1e-12)


def test_triangles_of_classes_merge_one_by_one():
    """A class that a node does not have leaves the other's triangle as it is."""
    X, code, _ = rows(4)
    X[:, 0] -= 1e8
    payload, settings = {"mean": np.zeros((3, 4))}, {"n_classes": 3, "together": False}
    halves = [ask("classes.triangle", X[half], code[half], settings, payload) for half in (code == 0, code != 0)]
    merged = Triangle().add(*halves)["R"]
    for c, half in ((0, halves[0]), (1, halves[1]), (2, halves[1])):
        assert (merged[c] == half["R"][c]).all()


def test_categories():
    code, X = np.array([0, 1, 1, 0]), np.array([[0, 2], [1, 0], [1, 2], [0, 2]])
    payload = {"n_categories": np.array([2, 4])}
    got = ask("classes.categories", X, code, {"n_classes": 2}, payload)["count"]
    assert got.tolist() == [[2, 0, 0, 0, 2, 0], [0, 2, 1, 0, 1, 0]]
    weight = np.array([0.5, 1.0, 2.0, 4.0])
    got = ask("classes.categories", X, code, {"n_classes": 2}, payload, weight)["count"]
    assert got.tolist() == [[4.5, 0, 0, 0, 4.5, 0], [0, 3, 1, 0, 2, 0]]


def test_membership_adds_rows_per_class():
    member = membership(np.array([1, 0, 1]), 3, np.array([1.0, 2.0, 3.0]))
    assert member.toarray().tolist() == [[0, 2, 0], [1, 0, 3], [0, 0, 0]]
