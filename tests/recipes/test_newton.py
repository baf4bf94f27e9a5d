"""Newton's method over sums: the minimum, whatever the penalty, the scale and the rank."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import Lasso

from atoll.recipes.newton import Point, lockstep, newton, signed_minimum, solved


def gram(seed, n, d, alike=0):
    print("seed", seed)
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    X[:, :alike] = X[:, alike : 2 * alike]
    y = X @ np.where(rng.random(d) < 0.4, rng.normal(size=d), 0) + 0.1 * rng.normal(size=n)
    return X, y, X.T @ X / n, X.T @ y / n


@pytest.mark.parametrize(("n", "d", "alpha"), [(60, 8, 0.1), (200, 50, 0.02), (40, 40, 0.05), (30, 50, 0.1)])
@pytest.mark.parametrize("seed", range(4))
def test_signs_are_those_of_the_lasso(seed, n, d, alpha):
    X, y, A, b = gram(seed, n, d)
    got = signed_minimum(A, b, np.full(d, alpha), np.zeros(d))
    expected = Lasso(alpha=alpha, fit_intercept=False, tol=1e-13, max_iter=1_000_000).fit(X, y).coef_
    np.testing.assert_allclose(got, expected, atol=1e-9)
    assert ((got == 0) == (expected == 0)).all()
    again = signed_minimum(A, b, np.full(d, alpha), got)
    np.testing.assert_allclose(again, got, atol=1e-12)


def flatness(A, b, l1, v):
    gradient = A @ v - b
    return np.where(v != 0, np.abs(gradient + l1 * np.sign(v)), np.abs(gradient) - l1).max()


@pytest.mark.parametrize("seed", range(6))
def test_columns_that_are_the_same_and_entries_that_are_free(seed):
    _, _, A, b = gram(seed, 60, 12, alike=3)
    l1 = np.where(np.arange(12) < 10, 0.05, 0.0)
    for start in (np.zeros(12), np.random.default_rng(seed).normal(size=12)):
        assert flatness(A, b, l1, signed_minimum(A, b, l1, start)) < 1e-9


def test_a_singular_system_has_its_shortest_solution():
    _, _, A, b = gram(0, 60, 6, alike=2)
    np.testing.assert_allclose(solved(A, b), np.linalg.pinv(A) @ b, atol=1e-9)
    np.testing.assert_allclose(solved(np.diag([1e-12, 1e12]), np.array([1e-12, 1e12])), [1, 1])
    assert solved(np.zeros((2, 2)), np.zeros(2)).tolist() == [0, 0]


def softplus(X, y):
    """The sum of log(1 + exp(-y x·w)), which a step can overshoot."""

    def at(w):
        m = y * (X @ w)
        p = expit(-m)
        return Point(np.logaddexp(0, -m).sum(), -X.T @ (y * p), (X * (p * (1 - p))[:, None]).T @ X)

    return at


def run(at, *starts, **settings):
    asked = []

    def ask(numbers, points):
        asked.append(list(numbers))
        return [at(point) for point in points]

    return lockstep([newton(w, **settings) for w in starts], ask), asked


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_a_smooth_minimum_is_reached_from_afar_whatever_the_scale(scale):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(80, 3)) * scale, np.sign(rng.normal(size=80))
    at, l2 = softplus(X, y), np.full(3, 1e-3 * scale**2)
    ends, asked = run(at, np.zeros(3), np.full(3, 20.0 / scale), l2=l2, l1=np.zeros(3), max_iter=60)
    for end in ends:
        assert end.converged
        assert np.abs(at(end.w).gradient + l2 * end.w).max() < 1e-9 * scale
    np.testing.assert_allclose(ends[0].w, ends[1].w, rtol=1e-9)
    assert asked[0] == [0, 1]
    assert asked[-1] in ([0], [1], [0, 1])
    assert len(asked) < 40


def test_steps_are_counted_and_limited():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(80, 3)), np.sign(rng.normal(size=80))
    settings = {"l2": np.ones(3), "l1": np.zeros(3)}
    (end,), _ = run(softplus(X, y), np.zeros(3), **settings, max_iter=2)
    assert (end.n_iter, end.converged) == (2, False)
    (none,), asked = run(softplus(X, y), np.ones(3), **settings, max_iter=0)
    assert (none.n_iter, none.converged, none.w.tolist(), len(asked)) == (0, False, [1, 1, 1], 1)
    (rough,), _ = run(softplus(X, y), np.zeros(3), **settings, max_iter=50, accuracy=0.1)
    (fine,), _ = run(softplus(X, y), np.zeros(3), **settings, max_iter=50)
    assert rough.n_iter < fine.n_iter
    np.testing.assert_allclose(rough.w, fine.w, rtol=0.1)
