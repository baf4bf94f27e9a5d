"""Rows and comparisons for the tests of linear models by least squares."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from recipes.fitting import Fits


def rows(
    seed: int = 0, n: int = 90, d: int = 6, targets: int = 1, shift: float = 3.0, ratio: float = 100.0
) -> tuple[np.ndarray, np.ndarray]:
    """Correlated columns, the last one constant, the one before so many times as large as the first; noisy targets."""
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) * np.geomspace(1, ratio, d) / np.sqrt(ratio) + shift
    y = X @ rng.normal(size=(d, targets)) + rng.normal(size=(n, targets)) * 5
    X[:, d - 1] = 2.5
    return X, y[:, 0] if targets == 1 else y


def some_weights(n: int, seed: int = 1) -> np.ndarray:
    """Weights of rows, some of them zero."""
    rng = np.random.default_rng(seed)
    return rng.random(n) * 3 * (rng.random(n) > 0.2)


def thinned(X: np.ndarray, seed: int = 2) -> Any:
    """The same rows, two in three numbers zero, as a sparse matrix."""
    return sp.csr_matrix(X * (np.random.default_rng(seed).random(X.shape) < 1 / 3))


def same(fits: Fits, rtol: float = 1e-9, leave: tuple[str, ...] = (), warned: bool = True) -> None:
    """Every public fitted attribute has the type, dtype, shape and values of the pooled one; so have warnings."""
    got = vars(fits.over._model)
    for name, value in vars(fits.pooled).items():
        if name.endswith("_") and not name.startswith("_") and name not in leave:
            alike(got[name], value, rtol, name)
    if warned:
        assert {text for _, text in fits.heard} == {text for _, text in fits.said}
        assert {kind for kind, _ in fits.heard} == {kind for kind, _ in fits.said}


def alike(got: Any, expected: Any, rtol: float, name: str) -> None:
    """Compare two values, numbers relative to the largest of an array."""
    assert type(got) is type(expected), (name, type(got), type(expected))
    if isinstance(expected, list):
        assert len(got) == len(expected), name
        for a, b in zip(got, expected, strict=True):
            alike(a, b, rtol, name)
    elif isinstance(expected, np.ndarray | np.generic | float) and np.asarray(expected).dtype.kind == "f":
        a, b = np.asarray(got), np.asarray(expected)
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        size = np.abs(b[np.isfinite(b)]).max(initial=0)
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * size + 1e-13, err_msg=name)
    else:
        assert np.array_equal(got, expected), (name, got, expected)
