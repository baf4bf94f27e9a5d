"""A fit over nodes held against scikit-learn's own on the pooled rows: attributes, transforms, warnings, errors."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.interpolate import BSpline
from sklearn.base import BaseEstimator, clone

from atoll import Federated, Federation
from atoll.shards import Shard


def told(fit: Any) -> tuple[Any, set[tuple[str, str]]]:
    """What a fit returns or raises, and what it warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = fit()
        except (ValueError, TypeError) as error:
            result = error
    return result, {(w.category.__name__, str(w.message)) for w in caught}


def places(X: Any, weight: np.ndarray | None = None) -> dict[str, Federation]:
    """The same rows on one node, sorted over three nodes, and with a single row on the last node."""
    first = X[:, [0]].toarray()[:, 0] if sp.issparse(X) else X[:, 0]
    n = X.shape[0]
    cuts = {"one": [np.arange(n)]}
    if n > 2:
        cuts |= {"sorted": np.array_split(np.argsort(first), 3), "one row": [np.arange(1, n), np.zeros(1, int)]}
    return {
        name: Federation([_shard(i, X, weight, rows) for i, rows in enumerate(parts)]) for name, parts in cuts.items()
    }


def _shard(i: int, X: Any, weight: np.ndarray | None, rows: np.ndarray) -> Shard:
    columns = {} if weight is None else {"sample_weight": weight[rows]}
    return Shard.of(f"node-{i}", sp.csr_matrix(X)[rows] if sp.issparse(X) else X[rows], ids=rows, columns=columns)


def same_as_pooled(
    estimator: Any, X: Any, weight: np.ndarray | None = None, *, rtol: float = 1e-12, quiet: bool = False
) -> Any:
    """Fit in every place and compare with the pooled fit, which is returned (or the error that it raises)."""
    params = {} if weight is None else {"sample_weight": weight}
    pooled, warned = told(lambda: clone(estimator).fit(X, **params))
    for name, federation in places(X, weight).items():
        model, also_warned = told(lambda f=federation: Federated(clone(estimator)).fit(f))  # type: ignore[misc]
        if isinstance(pooled, Exception):
            assert isinstance(model, type(pooled)), (name, model)
            assert str(pooled) in str(model), (name, model)
        elif isinstance(model, Exception):
            raise model
        else:
            same(model._model, pooled, rtol, name)
            if not quiet:
                assert also_warned == warned, name
    return pooled


def same(got: Any, expected: Any, rtol: float, where: str) -> None:
    """Compare fitted estimators and what they are made of: types, dtypes, shapes, values; NaN is NaN."""
    assert type(got) is type(expected), where
    if isinstance(expected, BaseEstimator):
        assert vars(got).keys() == vars(expected).keys(), where
        for name, value in vars(expected).items():
            same(vars(got)[name], value, rtol, f"{where}.{name}")
    elif isinstance(expected, BSpline):
        same((got.t, got.c, got.k), (expected.t, expected.c, expected.k), rtol, where)
    elif isinstance(expected, list | tuple) or (isinstance(expected, np.ndarray) and expected.dtype == object):
        assert len(got) == len(expected), where
        for i, (a, b) in enumerate(zip(got, expected, strict=True)):
            same(a, b, rtol, f"{where}[{i}]")
    elif isinstance(expected, np.ndarray | np.generic | float):
        a, b = np.asarray(got), np.asarray(expected)
        assert (a.dtype, a.shape) == (b.dtype, b.shape), where
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-40, err_msg=where)
    else:
        assert repr(got) == repr(expected), where
