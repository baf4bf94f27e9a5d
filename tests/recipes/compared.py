"""Whether two fitted estimators are the same to the letter: every attribute, with its type, shape and values."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator


def same_fit(got: Any, expected: Any, *, rtol: float = 1e-12, where: str = "") -> None:
    """Compare estimators, arrays and what they are made of; NaN is NaN, and None is None."""
    assert type(got) is type(expected), where
    if isinstance(expected, BaseEstimator):
        assert vars(got).keys() == vars(expected).keys(), where
        for name, value in vars(expected).items():
            same_fit(vars(got)[name], value, rtol=rtol, where=f"{where}.{name}")
    elif isinstance(expected, list | tuple):
        assert len(got) == len(expected), where
        for i, (a, b) in enumerate(zip(got, expected, strict=True)):
            same_fit(a, b, rtol=rtol, where=f"{where}[{i}]")
    elif sp.issparse(expected):
        same_fit(got.toarray(), expected.toarray(), rtol=rtol, where=where)
    elif isinstance(expected, np.ndarray):
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape), where
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(got, expected, rtol=rtol, err_msg=where)
        else:
            assert [repr(v) for v in got.ravel().tolist()] == [repr(v) for v in expected.ravel().tolist()], where
    else:
        assert repr(got) == repr(expected), where
