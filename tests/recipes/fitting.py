"""Fitting over nodes and on the pooled rows, side by side, with what is said meanwhile."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone

from atoll import Federated

__all__ = ["NODES", "Fits", "both", "close", "same_state"]

NODES = {
    "one node": lambda y: np.zeros(len(y), dtype=int),
    "sorted by label": lambda y: np.argsort(np.argsort(y, kind="stable")) * 4 // len(y),
    "a node of one row": lambda y: (np.arange(len(y)) == 3).astype(int),
    "three": lambda y: np.arange(len(y)) % 3,
}


class Fits(NamedTuple):
    """A fit over nodes, the pooled one, and what each warned of: category and text."""

    over: Any
    pooled: Any
    heard: list[tuple[type, str]]
    said: list[tuple[type, str]]


def both(
    estimator: Any, X: Any, y: Any, node: Any = None, sample_weight: Any = None, method: str | None = None
) -> Fits:
    """Fit over nodes, by default three, and on the pooled rows."""
    node = np.arange(X.shape[0]) % 3 if node is None else node
    weight = {} if sample_weight is None else {"sample_weight": sample_weight}
    names = np.array([f"node-{i:02d}" for i in node])
    over, heard = _told(lambda: Federated(clone(estimator), method=method).fit(X, y, node=names, **weight))
    pooled, said = _told(lambda: clone(estimator).fit(X, y, **weight))
    return Fits(over, pooled, heard, said)


def _told(fit: Any) -> tuple[Any, list[tuple[type, str]]]:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        fitted = fit()
    return fitted, [(w.category, str(w.message)) for w in heard]


def close(fits: Fits, rtol: float = 1e-9, atol: float = 0.0) -> None:
    """Coefficients and intercept are as near as that, relative to the largest of them."""
    for name in ("coef_", "intercept_"):
        got, expected = np.asarray(getattr(fits.over, name)), np.asarray(getattr(fits.pooled, name))
        assert (got.shape, got.dtype) == (expected.shape, expected.dtype), name
        np.testing.assert_allclose(got, expected, rtol=0, atol=atol + rtol * np.abs(expected).max(), err_msg=name)


def same_state(fits: Fits, leave: tuple[str, ...] = ()) -> None:
    """The fitted estimator has scikit-learn's attributes, all of them, of the same types and shapes."""
    got, expected = vars(fits.over.estimator_), vars(fits.pooled)
    assert set(expected) - set(leave) <= set(got)
    for name in set(expected) - set(leave):
        if name.endswith("_"):
            assert type(got[name]) is type(expected[name]), name
            assert np.shape(got[name]) == np.shape(expected[name]), name
            assert np.asarray(got[name]).dtype == np.asarray(expected[name]).dtype, name
